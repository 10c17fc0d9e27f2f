//! `prlctl reinstall`

use engine::Probation;
use engine::operation::explain::explain;
use engine::operation::reinstall::{Options, plan, reinstall};
use engine::operation::switch;
use engine::scripts::ListedScript;
use engine::{Code, Container, Failure, Host, Result, old_scripts, scripts};
use serde_json::json;

use super::{
    create::{parse_choice, user_data},
    done, empty_trash_later, host, named_in_full, reinstall_many, stop_timeout,
};
use crate::arguments::{ProbationNetwork, Reinstall};
use crate::event_words::report_lines;
use crate::{output, password};

/// Gives a container a new root.
///
/// # Errors
/// [`engine::Failure`], with everything put back.
pub fn run(arguments: &Reinstall) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    if reinstall_many::is_for_many(arguments) {
        return reinstall_many::run(&host, arguments);
    }
    let [words] = arguments.containers.as_slice() else {
        return Err(Failure::new(Code::BadOption, "no container is named").unchanged());
    };
    if arguments.listscripts {
        host.find(words)?;
        return list_scripts(&host, words, arguments);
    }
    host.not_begun(&format!("cannot reinstall `{}`", tree::escaped(words.as_bytes())));
    let password = match &arguments.password {
        // Before the lock is taken: who types holds up nobody.
        Some(value) => {
            host.find(words)?;
            Some(password::read(&host, value, words, arguments.common.json)?)
        }
        None => None,
    };
    let container = host.open(words)?;
    if arguments.skipbackup {
        named_in_full(&container, words)?;
    }
    let stop_timeout = stop_timeout(&host, None);
    if arguments.undo {
        let switched = switch::undo(&container, arguments.timeout, stop_timeout)?;
        tell_unfinished(&host, switched.unfinished.as_deref());
        if !arguments.common.json {
            host.note(&format!(
                "generation {} is the root again; generation {} stays: `prlctl generation-switch {} {}` goes forward",
                switched.to, switched.from, container.name, switched.from
            ));
        }
        return Ok(done(
            arguments.common.json,
            "The CT has been successfully reinstalled.",
            json!({ "result": "undone", "from": switched.from.get(), "to": switched.to.get() }),
        ));
    }
    let names: Vec<String> = arguments
        .scripts
        .iter()
        .flat_map(|list| list.split([',', ' ', '\t']))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    let options = Options {
        skip_backup: arguments.skipbackup,
        // In the original an empty list means none.
        skip_scripts: arguments.skipscripts || (!arguments.scripts.is_empty() && names.is_empty()),
        scripts: names,
        scripts_from_old: arguments.scripts_from_old,
        reset_passwords: arguments.resetpwdb,
        keep: arguments.keep.clone(),
        keep_changed: arguments.keep_changed.clone(),
        user_data: arguments.user_data.as_deref().map(user_data).transpose()?,
        password,
        health: arguments.health.clone(),
        allow_degraded: arguments.allow_degraded,
        probation_network: match arguments.probation_network {
            ProbationNetwork::Full => Probation::Full,
            ProbationNetwork::Outgoing => Probation::Outgoing,
            ProbationNetwork::None => Probation::None,
        },
        skip_applications: arguments.skip_app_templates,
        drop_failed: arguments.drop_failed,
        template: arguments.ostemplate.as_deref().map(parse_choice).transpose()?,
        timeout: arguments.timeout,
        stop_timeout,
    };
    if arguments.dry_run {
        return show_plan(&container, &options, arguments.common.json);
    }
    let result = reinstall(&container, &options)?;
    tell_unfinished(&host, result.unfinished.as_deref());
    let report = &result.report;
    for (is_warning, line) in report_lines(report, &container.name) {
        if is_warning { host.warning(&line) } else { host.note(&line) }
    }
    if report.is_old_kept {
        host.note(&format!(
            "Old Container file system has been moved to /old: generation {0}; `prlctl reinstall {1} --undo` goes back to it, `prlctl generation-delete {1} {0}` deletes it",
            report.old, container.name
        ));
    } else if !container.area.generation_dir(report.old).exists() {
        host.note("the old root has been deleted");
    }
    let mut document = json!(report);
    document["result"] = json!("reinstalled");
    document["unfinished"] = json!(result.unfinished);
    document["undo"] =
        json!(report.is_old_kept.then(|| format!("prlctl reinstall {} --undo", container.name)));
    drop(container);
    empty_trash_later(&host);
    Ok(done(arguments.common.json, "The CT has been successfully reinstalled.", document))
}

fn tell_unfinished(host: &Host, unfinished: Option<&str>) {
    if let Some(unfinished) = unfinished {
        host.warning(&format!("it is done, and the next command makes up for its end: {unfinished}"));
    }
}

fn list_scripts(host: &Host, words: &str, arguments: &Reinstall) -> Result<u8> {
    let scripts = scripts::list(&host.prefix)?;
    let found = match arguments.scripts_from_old {
        true => old_scripts::read(&host.open(words)?)?,
        false => old_scripts::Found::default(),
    };
    for line in &found.told {
        host.note(line);
    }
    let old = old_scripts::list(&found);
    if arguments.common.json {
        let object =
            |script: &ListedScript| json!({ "name": script.name, "description": script.description });
        let from_old = old.iter().map(|script| {
            let mut object = object(script);
            object["is_from_old"] = json!(true);
            object
        });
        output::json(&serde_json::Value::Array(scripts.iter().map(object).chain(from_old).collect()));
        return Ok(0);
    }
    for script in scripts.into_iter().chain(old) {
        if arguments.desc {
            output::line(&format!("{}:{}", script.name, script.description.unwrap_or_default()));
        } else {
            output::line(&script.name);
        }
    }
    Ok(0)
}

fn show_plan(container: &Container<'_>, options: &Options, is_json: bool) -> Result<u8> {
    let change = plan(container, options, true)?;
    let explained = explain(container, &change)?;
    if is_json {
        let mut document = json!(explained);
        document["plan"] = json!(change);
        output::json(&document);
    } else {
        for (name, text) in explained.lines() {
            output::line(&format!("{name:<10} {text}"));
        }
        output::line("nothing was changed");
    }
    Ok(0)
}
