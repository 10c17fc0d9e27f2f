//! `vzpkg`

use std::path::PathBuf;

use engine::operation::applications::Action;
use engine::operation::make_template::{self, Origin};
use engine::operation::template_store;
use engine::template::{Wanted, recipe};
use engine::words::count_of;
use engine::{Code, Failure, Host, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::template::{User, Who};
use store::{TemplateError, TemplateName, template};

use super::create::{parse_choice, parse_template};
use super::{done, generation::age, host, packages};
use crate::arguments::{
    CollectTemplates, CreateTemplate, ListTemplates, RemoveTemplate, SourceOptions, UpdateTemplate,
    VerifyTemplates,
};
use crate::output;

/// What templates are called on the command line.
const CACHE: &str = "cache";

/// Makes a template.
///
/// # Errors
/// [`engine::Failure`].
pub fn create(arguments: &CreateTemplate) -> Result<u8> {
    let name = parse_template(&arguments.name)?;
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let origin = origin_of(&arguments.source, arguments.built_root.clone());
    let template = make_template::create(&host, &name, &origin)?;
    let record = &template.record;
    Ok(done(
        arguments.common.json,
        &format!("The template {name} has been successfully created ({} MB).", record.cost() / 1_000_000),
        json!({ "result": "created", "name": name.as_str(), "digest": record.digest, "bytes": record.size_bytes, "disk_bytes": record.disk_bytes }),
    ))
}

fn origin_of(source: &SourceOptions, built_root: Option<PathBuf>) -> Origin {
    let wanted = Wanted {
        init: source.init.clone(),
        stop_signal: source.stop_signal.clone(),
        entry_point: source.entry_point,
        image: source.image.clone(),
    };
    Origin { from: source.from.clone(), wanted, built_root }
}

/// The template in `vzpkg update cache NAME` and `vzpkg remove cache NAME`.
fn only_one(names: &[String]) -> Result<&String> {
    match names {
        [name] => Ok(name),
        _ => Err(Failure::new(Code::BadOption, "cannot tell which template is meant")
            .because(format!("{} are named, and one is done at a time", names.len()))
            .unchanged()
            .hint("`vzpkg list` shows the templates of this host")),
    }
}

/// Makes a new version of a template.
///
/// # Errors
/// [`engine::Failure`].
pub fn update(arguments: &UpdateTemplate) -> Result<u8> {
    let UpdateTemplate { of, names, timeout, source, common } = arguments;
    if of != CACHE {
        if source.from.is_some() {
            return Err(Failure::new(
                Code::BadOption,
                format!("cannot update packages in `{}`", tree::escaped(of.as_bytes())),
            )
            .because("`--from` is for templates")
            .unchanged()
            .hint("`vzpkg update cache NAME --from SOURCE` makes a template of something else"));
        }
        return packages::change(Action::Update, of, names, *timeout, common);
    }
    let name = parse_template(only_one(names)?)?;
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let updated = make_template::update(&host, &name, &origin_of(&arguments.source, None))?;
    let record = &updated.template.record;
    let is_new = record.digest != updated.before;
    let said = if updated.is_repaired {
        format!("The template {name} has been successfully repaired ({} MB).", record.cost() / 1_000_000)
    } else if is_new {
        host.note(&format!(
            "roots that lie on version {} stay there; the next reinstall takes {}; `vzpkg gc` removes versions that no root lies on",
            short(&updated.before),
            short(&record.digest)
        ));
        format!("The template {name} has been successfully updated ({} MB).", record.cost() / 1_000_000)
    } else if arguments.source.from.is_some() {
        format!(
            "The template {name} is up to date: that source gives the same version, and is the one that it is made of from now on."
        )
    } else {
        format!(
            "The template {name} is up to date: what it is made of gives the same version, and nothing was changed."
        )
    };
    let result = match (updated.is_repaired, is_new) {
        (true, _) => "repaired",
        (false, true) => "updated",
        (false, false) => "unchanged",
    };
    Ok(done(
        arguments.common.json,
        &said,
        json!({
            "result": result,
            "name": name.as_str(),
            "digest": record.digest,
            "before": updated.before,
            "bytes": record.size_bytes, "disk_bytes": record.disk_bytes,
        }),
    ))
}

/// As much of a digest as people want to read.
fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// `OSTEMPLATE` for people.
pub fn short_choice(ostemplate: &str) -> String {
    match ostemplate.split_once('@') {
        Some((name, version)) => format!("{name}@{}", short(version)),
        None => ostemplate.to_owned(),
    }
}

/// Lists the templates of this host.
///
/// # Errors
/// [`engine::Failure`].
pub fn list(arguments: &ListTemplates) -> Result<u8> {
    if let Some(container) = &arguments.container {
        return packages::list(container, arguments.json, !arguments.no_header);
    }
    let host = host(0, arguments.json)?;
    if arguments.recipes {
        return list_recipes(&host, arguments);
    }
    let mut objects: Vec<Value> = Vec::new();
    let mut rows = Vec::new();
    let now = Timestamp::now();
    let all = template::users(&host.prefix)?;
    for error in all.unreadable {
        let failure = Failure::from(error);
        let hint = failure.hint.as_deref().unwrap_or_default();
        host.warning(&format!("{}; USERS has what can be read of it; {hint}", failure.reason()));
    }
    for found in template::templates(&host.prefix)? {
        match found {
            Ok(template) => {
                let record = &template.record;
                let is_used = |user: &&User| user.template == record.name && user.uses(&record.digest);
                let (roots, pins): (Vec<&User>, Vec<&User>) =
                    all.known.iter().filter(is_used).partition(|user| matches!(user.who, Who::Root { .. }));
                rows.push(vec![
                    record.name.to_string(),
                    record.created.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                    age(record.created, now),
                    format!("{}M", record.cost() / 1_000_000),
                    roots.len().to_string(),
                    format!("{}{}", short(&record.digest), if template.is_latest { " *" } else { "" }),
                ]);
                let mut object = serde_json::to_value(record).unwrap_or_default();
                object["is_latest"] = json!(template.is_latest);
                object["age_seconds"] = json!(now.duration_since(record.created).as_secs().max(0));
                object["users"] = json!(roots.len());
                object["used_by"] = roots.into_iter().map(user_value).collect();
                object["pinned_by"] = pins.into_iter().map(user_value).collect();
                objects.push(object);
            }
            Err(error) => {
                host.warning(&runtime::monitor::describe(&error));
                objects.push(json!({ "damage": runtime::monitor::describe(&error) }));
            }
        }
    }
    if arguments.json {
        output::json(&Value::Array(objects));
        return Ok(0);
    }
    let header = ["NAME", "CREATED", "AGE", "SIZE", "USERS", "VERSION (* the latest)"];
    output::table((!arguments.no_header).then_some(&header), &[20, 20, 5, 8, 6], &rows);
    Ok(0)
}

fn user_value(user: &User) -> Value {
    match &user.who {
        Who::Root { container, number } => {
            json!({ "uuid": container.to_string(), "generation": number.get() })
        }
        Who::Pinned { container } => json!({ "uuid": container.to_string() }),
        Who::Default { path } => json!({ "file": path.display().to_string() }),
    }
}

/// Lists what templates can be made of; a recipe that cannot be used is a warning, and in no other's way.
fn list_recipes(host: &Host, arguments: &ListTemplates) -> Result<u8> {
    let (names, strange) = recipe::names(&host.prefix);
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for name in names {
        let path = recipe::path_of(&host.prefix, &name);
        match recipe::find(&host.prefix, &name) {
            Ok(Some(found)) => {
                let file = found.path.as_ref().map(|path| path.display().to_string());
                let (kind, of) = (found.recipe.kind(), found.recipe.of());
                rows.push(vec![
                    name.to_string(),
                    kind.to_owned(),
                    of.clone(),
                    file.clone().unwrap_or_else(|| "built in".to_owned()),
                ]);
                objects.push(json!({ "name": name.as_str(), "kind": kind, "of": of, "file": file }));
            }
            // Removed since it was listed.
            Ok(None) => {}
            Err(failure) => {
                let damage = failure.reason();
                host.warning(&damage);
                objects.push(
                    json!({ "name": name.as_str(), "file": path.display().to_string(), "damage": damage }),
                );
            }
        }
    }
    for file in strange {
        host.warning(&format!("{}: no template can be called `{file}`", host.prefix.templates_d().display()));
    }
    if arguments.json {
        output::json(&Value::Array(objects));
    } else {
        let header = ["NAME", "KIND", "OF", "RECIPE"];
        output::table((!arguments.no_header).then_some(&header), &[20, 12, 16], &rows);
    }
    Ok(0)
}

/// Looks whether templates are what they were when they were made.
///
/// # Errors
/// [`engine::Failure`]: also when one is not.
pub fn verify(arguments: &VerifyTemplates) -> Result<u8> {
    let host = host(0, arguments.json)?;
    let choices = arguments.names.iter().map(|name| parse_choice(name)).collect::<Result<Vec<_>>>()?;
    for choice in &choices {
        match template::digest_of(&host.prefix, choice) {
            // Its latest version is damaged, which is told below.
            Ok(_) | Err(TemplateError::Damaged { .. } | TemplateError::NoLatest { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let is_meant = |name: &TemplateName, digest: &str| {
        choices.is_empty() || choices.iter().any(|choice| choice.means(name, digest))
    };
    let (mut objects, mut lines, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    let mut found = Vec::new();
    for name in template::names(&host.prefix)? {
        // What is the matter with others is not asked.
        if choices.is_empty() || choices.iter().any(|choice| choice.name == name) {
            let versions = template::versions(&host.prefix, &name)?.into_iter();
            found
                .extend(versions.filter(|(digest, _)| is_meant(&name, digest)).map(|(_, template)| template));
        }
    }
    for template in found {
        let template = match template {
            Ok(template) => template,
            Err(error) => {
                let error = runtime::monitor::describe(&error);
                objects.push(json!({ "damage": error }));
                bad.push(error);
                continue;
            }
        };
        let verified = template_store::verify(&host, &template)?;
        let version = format!("{} {}", verified.name, short(&verified.digest));
        if verified.whole {
            lines.push(format!("{version}: whole"));
        } else {
            lines.push(format!("{version}: not what it was"));
            bad.push(version);
        }
        for (word, paths) in
            [("changed", &verified.changed), ("missing", &verified.missing), ("extra", &verified.extra)]
        {
            lines.extend(paths.iter().map(|path| format!("  {word} {path}")));
        }
        objects.push(serde_json::to_value(&verified).unwrap_or_default());
    }
    if bad.is_empty() || arguments.json {
        if arguments.json {
            output::json(&Value::Array(objects));
        } else {
            lines.iter().for_each(|line| output::text(&format!("{line}\n")));
        }
        return Ok(if bad.is_empty() { 0 } else { Code::Damaged.exit() });
    }
    lines.iter().for_each(|line| output::text(&format!("{line}\n")));
    Err(Failure::new(Code::Damaged, "not all templates are what they were when they were made")
        .because(bad.join("; "))
        .unchanged()
        .hint("look at the disk (`dmesg`); `vzpkg update cache NAME`, or `vzpkg create cache NAME --from SOURCE`, of the same makes it whole"))
}

/// Removes versions that nobody uses.
///
/// # Errors
/// [`engine::Failure`].
pub fn collect(arguments: &CollectTemplates) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let template_store::Collected { versions: gone, swept } = template_store::collect(&host)?;
    super::empty_trash_later(&host);
    let list: Vec<Value> =
        gone.iter().map(|(name, digest)| json!({ "name": name.as_str(), "digest": digest })).collect();
    if swept > 0 {
        let half_made = count_of(swept as u64, "half made template", "half made templates");
        let have = if swept == 1 { "has" } else { "have" };
        host.note(&format!("{half_made} that killed commands had left {have} been removed"));
    }
    let said = match gone.len() {
        0 => "There is no version of a template that nobody uses.".to_owned(),
        1 => "1 version of a template that nobody uses has been removed.".to_owned(),
        count => format!("{count} versions of templates that nobody uses have been removed."),
    };
    Ok(done(arguments.common.json, &said, json!({ "result": "collected", "removed": list, "swept": swept })))
}

/// Removes a template, or one version of it, that nobody uses.
///
/// # Errors
/// [`engine::Failure`].
pub fn remove(arguments: &RemoveTemplate) -> Result<u8> {
    let RemoveTemplate { of, names, timeout, common } = arguments;
    if of != CACHE {
        return packages::change(Action::Remove, of, names, *timeout, common);
    }
    let choice = parse_choice(only_one(names)?)?;
    let name = &choice.name;
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let removed = template_store::remove(&host, &choice)?;
    super::empty_trash_later(&host);
    let mut document = json!({ "result": "removed", "name": name.as_str() });
    let Some(removed) = removed else {
        let said = format!("The template {name} has been successfully removed.");
        return Ok(done(arguments.common.json, &said, document));
    };
    if let Some(latest) = &removed.latest {
        host.note(&format!("new roots are made from version {}", short(latest)));
    }
    document["digest"] = json!(removed.digest);
    document["latest"] = json!(removed.latest);
    let said =
        format!("Version {} of the template {name} has been successfully removed.", short(&removed.digest));
    Ok(done(arguments.common.json, &said, document))
}

/// `prlctl undo-compression`: what it has to say is read by the process that has started it.
pub fn undo_compression(kind: &str, length: u64) -> u8 {
    match engine::template::undo_compression(kind, length) {
        Ok(()) => 0,
        Err((code, because)) => {
            output::note(&because);
            code
        }
    }
}
