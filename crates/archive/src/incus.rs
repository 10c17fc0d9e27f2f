//! `metadata.yaml` of an image of Incus or LXD: for which machine it is, which system, and which files each container gets with its own name in them.
//!
//! Source: "Image format" of Incus' documentation. What is not known there is passed over, but for what a file's entry says, which may change what is meant
//! by it. Whoever made it may mean harm: it is read within bounds, and aliases, which a few bytes can make gigabytes of, are refused, as is what is of a type
//! of somebody's own.

use saphyr_parser::{Event, Parser};

/// Of the whole; those that there are have some thousand bytes.
pub const LONGEST: u64 = 64 * 1024;
/// Lists in lists.
const DEEPEST: usize = 16;
/// Files that are told of. No image has ten.
const MOST_FILES: usize = 64;

/// What it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// As the kernel names machines (`x86_64`), or as Debian does (`amd64`).
    pub architecture: Option<String>,
    /// `os` of its properties: `Debian`.
    pub os: Option<String>,
    /// `release` of its properties: `bookworm`.
    pub release: Option<String>,
    /// Files that each container gets, in their order.
    pub files: Vec<ImageFile>,
}

/// A file that is made in each container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFile {
    /// Where, as it stands there.
    pub path: String,
    /// Which of the image's `templates/` it is made of.
    pub template: String,
    /// At the making of a container, or at its start; else only where one is copied or gets another name.
    pub is_for_new: bool,
    /// Only where there is none yet.
    pub is_create_only: bool,
    /// What else is said of it that would have to be heeded.
    pub unheeded: Option<String>,
}

/// Reads it.
///
/// # Errors
/// In words: then nothing is known of what it says.
pub fn metadata(bytes: &[u8]) -> Result<Metadata, String> {
    if bytes.len() as u64 > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let Some(top) = document(text)? else { return Ok(Metadata::default()) };
    let Node::Mapping(top) = top else { return Err("it has no keys".to_owned()) };
    let mut metadata = Metadata { architecture: text_of(&top, "architecture")?, ..Metadata::default() };
    if let Some(properties) = mapping_of(&top, "properties")? {
        metadata.os = text_of(properties, "os")?;
        metadata.release = text_of(properties, "release")?;
    }
    let files = mapping_of(&top, "templates")?.unwrap_or_default();
    if files.len() > MOST_FILES {
        return Err(format!("it has more than {MOST_FILES} templates of files"));
    }
    for (path, entry) in files {
        metadata.files.push(file(path, entry)?);
    }
    Ok(metadata)
}

fn file(path: &str, entry: &Node) -> Result<ImageFile, String> {
    let shown = tree::escaped(path.as_bytes());
    let Node::Mapping(entry) = entry else { return Err(format!("`{shown}` has no keys")) };
    let template = text_of(entry, "template")?.ok_or_else(|| format!("`{shown}` names no template"))?;
    let mut file = ImageFile { path: path.to_owned(), template, ..ImageFile::default() };
    for (key, value) in entry {
        match (key.as_str(), value) {
            ("template", _) => {}
            ("when", Node::Sequence(moments)) => {
                let is_new = |moment: &Node| matches!(moment, Node::Scalar(word) if matches!(word.as_str(), "create" | "start"));
                file.is_for_new = moments.iter().any(is_new);
            }
            ("create_only", Node::Scalar(word)) if word == "true" => file.is_create_only = true,
            ("create_only", Node::Scalar(word)) if word == "false" => {}
            // What its tags stand for: they are looked at in the text.
            ("properties", _) => {}
            // Owner, mode, and whatever there will be: as nobody meant it is worse than not at all.
            _ => file.unheeded = Some(tree::escaped(key.as_bytes())),
        }
    }
    Ok(file)
}

/// What there is in YAML.
enum Node {
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(String, Node)>),
}

fn value_of<'a>(mapping: &'a [(String, Node)], key: &str) -> Option<&'a Node> {
    mapping.iter().find_map(|(own, value)| (own == key).then_some(value))
}

/// `None`: it is not there, or empty.
fn text_of(mapping: &[(String, Node)], key: &str) -> Result<Option<String>, String> {
    match value_of(mapping, key) {
        None => Ok(None),
        Some(Node::Scalar(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty() && text != "null")),
        Some(Node::Sequence(_) | Node::Mapping(_)) => Err(format!("`{key}` is no text")),
    }
}

fn mapping_of<'a>(mapping: &'a [(String, Node)], key: &str) -> Result<Option<&'a [(String, Node)]>, String> {
    match value_of(mapping, key) {
        None => Ok(None),
        Some(Node::Mapping(mapping)) => Ok(Some(mapping)),
        // `templates:` and nothing else.
        Some(Node::Scalar(text)) if matches!(text.as_str(), "" | "~" | "null") => Ok(None),
        Some(Node::Scalar(_) | Node::Sequence(_)) => Err(format!("`{key}` has no keys")),
    }
}

/// A list, or keys and values, that have not ended yet.
enum Open {
    Sequence(Vec<Node>),
    /// And the key whose value comes next.
    Mapping(Vec<(String, Node)>, Option<String>),
}

/// The one document of a text; `None`: it is empty.
fn document(text: &str) -> Result<Option<Node>, String> {
    let mut parser = Parser::new_from_str(text);
    let (mut open, mut top, mut documents) = (Vec::new(), None, 0);
    while let Some(event) = parser.next_event() {
        let (event, at) = event.map_err(|error| {
            format!("line {}: {}", error.marker().line(), tree::escaped(error.info().as_bytes()))
        })?;
        let refused = |because: &str| Err(format!("line {}: {because}", at.start.line()));
        let ended = match event {
            Event::Alias(_) => return refused("it refers to another place, which is not followed"),
            Event::Scalar(_, _, anchor, tag) if anchor != 0 || tag.is_some() => {
                return refused("an anchor or a type, which no image needs");
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag)
                if anchor != 0 || tag.is_some() =>
            {
                return refused("an anchor or a type, which no image needs");
            }
            Event::SequenceStart(..) => {
                open.push(Open::Sequence(Vec::new()));
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::Mapping(Vec::new(), None));
                None
            }
            Event::Scalar(text, ..) => Some(Node::Scalar(text.into_owned())),
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::Sequence(nodes)) => Some(Node::Sequence(nodes)),
                Some(Open::Mapping(pairs, None)) => Some(Node::Mapping(pairs)),
                Some(Open::Mapping(_, Some(_))) | None => return refused("it ends in the middle"),
            },
            Event::DocumentStart(_) => {
                documents += 1;
                None
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => None,
        };
        if open.len() > DEEPEST || documents > 1 {
            return refused(if documents > 1 { "there is more than one" } else { "it is too deep" });
        }
        let Some(node) = ended else { continue };
        match (open.last_mut(), node) {
            (None, node) => top = Some(node),
            (Some(Open::Sequence(nodes)), node) => nodes.push(node),
            (Some(Open::Mapping(pairs, key)), node) => match (key.take(), node) {
                (Some(key), node) => pairs.push((key, node)),
                (None, Node::Scalar(text)) if value_of(pairs, &text).is_some() => {
                    return refused(&format!("`{}` is there twice", tree::escaped(text.as_bytes())));
                }
                (None, Node::Scalar(text)) => *key = Some(text),
                (None, Node::Sequence(_) | Node::Mapping(_)) => return refused("a key that is no text"),
            },
        }
    }
    // A file with nothing in it but remarks.
    Ok(top.filter(|top| !matches!(top, Node::Scalar(text) if matches!(text.as_str(), "" | "~" | "null"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As distrobuilder writes it, and `lxc publish`.
    const REAL: &str = r#"architecture: x86_64
creation_date: 1700000000
expiry_date: 1702592000
properties:
  architecture: amd64
  description: "Debian bookworm amd64 (20231115_05:24)"
  os: Debian
  release: bookworm
  variant: default
templates:
  /etc/hostname:
    when:
    - create
    - copy
    create_only: false
    template: hostname.tpl
    properties: {}
  /etc/hosts:
    when: [ create, copy ]
    template: hosts.tpl
  /etc/nodename:
    when: [copy]
    create_only: true
    template: nodename.tpl
    mode: "0600"
"#;

    #[test]
    fn what_an_image_says_is_read() {
        let found = metadata(REAL.as_bytes()).unwrap();
        assert_eq!(
            (found.architecture.as_deref(), found.os.as_deref(), found.release.as_deref()),
            (Some("x86_64"), Some("Debian"), Some("bookworm"))
        );
        let file = |path: &str, template: &str| ImageFile {
            path: path.to_owned(),
            template: template.to_owned(),
            is_for_new: true,
            ..ImageFile::default()
        };
        let nodename = ImageFile {
            is_for_new: false,
            is_create_only: true,
            unheeded: Some("mode".to_owned()),
            ..file("/etc/nodename", "nodename.tpl")
        };
        assert_eq!(
            found.files,
            [file("/etc/hostname", "hostname.tpl"), file("/etc/hosts", "hosts.tpl"), nodename]
        );
    }

    #[test]
    fn json_is_yaml_and_nothing_is_nothing() {
        let found = metadata(br#"{"architecture": "aarch64", "properties": {"release": 12}}"#).unwrap();
        assert_eq!((found.architecture.as_deref(), found.release.as_deref()), (Some("aarch64"), Some("12")));
        for nothing in ["", "# remark\n", "---\n", "templates:\nproperties: null\n", "~"] {
            assert_eq!(metadata(nothing.as_bytes()).unwrap(), Metadata::default(), "{nothing:?}");
        }
    }

    #[test]
    fn what_means_harm_is_refused() {
        let deep = "[".repeat(100);
        let many: String =
            (0..65).map(|number| format!("  /etc/{number}: {{template: x}}\n")).collect::<String>();
        for (text, because) in [
            ("a: &a [x]\nb: [*a, *a]\n".to_owned(), "line 1: an anchor"),
            ("b: *a\n".to_owned(), "line 1: "),
            ("a: !!python/object x\n".to_owned(), "line 1: an anchor or a type"),
            (format!("a: {deep}"), "line 1: it is too deep"),
            ("a: x\na: y\n".to_owned(), "line 2: `a` is there twice"),
            ("[a]: x\n".to_owned(), "line 1: a key that is no text"),
            ("a: x\n---\na: y\n".to_owned(), "there is more than one"),
            ("just words".to_owned(), "it has no keys"),
            ("architecture: [x]".to_owned(), "`architecture` is no text"),
            ("templates: [x]".to_owned(), "`templates` has no keys"),
            ("templates: {/etc/x: {when: [create]}}".to_owned(), "`/etc/x` names no template"),
            ("templates: {/etc/x: y}".to_owned(), "`/etc/x` has no keys"),
            ("a: \"x".to_owned(), "line "),
            (format!("templates:\n{many}"), "more than 64"),
            (format!("#{}", "x".repeat(64 * 1024)), "longer than"),
        ] {
            let said = metadata(text.as_bytes()).unwrap_err();
            assert!(said.contains(because), "{text:.40?}: {said}");
        }
        assert!(metadata(b"a: \xff").unwrap_err().contains("UTF-8"));
    }
}
