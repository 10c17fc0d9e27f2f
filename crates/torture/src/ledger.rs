//! What was survived: `docs/torture.jsonl`, a line for each sweep of each slice, and the figures in `docs/promises.md` that are made from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Lines of `docs/promises.md` between which the figures stand.
const BEGIN: &str = "<!-- torture report: begin -->";
const END: &str = "<!-- torture report: end -->";

/// One sweep of one slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which.
    pub sweep: String,
    /// When it ended, the day.
    pub day: String,
    /// Of which commit.
    pub commit: String,
    /// In which order its points were taken.
    pub seed: u64,
    /// The first batch of them, counted from 0.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
    /// How many batches there are: one after the other, then again with other errors.
    pub of: u64,
    /// Operations that were killed.
    pub kills: u64,
    /// Operations in which a call failed.
    pub errors: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Faults after which an invariant did not hold.
    pub lost: u64,
    /// How long it took.
    pub seconds: u64,
}

/// Reads the ledger; one that is not there is empty.
///
/// # Errors
/// When it cannot be read, or a line is none.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}

/// Adds a line.
///
/// # Errors
/// As of open(2), write(2).
pub fn append(path: &Path, line: &Line) -> io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::options().append(true).create(true).open(path)?;
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    file.write_all(text.as_bytes())
}

/// Adds a line and brings the figures in the page up to it, for whoever runs a sweep that is none of `torture`'s own: power cuts of a whole host.
/// `docs` is the directory of both.
///
/// # Errors
/// When one of them cannot be read or written.
pub fn record(docs: &Path, line: &Line) -> io::Result<()> {
    let ledger = docs.join("torture.jsonl");
    append(&ledger, line)?;
    let page = docs.join("promises.md");
    let wanted = render(&std::fs::read_to_string(&page)?, &read(&ledger)?)?;
    store::atomic::replace(&page, wanted.as_bytes(), 0o644).map_err(io::Error::other)
}

/// As in [`Line::day`].
pub fn today() -> String {
    jiff::Zoned::now().date().to_string()
}

/// What is checked out at `root`; `+` when it was changed since.
pub fn commit(root: &Path) -> String {
    let git = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=10", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    // The ledger and the page are always ahead of the commit that they speak of.
    let changed = git(&["status", "--porcelain", "--", "crates", "share", "Cargo.lock"]).unwrap_or_default();
    if changed.is_empty() { commit } else { commit + "+" }
}

/// Where the next slice goes on: the seed and the batch of the last one, unless `seed` says another.
pub fn resume(lines: &[Line], sweep: &str, seed: Option<u64>) -> Option<(u64, u64)> {
    let last = lines.iter().rev().find(|line| line.sweep == sweep)?;
    seed.is_none_or(|seed| seed == last.seed).then_some((last.seed, last.to))
}

/// The figures as a table.
pub fn table(lines: &[Line]) -> String {
    let mut sums: BTreeMap<&str, (Line, u64)> = BTreeMap::new();
    for line in lines {
        let (sum, slices) = sums.entry(&line.sweep).or_insert_with(|| {
            (Line { kills: 0, errors: 0, cuts: 0, lost: 0, seconds: 0, ..line.clone() }, 0)
        });
        sum.kills += line.kills;
        sum.errors += line.errors;
        sum.cuts += line.cuts;
        sum.lost += line.lost;
        sum.seconds += line.seconds;
        sum.commit.clone_from(&line.commit);
        sum.day.clone_from(&line.day);
        *slices += 1;
    }
    let mut text = String::from(
        "| sweep | slices | kills | errors | power cuts | lost | minutes | last slice |\n\
         |---|---:|---:|---:|---:|---:|---:|---|\n",
    );
    let mut all = [0; 4];
    for (sweep, (sum, slices)) in &sums {
        let _ = writeln!(
            text,
            "| {sweep} | {slices} | {} | {} | {} | {} | {} | {} of {} |",
            sum.kills,
            sum.errors,
            sum.cuts,
            sum.lost,
            sum.seconds.div_ceil(60),
            sum.commit,
            sum.day
        );
        for (all, one) in all.iter_mut().zip([sum.kills, sum.errors, sum.cuts, sum.lost]) {
            *all += one;
        }
    }
    let _ = writeln!(
        text,
        "| **together** | | **{}** | **{}** | **{}** | **{}** | | |",
        all[0], all[1], all[2], all[3]
    );
    text
}

/// `page` with the figures as they are now.
///
/// # Errors
/// When it has no place for them.
pub fn render(page: &str, lines: &[Line]) -> io::Result<String> {
    let missing = || io::Error::other(format!("the page has no lines `{BEGIN}` and `{END}`"));
    let (before, rest) = page.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", table(lines)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sweep: &str, seed: u64, to: u64, kills: u64) -> Line {
        Line {
            sweep: sweep.to_owned(),
            day: "2026-11-22".to_owned(),
            commit: "abc".to_owned(),
            seed,
            from: 0,
            to,
            of: 100,
            kills,
            errors: 1,
            cuts: 0,
            lost: 0,
            seconds: 61,
        }
    }

    #[test]
    fn adds_up_and_goes_on_where_the_last_slice_ended() {
        let lines = [line("syscalls", 7, 5, 10), line("monitor", 3, 2, 4), line("syscalls", 7, 9, 20)];
        assert_eq!(resume(&lines, "syscalls", None), Some((7, 9)));
        assert_eq!(resume(&lines, "syscalls", Some(8)), None);
        assert_eq!(resume(&lines, "ext4", None), None);
        let table = table(&lines);
        assert!(table.contains("| syscalls | 2 | 30 | 2 | 0 | 0 | 3 | abc of 2026-11-22 |"), "{table}");
        assert!(table.contains("| **34** | **3** |"), "{table}");
    }

    #[test]
    fn what_a_sweep_elsewhere_has_survived_is_in_the_ledger_and_on_the_page() {
        let docs = std::env::temp_dir().join(format!("reroot-ledger-{}", std::process::id()));
        std::fs::create_dir(&docs).unwrap();
        let write = |name: &str, text: &str| {
            store::atomic::replace(&docs.join(name), text.as_bytes(), 0o644).unwrap();
        };
        write("promises.md", &format!("a\n{BEGIN}\nold\n{END}\nb\n"));
        write("torture.jsonl", "");
        append(&docs.join("torture.jsonl"), &line("ext4", 7, 5, 0)).unwrap();
        let host = Line { cuts: 20, kills: 0, errors: 0, ..line("host", 1, 20, 0) };
        record(&docs, &host).unwrap();
        let lines = read(&docs.join("torture.jsonl")).unwrap();
        let page = std::fs::read_to_string(docs.join("promises.md")).unwrap();
        crate::weakest::remove(&docs).unwrap();
        assert_eq!(lines.last(), Some(&host));
        assert!(page.contains("| host | 1 | 0 | 0 | 20 | 0 | 2 | abc of 2026-11-22 |"), "{page}");
        assert!(page.contains("| **20** | **0** |"), "{page}");
    }

    #[test]
    fn the_figures_stand_between_their_lines_only() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = render(&page, &[line("syscalls", 1, 2, 3)]).unwrap();
        assert!(once.starts_with("a\n") && once.ends_with("\nb\n") && !once.contains("old"), "{once}");
        assert_eq!(render(&once, &[line("syscalls", 1, 2, 3)]).unwrap(), once);
        assert!(render("nothing", &[]).is_err());
    }
}
