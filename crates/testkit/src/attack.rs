//! What was tried on us, and how it ended: a line for each attack, of which `make hostile` makes a table.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Attacks are written down in this file of the build's directory, a line of JSON each.
pub const ATTACKS: &str = "attacks.jsonl";

/// A static program that makes any system call, made once for all tests of the build that `program` is of; its source tells how to ask it. `None`: there
/// is no compiler.
pub fn caller(program: &str) -> Option<PathBuf> {
    let scratch = scratch_of(program);
    std::fs::create_dir_all(&scratch).expect("make the scratch directory");
    let lock = File::create(scratch.join("call.lock")).expect("make a lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("lock it");
    let made = scratch.join("call");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks/call.c");
    let age = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    // In the emulated machine it is there, and what it is made of is not.
    if age(&made).is_none() || age(&made) < age(&source) {
        // Linked below 4 GiB, where calls of 32 bits have their pointers.
        let done =
            Command::new("cc").args(["-static", "-no-pie", "-O1", "-o"]).arg(&made).arg(&source).status();
        if !done.is_ok_and(|status| status.success()) {
            return None;
        }
    }
    Some(made)
}

/// `…/target/debug/prlctl`: what tests make lies beside.
fn scratch_of(program: &str) -> PathBuf {
    let target = Path::new(program).ancestors().nth(2).expect("the program lies in a build directory");
    target.join("test-hosts")
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It has begun. Where nothing follows it has succeeded, or the test was ended.
    Begun,
    /// It got nothing.
    Held,
    /// What it aims at is not on this machine: nothing is known.
    NotRun,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attack {
    /// What was tried; the test is named like it.
    pub attack: String,
    /// Who has found it, or wants it: a CVE, a list, the issue.
    pub source: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// An attack that is under way; dropped by a test that fails, it stays one that has begun.
#[derive(Debug)]
pub struct UnderWay {
    attack: Attack,
    scratch: PathBuf,
}

impl UnderWay {
    /// Begins one. `program` is the program under test, in whose build directory it is written down.
    pub fn begin(program: &str, attack: &str, source: &str) -> UnderWay {
        let attack = Attack {
            attack: attack.to_owned(),
            source: source.to_owned(),
            outcome: Outcome::Begun,
            because: None,
        };
        let this = UnderWay { attack, scratch: scratch_of(program) };
        this.write();
        this
    }

    /// It got nothing.
    pub fn held(mut self) {
        self.attack.outcome = Outcome::Held;
        self.write();
    }

    /// What it aims at is not here.
    pub fn not_run(mut self, because: &str) {
        self.attack.outcome = Outcome::NotRun;
        self.attack.because = Some(because.to_owned());
        self.write();
    }

    fn write(&self) {
        std::fs::create_dir_all(&self.scratch).expect("make the scratch directory");
        let line = serde_json::to_string(&self.attack).expect("it is JSON") + "\n";
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(self.scratch.join(ATTACKS))
            .expect("open the list of attacks");
        file.write_all(line.as_bytes()).expect("write the list of attacks");
    }
}
