//! What stands in a recipe's file: TOML, of which every key is known, or it is refused.
//!
//! All that is wrong is told at once, each with its line. The table is gone through here, and not by `serde`: its errors name the value and not the key,
//! and end with the first.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{Import, Mmdebstrap, Recipe, Variant};
use crate::error::{Code, Failure, Result};
use crate::template::Wanted;

/// The kinds, and the keys that each has besides `kind`.
pub const KEYS: [(&str, &[&str]); 3] = [
    ("busybox", &[]),
    ("import", &["entry-point", "from", "image", "init", "stop-signal"]),
    (
        "mmdebstrap",
        &[
            "base-packages",
            "components",
            "distribution",
            "keyring",
            "mirrors",
            "packages",
            "post",
            "pre",
            "proxy",
            "release",
            "suite",
            "variant",
        ],
    ),
];

/// Reads a recipe; `path` is for people.
///
/// # Errors
/// [`Code::BadValue`]: all that is wrong, with lines and keys.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Recipe> {
    let failed = |because: Vec<String>, hint: String| {
        let mut failure =
            Failure::new(Code::BadValue, format!("the recipe `{}` cannot be used", path.display()));
        failure.because = because;
        failure.unchanged().hint(hint)
    };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let line = line_of(bytes, error.valid_up_to());
            return Err(failed(
                vec![format!("line {line}: it is not UTF-8")],
                "correct that line: a recipe is text".to_owned(),
            ));
        }
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = line_of(bytes, error.span().map_or(0, |span| span.start));
        failed(
            vec![format!("line {line}: {}", shown(error.message()))],
            "correct that line; one of a recipe is `key = \"text\"` or `key = [\"text\", \"text\"]`"
                .to_owned(),
        )
    })?;
    let entries = table.into_inner().into_iter().map(|(key, value)| Entry {
        line: line_of(bytes, key.span().start),
        key: key.into_inner().into_owned(),
        span: value.span(),
        value: value.into_inner(),
    });
    let mut reader = Reader { bytes, entries: entries.collect(), wrong: Vec::new() };
    let recipe = reader.recipe();
    let mut wrong = reader.wrong;
    wrong.sort_by_key(|(line, _)| *line);
    match recipe {
        Some(recipe) if wrong.is_empty() => Ok(recipe),
        Some(_) | None => Err(failed(
            wrong.into_iter().map(|(_, because)| because).collect(),
            "correct it there; `vzpkg create --help` has all keys".to_owned(),
        )),
    }
}

/// From 1.
fn line_of(bytes: &[u8], offset: usize) -> usize {
    1 + bytes.iter().take(offset).filter(|&&byte| byte == b'\n').count()
}

/// In one line, fit for eyes, and not longer than one wants to read.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    tree::escaped(short.as_bytes())
}

struct Entry<'text> {
    key: String,
    line: usize,
    value: DeValue<'text>,
    span: Range<usize>,
}

struct Reader<'text> {
    bytes: &'text [u8],
    /// Those that nobody has asked for yet.
    entries: Vec<Entry<'text>>,
    /// Lines, and what is wrong there.
    wrong: Vec<(usize, String)>,
}

impl<'text> Reader<'text> {
    fn recipe(&mut self) -> Option<Recipe> {
        let Some((line, kind)) = self.text("kind") else {
            if self.wrong.is_empty() {
                let kinds = KEYS.map(|(kind, _)| kind).join(", ");
                self.complain(1, "kind", &format!("it is missing; one of {kinds}"));
            }
            return None;
        };
        let Some((kind, keys)) = KEYS.into_iter().find(|(known, _)| *known == kind) else {
            let meant = store::nearest(&kind, KEYS.map(|(kind, _)| kind));
            let said =
                format!("there is no kind `{}`{}", shown(&kind), or_else(meant, &KEYS.map(|(k, _)| k)));
            self.complain(line, "kind", &said);
            return None;
        };
        self.refuse_unknown(kind, keys);
        match kind {
            "busybox" => Some(Recipe::Busybox),
            "import" => self.import().map(Recipe::Import),
            _ => self.mmdebstrap().map(Recipe::Mmdebstrap),
        }
    }

    fn import(&mut self) -> Option<Import> {
        let from = self.checked("from", |text| {
            let is_there = text.starts_with('/') || text.len() > 10 && text.starts_with("container:");
            if is_there { Ok(()) } else { Err("wanted is an absolute path, or container:NAME") }
        });
        let image = self.checked("image", |_| Ok(()));
        let init = self.checked("init", crate::template::check_init);
        let stop_signal = self.checked("stop-signal", crate::template::check_signal);
        let entry_point = self.flag("entry-point");
        if let (Some((line, true)), Some(_)) = (entry_point, &init) {
            self.complain(line, "entry-point", "it is this or `init`: either of them is what is started");
        }
        let Some(from) = from else {
            self.missing("from", "what it is made from: an archive, a directory or an image");
            return None;
        };
        Some(Import {
            from: PathBuf::from(from),
            wanted: Wanted {
                init,
                stop_signal,
                image,
                entry_point: entry_point.is_some_and(|(_, is_wanted)| is_wanted),
            },
        })
    }

    fn mmdebstrap(&mut self) -> Option<Mmdebstrap> {
        let recipe = Mmdebstrap {
            suite: self.checked("suite", is_word).unwrap_or_default(),
            distribution: self.checked("distribution", is_word),
            release: self.checked("release", is_word),
            mirrors: self.list("mirrors", is_mirror),
            components: self.list("components", is_word),
            keyring: self.checked("keyring", is_absolute).map(PathBuf::from),
            variant: self.variant(),
            base_packages: self.list("base-packages", is_package),
            packages: self.list("packages", is_package),
            proxy: self.checked("proxy", is_proxy),
            pre: self.checked("pre", is_path).map(PathBuf::from),
            post: self.checked("post", is_path).map(PathBuf::from),
        };
        if recipe.suite.is_empty() {
            self.missing("suite", "the suite of the archive, such as \"bookworm\"");
            return None;
        }
        Some(recipe)
    }

    fn variant(&mut self) -> Variant {
        let Some((line, word)) = self.text("variant") else { return Variant::default() };
        let found = Variant::ALL.into_iter().find(|variant| variant.word() == word);
        if found.is_none() {
            let words = Variant::ALL.map(Variant::word);
            let said = format!(
                "there is no variant `{}`{}",
                shown(&word),
                or_else(store::nearest(&word, words), &words)
            );
            self.complain(line, "variant", &said);
        }
        found.unwrap_or_default()
    }

    fn refuse_unknown(&mut self, kind: &str, keys: &[&str]) {
        let unknown: Vec<(usize, String)> = self
            .entries
            .iter()
            .filter(|entry| !keys.contains(&entry.key.as_str()))
            .map(|entry| (entry.line, entry.key.clone()))
            .collect();
        for (line, key) in unknown {
            let is_of_another = KEYS.iter().any(|(_, keys)| keys.contains(&key.as_str()));
            let said = if is_of_another {
                format!("a recipe of kind `{kind}` has no such key")
            } else {
                let meant = store::nearest(&key, keys.iter().copied().chain(["kind"]));
                format!("there is no such key{}", or_else(meant, keys))
            };
            self.complain(line, &key, &said);
        }
    }

    fn complain(&mut self, line: usize, key: &str, said: &str) {
        self.wrong.push((line, format!("line {line}, `{}`: {said}", shown(key))));
    }

    /// Unless it is there, and was wrong.
    fn missing(&mut self, key: &str, meaning: &str) {
        let start = format!("`{key}`: ");
        if !self.wrong.iter().any(|(_, said)| said.contains(&start)) {
            self.complain(1, key, &format!("it is missing: {meaning}"));
        }
    }

    fn take(&mut self, key: &str) -> Option<Entry<'text>> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.swap_remove(index))
    }

    /// A text and its line.
    fn text(&mut self, key: &str) -> Option<(usize, String)> {
        let entry = self.take(key)?;
        let DeValue::String(text) = &entry.value else {
            let said = format!("it is {}; wanted is a text: {key} = \"…\"", name_of(&entry.value));
            self.complain(entry.line, key, &said);
            return None;
        };
        Some((line_of(self.bytes, entry.span.start), text.to_string()))
    }

    /// True or false, and its line.
    fn flag(&mut self, key: &str) -> Option<(usize, bool)> {
        let entry = self.take(key)?;
        let DeValue::Boolean(value) = &entry.value else {
            let said = format!("it is {}; wanted is true or false: {key} = true", name_of(&entry.value));
            self.complain(entry.line, key, &said);
            return None;
        };
        Some((entry.line, *value))
    }

    fn checked(&mut self, key: &str, check: Check) -> Option<String> {
        let (line, text) = self.text(key)?;
        self.passes(line, key, &text, check).then_some(text)
    }

    fn list(&mut self, key: &str, check: Check) -> Vec<String> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        let DeValue::Array(array) = &entry.value else {
            let said = format!("it is {}; wanted is a list of texts: {key} = [\"…\"]", name_of(&entry.value));
            self.complain(entry.line, key, &said);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for value in array {
            let line = line_of(self.bytes, value.span().start);
            if let DeValue::String(text) = value.get_ref() {
                if self.passes(line, key, text, check) {
                    texts.push(text.to_string());
                }
            } else {
                let said = format!("{} is in it; wanted are texts", name_of(value.get_ref()));
                self.complain(line, key, &said);
            }
        }
        texts
    }

    fn passes(&mut self, line: usize, key: &str, text: &str, check: Check) -> bool {
        match plain(text).and_then(|()| check(text)) {
            Ok(()) => true,
            Err(because) => {
                self.complain(line, key, &format!("`{}`: {because}", shown(text)));
                false
            }
        }
    }
}

/// What was meant, or what there is.
fn or_else(meant: Option<&str>, all: &[&str]) -> String {
    match meant {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None if all.is_empty() => String::new(),
        None => {
            let mut said = "; there are".to_owned();
            for (index, one) in all.iter().enumerate() {
                let _ = write!(said, "{} {one}", if index == 0 { ":" } else { "," });
            }
            said
        }
    }
}

fn name_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Whether a text can be a value; why not.
type Check = fn(&str) -> std::result::Result<(), &'static str>;

/// All of them end as words of a command line or in the environment.
fn plain(text: &str) -> std::result::Result<(), &'static str> {
    match text {
        "" => Err("it is empty"),
        _ if text.contains(char::is_control) => Err("there is a control character in it"),
        _ => Ok(()),
    }
}

fn only(text: &str, others: &str, otherwise: &'static str) -> std::result::Result<(), &'static str> {
    let is_begun = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    if is_begun && text.chars().all(is_allowed) { Ok(()) } else { Err(otherwise) }
}

fn is_word(text: &str) -> std::result::Result<(), &'static str> {
    only(text, "._+-/", "wanted are letters, digits, `.`, `_`, `+`, `-` and `/`, a letter or a digit first")
}

fn is_package(text: &str) -> std::result::Result<(), &'static str> {
    only(
        text,
        "+-.:=~/_",
        "it is no name of a package, which may have an architecture (`:`), a version (`=`) or a suite (`/`) behind it",
    )
}

fn is_mirror(text: &str) -> std::result::Result<(), &'static str> {
    let is_url = !text.contains(char::is_whitespace)
        && text.contains("://")
        && text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_line = text.starts_with("deb ") && text.contains(":/");
    if is_url || is_line {
        Ok(())
    } else {
        Err(
            "wanted is a URL, such as http://deb.debian.org/debian, or a line of sources.list that begins with `deb `",
        )
    }
}

fn is_proxy(text: &str) -> std::result::Result<(), &'static str> {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    if is_url && !text.contains(char::is_whitespace) {
        Ok(())
    } else {
        Err("wanted is a URL that begins with http://")
    }
}

fn is_absolute(text: &str) -> std::result::Result<(), &'static str> {
    if text.starts_with('/') { Ok(()) } else { Err("wanted is an absolute path") }
}

/// Of a script: absolute, or a name beside the recipe.
fn is_path(text: &str) -> std::result::Result<(), &'static str> {
    match Path::new(text).file_name() {
        Some(_) if text.starts_with('/') || !text.contains('/') => Ok(()),
        Some(_) | None => Err("wanted is an absolute path, or the name of a file beside the recipe"),
    }
}
