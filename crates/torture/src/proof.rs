//! The proof of the proof: every mutation is hunted for, each in a process of its own, and whoever survives is named.
//!
//! The program is built once, with the feature `mutations`, in a build directory of its own. First every hunt is done without a mutation: one that is
//! red then would prove nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::hunt::{Field, Hunt};
use crate::mutations::{MUTATIONS, Mutation, Row, SEEN_BY_HOSTILE_ROOTS};
use crate::world::Unusable;

/// Names the mutation to the program under test, and to all that it starts.
const VARIABLE: &str = "REROOT_MUTATION";
/// Most of a hunt is waiting for the kernel.
const WORKERS: usize = 3;

/// What a process that hunts tells.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Found {
    /// By which hunt.
    pub caught: Option<String>,
    /// After how many faults, those of earlier hunts included.
    pub faults: u64,
    /// Why a hunt could not be done.
    pub unusable: Option<String>,
    /// All that was said of what did not hold.
    pub text: String,
}

/// Builds the program with mutations; where it is.
///
/// # Errors
/// When it cannot be built.
pub fn build(beside: &Path) -> Result<PathBuf, Unusable> {
    let target = beside.ancestors().nth(2).unwrap_or(beside).join("mutations");
    let status = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "prlctl",
            "--features",
            "mutations",
            "--target-dir",
        ])
        .arg(&target)
        .status()?;
    if !status.success() {
        return Err(Unusable(format!("cargo build: {status}")));
    }
    Ok(target.join("debug/prlctl"))
}

/// What each mutation is, as the program says it: name and text.
///
/// # Errors
/// When it does not know the same ones as [`MUTATIONS`].
pub fn described(program: &Path) -> Result<Vec<(String, String)>, Unusable> {
    let output = Command::new(program).args(["generate", "mutations"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let list: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.split_once(": ").map(|(name, text)| (name.to_owned(), text.to_owned())))
        .filter(|(name, _)| !SEEN_BY_HOSTILE_ROOTS.contains(&name.as_str()))
        .collect();
    if !list.iter().map(|(name, _)| name.as_str()).eq(MUTATIONS.iter().map(|mutation| mutation.name)) {
        return Err(Unusable(format!("{} has other mutations than there are hunts for", program.display())));
    }
    Ok(list)
}

/// Does hunts one after the other, until one is red: in the process that was started for it.
pub fn hunt(program: &Path, hunts: &[Hunt], limit: Duration, seed: u64) -> Found {
    let mut found = Found::default();
    for &hunt in hunts {
        let field = Field { program, seed, until: Instant::now() + limit };
        match field.hunt(hunt) {
            Ok(hunted) => {
                found.faults += hunted.faults;
                if let Some(text) = hunted.red {
                    return Found { caught: Some(hunt.to_string()), text, ..found };
                }
            }
            Err(unusable) => return Found { unusable: Some(format!("{hunt}: {unusable}")), ..found },
        }
    }
    found
}

/// Every hunt that there is, once.
pub fn all_hunts() -> Vec<Hunt> {
    let mut all: Vec<Hunt> = Vec::new();
    for hunt in MUTATIONS.iter().flat_map(|mutation| mutation.hunts) {
        if !all.contains(hunt) {
            all.push(*hunt);
        }
    }
    all
}

/// What there is to be done, each in a process of its own: the words for it and the mutation.
enum Task {
    Control(usize),
    Mutation(&'static Mutation, String),
}

/// Does everything, several at a time; `tell` is given a line for each. Returns the rows, and hunts that are red without any mutation.
///
/// # Errors
/// When a process cannot be started.
pub fn prove(
    program: &Path,
    only: &[String],
    limit: Duration,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<(Vec<Row>, Vec<String>), Unusable> {
    let described = described(program)?;
    let is_wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let mut tasks: Vec<Task> =
        if only.is_empty() { (0..all_hunts().len()).map(Task::Control).collect() } else { Vec::new() };
    for (mutation, (_, text)) in MUTATIONS.iter().zip(described) {
        if is_wanted(mutation.name) {
            tasks.push(Task::Mutation(mutation, text));
        }
    }
    tasks.reverse();
    let tasks = Mutex::new(tasks);
    let done: Mutex<(Vec<Row>, Vec<String>)> = Mutex::default();
    let failure: Mutex<Option<io::Error>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(task) = tasks.lock().ok().and_then(|mut tasks| tasks.pop()) {
                    if let Err(error) = one(program, &task, limit, tell, &done)
                        && let Ok(mut failure) = failure.lock()
                    {
                        *failure = Some(error);
                        return;
                    }
                }
            });
        }
    });
    let poisoned = || Unusable("a worker has panicked".to_owned());
    if let Some(error) = failure.into_inner().map_err(|_| poisoned())? {
        return Err(error.into());
    }
    let (mut rows, red) = done.into_inner().map_err(|_| poisoned())?;
    rows.sort_by_key(|row| MUTATIONS.iter().position(|mutation| mutation.name == row.name));
    Ok((rows, red))
}

fn one(
    program: &Path,
    task: &Task,
    limit: Duration,
    tell: &(dyn Fn(&str) + Sync),
    done: &Mutex<(Vec<Row>, Vec<String>)>,
) -> io::Result<()> {
    let began = Instant::now();
    // What a hunt would see at its end is red in a mutation's turn or not; that it is not red without one shows sooner.
    let limit = if matches!(task, Task::Control(_)) { limit / 3 } else { limit };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("hunt").arg(program).args(["--limit", &format!("{}s", limit.as_secs())]).env_remove(VARIABLE);
    let name = match task {
        Task::Control(index) => {
            command.args(["--control", &index.to_string()]);
            format!("nothing ({})", all_hunts()[*index])
        }
        Task::Mutation(mutation, _) => {
            command.arg("--mutation").arg(mutation.name).env(VARIABLE, mutation.name);
            mutation.name.to_owned()
        }
    };
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let found: Found = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| Found {
        unusable: Some(format!("{}: {error}", output.status)),
        ..Found::default()
    });
    let seconds = began.elapsed().as_secs();
    let outcome = match (&found.caught, &found.unusable) {
        (Some(hunt), _) => hunt.clone(),
        (None, Some(because)) => format!("UNUSABLE: {because}"),
        (None, None) => "survived".to_owned(),
    };
    tell(&format!("{name}: {outcome}, {} faults, {seconds} s", found.faults));
    if !found.text.is_empty() {
        let log = program.with_file_name(format!("hunt-{}.txt", name.replace(['/', ' '], "-")));
        store::atomic::replace(&log, found.text.as_bytes(), 0o644).map_err(io::Error::other)?;
    }
    let Ok(mut done) = done.lock() else { return Err(io::Error::other("a worker has panicked")) };
    match task {
        Task::Control(_) if outcome != "survived" => {
            done.1.push(format!("{name}: {outcome}\n{}", found.text))
        }
        Task::Control(_) => {}
        Task::Mutation(mutation, text) => done.0.push(Row {
            name: mutation.name.to_owned(),
            text: text.clone(),
            caught: found.caught,
            faults: found.faults,
            seconds,
        }),
    }
    Ok(())
}
