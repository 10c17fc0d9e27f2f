//! `prlctl generation-diff`
//!
//! What differs is printed as it is found: a root may have a million such paths. So a JSON document may have been begun when something
//! fails; it is then closed with an `error` in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use engine::difference::Comparison;
use engine::host::damaged;
use engine::words::in_words;
use engine::{Code, Failure, Result};
use serde_json::{Value, json};
use store::{Area, Base, GenerationNumber};
use tree::{Aspect, Change, Difference};

use super::host;
use crate::arguments::GenerationDiff;
use crate::output;

/// PATH_MAX of limits.h.
const LONGEST_PATH: usize = 4096;
/// So much is written at once.
const BUFFER: usize = 64 << 10;

/// Tells what a root has changed of its template.
///
/// # Errors
/// [`Failure`].
pub fn run(arguments: &GenerationDiff) -> Result<u8> {
    let (number, below) = number_and_path(arguments)?;
    let host = host(0, arguments.json)?;
    let id = host.find(&arguments.container)?;
    let area = Area::open(&host.prefix, &id).map_err(|error| damaged(error, &arguments.container))?;
    let number = match number {
        Some(number) => number,
        None => area.live().map_err(|error| damaged(error, &arguments.container))?,
    };
    let comparison = Comparison::open(&host, &area, &area.display_name(), number)?;
    if comparison.record.base == Base::Empty {
        host.note(&format!(
            "generation {number} was made by vps.reinstall: there is no template to compare it with, and all of it counts as added"
        ));
    }
    let head = json!({
        "container": area.display_name(),
        "number": number.get(),
        "template": match &comparison.record.base {
            Base::Template { name, digest } => json!({ "name": name.as_str(), "digest": digest }),
            Base::Empty => Value::Null,
        },
        "path": shown(&below),
    });
    if arguments.stat {
        let mut statistics = Statistics::new(below.clone());
        comparison.differences(&below, |difference| {
            statistics.add(difference);
            Ok(())
        })?;
        statistics.print(arguments.json.then_some(head));
        return Ok(0);
    }
    let mut listing =
        Listing { head: arguments.json.then_some(head), total: Counts::default(), text: String::new() };
    let ended = comparison.differences(&below, |difference| {
        let is_conffile = difference.kind != "a directory" && comparison.is_conffile(&difference.path);
        listing.add(difference, is_conffile);
        Ok(())
    });
    listing.end(ended)
}

/// What begins with `/` is the path, also where the number is left out.
fn number_and_path(arguments: &GenerationDiff) -> Result<(Option<GenerationNumber>, PathBuf)> {
    let is_path = |word: &&OsStr| word.as_bytes().starts_with(b"/");
    let bad = |word: &OsStr, because: &str| {
        Failure::new(Code::BadValue, format!("`{}` cannot be used", tree::escaped(word.as_bytes())))
            .because(because)
            .unchanged()
            .hint("prlctl generation-diff NAME [N] [/PATH]")
    };
    let (number, path) = match (arguments.number.as_deref(), arguments.path.as_deref()) {
        (Some(path), None) if is_path(&path) => (None, Some(path)),
        both => both,
    };
    let number = match number {
        None => None,
        Some(word) => {
            let number = word.to_str().and_then(|word| word.parse().ok()).map(GenerationNumber::new);
            Some(number.ok_or_else(|| {
                bad(word, "it is neither the number of a root nor a path that begins with /")
            })?)
        }
    };
    let Some(path) = path else { return Ok((number, PathBuf::from("/"))) };
    if !is_path(&path) {
        return Err(bad(path, "a path in the container begins with /"));
    }
    let path = Path::new(path);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(bad(path.as_os_str(), "`..` is not followed in a root that is not mounted"));
    }
    // Without double and trailing slashes.
    Ok((number, path.components().collect()))
}

/// All differences, a line or an object each.
struct Listing {
    /// What a JSON document begins with; `Null` once it has begun.
    head: Option<Value>,
    total: Counts,
    text: String,
}

impl Listing {
    fn add(&mut self, difference: &Difference<'_>, is_conffile: bool) {
        self.begin();
        let is_first = self.total == Counts::default();
        self.total.add(difference);
        if self.head.is_some() {
            let object = object(difference, is_conffile);
            self.text.push_str(&format!("{}    {object}", if is_first { "\n" } else { ",\n" }));
        } else {
            self.text.push_str(&line(difference, is_conffile));
        }
        if self.text.len() >= BUFFER {
            self.write();
        }
    }

    fn begin(&mut self) {
        let Some(Value::Object(head)) = &mut self.head else { return };
        self.text.push_str("{\n");
        for (key, value) in std::mem::take(head) {
            self.text.push_str(&format!("  {}: {value},\n", json!(key)));
        }
        self.text.push_str("  \"differences\": [");
        self.head = Some(Value::Null);
    }

    fn write(&mut self) {
        output::text(&self.text);
        self.text.clear();
    }

    /// A failure before anything was told is one as ever; after that it ends what was begun.
    fn end(mut self, ended: Result<()>) -> Result<u8> {
        if self.head.is_none() || (ended.is_err() && self.total == Counts::default()) {
            self.write();
            return ended.map(|()| 0);
        }
        self.begin();
        let close = if self.total == Counts::default() { "]" } else { "\n  ]" };
        let (key, value, code) = match ended {
            Ok(()) => ("total", self.total.object(), 0),
            Err(failure) => ("error", output::failure_value(&failure), failure.code.exit()),
        };
        self.text.push_str(&format!("{close},\n  \"{key}\": {value}\n}}\n"));
        self.write();
        Ok(code)
    }
}

/// `Mc /etc/hosts  contents, mode`
fn line(difference: &Difference<'_>, is_conffile: bool) -> String {
    let letter = match difference.change {
        Change::Added => 'A',
        Change::Deleted => 'D',
        Change::Changed(_) => 'M',
        Change::Renamed { .. } => 'R',
    };
    let details = match &difference.change {
        Change::Added | Change::Deleted => match kind(difference.kind) {
            "file" => format!("({})", in_words(difference.bytes)),
            other => format!("({other})"),
        },
        Change::Changed(differs) => words(differs).join(", "),
        Change::Renamed { from, differs } => {
            let from = format!("from {}", shown(from));
            [vec![from.as_str()], words(differs)].concat().join(", ")
        }
    };
    let mark = if is_conffile { 'c' } else { ' ' };
    format!("{letter}{mark} {}  {details}\n", shown(&difference.path))
}

fn object(difference: &Difference<'_>, is_conffile: bool) -> Value {
    let (change, differs, from) = match &difference.change {
        Change::Added => ("added", None, None),
        Change::Deleted => ("deleted", None, None),
        Change::Changed(differs) => ("changed", Some(differs), None),
        Change::Renamed { from, differs } => ("renamed", Some(differs), Some(shown(from))),
    };
    json!({
        "path": shown(&difference.path),
        "change": change,
        "kind": kind(difference.kind),
        "bytes": difference.bytes,
        "differs": differs.map(|differs| words(differs)).unwrap_or_default(),
        "from": from,
        "conffile": is_conffile,
    })
}

fn words(differs: &[Aspect]) -> Vec<&'static str> {
    let word = |aspect: &Aspect| match aspect {
        Aspect::Kind => "kind",
        Aspect::Contents => "contents",
        Aspect::Target => "target",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Attributes => "attributes",
    };
    differs.iter().map(word).collect()
}

/// A word for `a regular file`, `a directory`, ….
fn kind(of: &'static str) -> &'static str {
    match of.strip_prefix("a ").unwrap_or(of) {
        "regular file" => "file",
        "FIFO" => "fifo",
        other => other,
    }
}

/// Fit for a terminal, and whole where it can be a path at all.
fn shown(path: &Path) -> String {
    // Longer than any that can be opened by its name: in a tree that is deep enough all of them would be gigabytes.
    if path.as_os_str().len() > LONGEST_PATH {
        return tree::escaped_path(path);
    }
    tree::escaped(path.as_os_str().as_bytes())
}

/// How many paths, and how many bytes in regular files: what is there, or was. A file with several names counts at each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    count: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    added: Count,
    changed: Count,
    deleted: Count,
    renamed: Count,
}

impl Counts {
    fn add(&mut self, difference: &Difference<'_>) {
        let count = match difference.change {
            Change::Added => &mut self.added,
            Change::Changed(_) => &mut self.changed,
            Change::Deleted => &mut self.deleted,
            Change::Renamed { .. } => &mut self.renamed,
        };
        count.count += 1;
        count.bytes += difference.bytes;
    }

    fn named(&self) -> [(&'static str, Count); 4] {
        [
            ("added", self.added),
            ("changed", self.changed),
            ("deleted", self.deleted),
            ("renamed", self.renamed),
        ]
    }

    fn object(&self) -> Value {
        let count = |(name, Count { count, bytes }): (&str, Count)| {
            (name.to_owned(), json!({ "count": count, "bytes": bytes }))
        };
        Value::Object(self.named().into_iter().map(count).collect())
    }

    /// `123 added (4.5 MB), 7 changed (81 B), 3 deleted (1.2 kB), 1 renamed`; what there is none of is left out, unless `all` are wanted.
    fn sentence(&self, all: bool) -> String {
        let parts = self.named().into_iter().filter(|(_, count)| all || count.count > 0);
        let part = |(name, Count { count, bytes }): (&str, Count)| match name {
            "renamed" => format!("{count} {name}"),
            _ => format!("{count} {name} ({})", in_words(bytes)),
        };
        parts.map(part).collect::<Vec<_>>().join(", ")
    }
}

/// Counts for each directory that lies directly below a path, for what else does so, and in all.
struct Statistics {
    below: PathBuf,
    total: Counts,
    /// Directly there.
    here: Counts,
    directories: Vec<(PathBuf, Counts)>,
}

impl Statistics {
    fn new(below: PathBuf) -> Statistics {
        Statistics { below, total: Counts::default(), here: Counts::default(), directories: Vec::new() }
    }

    fn add(&mut self, difference: &Difference<'_>) {
        self.total.add(difference);
        let mut names = difference.path.strip_prefix(&self.below).unwrap_or(&difference.path).components();
        let name = names.next().filter(|_| names.next().is_some() || difference.kind == "a directory");
        let Some(name) = name else { return self.here.add(difference) };
        let directory = self.below.join(name);
        // They come one after the other.
        match self.directories.last_mut() {
            Some((last, counts)) if *last == directory => counts.add(difference),
            _ => {
                let mut counts = Counts::default();
                counts.add(difference);
                self.directories.push((directory, counts));
            }
        }
    }

    fn print(self, head: Option<Value>) {
        let here = (self.here != Counts::default()).then_some((self.below, self.here));
        let rows = here.into_iter().chain(self.directories);
        let Some(mut document) = head else {
            let mut text: String = rows
                .map(|(path, counts)| format!("{}  {}\n", shown(&path), counts.sentence(false)))
                .collect();
            text.push_str(&format!("total  {}\n", self.total.sentence(true)));
            return output::text(&text);
        };
        let object = |(path, counts): (PathBuf, Counts)| {
            let mut object = counts.object();
            object["path"] = json!(shown(&path));
            object
        };
        document["directories"] = rows.map(object).collect();
        document["total"] = self.total.object();
        output::json(&document);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(words: [Option<&str>; 2]) -> Result<(Option<u32>, String)> {
        let [number, path] = words.map(|word| word.map(Into::into));
        let arguments =
            GenerationDiff { container: "web01".to_owned(), number, path, stat: false, json: false };
        let (number, path) = number_and_path(&arguments)?;
        Ok((number.map(GenerationNumber::get), path.display().to_string()))
    }

    #[test]
    fn the_number_may_be_left_out_and_a_path_begins_with_a_slash() {
        for (words, number, path) in [
            ([None, None], None, "/"),
            ([Some("3"), None], Some(3), "/"),
            ([Some("/etc"), None], None, "/etc"),
            ([Some("3"), Some("//etc/./ssh/")], Some(3), "/etc/ssh"),
        ] {
            let found = words_of(words).unwrap();
            assert_eq!(found, (number, path.to_owned()), "{words:?}");
        }
        for words in [
            [Some("etc"), None],
            [Some("3"), Some("etc")],
            [Some("/etc"), Some("/srv")],
            [Some("/a/.."), None],
            [Some("-1"), None],
        ] {
            assert_eq!(words_of(words).unwrap_err().code, Code::BadValue, "{words:?}");
        }
    }
}
