//! What this program reads that others have written (a container's root, an administrator's editor, a power cut), as functions of bytes, each with what
//! has to hold whatever they are.
//!
//! Both drivers use these: libFuzzer (`fuzz/`, `make fuzz`), which needs a nightly compiler, and the smoke test beside this, which runs the corpus and some
//! thousand changes of it with every `make test`.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use engine::accounts::{self, AccountFiles};
use engine::keep::Pattern;
use store::{
    AreaRecord, Conf, ContainerId, ContainerName, GenerationRecord, Journal, Limits, TemplateName,
    TemplateRecord,
};

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub static TARGETS: &[Target] = &[
    ("conf", conf),
    ("area", area),
    ("generation", generation),
    ("operation", operation),
    ("template", template),
    ("accounts", account_files),
    ("keep", keep),
    ("packages", packages),
    ("names", names),
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
    drop(Limits::from_conf(&conf, &Conf::parse(b"")));
}

fn record<T: serde_json_record::Record>(bytes: &[u8]) {
    let Ok(record) = T::read(bytes) else { return };
    let written = record.write();
    let again = T::read(&written).unwrap_or_else(|error| panic!("what is written cannot be read: {error}"));
    assert_eq!(again.write(), written, "a record that was read and written is the same");
}

/// Reading and writing of a record, as `store` does it.
mod serde_json_record {
    pub trait Record: Sized {
        fn read(bytes: &[u8]) -> serde_json::Result<Self>;
        fn write(&self) -> Vec<u8>;
    }

    macro_rules! records {
        ($($record:ty),+) => { $(
            impl Record for $record {
                fn read(bytes: &[u8]) -> serde_json::Result<Self> {
                    serde_json::from_slice(bytes)
                }
                fn write(&self) -> Vec<u8> {
                    serde_json::to_vec(self).expect("a record is JSON")
                }
            }
        )+ };
    }
    records!(super::AreaRecord, super::GenerationRecord, super::Journal, super::TemplateRecord);
}

fn area(bytes: &[u8]) {
    record::<AreaRecord>(bytes);
}

fn generation(bytes: &[u8]) {
    record::<GenerationRecord>(bytes);
}

fn operation(bytes: &[u8]) {
    record::<Journal>(bytes);
}

fn template(bytes: &[u8]) {
    record::<TemplateRecord>(bytes);
}

/// The files of two roots, one after the other between NUL bytes: whoever is added has an id that nobody has, every line of the new root stays, and the
/// merge of what was merged adds nobody.
fn account_files(bytes: &[u8]) {
    let mut parts = bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec);
    let mut files = || AccountFiles {
        passwd: parts.next(),
        shadow: parts.next(),
        group: parts.next(),
        gshadow: parts.next(),
        subuid: parts.next(),
        subgid: parts.next(),
        login_defs: parts.next(),
    };
    let (old, new) = (files(), files());
    let merged = accounts::merge(&old, &new, &|shell| shell.len() % 2 == 0);
    let ids = |file: Option<&[u8]>| -> BTreeMap<Vec<u8>, Vec<u8>> {
        let lines = file.unwrap_or_default().split(|&byte| byte == b'\n');
        let fields = lines.map(|line| line.split(|&byte| byte == b':').collect::<Vec<_>>());
        fields
            .filter(|fields| fields.len() == 7)
            .map(|fields| (fields[0].to_vec(), fields[2].to_vec()))
            .collect()
    };
    let before = ids(new.passwd.as_deref());
    if let Some(passwd) = &merged.files.passwd {
        for line in new
            .passwd
            .as_deref()
            .unwrap_or_default()
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            let is_there =
                passwd.split(|&byte| byte == b'\n').any(|now| now == line || now.starts_with(name));
            assert!(is_there, "a line of the new root is gone: {}", tree::escaped(line));
        }
        for (name, id) in ids(Some(passwd)) {
            assert!(
                before.contains_key(&name) || !before.values().any(|taken| *taken == id),
                "an id is shared: {}",
                tree::escaped(&id)
            );
        }
    }
    // What is said of it is fit for eyes.
    for note in &merged.report {
        assert!(!note.to_string().contains(char::is_control), "{note:?}");
    }
}

/// A line of a keep set: nothing that is accepted leads out of the root, or to where something is mounted.
fn keep(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for line in text.lines() {
        match engine::keep::parse(line) {
            Ok(Pattern::Path(path) | Pattern::Changed(path)) => {
                assert!(path.starts_with('/') && path.len() > 1, "{line:?}");
                let mut names = path.split('/').skip(1);
                assert!(!names.clone().any(|name| name == ".." || name.is_empty()), "{line:?}");
                let first = names.next().unwrap_or_default();
                assert!(!["old", "proc", "sys", "dev", "run"].contains(&first), "{line:?}");
            }
            Ok(Pattern::Home(path)) => assert!(!path.split('/').any(|name| name == ".."), "{line:?}"),
            Ok(Pattern::Packages) => assert_eq!(line, "@packages"),
            Err(because) => assert!(!because.is_empty()),
        }
    }
}

/// Records of package managers: what comes out of them stands in a script that root runs, so it is names and nothing else.
fn packages(bytes: &[u8]) {
    for name in engine::packages::names_in(bytes) {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
        assert!(!name.starts_with('-') && !name.is_empty() && name.bytes().all(is_plain), "{name:?}");
    }
}

/// Names, UUIDs: what is accepted is a single plain component, and is written as it was read.
fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let is_component =
        |name: &str| !name.is_empty() && !name.contains(['/', '\0', '\n']) && name != "." && name != "..";
    if let Ok(name) = text.parse::<ContainerName>() {
        assert!(is_component(name.as_str()) && name.as_str() == text, "{text:?}");
    }
    // OpenVZ's leading dot is dropped.
    if let Ok(name) = text.parse::<TemplateName>() {
        let plain = text.strip_prefix('.').unwrap_or(text);
        assert!(is_component(name.as_str()) && name.as_str() == plain, "{text:?}");
    }
    if let Ok(id) = text.parse::<ContainerId>() {
        assert_eq!(id.to_string().parse::<ContainerId>().ok(), Some(id), "{text:?}");
    }
}

/// What is shown holds nothing that a terminal would obey.
fn escape(bytes: &[u8]) {
    for shown in [tree::escaped(bytes), tree::escaped_path(Path::new(std::ffi::OsStr::from_bytes(bytes)))] {
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

fn mountinfo(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        drop(runtime::mountinfo::Entry::parse(line));
    }
}

fn interpreter(bytes: &[u8]) {
    if let Some(found) = runtime::exec::Interpreter::of(bytes) {
        assert!(
            bytes.starts_with(b"#!") && !found.path.is_empty() && !found.path.contains([' ', '\n']),
            "{found:?}"
        );
    }
}
