//! What an image of Incus or LXD says of the root that is in it: `metadata.yaml` and `templates/`, read as they pass.
//!
//! For which machine it is, which system (where the root does not say that itself), and files that each container gets with its own name in them.
//! `/etc/hostname` is none of these: it is written at every start.
//!
//! The templates of those files are written in a language, pongo2, with conditions, loops, and settings that only Incus has. Here only the name is put in:
//! a file of which more is wanted is left as the root has it, and that is told.

use std::collections::BTreeMap;
use std::io::Read;

use ::archive::incus::{self, ImageFile};
use ::archive::{ArchiveError, Entry, Kind};
use store::{OWN_NAME, OwnFile};

use super::Told;
use super::judge::{UNKNOWN, is_run_here};
use super::unified::{METADATA, names};
use crate::template::BuiltTemplate;

/// Where its templates of files are.
const TEMPLATES: &[u8] = b"templates";
/// Of one of them, and of all: they become part of the template's record.
const LONGEST_FILE: u64 = 16 * 1024;
const MOST_FILES: usize = 64;
/// What every start writes.
const HOSTNAME: &str = "/etc/hostname";
/// In whose line for the name every start writes it.
const HOSTS: &str = "/etc/hosts";
/// Where something else is mounted in a container.
const MOUNTED: [&str; 5] = ["dev", "old", "proc", "run", "sys"];

/// What is said of a root beside it.
#[derive(Debug, Default)]
pub struct Beside {
    metadata: Option<Vec<u8>>,
    /// By name; `None`: too long.
    templates: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Beside {
    /// Takes what an entry says; of one that there is twice the last counts, as of every file in an archive.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn take(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), ArchiveError> {
        let Kind::File { size, segments } = &entry.kind else { return Ok(()) };
        // One with holes is none that anybody has written.
        let is_plain = *size == 0 || segments[..] == [(0, *size)];
        let mut read = |most: u64| -> Result<Option<Vec<u8>>, ArchiveError> {
            let mut bytes = Vec::new();
            if *size > most || !is_plain {
                return Ok(None);
            }
            data.read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        };
        let path: Vec<&[u8]> = names(&entry.path).collect();
        match path[..] {
            [METADATA] => self.metadata = Some(read(incus::LONGEST)?.unwrap_or_else(|| b"too long".to_vec())),
            [TEMPLATES, name] if self.templates.len() < MOST_FILES => {
                let text = read(LONGEST_FILE)?;
                self.templates.insert(name.to_owned(), text);
            }
            _ => {}
        }
        Ok(())
    }

    /// What is made of it; what is not is told.
    pub fn read(self, told: &mut Told<'_>) -> Described {
        let metadata = incus::metadata(&self.metadata.unwrap_or_default()).unwrap_or_else(|because| {
            (told.note)(&format!("nothing of its `metadata.yaml` is taken: {because}"));
            incus::Metadata::default()
        });
        let mut own_files: Vec<OwnFile> = Vec::new();
        for file in metadata.files.iter().filter(|file| file.is_for_new && file.path != HOSTNAME) {
            let template = self.templates.get(file.template.as_bytes());
            match own_file(file, template.map(Option::as_deref)) {
                Ok(made) => own_files.push(made),
                Err(because) => (told.note)(&format!(
                    "`{}` is in every container as it is in the image's root: {because}",
                    tree::escaped(file.path.as_bytes())
                )),
            }
        }
        Described { own_files, metadata }
    }
}

/// What an image says of its root.
#[derive(Debug)]
pub struct Described {
    metadata: incus::Metadata,
    own_files: Vec<OwnFile>,
}

impl Described {
    /// The machine that it says it is for, as Debian names it, if that is another one than this.
    pub fn other_machine(&self) -> Option<&'static str> {
        let machine = match self.metadata.architecture.as_deref()? {
            "x86_64" | "amd64" => "amd64",
            "i386" | "i486" | "i586" | "i686" => "i386",
            "aarch64" | "arm64" => "arm64",
            "armv6l" | "armv7l" | "armv8l" | "armel" | "armhf" => "armhf",
            "ppc64le" | "ppc64el" => "ppc64el",
            "ppc64" => "ppc64",
            "s390x" => "s390x",
            "riscv64" => "riscv64",
            "loongarch64" | "loong64" => "loong64",
            "mips" | "mips64" | "mipsel" | "mips64el" => "mips",
            // Of which nobody here has heard: the init tells.
            _ => return None,
        };
        (!is_run_here(machine)).then_some(machine)
    }

    /// Says it of what has become of the root.
    pub fn add_to(self, built: &mut BuiltTemplate) {
        let word = |text: Option<String>| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            text.filter(|text| text.len() <= 64 && text.chars().all(is_plain))
        };
        if let (true, None, Some(os)) =
            (built.distribution == UNKNOWN, &built.release, word(self.metadata.os))
        {
            built.distribution = os.to_ascii_lowercase();
            built.release = word(self.metadata.release);
        }
        built.own_files = self.own_files;
    }

    /// For people: what it brings.
    pub fn tell(&self, told: &mut Told<'_>) {
        let paths: Vec<String> =
            self.own_files.iter().map(|file| format!("`{}`", tree::escaped(file.path.as_bytes()))).collect();
        let own = match &paths[..] {
            [] => String::new(),
            paths => format!("; each container gets its own {}", paths.join(", ")),
        };
        (told.note)(&format!("it is an image of Incus or LXD: its `rootfs` is taken{own}"));
    }
}

/// `Err`: why there is none. `template`: none of that name, or one that is too long.
fn own_file(file: &ImageFile, template: Option<Option<&[u8]>>) -> Result<OwnFile, String> {
    let path = names(file.path.as_bytes()).collect::<Vec<_>>();
    let is_path = file.path.starts_with('/')
        && !file.path.ends_with('/')
        && file.path.len() <= 4096
        && !file.path.contains(char::is_control)
        && path.iter().all(|&name| name != b".." && name.len() <= 255)
        && path.first().is_some_and(|top| !MOUNTED.iter().any(|mounted| mounted.as_bytes() == *top));
    if !is_path {
        return Err("it is no path of a file in a root".to_owned());
    }
    if let Some(key) = &file.unheeded {
        return Err(format!("`{key}`, which is said of it, is not known here"));
    }
    let shown = tree::escaped(file.template.as_bytes());
    let bytes = template
        .ok_or_else(|| format!("there is no `templates/{shown}`"))?
        .ok_or_else(|| format!("`templates/{shown}` is longer than {LONGEST_FILE} bytes"))?;
    let text = std::str::from_utf8(bytes).map_err(|_| format!("`templates/{shown}` is not UTF-8"))?;
    let mut text = with_name(text).map_err(|tag| {
        format!("`{}` in `templates/{shown}` is not known here", tree::escaped(tag.as_bytes()))
    })?;
    if file.path == HOSTS {
        // The start's own line goes when the name does; this one would stay.
        let is_own = |one: &str| {
            one.strip_prefix("127.0.1.1")
                .is_some_and(|name| name.trim() == OWN_NAME && name.starts_with([' ', '\t']))
        };
        text = text.split_inclusive('\n').filter(|one| !is_own(one)).collect();
    }
    Ok(OwnFile { path: file.path.clone(), text, is_create_only: file.is_create_only })
}

/// The text with [`OWN_NAME`] wherever the container's name belongs, however that is spelt; `Err`: a tag of another kind.
fn with_name(text: &str) -> Result<String, String> {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let Some(at) = ["{{", "{%", "{#"].iter().filter_map(|tag| rest.find(tag)).min() else {
            made.push_str(rest);
            return Ok(made);
        };
        let (before, tag) = rest.split_at(at);
        let inside = tag.strip_prefix("{{").and_then(|inside| inside.split_once("}}"));
        let is_name = |name: &str| matches!(name.trim(), "container.name" | "instance.name");
        let Some((_, after)) = inside.filter(|(name, _)| is_name(name)) else {
            return Err(tag.lines().next().unwrap_or_default().chars().take(40).collect());
        };
        made.push_str(before);
        made.push_str(OWN_NAME);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(path: &str, text: &str) -> Result<String, String> {
        let file = ImageFile { path: path.to_owned(), template: "x.tpl".to_owned(), ..ImageFile::default() };
        own_file(&file, Some(Some(text.as_bytes()))).map(|file| file.text_for("web01"))
    }

    #[test]
    fn the_name_is_put_in_however_it_is_spelt_and_nothing_else_is() {
        for (text, wanted) in [
            ("{{ container.name }}\n", "web01\n"),
            ("hostname=\"{{instance.name}}\"", "hostname=\"web01\""),
            ("{{  container.name\t}}.{{ instance.name }}", "web01.web01"),
            ("plain {x} }} text", "plain {x} }} text"),
            ("", ""),
        ] {
            assert_eq!(made("/etc/nodename", text).as_deref(), Ok(wanted), "{text}");
        }
        for text in [
            "{{ container.name|upper }}",
            "{{ config_get(\"user.x\", \"\") }}",
            "{{ container.name }}{% if x %}y{% endif %}",
            "{# x #}",
            "{{ container.name",
            "{{- container.name -}}",
            "{{{ container.name }}}",
            "{{ \x1b[2J }}",
        ] {
            let said = made("/etc/nodename", text).unwrap_err();
            assert!(said.contains("is not known here") && !said.contains('\x1b'), "{text}: {said}");
        }
    }

    #[test]
    fn the_line_of_a_start_is_left_to_the_start() {
        let text = "127.0.0.1 localhost {{ container.name }}\n127.0.1.1\t{{ container.name }}\n127.0.1.10 {{ container.name }}\n::1 x";
        assert_eq!(made("/etc/hosts", text).unwrap(), "127.0.0.1 localhost web01\n127.0.1.10 web01\n::1 x");
        assert_eq!(made("/etc/other", "127.0.1.1 {{ container.name }}").unwrap(), "127.0.1.1 web01");
    }

    #[test]
    fn only_a_file_in_a_root_can_be_one() {
        for path in [
            "etc/x",
            "/",
            "/etc/",
            "/etc/../../x",
            "/proc/x",
            "/run/x",
            "/old",
            "/dev//null",
            "/etc/\x1b",
            "",
        ] {
            assert!(made(path, "x").unwrap_err().contains("no path of a file"), "{path:?}");
        }
        assert!(made("/x", "x").is_ok() && made("/etc/conf.d/hostname", "x").is_ok());
        let file = ImageFile { path: "/etc/x".to_owned(), ..ImageFile::default() };
        assert!(own_file(&file, None).unwrap_err().contains("there is no"));
        assert!(own_file(&file, Some(None)).unwrap_err().contains("longer than"));
        assert!(own_file(&file, Some(Some(b"\xff"))).unwrap_err().contains("UTF-8"));
        let file = ImageFile { unheeded: Some("mode".to_owned()), ..file };
        assert!(own_file(&file, Some(Some(b""))).unwrap_err().contains("`mode`"));
    }

    #[test]
    fn a_machine_is_another_only_if_it_is_known() {
        let of = |machine: &str| {
            let metadata =
                incus::Metadata { architecture: Some(machine.to_owned()), ..incus::Metadata::default() };
            Described { metadata, own_files: Vec::new() }.other_machine()
        };
        let (own, other) = match std::env::consts::ARCH {
            "aarch64" => ("aarch64", ("x86_64", "amd64")),
            _ => ("x86_64", ("aarch64", "arm64")),
        };
        assert_eq!((of(own), of(other.0), of("all")), (None, Some(other.1), None));
    }
}
