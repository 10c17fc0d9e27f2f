//! Events, in words.

use std::time::Duration;

use engine::event::{Event, What};
use engine::operation::keep::short_lines;
use engine::operation::report::Report;
use engine::words::in_words;
use runtime::monitor::Killed;

/// What people are told of an event; `None`: nothing.
pub fn words(event: &Event) -> Option<String> {
    let words = match &event.what {
        What::Begin { operation, command, recovers, .. } => match recovers {
            None => format!("{operation}: {command}"),
            Some(since) => {
                format!(
                    "{operation}, begun {}, is brought to an end: {command}",
                    since.strftime("%Y-%m-%d %H:%M:%S")
                )
            }
        },
        What::Step { text, .. } | What::Note { text } | What::Interrupted { text } => text.clone(),
        What::Progress { entries, bytes, percent, seconds_left, .. } => {
            let percent = percent.map(|percent| format!(", {percent} %")).unwrap_or_default();
            let left = seconds_left.map(|left| format!(", {left} s left")).unwrap_or_default();
            format!("... {entries} entries, {} so far{percent}{left}", in_words(*bytes))
        }
        What::Script { script, line } => format!("{script}: {line}"),
        What::LeftOut { lines } => format!("[{lines} lines of scripts are not kept]"),
        What::ScriptEnd { script, outcome, ms } => format!("{script} {outcome} after {}", seconds(*ms)),
        What::OutOfMemory { kills, processes } => killed(*kills, processes),
        What::Warning { text } => format!("warning: {text}"),
        What::Failed { step, text } => format!("failed in {step}: {text}"),
        What::Revert { .. } | What::Report(_) => String::new(),
        What::End { result, ms, unfinished, error } => {
            let mut words = format!("{} after {}", result.word(), seconds(*ms));
            if let Some(unfinished) = unfinished {
                words += &format!("; the next command makes up for its end: {unfinished}");
            }
            if let Some(error) = error {
                // What a script wrote stands above.
                let because: Vec<&str> =
                    error.because.iter().filter(|cause| !cause.contains('\n')).map(String::as_str).collect();
                words += &format!(": {}: {}", error.what, because.join(": "));
                if let Some(state) = &error.state {
                    words += &format!("; {state}");
                }
            }
            words
        }
    };
    (!words.is_empty()).then_some(words)
}

/// What was killed, the last one last.
fn killed(kills: u64, processes: &[Killed]) -> String {
    let mut named: Vec<String> = processes
        .iter()
        .map(|one| format!("{} (pid {}, {})", one.name, one.pid, in_words(one.bytes)))
        .collect();
    match kills.saturating_sub(processes.len() as u64) {
        0 => {}
        more if named.is_empty() => {
            named.push(format!("{more}, of which the kernel's log does not tell more"))
        }
        more => named.push(format!("{more} more")),
    }
    format!("killed for want of memory: {}", named.join(", "))
}

/// Milliseconds, as a person reads them.
pub fn seconds(ms: u64) -> String {
    format!("{:.3} s", Duration::from_millis(ms).as_secs_f64())
}

/// A report, for people: what is a warning, and the line.
pub fn report_lines(report: &Report, name: &str) -> Vec<(bool, String)> {
    let mut lines: Vec<(bool, String)> = report.notes.iter().map(|line| (false, line.clone())).collect();
    lines.extend(report.kept.iter().flat_map(short_lines).map(|line| (false, line)));
    if let Some(which) = report.root_password {
        lines.push((which.is_warning(), which.to_string()));
    }
    if let Some(ms) = report.downtime_ms {
        lines.push((false, format!("`{name}` was down for {}", seconds(ms))));
    }
    lines
}
