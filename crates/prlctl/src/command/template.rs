//! `vzpkg`

use engine::operation::make_template::{self, Origin};
use engine::operation::template_store;
use engine::template::{Wanted, recipe};
use engine::{Code, Failure, Host, Result};
use serde_json::{Value, json};
use store::template;

use super::{create::parse_template, done, host};
use crate::arguments::{CollectTemplates, CreateTemplate, ListTemplates, RemoveTemplate, VerifyTemplates};
use crate::output;

/// Makes a template.
///
/// # Errors
/// [`engine::Failure`].
pub fn create(arguments: &CreateTemplate) -> Result<u8> {
    let name = parse_template(&arguments.name)?;
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let origin = Origin {
        from: arguments.from.clone(),
        wanted: Wanted {
            init: arguments.init.clone(),
            stop_signal: arguments.stop_signal.clone(),
            image: arguments.image.clone(),
        },
        built_root: arguments.built_root.clone(),
    };
    let template = make_template::create(&host, &name, &origin)?;
    let record = &template.record;
    Ok(done(
        arguments.common.json,
        &format!("The template {name} has been successfully created ({} MB).", record.size_bytes / 1_000_000),
        json!({ "result": "created", "name": name.as_str(), "digest": record.digest, "bytes": record.size_bytes }),
    ))
}

/// Lists the templates of this host.
///
/// # Errors
/// [`engine::Failure`].
pub fn list(arguments: &ListTemplates) -> Result<u8> {
    let host = host(0, arguments.json)?;
    if arguments.recipes {
        return list_recipes(&host, arguments);
    }
    let mut objects: Vec<Value> = Vec::new();
    let mut rows = Vec::new();
    for found in template::templates(&host.prefix)? {
        match found {
            Ok(template) => {
                let users = template::users_of(&host.prefix, &template.record.name).unwrap_or_default();
                let users = users.iter().filter(|(_, _, digest)| *digest == template.record.digest).count();
                let record = &template.record;
                rows.push(vec![
                    record.name.to_string(),
                    record.created.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                    format!("{}M", record.size_bytes / 1_000_000),
                    users.to_string(),
                    format!(
                        "{}{}",
                        record.digest.chars().take(12).collect::<String>(),
                        if template.is_latest { " *" } else { "" }
                    ),
                ]);
                let mut object = serde_json::to_value(record).unwrap_or_default();
                object["is_latest"] = json!(template.is_latest);
                object["users"] = json!(users);
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
    let header = ["NAME", "CREATED", "SIZE", "USERS", "VERSION (* the latest)"];
    output::table((!arguments.no_header).then_some(&header), &[20, 20, 8, 6], &rows);
    Ok(0)
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
    let names = arguments.names.iter().map(|name| parse_template(name)).collect::<Result<Vec<_>>>()?;
    for name in &names {
        template::latest(&host.prefix, name)?;
    }
    let (mut objects, mut lines, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    for found in template::templates(&host.prefix)? {
        let template = match found {
            Ok(template) if names.is_empty() || names.contains(&template.record.name) => template,
            Ok(_) => continue,
            Err(error) => {
                let error = runtime::monitor::describe(&error);
                objects.push(json!({ "damage": error }));
                bad.push(error);
                continue;
            }
        };
        let verified = template_store::verify(&host, &template)?;
        let version = format!("{} {}", verified.name, verified.digest.chars().take(12).collect::<String>());
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
        .hint("look at the disk (`dmesg`); then make another template, `prlctl reinstall NAME --ostemplate` it, and remove this one"))
}

/// Removes versions that nobody uses.
///
/// # Errors
/// [`engine::Failure`].
pub fn collect(arguments: &CollectTemplates) -> Result<u8> {
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    let gone = template_store::collect(&host)?;
    super::empty_trash_later(&host);
    let list: Vec<Value> =
        gone.iter().map(|(name, digest)| json!({ "name": name.as_str(), "digest": digest })).collect();
    let said = match gone.len() {
        0 => "There is no version of a template that nobody uses.".to_owned(),
        count => format!("{count} versions of templates that nobody uses have been removed."),
    };
    Ok(done(arguments.common.json, &said, json!({ "result": "collected", "removed": list })))
}

/// Removes a template that nobody uses.
///
/// # Errors
/// [`engine::Failure`].
pub fn remove(arguments: &RemoveTemplate) -> Result<u8> {
    let name = parse_template(&arguments.name)?;
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    template_store::remove(&host, &name)?;
    super::empty_trash_later(&host);
    Ok(done(
        arguments.common.json,
        &format!("The template {name} has been successfully removed."),
        json!({ "result": "removed", "name": name.as_str() }),
    ))
}

/// `prlctl undo-compression`: what it has to say is read by the process that has started it.
pub fn undo_compression(kind: &str, length: u64) -> u8 {
    match engine::template::undo_compression(kind, length) {
        Ok(()) => 0,
        Err(because) => {
            output::note(&because);
            1
        }
    }
}
