//! What was tried on us, and how it ended: a line for each attack, of which `make hostile` makes a table.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Attacks are written down in this file of the build's directory, a line of JSON each.
pub const ATTACKS: &str = "attacks.jsonl";

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
    scratch: std::path::PathBuf,
}

impl UnderWay {
    /// Begins one. `program` is the program under test, in whose build directory it is written down.
    pub fn begin(program: &str, attack: &str, source: &str) -> UnderWay {
        // …/target/debug/prlctl
        let scratch = Path::new(program).ancestors().nth(2).map(|target| target.join("test-hosts"));
        let attack = Attack {
            attack: attack.to_owned(),
            source: source.to_owned(),
            outcome: Outcome::Begun,
            because: None,
        };
        let this = UnderWay { attack, scratch: scratch.expect("the program lies in a build directory") };
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
