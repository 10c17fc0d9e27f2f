//! `prlctl create`

use std::io::Read;
use std::path::Path;

use engine::cloud_init::{LONGEST, UserData};
use engine::event::Ended;
use engine::operation::create::{Options, create};
use engine::{Code, Failure, Result};
use serde_json::json;
use store::{ContainerId, ContainerName, NameError, NumericId, TemplateChoice, TemplateName, Volume};

use super::set::{of_networks, understood};
use super::{devices, done, host};
use crate::arguments::Create;
use crate::password;

/// Makes a container.
///
/// # Errors
/// [`Failure`].
pub fn run(arguments: &Create) -> Result<u8> {
    if arguments.vmtype != "ct" {
        return Err(Failure::new(Code::BadValue, no_kind(&arguments.vmtype))
            .because("there is only `ct`: no virtual machines")
            .unchanged()
            .hint("`--vmtype ct`, or leave it out"));
    }
    if !arguments.settings.userpasswd.is_empty() && arguments.user_data.as_deref() == Some(Path::new("-")) {
        return Err(Failure::new(
            Code::BadOption,
            "`--userpasswd` and `--user-data -` cannot be used together",
        )
        .because("both come from stdin")
        .unchanged()
        .hint("`--user-data FILE`"));
    }
    let name = parse_name(&arguments.name)?;
    let id = arguments.uuid.as_deref().map(parse_id).transpose()?;
    let number = arguments.ctid.as_deref().map(parse_number).transpose()?;
    let template = arguments.ostemplate.as_deref().map(parse_choice).transpose()?;
    let changes = understood(&arguments.settings)?;
    let (addresses, interfaces) = of_networks(&arguments.settings, &[])?;
    let attachments = devices::understood(&arguments.settings.bindmount_add, &(&arguments.disk).into())?;
    let volume = arguments.volume.as_deref().map(parse_volume).transpose()?;
    let host = host(arguments.common.lock_wait, arguments.common.json)?;
    host.step("create", "Creating the Container...");
    let passwords =
        password::of_settings(&host, &arguments.settings, &arguments.name, arguments.common.json)?;
    let user_data = arguments.user_data.as_deref().map(user_data).transpose()?;
    let options = Options {
        name: name.clone(),
        id,
        number,
        user_data,
        template,
        sample: arguments.config.clone(),
        changes,
        addresses,
        passwords,
        attachments,
        interfaces,
        volume,
    };
    let id = create(&host, &options)?;
    // Before, there was nothing that a log could be of.
    host.recording(&id, name.as_str(), "create", None).end(Ended::Done, None, None);
    Ok(done(
        arguments.common.json,
        "The Container has been successfully created.",
        json!({ "result": "created", "uuid": id.to_string(), "name": name.as_str() }),
    ))
}

/// What a file says that is for a cloud-init; `-`: standard input.
///
/// # Errors
/// [`Code::BadValue`].
pub fn user_data(path: &Path) -> Result<UserData> {
    let said = tree::escaped_path(path);
    let refused = |because: String| {
        Failure::new(Code::BadValue, format!("the user data in `{said}` cannot be used"))
            .because(because)
            .unchanged()
            .hint("`--user-data FILE`, or `-` for standard input")
    };
    let mut bytes = Vec::new();
    let most = LONGEST as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|error| refused(error.to_string()))?;
    UserData::new(bytes).map_err(refused)
}

/// Where a container's files lie, from the command line.
///
/// # Errors
/// [`Code::BadValue`].
pub fn parse_volume(text: &str) -> Result<Volume> {
    Volume::named(text).ok_or_else(|| {
        let shown = tree::escaped(text.as_bytes()).to_string();
        Failure::new(Code::BadValue, format!("`--volume {shown}` cannot be used"))
            .because(format!("wanted one of: {}", Volume::NAMES.join(", ")))
            .unchanged()
            .hint("`--volume image` gives it a disk of its own, as large as `--diskspace` says")
    })
}

/// A name from the command line.
///
/// # Errors
/// [`Code::BadName`].
pub fn parse_name(text: &str) -> Result<ContainerName> {
    text.parse().map_err(|error: NameError| bad_name(&error))
}

/// A UUID from the command line.
///
/// # Errors
/// [`Code::BadValue`].
pub fn parse_id(text: &str) -> Result<ContainerId> {
    text.parse().map_err(|error: NameError| {
        Failure::new(Code::BadValue, format!("`{}` is no UUID", tree::escaped(text.as_bytes())))
            .caused_by(&error)
            .unchanged()
            .hint(
                "leave --uuid out for a new one, or write 8-4-4-4-12 hexadecimal digits: `uuidgen` makes one",
            )
    })
}

fn parse_number(text: &str) -> Result<NumericId> {
    text.parse().map_err(|error: NameError| {
        Failure::new(Code::BadValue, format!("`{}` is no CTID", tree::escaped(text.as_bytes())))
            .caused_by(&error)
            .unchanged()
            .hint("leave --ctid out, or give it a number from 101 to 2147483644")
    })
}

/// The words for a `--vmtype` that there is not.
pub fn no_kind(words: &str) -> String {
    format!("`{}` is no kind of container", tree::escaped(words.as_bytes()))
}

/// A template's name from the command line.
///
/// # Errors
/// [`Code::BadValue`].
pub fn parse_template(text: &str) -> Result<TemplateName> {
    text.parse().map_err(|error: NameError| {
        Failure::new(Code::BadValue, format!("`{}` is no name of a template", tree::escaped(text.as_bytes())))
            .caused_by(&error)
            .unchanged()
            .hint("`vzpkg list` shows the templates of this host")
    })
}

/// A template, or a version of one, from the command line.
///
/// # Errors
/// [`Code::BadValue`].
pub fn parse_choice(text: &str) -> Result<TemplateChoice> {
    // OpenVZ has a dot before the names of its newer templates.
    text.strip_prefix('.').unwrap_or(text).parse().map_err(|error: NameError| {
        Failure::new(Code::BadValue, format!("`{}` is no name of a template", tree::escaped(text.as_bytes())))
            .caused_by(&error)
            .unchanged()
            .hint("`vzpkg list` shows the templates of this host, with their versions: `NAME`, or `NAME@VERSION`")
    })
}

fn bad_name(error: &NameError) -> Failure {
    Failure::new(Code::BadName, "that cannot be a container's name")
        .caused_by(error)
        .unchanged()
        .hint("begin it with a letter or a digit, and use letters, digits, `-`, `_`, `.` and spaces: `prlctl create web01`")
}
