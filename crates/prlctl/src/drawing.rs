//! On a terminal: the step that is under way, and for how long it has been, above it what was. Drawn by a process of its own, which is told by lines of
//! JSON what to draw: a spinner wants a thread, and this program forks, which wants one thread only. It ends with the pipe, however this one ends.

use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

/// The command, which nobody types.
pub const COMMAND: &str = "draw-progress";
/// So often it is drawn.
const TICK: Duration = Duration::from_millis(100);
/// What took less is not worth a figure.
const WORTH_TELLING: Duration = Duration::from_millis(100);
/// So long it may take to draw its last.
const LAST: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// What draws.
#[derive(Debug)]
pub struct Drawing {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Drawing {
    /// `None`: stderr is no terminal that can be drawn on, or nothing can be started.
    pub fn begin() -> Option<Drawing> {
        let can_draw = std::env::var_os("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb");
        if !can_draw || !std::io::stderr().is_terminal() {
            return None;
        }
        let mut child = Command::new("/proc/self/exe")
            .arg0("prlctl")
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let pipe = child.stdin.take();
        Some(Drawing { child, pipe })
    }

    /// A step begins.
    pub fn step(&mut self, text: &str) -> bool {
        self.tell(&json!({ "step": text }))
    }

    /// How far it is.
    pub fn more(&mut self, text: &str) -> bool {
        self.tell(&json!({ "more": text }))
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) -> bool {
        self.tell(&json!({ "line": text }))
    }

    /// False: nobody draws any more.
    fn tell(&mut self, what: &Value) -> bool {
        self.pipe.as_mut().is_some_and(|pipe| writeln!(pipe, "{what}").is_ok())
    }
}

impl Drop for Drawing {
    /// When it returns, the terminal is this process's again.
    fn drop(&mut self) {
        self.tell(&json!({ "end": true }));
        self.pipe = None;
        let ended = Pid::from_raw(self.child.id().cast_signed())
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
            .is_some_and(|child| {
                matches!(poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&LAST)), Ok(1..))
            });
        if !ended {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// `prlctl draw-progress`: draws what it is told.
pub fn draw() -> u8 {
    // ^C is for the one that works.
    let _signals = linux::SignalReader::new(&engine::real::ENDING_SIGNALS);
    let bar = ProgressBar::new_spinner();
    let seconds = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let _ = write!(text, "{:.1} s", state.elapsed().as_secs_f64());
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {seconds:>8}") {
        bar.set_style(style.with_key("seconds", seconds));
    }
    bar.enable_steady_tick(TICK);
    let mut step: Option<(String, Instant)> = None;
    let past = |step: &mut Option<(String, Instant)>| {
        let Some((text, began)) = step.take() else { return };
        let taken = began.elapsed();
        let seconds =
            if taken < WORTH_TELLING { String::new() } else { format!(" {:.1} s", taken.as_secs_f64()) };
        bar.println(format!("{text}{seconds}"));
    };
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let Ok(told) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(text) = told["step"].as_str() {
            past(&mut step);
            bar.reset_elapsed();
            bar.set_message(text.to_owned());
            step = Some((text.to_owned(), Instant::now()));
        } else if let Some(more) = told["more"].as_str() {
            bar.set_message(format!("{} {more}", step.as_ref().map_or("", |(text, _)| text)));
        } else if let Some(text) = told["line"].as_str() {
            // What a step says belongs below it.
            past(&mut step);
            bar.println(text);
        } else {
            past(&mut step);
            break;
        }
    }
    bar.finish_and_clear();
    0
}
