//! The packages that somebody has installed by hand, for the package manager of the new root to install.
//!
//! What was installed is read out of the old root's own records, of which nothing is executed: of dpkg what is installed and not marked as
//! installed for others, of apk its `world`, of rpm what dnf or yum know of why it is there. What the new root has already is left out. The rest
//! becomes a script in the new root, [`SCRIPT`], which is run there if the root is tried out and has a network; whoever gives it one later runs it himself.

mod rpm;
mod sqlite;

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tree::{LayeredRoot, TreeError};

use crate::error::Result;

/// What reading records comes to.
type Read<T> = std::result::Result<T, TreeError>;

/// Where the script is, in the new root.
pub const SCRIPT: &str = "/root/install-packages.sh";
/// What the script exits with when there is no network: EX_TEMPFAIL of sysexits.h.
pub const NO_NETWORK: i32 = 75;

const DPKG: &str = "/var/lib/dpkg/status";
const APT: &str = "/var/lib/apt/extended_states";
const APK: &str = "/etc/apk/world";
/// A status file of a full Debian has some 10 MB.
const LARGEST: u64 = 64 * 1024 * 1024;
/// Nobody has installed more by hand: Debian as a whole has 60,000. Records that name more were made to fill our own.
const MOST_PACKAGES: usize = 10_000;
/// Likewise of a name; Debian's longest has 70 letters.
const LONGEST_NAME: usize = 255;
/// So many are named for people.
const NAMED: usize = 100;

/// What became of the packages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PackageReport {
    /// What the new root lacks.
    pub packages: Vec<String>,
    /// Where the script that installs them is, if there is one.
    pub script: Option<String>,
    /// What else there is to know: why there is none, or what came of running it.
    pub outcome: String,
}

impl PackageReport {
    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.packages.is_empty() {
            let named = &self.packages[..self.packages.len().min(NAMED)];
            let more = match self.packages.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more, which `prlctl reinstall-report -j` names"),
            };
            lines.push(format!(
                "{} packages were installed by hand: {}{more}",
                self.packages.len(),
                named.join(" ")
            ));
        }
        lines.push(format!("packages: {}", self.outcome));
        lines
    }
}

/// A package manager whose records can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Dpkg,
    Apk,
    Rpm,
}

/// Reads what was installed in the old root, and leaves the script in the new one.
///
/// # Errors
/// When either cannot be read, or the new one not written.
pub fn carry(old: &LayeredRoot, new: &LayeredRoot) -> Result<PackageReport> {
    let nothing = |outcome: &str| PackageReport { outcome: outcome.to_owned(), ..PackageReport::default() };
    let Some(family) = family(old)? else {
        return Ok(nothing("the old root has no package manager that is known"));
    };
    let mut notes = Vec::new();
    let mut packages = match by_hand(old, family, &mut notes) {
        Ok(Some(packages)) => packages,
        Ok(None) => {
            return Ok(nothing(
                "neither dnf nor yum tells in the old root why anything is installed, or what they tell cannot be read, and nor can \
                 the database of rpm",
            ));
        }
        // The old root is broken, or made to be: that keeps nobody from a new one.
        Err(error) if is_no_record(&error) => {
            return Ok(nothing(&format!("what was installed by hand is not known: {error}")));
        }
        Err(error) => return Err(error.into()),
    };
    let same = self::family(new)? == Some(family);
    if same {
        match installed(new, family) {
            Ok(Some(present)) => packages.retain(|name| !present.contains(name)),
            Ok(None) => {
                notes.push("the new root may have some of them: its database cannot be read".to_owned())
            }
            Err(error) if is_no_record(&error) => {
                notes.push(format!("the new root may have some of them: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let packages: Vec<String> = packages.into_iter().collect();
    if packages.len() > MOST_PACKAGES || packages.iter().any(|name| name.len() > LONGEST_NAME) {
        return Ok(nothing(&format!(
            "the old root's records name {} packages, or one with a name of more than {LONGEST_NAME} bytes: nobody has installed those by hand",
            packages.len()
        )));
    }
    let noted = |outcome: String| [vec![outcome], notes.clone()].concat().join("; ");
    if packages.is_empty() {
        return Ok(nothing(&noted("the new root has all that was installed by hand".to_owned())));
    }
    if !same {
        let outcome = "the new root has another package manager: they are to be installed by hand".to_owned();
        return Ok(PackageReport { packages, script: None, outcome: noted(outcome) });
    }
    new.make_directory(Path::new("/root"), 0o700, 0, 0)?;
    new.replace_file(Path::new(SCRIPT), script(family, &packages).as_bytes(), 0o700, 0, 0)?;
    let outcome = noted(format!("{SCRIPT} in the container installs them"));
    Ok(PackageReport { packages, script: Some(SCRIPT.to_owned()), outcome })
}

/// What is there is no record of any package manager; not: it could not be read.
fn is_no_record(error: &TreeError) -> bool {
    matches!(error, TreeError::TooLarge { .. } | TreeError::NotRegular { .. })
}

/// What any of the readers takes for names in these bytes: for `fuzzing`, since nothing of them is reached but through roots.
#[doc(hidden)]
pub fn names_in(bytes: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut names = dpkg_by_hand(&text, &text);
    names.extend(apk_world(&text));
    names.extend(rpm::names_in(bytes, &text));
    names
}

/// The script of every family that would install these: for `fuzzing`, as [`names_in`].
#[doc(hidden)]
pub fn scripts_for(packages: &[String]) -> Vec<String> {
    [Family::Dpkg, Family::Apk, Family::Rpm].map(|family| script(family, packages)).to_vec()
}

fn family(root: &LayeredRoot) -> Read<Option<Family>> {
    for (path, family) in [(DPKG, Family::Dpkg), (APK, Family::Apk)] {
        if root.kind_followed(Path::new(path))?.is_some() {
            return Ok(Some(family));
        }
    }
    Ok(rpm::is_there(root)?.then_some(Family::Rpm))
}

fn text(root: &LayeredRoot, path: &str) -> Read<String> {
    let file = root.read_file_followed(Path::new(path), LARGEST)?;
    Ok(file.map(|file| String::from_utf8_lossy(&file.bytes).into_owned()).unwrap_or_default())
}

/// `None`: that cannot be told.
fn by_hand(root: &LayeredRoot, family: Family, notes: &mut Vec<String>) -> Read<Option<BTreeSet<String>>> {
    Ok(match family {
        Family::Dpkg => Some(dpkg_by_hand(&text(root, DPKG)?, &text(root, APT)?)),
        Family::Apk => Some(apk_world(&text(root, APK)?)),
        Family::Rpm => rpm::by_hand(root, notes)?,
    })
}

/// `None`: that cannot be told.
fn installed(root: &LayeredRoot, family: Family) -> Read<Option<BTreeSet<String>>> {
    Ok(match family {
        Family::Dpkg => {
            Some(dpkg_installed(&text(root, DPKG)?).into_iter().map(|package| package.name).collect())
        }
        Family::Apk => Some(apk_world(&text(root, APK)?)),
        Family::Rpm => rpm::installed(root)?,
    })
}

/// A package of dpkg's records.
struct Installed {
    name: String,
    architecture: String,
    /// Every Debian has it, under the name that it has in that release.
    is_base: bool,
}

fn stanzas(text: &str) -> impl Iterator<Item = Vec<(&str, &str)>> {
    text.split("\n\n").map(|stanza| stanza.lines().filter_map(|line| line.split_once(": ")).collect())
}

fn field<'a>(stanza: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    stanza.iter().find(|(key, _)| *key == name).map(|(_, value)| value.trim())
}

fn dpkg_installed(status: &str) -> Vec<Installed> {
    let mut found = Vec::new();
    for stanza in stanzas(status) {
        let name = field(&stanza, "Package").filter(|name| is_name(name));
        let is_installed =
            field(&stanza, "Status").is_some_and(|status| status.split(' ').next_back() == Some("installed"));
        if let (Some(name), true) = (name, is_installed) {
            let is_base = field(&stanza, "Essential") == Some("yes")
                || matches!(field(&stanza, "Priority"), Some("required" | "important"));
            let architecture = field(&stanza, "Architecture").unwrap_or_default().to_owned();
            found.push(Installed { name: name.to_owned(), architecture, is_base });
        }
    }
    found
}

fn dpkg_by_hand(status: &str, states: &str) -> BTreeSet<String> {
    let (mut for_others, mut whatever_they_are) = (BTreeSet::new(), BTreeSet::new());
    for stanza in stanzas(states) {
        if field(&stanza, "Auto-Installed") == Some("1")
            && let Some(name) = field(&stanza, "Package")
        {
            for_others.insert((name, field(&stanza, "Architecture").unwrap_or_default()));
            whatever_they_are.insert(name);
        }
    }
    // apt writes the machine's own architecture there also for what has none.
    let is_for_others = |package: &Installed| match package.architecture.as_str() {
        "all" => whatever_they_are.contains(package.name.as_str()),
        architecture => for_others.contains(&(package.name.as_str(), architecture)),
    };
    dpkg_installed(status)
        .into_iter()
        .filter(|package| !package.is_base && !is_for_others(package))
        .map(|package| package.name)
        .collect()
}

fn apk_world(world: &str) -> BTreeSet<String> {
    let words = world.split_ascii_whitespace().filter(|word| !word.starts_with('!'));
    // Not the version that it was pinned to: another release has another.
    let names = words.map(|word| word.split(['=', '<', '>', '~', '@']).next().unwrap_or_default());
    names.filter(|name| is_name(name)).map(str::to_owned).collect()
}

/// What stands in a script must be a name and nothing else, whoever wrote the records.
pub(crate) fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.len() <= 128
        && name.bytes().all(is_plain)
}

fn script(family: Family, packages: &[String]) -> String {
    let packages = packages.join(" \\\n    ");
    let install = match family {
        Family::Dpkg => {
            "export DEBIAN_FRONTEND=noninteractive\n\
            apt-get update || exit 1\n\
            available=\n\
            for package in $packages; do\n\
            \x20   if apt-cache show \"$package\" >/dev/null 2>&1; then\n\
            \x20       available=\"$available $package\"\n\
            \x20   else\n\
            \x20       echo \"not available in this release: $package\"\n\
            \x20   fi\n\
            done\n\
            [ -z \"$available\" ] || apt-get install --yes $available\n"
        }
        Family::Apk => "apk add --update-cache $packages\n",
        // All at once if that can be; else one by one, so that one that this release does not have keeps no other one out.
        Family::Rpm => {
            "install() {\n\
            \x20   for manager in dnf dnf5 microdnf yum tdnf; do\n\
            \x20       if command -v $manager >/dev/null; then $manager -y install \"$@\"; return; fi\n\
            \x20   done\n\
            \x20   zypper --non-interactive install \"$@\"\n\
            }\n\
            install $packages && exit\n\
            missing=\n\
            for package in $packages; do\n\
            \x20   install \"$package\" || missing=\"$missing $package\"\n\
            done\n\
            [ -z \"$missing\" ] || { echo \"not installed:$missing\"; exit 1; }\n"
        }
    };
    format!(
        "#!/bin/sh\n\
        # What was installed by hand in the root before this one. Made by `prlctl reinstall --keep packages`; may be run again.\n\
        packages=\"{packages}\"\n\
        has_network() {{\n\
        \x20   while read -r _ destination _; do\n\
        \x20       [ \"$destination\" != 00000000 ] || return 0\n\
        \x20   done </proc/net/route\n\
        \x20   [ -r /proc/net/ipv6_route ] || return 1\n\
        \x20   while read -r destination length _ _ _ _ _ _ _ device; do\n\
        \x20       case $destination$length/$device in\n\
        \x20       */lo) ;;\n\
        \x20       0000000000000000000000000000000000/*) return 0 ;;\n\
        \x20       esac\n\
        \x20   done </proc/net/ipv6_route\n\
        \x20   return 1\n\
        }}\n\
        if ! has_network; then\n\
        \x20   echo 'there is no network: run this again when there is one'\n\
        \x20   exit {NO_NETWORK}\n\
        fi\n\
        {install}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: dpkg\nEssential: yes\nStatus: install ok installed\nPriority: required\nArchitecture: amd64\n\
        \nPackage: nginx\nStatus: install ok installed\nPriority: optional\nArchitecture: amd64\nConffiles:\n /etc/x 0123\n\
        \nPackage: libfoo1\nStatus: install ok installed\nPriority: optional\nArchitecture: amd64\n\
        \nPackage: held\nStatus: hold ok installed\nPriority: optional\nArchitecture: all\n\
        \nPackage: gone\nStatus: deinstall ok config-files\nPriority: optional\nArchitecture: amd64\n\
        \nPackage: $(reboot)\nStatus: install ok installed\nArchitecture: amd64\n\
        \nPackage: data\nStatus: install ok installed\nArchitecture: all\n";
    const STATES: &str = "Package: libfoo1\nArchitecture: amd64\nAuto-Installed: 1\n\
        \nPackage: data\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: nginx\nArchitecture: amd64\nAuto-Installed: 0\n";

    #[test]
    fn what_was_installed_by_hand_is_neither_base_nor_there_for_others() {
        let found: Vec<String> = dpkg_by_hand(STATUS, STATES).into_iter().collect();
        assert_eq!(found, ["held", "nginx"]);
        let found: Vec<String> =
            apk_world("alpine-base\nnginx=1.2-r0 php@edge\n!bad `reboot`\n").into_iter().collect();
        assert_eq!(found, ["alpine-base", "nginx", "php"]);
    }

    /// Who is root in a container makes them as long as he likes.
    #[test]
    fn records_of_many_packages_are_read_in_one_go() {
        let of = |extra: &str| -> String {
            (0..200_000)
                .map(|number| format!("Package: p{number}\nArchitecture: amd64\n{extra}\n\n"))
                .collect()
        };
        let found = dpkg_by_hand(&of("Status: install ok installed"), &of("Auto-Installed: 1"));
        assert!(found.is_empty());
    }

    #[test]
    fn the_script_is_one_that_a_shell_understands() {
        for family in [Family::Dpkg, Family::Apk, Family::Rpm] {
            let text = script(family, &["nginx".to_owned(), "g++".to_owned()]);
            let checked = std::process::Command::new("sh").args(["-n", "-c", &text]).status().unwrap();
            assert!(checked.success(), "{text}");
        }
    }
}
