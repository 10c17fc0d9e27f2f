//! The one place that writes to stdout and stderr.
//!
//! Data and the closing success line go to stdout, progress and errors to stderr; with `--json` stdout has one JSON document and stderr JSON lines.
//! Nothing that comes from a container reaches a terminal raw.

use std::io::Write;

use engine::Failure;
use serde_json::json;

/// A line of data on stdout. That nobody reads it any more ends the program quietly, as it would any other.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").is_err() {
        std::process::exit(141);
    }
}

/// The closing line of what has been done: that nobody reads it changes nothing.
pub fn closing(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Text on stdout without an end of line.
pub fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(141);
    }
}

/// One JSON document on stdout.
pub fn json(value: &serde_json::Value) {
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// A line on stderr.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// What a terminal is asked, without an end of line.
pub fn prompt(text: &str) {
    let mut error = std::io::stderr().lock();
    let _ = error.write_all(text.as_bytes()).and_then(|()| error.flush());
}

/// A failure, in four lines or as JSON.
pub fn failure(failure: &Failure, is_json: bool) {
    let (words, to) = failure_text(failure, is_json);
    if to == 1 { text(&words) } else { note(words.trim_end_matches('\n')) }
}

/// What is said of a failure, with the newline at its end, and the descriptor to say it to.
pub fn failure_text(failure: &Failure, is_json: bool) -> (String, i32) {
    if is_json {
        let document = json!({ "error": failure_value(failure) });
        (serde_json::to_string_pretty(&document).unwrap_or_default() + "\n", 1)
    } else {
        (format!("error: {failure}\n"), 2)
    }
}

/// What `error` is in a JSON document.
pub fn failure_value(failure: &Failure) -> serde_json::Value {
    json!({
        "code": failure.code.word(),
        "exit": failure.code.exit(),
        "what": failure.what,
        "because": failure.because,
        "state": failure.state,
        "hint": failure.hint,
    })
}

/// Rows under a header: columns as wide as said, the last one not padded.
pub fn table(header: Option<&[&str]>, widths: &[usize], rows: &[Vec<String>]) {
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<&str> = cells.collect();
        let mut row = String::new();
        for (index, cell) in cells.iter().enumerate() {
            if index + 1 == cells.len() {
                row.push_str(cell);
            } else {
                let width = widths.get(index).copied().unwrap_or(12);
                row.push_str(&format!("{cell:<width$} "));
            }
        }
        line(&row);
    };
    if let Some(header) = header {
        print(&mut header.iter().copied());
    }
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}
