//! `prlctl reinstall` of several containers: chosen, shown, asked about, and each reinstalled by a command of its own.

mod target;

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal};

use clap::ValueEnum;
use engine::error::system;
use engine::interrupt::signal_word;
use engine::words::in_words;
use engine::{Code, Failure, Host, Result};
use serde_json::{Value, json};
use store::ContainerId;

use self::target::{Outcome, Target};
use super::create::parse_choice;
use crate::arguments::{Common, Reinstall};
use crate::crew::{self, Event};
use crate::output;

/// Whether these arguments are for several.
pub fn is_for_many(arguments: &Reinstall) -> bool {
    arguments.all || arguments.based_on.is_some() || arguments.containers.len() > 1
}

/// Reinstalls them.
///
/// # Errors
/// [`Failure`] before any was begun. What comes of them is told, and then the exit code.
pub fn run(host: &Host, arguments: &Reinstall) -> Result<u8> {
    let what = "cannot reinstall several containers";
    check(arguments, what)?;
    host.not_begun(what);
    let mut targets = targets(host, arguments)?;
    if targets.is_empty() {
        let is_json = arguments.common.json;
        return Ok(super::done(is_json, "There is no CT to reinstall.", document(&targets, None)));
    }
    if !arguments.dry_run {
        if !arguments.common.json {
            for target in &targets {
                host.note(&target.plan(arguments));
            }
        }
        if targets.len() > 1 && !arguments.yes {
            ask(targets.len(), arguments.common.json, what)?;
        }
    }
    let jobs: Vec<Vec<OsString>> = targets.iter().map(|target| words(arguments, &target.id)).collect();
    let parallel = arguments.parallel.map_or_else(processors, usize::from);
    let signal = work(host, &jobs, parallel, arguments, &mut targets)
        .map_err(|error| system(what, &error).state("those that were begun go on by themselves"))?;
    let failure = failure(&targets, signal, arguments.dry_run);
    let code = failure.as_ref().map_or(0, |failure| failure.code.exit());
    if arguments.common.json {
        output::json(&document(&targets, failure.as_ref()));
        return Ok(code);
    }
    if arguments.dry_run {
        show_plans(&targets, arguments)
    } else {
        show_table(&targets);
        host.note("`prlctl reinstall-report NAME` tells what was kept of each, and what not");
    }
    match failure {
        Some(failure) => output::failure(&failure, false),
        None if arguments.dry_run => output::line("nothing was changed"),
        None => output::closing(&match targets.len() {
            1 => "1 CT has been successfully reinstalled.".to_owned(),
            many => format!("{many} CTs have been successfully reinstalled."),
        }),
    }
    Ok(code)
}

/// What makes no sense for several, or is too much to be said of containers that nobody has named.
fn check(arguments: &Reinstall, what: &str) -> Result<()> {
    let refused = |because: &str, hint: &str| {
        Err(Failure::new(Code::BadOption, what).because(because).unchanged().hint(hint))
    };
    if arguments.listscripts {
        return refused(
            "--listscripts lists the scripts of this host",
            "prlctl reinstall NAME --listscripts",
        );
    }
    if arguments.password.is_some() {
        return refused(
            "--password reads one line of stdin, for one user of one container; or there is a word too many, which is not repeated, since it may be a password",
            "`prlctl reinstall NAME --password root:-`, one container after the other",
        );
    }
    if arguments.skipbackup && arguments.containers.is_empty() {
        return refused(
            "--skipbackup deletes their old roots, and what is deleted must be named in full",
            "name each of them, or leave --skipbackup out: `prlctl generation-delete` deletes an old root later",
        );
    }
    Ok(())
}

fn targets(host: &Host, arguments: &Reinstall) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    if !arguments.containers.is_empty() {
        for words in &arguments.containers {
            let id = host.find_alone(words)?;
            if targets.iter().all(|target| target.id != id) {
                let target = Target::look(host, id)?;
                let is_number = words.parse().is_ok_and(|number| {
                    store::registry::numbered(&host.prefix, number).is_ok_and(|holder| holder == Some(id))
                });
                if arguments.skipbackup && !is_number {
                    super::is_named_in_full(&target.name, &target.id, words)?;
                }
                targets.push(target);
            }
        }
        return Ok(targets);
    }
    let based_on = arguments.based_on.as_deref().map(parse_choice).transpose()?;
    for id in store::registry::list(&host.prefix)? {
        // One that cannot be looked at is none that is based on something; among all of them it fails by itself.
        let target = match Target::look(host, id) {
            Ok(target) => target,
            Err(failure) => {
                host.warning(&format!("{}: {}", failure.what, failure.because.join(": ")));
                Target::damaged(id)
            }
        };
        if based_on.as_ref().is_none_or(|wanted| target.is_based_on(wanted)) {
            targets.push(target);
        }
    }
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    match based_on {
        Some(wanted) if targets.is_empty() => {
            Err(Failure::new(Code::BadValue, format!("no container is based on `{wanted}`"))
                .because("it is the OSTEMPLATE of none")
                .unchanged()
                .hint("`prlctl list -a -o name,ostemplate` tells which there are"))
        }
        _ => Ok(targets),
    }
}

/// The command of one of them: the same options. Whoever adds an option says here what it is for several.
fn words(arguments: &Reinstall, id: &ContainerId) -> Vec<OsString> {
    let Reinstall {
        containers: _,
        all: _,
        based_on: _,
        parallel: _,
        max_failures: _,
        yes: _,
        skipbackup,
        skipscripts,
        scripts,
        scripts_from_old,
        health,
        allow_degraded,
        drop_failed,
        skip_app_templates,
        probation_network,
        listscripts: _,
        desc: _,
        resetpwdb,
        keep,
        keep_changed,
        user_data,
        password: _,
        ostemplate,
        undo,
        dry_run,
        timeout,
        common: Common { lock_wait, json: _ },
    } = arguments;
    let mut words = vec!["reinstall".to_owned(), id.to_string(), "--json".to_owned()];
    let flags = [
        ("--skipbackup", skipbackup),
        ("--skipscripts", skipscripts),
        ("--resetpwdb", resetpwdb),
        ("--scripts-from-old", scripts_from_old),
        ("--allow-degraded", allow_degraded),
        ("--drop-failed", drop_failed),
        ("--skip-app-templates", skip_app_templates),
        ("--undo", undo),
        ("--dry-run", dry_run),
    ];
    words.extend(flags.into_iter().filter(|(_, is_set)| **is_set).map(|(flag, _)| flag.to_owned()));
    let value = |option: &'static str| move |value: &String| format!("{option}={value}");
    words.extend(scripts.iter().map(value("--scripts")));
    words.extend(keep.iter().map(value("--keep")));
    words.extend(keep_changed.iter().map(value("--keep-changed")));
    words.extend(health.iter().map(value("--health")));
    words.extend(ostemplate.iter().map(value("--ostemplate")));
    let network = probation_network.to_possible_value().map(|value| value.get_name().to_owned());
    words.extend(network.iter().map(value("--probation-network")));
    words.push(format!("--timeout={timeout}"));
    words.push(format!("--lock-wait={lock_wait}"));
    let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    if let Some(path) = user_data {
        words.extend(["--user-data".into(), path.into()]);
    }
    words
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Asks whoever sits at the terminal.
fn ask(count: usize, is_json: bool, what: &str) -> Result<()> {
    let refused = |because: &str| Failure::new(Code::BadOption, what).because(because).unchanged();
    let stdin = std::io::stdin();
    if is_json || !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return Err(refused(&format!("there are {count}, and nobody is there to be asked"))
            .hint("--yes answers for you; --dry-run tells what would be done"));
    }
    output::prompt(&format!("Reinstall these {count} containers? [y/N] "));
    let mut answer = String::new();
    // That it cannot be read is no yes.
    let _ = stdin.lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(refused("the answer was not `y`").hint("--yes answers for you; --dry-run tells what would be done"))
}

/// All of them, as many at once as may be; returns the signal that came.
fn work(
    host: &Host,
    jobs: &[Vec<OsString>],
    parallel: usize,
    arguments: &Reinstall,
    targets: &mut [Target],
) -> std::io::Result<Option<i32>> {
    let most = arguments.max_failures.map_or(usize::MAX, |most| most as usize);
    let mut failures = 0;
    if !arguments.dry_run {
        host.step("reinstall", &format!("Reinstalling {} containers...", jobs.len()));
    }
    crew::run(jobs.len(), parallel, &mut |index| jobs[index].clone(), &mut |event| {
        match event {
            Event::Begins(index) if !arguments.dry_run => {
                host.note(&format!("{}: begins", targets[index].name));
            }
            Event::Begins(_) => {}
            Event::Line(index, line) => {
                let event = serde_json::from_slice::<Value>(line).unwrap_or_default();
                if event["event"] == "warning"
                    && let Some(text) = event["text"].as_str()
                {
                    host.warning(&format!("{}: {text}", targets[index].name));
                }
            }
            Event::Ends(ended) => {
                let target = &mut targets[ended.index];
                target.take(ended);
                failures += usize::from(target.has_failed());
                if !arguments.dry_run {
                    let took = ended.took.as_secs_f64();
                    host.note(&match (target.generations(), target.error()) {
                        (Some((old, new)), _) => {
                            format!("{}: generation {old} -> {new}, {took:.1} s", target.name)
                        }
                        (None, Some(error)) => format!("{}: failed, {took:.1} s: {error}", target.name),
                        (None, None) => format!("{}: {}, {took:.1} s", target.name, target.result()),
                    });
                    if failures == most {
                        host.warning(&format!(
                            "no more are begun: {failures} have failed, which is --max-failures"
                        ));
                    }
                }
            }
            Event::Signal { number, is_first, under_way } => {
                host.warning(&crew::said_of_signal(number, is_first, under_way));
            }
        }
        failures < most
    })
}

/// Why the command as a whole has not done what it was asked to.
fn failure(targets: &[Target], signal: Option<i32>, is_dry: bool) -> Option<Failure> {
    let failed: Vec<&str> =
        targets.iter().filter(|target| target.has_failed()).map(|target| target.name.as_str()).collect();
    let not_begun = targets.iter().filter(|target| matches!(target.outcome, Outcome::NotBegun)).count();
    if failed.is_empty() && not_begun == 0 {
        return None;
    }
    // That some have failed by themselves is the news, whoever has interrupted the rest.
    let code = match signal {
        Some(signal) if targets.iter().all(|target| !target.has_failed() || target.was_interrupted()) => {
            Code::Interrupted(signal)
        }
        _ => Code::ReinstallFailed,
    };
    let done = targets.len() - failed.len() - not_begun;
    let mut failure =
        Failure::new(code, format!("{done} of {} containers have been reinstalled", targets.len()));
    if is_dry {
        failure.what = format!("{} of {} containers cannot be reinstalled", failed.len(), targets.len());
    }
    if let Some(signal) = signal {
        failure = failure.because(format!("{} has interrupted it", signal_word(signal)));
    }
    if !failed.is_empty() {
        failure = failure.because(format!("{} failed: {}", failed.len(), failed.join(", ")));
    }
    if not_begun > 0 {
        failure = failure.because(format!("{not_begun} were not begun"));
    }
    let state = if is_dry { "nothing was changed".to_owned() } else { states(targets) };
    let left: Vec<&str> = targets
        .iter()
        .filter(|target| matches!(target.outcome, Outcome::NotBegun))
        .map(|target| target.name.as_str())
        .collect();
    Some(failure.state(state).hint(match failed.first() {
        Some(_) if is_dry => "with -j all that there is to say of each".to_owned(),
        Some(name) => format!("`prlctl log {name} --last` tells all that there is to say of that one"),
        None => {
            format!("`prlctl reinstall {} …`, with the same options, goes on with the rest", left.join(" "))
        }
    }))
}

/// In which state those are that are not reinstalled.
fn states(targets: &[Target]) -> String {
    let mut states: Vec<String> = targets
        .iter()
        .filter_map(|target| match &target.outcome {
            Outcome::Ended { is_done: false, document, .. } => {
                let state = document["error"]["state"].as_str();
                Some(format!("{}: {}", target.name, state.unwrap_or("nobody knows, `prlctl recover` tells")))
            }
            Outcome::Ended { .. } | Outcome::NotBegun => None,
        })
        .collect();
    if targets.iter().any(|target| matches!(target.outcome, Outcome::NotBegun)) {
        states.push("those that were not begun are as they were".to_owned());
    }
    states.join("; ")
}

fn document(targets: &[Target], failure: Option<&Failure>) -> Value {
    let count = |word: &dyn Fn(&&Target) -> bool| targets.iter().filter(word).count();
    let failed = count(&|target| target.has_failed());
    let not_begun = count(&|target| matches!(target.outcome, Outcome::NotBegun));
    json!({
        "result": if failure.is_none() { "done" } else { "failed" },
        "done": targets.len() - failed - not_begun,
        "failed": failed,
        "not_begun": not_begun,
        "containers": targets.iter().map(Target::object).collect::<Vec<_>>(),
        "error": failure.map(output::failure_value),
    })
}

fn show_table(targets: &[Target]) {
    let dash = || "-".to_owned();
    let rows: Vec<Vec<String>> = targets
        .iter()
        .map(|target| {
            let seconds = match &target.outcome {
                Outcome::NotBegun => dash(),
                Outcome::Ended { took, .. } => format!("{:.1}", took.as_secs_f64()),
            };
            vec![
                target.name.clone(),
                target.result().to_owned(),
                target.generations().map_or_else(dash, |(old, new)| format!("{old} -> {new}")),
                seconds,
                target.error().unwrap_or_else(dash),
            ]
        })
        .collect();
    let widest = rows.iter().map(|row| row[0].chars().count()).max().unwrap_or_default().max(4);
    output::table(Some(&["NAME", "RESULT", "GENERATION", "SECONDS", "ERROR"]), &[widest, 11, 10, 7], &rows);
}

fn show_plans(targets: &[Target], arguments: &Reinstall) {
    let mut all = 0;
    for target in targets {
        output::line(&target.plan(arguments));
        if let Some(error) = target.error() {
            output::line(&format!("  {:<10} {error}", "refused"));
        }
        let Outcome::Ended { document, .. } = &target.outcome else { continue };
        for step in document["steps"].as_array().into_iter().flatten() {
            let word = |key: &str| step[key].as_str().unwrap_or_default();
            output::line(&format!("  {:<10} {}", word("step"), word("text")));
        }
        let needs = document["needs_bytes"].as_u64().unwrap_or_default();
        output::line(&format!("  {:<10} {}, and what scripts write", "needs", in_words(needs)));
        all += needs;
        for gone in document["expires"].as_array().into_iter().flatten() {
            let size =
                gone["bytes"].as_u64().map_or_else(String::new, |bytes| format!(" ({})", in_words(bytes)));
            let text = format!("generation {} is deleted{size}: REINSTALL_RETAIN", gone["number"]);
            output::line(&format!("  {:<10} {text}", "expires"));
        }
    }
    output::line(&format!("all of them need {} on the filesystem of /vz", in_words(all)));
}
