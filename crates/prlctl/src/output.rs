//! The one place that writes to stdout and stderr.
//!
//! Data and the closing success line go to stdout, progress and errors to stderr; with `--json` stdout has one JSON document and stderr JSON lines.
//! Nothing that comes from a container reaches a terminal raw: whoever has it escapes it, and what somebody forgot is escaped here.

use std::cell::{Cell, RefCell};
use std::io::Write;

use engine::Failure;
use serde_json::json;

use crate::drawing::Drawing;

thread_local! {
    /// While it is there the terminal is its.
    static DRAWING: RefCell<Option<Drawing>> = const { RefCell::new(None) };
    /// Closing lines are another program's, and are said by it.
    static IS_VZCTL: Cell<bool> = const { Cell::new(false) };
    /// What is being done is not told.
    static IS_BRIEF: Cell<bool> = const { Cell::new(false) };
}

/// From now on there are no closing lines but those of [`vzctl_line`], and steps are told only if `is_verbose`.
pub fn speak_as_vzctl(is_verbose: bool) {
    IS_VZCTL.set(true);
    IS_BRIEF.set(!is_verbose);
}

/// A line of `vzctl` on stdout. What has been done is done, whether or not anybody reads it.
pub fn vzctl_line(text: &str) {
    rest();
    let _ = writeln!(std::io::stdout().lock(), "{}", tree::printable(text));
}

/// A warning of the command line itself, which no operation knows of.
pub fn warning(text: &str) {
    note(&format!("WARNING: {text}"));
}

/// A step begins: a line on stderr, or what is drawn there.
pub fn step(text: &str) {
    if IS_BRIEF.get() {
        return;
    }
    let text = &tree::printable(text);
    DRAWING.with_borrow_mut(|drawing| {
        if drawing.is_none() {
            *drawing = Drawing::begin();
        }
        if !drawing.as_mut().is_some_and(|drawing| drawing.step(text)) {
            write_note(text);
        }
    });
}

/// How far the step is.
pub fn progress(text: &str) {
    if IS_BRIEF.get() {
        return;
    }
    let text = &tree::printable(text);
    DRAWING.with_borrow_mut(|drawing| {
        if !drawing.as_mut().is_some_and(|drawing| drawing.more(text)) {
            write_note(text);
        }
    });
}

/// Nothing is drawn any more: what follows is written.
pub fn rest() {
    DRAWING.with_borrow_mut(|drawing| *drawing = None);
}

fn write_note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A line of data on stdout. That nobody reads it any more ends the program quietly, as it would any other.
pub fn line(text: &str) {
    write_line(&tree::printable(text));
}

fn write_line(text: &str) {
    rest();
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").is_err() {
        std::process::exit(141);
    }
}

/// The closing line of what has been done: that nobody reads it changes nothing.
pub fn closing(text: &str) {
    if IS_VZCTL.get() && !text.starts_with('{') {
        return;
    }
    rest();
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Text on stdout without an end of line.
pub fn text(text: &str) {
    rest();
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(141);
    }
}

/// One JSON document on stdout.
pub fn json(value: &serde_json::Value) {
    // Whoever reads JSON has escapes of its own.
    write_line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// A line on stderr.
pub fn note(text: &str) {
    let text = &tree::printable(text);
    DRAWING.with_borrow_mut(|drawing| {
        if !drawing.as_mut().is_some_and(|drawing| drawing.line(text)) {
            write_note(text);
        }
    });
}

/// What a terminal is asked, without an end of line.
pub fn prompt(text: &str) {
    rest();
    let mut error = std::io::stderr().lock();
    let _ = error.write_all(text.as_bytes()).and_then(|()| error.flush());
}

/// A failure, in four lines or as JSON.
pub fn failure(failure: &Failure, is_json: bool) {
    rest();
    let (words, to) = failure_text(failure, is_json);
    if to == 1 { text(&words) } else { note(words.trim_end_matches('\n')) }
}

/// What is said of a failure, with the newline at its end, and the descriptor to say it to.
pub fn failure_text(failure: &Failure, is_json: bool) -> (String, i32) {
    if is_json {
        let document = json!({ "error": failure_value(failure) });
        (serde_json::to_string_pretty(&document).unwrap_or_default() + "\n", 1)
    } else {
        (format!("error: {}\n", tree::printable(&failure.to_string())), 2)
    }
}

/// What is to be said by a signal itself, which ends what draws, too: over what is drawn.
pub fn last_words(failure: &Failure, is_json: bool) -> (String, i32) {
    let (words, to) = failure_text(failure, is_json);
    if DRAWING.with_borrow(Option::is_some) { (format!("\r\x1b[K{words}"), to) } else { (words, to) }
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
    let mut rows_of_text = Vec::with_capacity(rows.len() + 1);
    let mut print = |cells: &mut dyn Iterator<Item = &str>| {
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
        rows_of_text.push(tree::printable(&row).into_owned());
    };
    if let Some(header) = header {
        print(&mut header.iter().copied());
    }
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
    // As one, however many there are.
    if !rows_of_text.is_empty() {
        write_line(&rows_of_text.join("\n"));
    }
}
