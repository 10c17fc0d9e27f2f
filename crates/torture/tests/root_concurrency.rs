//! Some rounds of many commands at once; `make torture` does it for minutes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use torture::concurrency;
use torture::sweep::{self, Done, Slice};

#[test]
fn root_many_commands_at_once_lose_nothing_and_all_end() {
    // Eight at the same time.
    one_round(11, 2);
}

/// Once a reinstall came to a monitor that was at its end, told so by a command that had been killed.
#[test]
fn root_commands_that_come_while_a_container_ends_are_answered() {
    one_round(6, 1);
}

fn one_round(seed: u64, round: u64) {
    let test = std::env::current_exe().expect("a test has a path");
    let program: PathBuf = test.ancestors().nth(2).expect("it lies in the build directory").join("prlctl");
    assert!(program.exists(), "{} is not built: `cargo build --workspace` first", program.display());
    let slice = Slice {
        directory: sweep::scratch(&program),
        program,
        seed,
        from: round,
        until: Instant::now() + Duration::from_secs(60),
        at_most: 1,
        workers: 1,
        only: String::new(),
        on: None,
    };
    let Some(Done { tally, .. }) = concurrency::rounds(&slice).expect("the host works by itself") else {
        return;
    };
    assert!(tally.lost.is_empty(), "{}", tally.lost.join("\n"));
    assert!(tally.kills > 5 && tally.missed > 50, "{} kills, {} ends", tally.kills, tally.missed);
}
