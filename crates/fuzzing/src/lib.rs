//! What this program reads that others have written (a container's root, an administrator's editor, a power cut), as functions of bytes, each with what
//! has to hold whatever they are.
//!
//! Both drivers use these: libFuzzer (`fuzz/`, `make fuzz`), which needs a nightly compiler, and the smoke test beside this, which runs the corpus and some
//! thousand changes of it with every `make test`.
//!
//! What has to hold is written here a second time, by other means than the product's: a check that asks the product whether it was right sees nothing.

mod accounts;
mod attached;
mod images;
mod incus;
mod ploop;
mod posix;
mod records;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use engine::event::{Event, What};
use engine::keep::Pattern;
use store::{
    AreaRecord, Conf, ContainerId, ContainerName, GenerationRecord, Journal, Limits, TemplateChoice,
    TemplateName, TemplateRecord,
};

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub static TARGETS: &[Target] = &[
    ("conf", conf),
    ("area", area),
    ("generation", generation),
    ("operation", operation),
    ("tar", tar),
    ("images", images::read),
    ("incus", incus::read),
    ("descriptor", ploop::descriptor),
    ("parallels", ploop::image),
    ("template", template),
    ("accounts", accounts::merge),
    ("keep", keep),
    ("keep_file", keep_file),
    ("recipe", recipe),
    ("packages", packages),
    ("names", names),
    ("nameserver", nameserver),
    ("addresses", addresses),
    ("disks", attached::disks),
    ("bind_mounts", attached::bind_mounts),
    ("device_nodes", attached::device_nodes),
    ("interfaces", attached::interfaces),
    ("events", events),
    ("shell_word", shell_word),
    ("escape", escape),
    ("mountinfo", mountinfo),
    ("interpreter", interpreter),
];

/// Runs a target; it panics where something does not hold.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) =
        TARGETS.iter().find(|(known, _)| *known == name).expect("there is a target of that name");
    target(bytes);
}

/// `ve.conf`, `vz.conf` and samples: what is not changed stays to the byte, what is set is read again, and limits are read or refused.
fn conf(bytes: &[u8]) {
    let conf = Conf::parse(bytes);
    assert_eq!(conf.to_bytes(), bytes, "a rewrite without a change changes nothing");
    let mut changed = conf.clone();
    if changed.set("NAME", "web \"01\" $x `y` \\").is_ok() && conf.damage().is_none() {
        assert_eq!(changed.get("NAME").as_deref(), Some("web \"01\" $x `y` \\"));
        assert_eq!(Conf::parse(&changed.to_bytes()), changed, "what is written is what is read");
        for key in conf.keys() {
            assert!(key == "NAME" || conf.get(key) == changed.get(key), "{key}");
        }
        changed.remove("NAME");
        assert_eq!(changed.get("NAME"), None);
    }
    drop(Limits::from_conf(&[&conf]));
}

fn area(bytes: &[u8]) {
    records::check::<AreaRecord>(bytes, |record| record.format);
}

fn generation(bytes: &[u8]) {
    records::check::<GenerationRecord>(bytes, |record| record.format);
}

fn operation(bytes: &[u8]) {
    records::check::<Journal>(bytes, |record| record.format);
}

fn template(bytes: &[u8]) {
    records::check::<TemplateRecord>(bytes, |record| record.format);
}

/// A line of a keep set: nothing that is accepted leads out of the root, or to where something is mounted.
fn keep(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for line in text.lines() {
        match engine::keep::parse(line) {
            Ok(pattern) => check_pattern(&pattern, line),
            Err(because) => assert!(!because.is_empty()),
        }
    }
}

fn check_pattern(pattern: &Pattern, line: &str) {
    match pattern {
        Pattern::Path(path) | Pattern::Changed(path) => {
            assert!(path.starts_with('/') && path.len() > 1, "{line:?}");
            let mut names = path.split('/').skip(1);
            assert!(!names.clone().any(|name| matches!(name, "" | "." | "..")), "{line:?}");
            let first = names.next().unwrap_or_default();
            assert!(!["old", "proc", "sys", "dev", "run"].contains(&first), "{line:?}");
        }
        Pattern::Home(path) => {
            assert!(path.is_empty() || path.starts_with('/'), "{line:?}");
            assert!(!path.split('/').skip(1).any(|name| matches!(name, "" | "." | "..")), "{line:?}");
        }
        Pattern::Packages => assert_eq!(line, "@packages"),
    }
}

/// A file of `keep.d`: every line that is no remark says something, in its order, or the file is refused, in words that are fit for eyes.
fn keep_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines: Vec<&str> =
        text.split('\n').map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    match engine::keep::parse_file(Path::new("/etc/vz/keep.d/a.conf"), text) {
        Ok(patterns) => {
            assert_eq!(patterns.len(), lines.len(), "as many lines as patterns");
            for (pattern, line) in patterns.iter().zip(lines) {
                check_pattern(pattern, line);
                let is_home = matches!(pattern, Pattern::Home(_));
                assert_eq!(is_home, line.starts_with('~'), "{line:?}");
            }
        }
        Err(failure) => {
            assert!(lines.iter().any(|line| engine::keep::parse(line).is_err()), "{failure:?}");
            assert!(failure.hint.is_some() && failure.state.is_some(), "{failure:?}");
            for said in failure.because.iter().chain([&failure.what]) {
                assert_fit_for_eyes(said);
            }
        }
    }
}

/// A recipe: what is accepted can stand in a command line and in the environment, and is nobody's option; what is refused is told in words that are fit
/// for eyes, each with its line.
fn recipe(bytes: &[u8]) {
    use engine::template::recipe::{Recipe, parse};
    let is_word = |word: &str| !word.is_empty() && !word.starts_with('-') && !word.contains(char::is_control);
    let recipe = match parse(Path::new("/etc/vz/templates.d/a.toml"), bytes) {
        Ok(recipe) => recipe,
        Err(failure) => {
            assert!(failure.hint.is_some() && failure.state.is_some(), "{failure:?}");
            assert!(!failure.because.is_empty(), "{failure:?}");
            let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
            for said in &failure.because {
                let number = said.strip_prefix("line ").and_then(|said| said.split([',', ':']).next());
                let number: usize = number.and_then(|number| number.parse().ok()).expect("it has a line");
                assert!((1..=lines).contains(&number), "{failure:?}");
            }
            for said in failure.because.iter().chain([&failure.what]) {
                assert_fit_for_eyes(said);
            }
            return;
        }
    };
    match recipe {
        Recipe::Busybox => {}
        Recipe::Import(import) => {
            let from = import.from.to_str().expect("a recipe is UTF-8");
            assert!(from.starts_with('/') || from.starts_with("container:"), "{from:?}");
            assert!(!from.contains(char::is_control), "{from:?}");
        }
        Recipe::Mmdebstrap(recipe) => {
            assert!(is_word(&recipe.suite) && !recipe.suite.contains(char::is_whitespace), "{recipe:?}");
            assert!(recipe.mirrors.iter().all(|mirror| is_word(mirror)), "{recipe:?}");
            let lists = [&recipe.components, &recipe.packages, &recipe.base_packages];
            for word in lists.into_iter().flatten() {
                // They are joined by commas.
                assert!(is_word(word) && !word.contains([',', ' ']), "{recipe:?}");
            }
            assert!(recipe.keyring.is_none_or(|keyring| keyring.is_absolute()));
        }
    }
}

/// Records of package managers: what comes out of them stands in a script that root runs, so it is names and nothing else.
fn packages(bytes: &[u8]) {
    let names: Vec<String> = engine::packages::names_in(bytes).into_iter().collect();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    let is_name = |name: &str| !name.is_empty() && !name.starts_with('-') && name.bytes().all(is_plain);
    if names.is_empty() {
        return;
    }
    // All around the list is the same whatever stands in it.
    let harmless = engine::packages::scripts_for(&["harmless".to_owned()]);
    for (script, harmless) in engine::packages::scripts_for(&names).iter().zip(harmless) {
        let (before, list, after) = around_list(script);
        assert_eq!((before, after), {
            let (before, _, after) = around_list(&harmless);
            (before, after)
        });
        let lines: Vec<&str> = list.split('\n').collect();
        assert_eq!(lines.len(), names.len(), "{list:?}");
        for (index, (line, name)) in lines.iter().zip(&names).enumerate() {
            let line = if index == 0 { Some(*line) } else { line.strip_prefix("    ") };
            let is_last = index + 1 == names.len();
            let word = line.and_then(|line| if is_last { Some(line) } else { line.strip_suffix(" \\") });
            assert!(word == Some(name) && is_name(name), "{list:?}");
        }
    }
}

/// What stands before the list of packages of a script, the list, and what follows.
fn around_list(script: &str) -> (&str, &str, &str) {
    let (before, rest) = script.split_once("packages=\"").expect("a script has its list");
    let (list, after) = rest.split_once('"').expect("a list has an end");
    (before, list, after)
}

/// Names, UUIDs: what is accepted is a single plain component, and is written as it was read; what is refused is told in words that are fit for eyes.
fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let is_component =
        |name: &str| !name.is_empty() && !name.contains(['/', '\0', '\n']) && name != "." && name != "..";
    match text.parse::<ContainerName>() {
        Ok(name) => assert!(is_component(name.as_str()) && name.as_str() == text, "{text:?}"),
        Err(error) => assert_fit_for_eyes(&error.to_string()),
    }
    // OpenVZ's leading dot is dropped.
    match text.parse::<TemplateName>() {
        Ok(name) => {
            let plain = text.strip_prefix('.').unwrap_or(text);
            assert!(is_component(name.as_str()) && name.as_str() == plain, "{text:?}");
        }
        Err(error) => assert_fit_for_eyes(&error.to_string()),
    }
    match text.parse::<TemplateChoice>() {
        Ok(choice) => {
            assert!(is_component(choice.name.as_str()), "{text:?}");
            let is_digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            assert!(
                choice.version.as_deref().is_none_or(|version| version.len() >= 8 && is_digits(version)),
                "{text:?}"
            );
            assert_eq!(choice.to_string().parse().as_ref(), Ok(&choice), "{text:?}");
        }
        Err(error) => assert_fit_for_eyes(&error.to_string()),
    }
    if let Ok(id) = text.parse::<ContainerId>() {
        assert_eq!(id.to_string().parse::<ContainerId>().ok(), Some(id), "{text:?}");
    }
}

/// A configuration and, behind a NUL byte, the host's `resolv.conf`: what a container gets is lines that say one thing each, a `search` of all domains at
/// the most and a `nameserver` of one word.
fn nameserver(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let conf = Conf::parse(parts.next().unwrap_or_default());
    let host = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let Some(text) = engine::resolver_of(&conf, &host) else {
        let servers = conf.get("NAMESERVER").unwrap_or_default();
        assert!(
            servers.trim() != "inherit" && !servers.split_whitespace().any(engine::settings::is_name_server)
        );
        return;
    };
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    for (index, line) in text.split_terminator('\n').enumerate() {
        assert!(!line.contains(char::is_control), "{text:?}");
        let words: Vec<&str> = line.split(' ').collect();
        assert!(!words.iter().any(|word| word.is_empty() || word.contains(char::is_whitespace)), "{text:?}");
        match words[0] {
            "search" => assert!(index == 0 && words.len() > 1, "{text:?}"),
            "nameserver" => assert_eq!(words.len(), 2, "{text:?}"),
            _ => panic!("{text:?}"),
        }
    }
    // What was asked for and can be written is there, in its order.
    let asked = conf.get("NAMESERVER").unwrap_or_default();
    if asked.trim() != "inherit" {
        let asked = asked.split_whitespace().filter(|word| engine::settings::is_name_server(word));
        let written = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
        assert!(asked.eq(written), "{text:?}");
    }
}

/// A configuration: its addresses are each there once, none is everybody's or one's own to any machine, and what is said of them to other programs is an
/// address and nothing else.
fn addresses(bytes: &[u8]) {
    let conf = Conf::parse(bytes);
    let words = conf.get("IP_ADDRESS").unwrap_or_default();
    let found = match store::Address::all(&conf) {
        Ok(found) => found,
        Err(error) => return assert_fit_for_eyes(&error.to_string()),
    };
    assert!(found.len() <= words.split_whitespace().count());
    for (index, address) in found.iter().enumerate() {
        assert!(!found[..index].iter().any(|other| other.ip == address.ip), "{words:?}");
        let text = address.ip.to_string();
        assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte)), "{text:?}");
        let (first, bits) = match address.ip {
            std::net::IpAddr::V4(ip) => (ip.octets()[0], 32),
            std::net::IpAddr::V6(ip) => (ip.octets()[0], 128),
        };
        assert!((1..=bits).contains(&address.prefix), "{address}");
        match bits {
            32 => assert!(first != 127 && !(224..240).contains(&first) && text != "0.0.0.0", "{text}"),
            _ => {
                let is_mapped = text.starts_with("::ffff:") && text.contains('.');
                assert!(first != 0xff && !text.starts_with("fe80") && !is_mapped, "{text}");
            }
        }
        assert_eq!(address.to_string().parse::<store::Address>().ok(), Some(*address), "{words:?}");
    }
}

/// A log of operations: what is read of it is one line each when it is written again, which is what `--json` does, and reads the same; a line that is none
/// hides no other.
fn events(bytes: &[u8]) {
    let read = |bytes: &[u8]| engine::log::read::events_in(bytes).collect::<Vec<Event>>();
    let write = |event: &Event| serde_json::to_string(event).expect("an event is JSON");
    let found = read(bytes);
    for event in &found {
        let line = write(event);
        assert!(!line.contains('\n'), "{line:?}");
        let again = read(line.as_bytes());
        assert_eq!(again.iter().map(write).collect::<Vec<_>>(), [line]);
        // Of moments what is finer than a millisecond is not written.
        assert!(matches!(event.what, What::Begin { .. }) || again[0].what == event.what, "{event:?}");
    }
    let known = Event::now(What::Note { text: "after it".to_owned() });
    let mut longer = bytes.to_vec();
    longer.extend_from_slice(format!("\n{}\n", write(&known)).as_bytes());
    let longer = read(&longer);
    assert_eq!(longer[..longer.len() - 1], found[..], "what is added changes nothing before it");
    assert_eq!(longer[longer.len() - 1].what, known.what);
}

/// Words for a shell, and of one: what is quoted is what a shell reads, on a command line and in a configuration; and where the product reads a value that
/// for a shell is one word, it reads the same.
fn shell_word(bytes: &[u8]) {
    let word = String::from_utf8_lossy(bytes);
    if !word.contains('\0') {
        let line = format!("prlctl {} x", engine::words::quoted(&word));
        let words = posix::words(line.as_bytes());
        assert_eq!(words, Some(vec![b"prlctl".to_vec(), word.as_bytes().to_vec(), b"x".to_vec()]), "{line}");
    }
    if !word.contains(['\0', '\n']) {
        let quoted = store::shell_word::quote(&word);
        assert_eq!(posix::words(&quoted), Some(vec![word.as_bytes().to_vec()]), "{word:?}");
        let read = store::shell_word::parse(&quoted).expect("what is quoted can be read");
        assert_eq!((read.value, read.length), (word.as_bytes().to_vec(), quoted.len()), "{word:?}");
    }
    if !bytes.contains(&b'\n') {
        let read = store::shell_word::parse(bytes);
        if let Ok(read) = &read {
            assert!(read.length <= bytes.len());
            assert!(read.value.len() <= read.length, "nothing is expanded");
        }
        if let Some([word]) = posix::words(bytes).as_deref() {
            assert_eq!(read.map(|read| read.value).as_ref(), Ok(word));
        }
    }
}

/// What is shown holds nothing that a terminal would obey.
fn escape(bytes: &[u8]) {
    for shown in [tree::escaped(bytes), tree::escaped_path(Path::new(OsStr::from_bytes(bytes)))] {
        assert_fit_for_eyes(&shown);
    }
}

/// Nothing in it controls a terminal, turns the direction of what follows, or is there without being seen.
fn assert_fit_for_eyes(text: &str) {
    let is_unfit = |c: char| {
        c.is_control()
            || matches!(u32::from(c),
                0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe007f)
    };
    assert!(!text.contains(is_unfit), "{text:?}");
}

/// Lines of the kernel: whatever is mounted wherever, its line says so.
fn mountinfo(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        drop(runtime::mountinfo::Entry::parse(line));
    }
    // As `mangle` of the kernel's fs/proc_namespace.c writes a path; it begins with a slash, or ` - ` could be one.
    let point = format!("/{}", String::from_utf8_lossy(bytes));
    let written: String = point
        .chars()
        .map(|c| if " \t\n\\#".contains(c) { format!("\\{:03o}", u32::from(c)) } else { c.to_string() })
        .collect();
    let line = format!("36 35 0:57 / {written} rw,nosuid master:1 - overlay reroot rw,lowerdir=/a");
    let entry = runtime::mountinfo::Entry::parse(&line).expect("a line of the kernel is understood");
    assert_eq!(entry.point.as_os_str().as_bytes(), point.as_bytes());
    assert_eq!((entry.superblock.as_str(), entry.file_system.as_str()), ("0:57", "overlay"));
}

fn interpreter(bytes: &[u8]) {
    if let Some(found) = runtime::exec::Interpreter::of(bytes) {
        assert!(
            bytes.starts_with(b"#!") && !found.path.is_empty() && !found.path.contains([' ', '\t', '\n']),
            "{found:?}"
        );
    }
}

/// An archive: reading it ends, no path has a NUL in it, and data goes where its file is, in order, each piece once.
fn tar(bytes: &[u8]) {
    let mut reader = archive::Reader::new(bytes, 1 << 40);
    let mut entries = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        entries += 1;
        assert!(entries <= bytes.len() / 512, "more entries than headers");
        assert!(
            !entry.path.contains(&0) && entry.properties.mode <= 0o7777 && entry.properties.uid != u32::MAX
        );
        let archive::Kind::File { size, segments } = &entry.kind else { continue };
        let mut end = 0;
        for &(offset, length) in segments {
            assert!(length > 0 && offset >= end, "{segments:?}");
            end = offset.checked_add(length).expect("it ends somewhere");
        }
        assert!(end <= *size, "{segments:?} of {size}");
    }
}
