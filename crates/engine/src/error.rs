//! Why a command could not do what it was asked, in the four lines that an operator needs at 3 a.m.
//!
//! What could not be done, because of what, *in which state things are now*, what to type. The engine makes [`Failure`]s, the command renders
//! them; nothing below the engine knows of exit codes.

use std::fmt;

use store::{
    AreaError, AtomicError, ConfError, ContainerId, FindError, LockError, PrefixError, TemplateError,
    TemplateName,
};

use crate::host::hint_of;

/// What a failure is to a script: a stable word and the exit code, both from the original's list (its section 4.4) where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 1: a column that does not exist.
    UnknownField,
    /// 3: the system said no.
    System,
    /// 5: this kernel or host lacks what is needed.
    Unsupported,
    /// 8: nothing could be executed.
    ExecFailed,
    /// 9: another command holds the lock.
    Locked,
    /// 14: no such container.
    UnknownContainer,
    /// 20: an option that does not exist or does not fit.
    BadOption,
    /// 21: a value that cannot be.
    BadValue,
    /// 31: it does not run.
    NotRunning,
    /// 32: it runs.
    Running,
    /// 33: it could not be stopped.
    CannotStop,
    /// 40: it is not mounted.
    NotMounted,
    /// 41: it is mounted.
    Mounted,
    /// 44: it exists already.
    Exists,
    /// 46: not enough space.
    NoSpace,
    /// 47: a root that has no init.
    NoInit,
    /// 50: a mount failed.
    MountFailed,
    /// 70: the package manager of a container failed.
    PackageManager,
    /// 71: what is no address.
    BadAddress,
    /// 74: a password could not be set.
    PasswordFailed,
    /// 78: an address that is somebody else's.
    AddressInUse,
    /// 79: an action script failed.
    ActionFailed,
    /// 82: a sample of a configuration that is not there, or cannot be used.
    BadSample,
    /// 85: a record of the container cannot be read.
    Damaged,
    /// 91: no such template.
    UnknownTemplate,
    /// 94: the reinstall failed and was undone.
    ReinstallFailed,
    /// 105: somebody wants it not to be started.
    StartDisabled,
    /// 128: `vps.reinstall` failed, nothing changed.
    ScriptFailed,
    /// 137: a name that cannot be, or is taken.
    BadName,
    /// 141: it says of itself that another host has it.
    Owned,
    /// 128 and its number: a signal asked the command to end, and what it was doing was undone.
    Interrupted(i32),
}

impl Code {
    /// The exit code of the command.
    pub fn exit(self) -> u8 {
        match self {
            Code::UnknownField => 1,
            Code::System => 3,
            Code::Unsupported => 5,
            Code::ExecFailed => 8,
            Code::Locked => 9,
            Code::UnknownContainer => 14,
            Code::BadOption => 20,
            Code::BadValue => 21,
            Code::NotRunning => 31,
            Code::Running => 32,
            Code::CannotStop => 33,
            Code::NotMounted => 40,
            Code::Mounted => 41,
            Code::Exists => 44,
            Code::NoSpace => 46,
            Code::NoInit => 47,
            Code::MountFailed => 50,
            Code::PackageManager => 70,
            Code::BadAddress => 71,
            Code::PasswordFailed => 74,
            Code::AddressInUse => 78,
            Code::ActionFailed => 79,
            Code::BadSample => 82,
            Code::Damaged => 85,
            Code::UnknownTemplate => 91,
            Code::ReinstallFailed => 94,
            Code::StartDisabled => 105,
            Code::ScriptFailed => 128,
            Code::BadName => 137,
            Code::Owned => 141,
            Code::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    /// The stable word of `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Code::UnknownField => "unknown-field",
            Code::System => "system",
            Code::Unsupported => "unsupported",
            Code::ExecFailed => "exec-failed",
            Code::Locked => "locked",
            Code::UnknownContainer => "unknown-container",
            Code::BadOption => "bad-option",
            Code::BadValue => "bad-value",
            Code::NotRunning => "not-running",
            Code::Running => "running",
            Code::CannotStop => "cannot-stop",
            Code::NotMounted => "not-mounted",
            Code::Mounted => "mounted",
            Code::Exists => "exists",
            Code::NoSpace => "no-space",
            Code::NoInit => "no-init",
            Code::MountFailed => "mount-failed",
            Code::PackageManager => "package-manager",
            Code::BadAddress => "bad-address",
            Code::PasswordFailed => "password-failed",
            Code::AddressInUse => "address-in-use",
            Code::ActionFailed => "action-failed",
            Code::BadSample => "bad-sample",
            Code::Damaged => "damaged",
            Code::UnknownTemplate => "unknown-template",
            Code::ReinstallFailed => "reinstall-failed",
            Code::StartDisabled => "start-disabled",
            Code::ScriptFailed => "script-failed",
            Code::BadName => "bad-name",
            Code::Owned => "owned",
            Code::Interrupted(_) => "interrupted",
        }
    }
}

/// A refusal or a failure, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For scripts.
    pub code: Code,
    /// What could not be done: "cannot start `web01`".
    pub what: String,
    /// Because of what, from the outside in; several lines are several causes, or the last lines of a console.
    pub because: Vec<String>,
    /// In which state the container, or the host, is now.
    pub state: Option<String>,
    /// What to type next.
    pub hint: Option<String>,
}

impl Failure {
    /// With neither cause nor hint yet.
    pub fn new(code: Code, what: impl Into<String>) -> Failure {
        Failure { code, what: what.into(), because: Vec::new(), state: None, hint: None }
    }

    /// Adds a cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Failure {
        self.because.push(cause.into());
        self
    }

    /// Adds an error and its sources as one cause.
    #[must_use]
    pub fn caused_by(self, error: &dyn std::error::Error) -> Failure {
        self.because(runtime::monitor::describe(error))
    }

    /// Says in which state things are now.
    #[must_use]
    pub fn state(mut self, state: impl Into<String>) -> Failure {
        self.state = Some(state.into());
        self
    }

    /// The state of a refusal, in words.
    pub const UNCHANGED: &str = "nothing was changed";

    /// The state of a refusal.
    #[must_use]
    pub fn unchanged(self) -> Failure {
        self.state(Failure::UNCHANGED)
    }

    /// Says what to type.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The same cause, seen from a larger undertaking: its own words become a cause of that one.
    #[must_use]
    pub fn within(self, what: impl Into<String>) -> Failure {
        let mut because = vec![self.what];
        because.extend(self.because);
        Failure { what: what.into(), because, ..self }
    }

    /// What, and why, in one line.
    pub fn reason(&self) -> String {
        format!("{}: {}", self.what, self.because.join(": "))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        for cause in &self.because {
            write!(f, "\n  because: {}", cause.replace('\n', "\n           "))?;
        }
        if let Some(state) = &self.state {
            write!(f, "\n  state: {state}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// What most of the engine returns.
pub type Result<T> = std::result::Result<T, Failure>;

/// An error with no room left on the disk somewhere in its chain is that, whatever was being done.
pub(crate) fn code_of(error: &(dyn std::error::Error + 'static), otherwise: Code) -> Code {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        {
            return Code::NoSpace;
        }
        next = error.source();
    }
    otherwise
}

/// What to do about a full disk.
pub const MAKE_ROOM: &str = "make room on the filesystem of /vz: `df -h` and `df -i` tell how much there is";

/// A failure of the system while `what` was done.
pub fn system(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Failure {
    let failure = Failure::new(code_of(error, Code::System), what).caused_by(error);
    if failure.code == Code::NoSpace {
        return failure.hint(MAKE_ROOM);
    }
    failure.hint("`dmesg` may tell more, and `prlctl info` what this host lacks")
}

/// What to do about a container whose disk is gone.
pub(crate) const NO_DISK: &str = "put that file back, as it was, with `mv` or `cp --sparse=always`; if it is lost, `prlctl delete` deletes what is left";

fn unregistered(id: &ContainerId, path: &std::path::Path) -> Failure {
    Failure::new(Code::UnknownContainer, format!("{} is not registered", id.braced()))
        .because(format!("its private area lies at {}, and is no container", path.display()))
        .unchanged()
        .hint(format!("`prlctl register {}` makes it one again", path.display()))
}

impl From<AreaError> for Failure {
    fn from(error: AreaError) -> Failure {
        match &error {
            AreaError::NoDisk { container, path } => {
                Failure::new(Code::Damaged, format!("the disk of `{container}` is missing"))
                    .because(format!("there is no {}, and its roots are in it", path.display()))
                    .unchanged()
                    .hint(NO_DISK)
            }
            AreaError::Unregistered { container, path } => unregistered(container, path),
            AreaError::Missing { container, .. } => {
                Failure::new(Code::UnknownContainer, format!("unknown container `{container}`"))
                    .because("it is not there any more")
                    .unchanged()
                    .hint("`prlctl list -a` shows all there are")
            }
            AreaError::Damaged { container, .. } => {
                Failure::new(Code::Damaged, "the container's records cannot be used")
                    .caused_by(&error)
                    .hint(hint_of(&error, container))
            }
            AreaError::NewerFormat { .. } | AreaError::UnknownFeature { .. } => {
                Failure::new(Code::Damaged, "the container's records cannot be used")
                    .caused_by(&error)
                    .hint(hint_of(&error, ""))
            }
            AreaError::Conf(_) | AreaError::BadName { .. } => {
                Failure::new(Code::Damaged, "the container's configuration cannot be used")
                    .caused_by(&error)
                    .hint(hint_of(&error, ""))
            }
            AreaError::NoGeneration { .. }
            | AreaError::Unreadable { .. }
            | AreaError::Ids(_)
            | AreaError::Write(_)
            | AreaError::Trash(_) => system("cannot read or write the container's private area", &error),
        }
    }
}

impl From<AtomicError> for Failure {
    fn from(error: AtomicError) -> Failure {
        system("cannot read or write below /vz", &error)
    }
}

impl From<ConfError> for Failure {
    fn from(error: ConfError) -> Failure {
        Failure::new(Code::Damaged, "a configuration file cannot be used").caused_by(&error)
    }
}

impl From<PrefixError> for Failure {
    fn from(error: PrefixError) -> Failure {
        let hint = match &error {
            PrefixError::NotAbsolute { .. }
            | PrefixError::NotDirectory { .. }
            | PrefixError::Unreadable { .. } => {
                "have REROOT_PREFIX name a directory that is there, by its whole path, or leave it unset"
                    .to_owned()
            }
            PrefixError::Open { path, .. } => {
                let path = path.display();
                format!("see who has been in there, then `chown 0:0 {path} && chmod 0700 {path}`")
            }
            PrefixError::Write(_) => "`df -h` and `mount` tell whether it can be written to".to_owned(),
        };
        system("this host is not as it should be", &error).unchanged().hint(hint)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Failure {
        match &error {
            LockError::Held { name, pid, command, since } => {
                Failure::new(Code::Locked, format!("{name} is locked by another command"))
                    .because(format!("`{command}` (pid {pid}) holds it since {since}"))
                    .unchanged()
                    .hint("wait for it with --lock-wait 60")
            }
            LockError::Unusable { .. } => system("cannot take a lock", &error),
        }
    }
}

impl From<FindError> for Failure {
    fn from(error: FindError) -> Failure {
        match &error {
            FindError::Unknown { words, did_you_mean } => {
                let failure = Failure::new(
                    Code::UnknownContainer,
                    format!("unknown container `{}`", tree::escaped(words.as_bytes())),
                )
                .because("no container has that name or UUID, or one that begins so")
                .unchanged();
                match did_you_mean {
                    Some(name) => failure.hint(format!("did you mean `{name}`?")),
                    None => failure.hint("`prlctl list -a` shows all there are"),
                }
            }
            FindError::Ambiguous { words, candidates } => {
                Failure::new(Code::UnknownContainer, format!("more than one container begins with `{words}`"))
                    .because(candidates.join(", "))
                    .unchanged()
                    .hint("write more of it")
            }
            FindError::Claimed { words, holders } => crate::names::claimed(words, holders),
            FindError::Unregistered { id, path } => unregistered(id, path),
            FindError::List(_) => system("cannot look for the container", &error),
        }
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Failure {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other one says itself what is wrong")]
        match &error {
            TemplateError::Unknown { name, available } => {
                let failure = Failure::new(Code::UnknownTemplate, format!("unknown template `{name}`"));
                let failure = if available.is_empty() {
                    failure.because("there is no template on this host yet")
                } else {
                    let names: Vec<&str> = available.iter().map(TemplateName::as_str).collect();
                    failure.because(format!("there are: {}", names.join(", ")))
                };
                failure.unchanged().hint(if crate::template::recipe::is_shipped(name.as_str()) {
                    format!("make it with `vzpkg create cache {name}`")
                } else {
                    "`vzpkg create cache NAME` makes one; `vzpkg list --recipes` shows what there are recipes for".to_owned()
                })
            }
            TemplateError::NoVersion { name, .. } | TemplateError::AmbiguousVersion { name, .. } => {
                Failure::new(Code::UnknownTemplate, "that version of the template cannot be used")
                    .caused_by(&error)
                    .unchanged()
                    .hint(format!("`vzpkg list` shows the versions; `{name}` without one is the latest"))
            }
            TemplateError::NoLatest { name, available } => {
                let version: String = available.first().map_or("VERSION", String::as_str).chars().take(12).collect();
                Failure::new(Code::UnknownTemplate, "the template cannot be used")
                    .caused_by(&error)
                    .unchanged()
                    .hint(format!("name the version that is meant, as in `{name}@{version}`; `vzpkg create cache {name}`, with `--from SOURCE` where it was made of something else than its recipe, makes the latest one"))
            }
            TemplateError::NotOnlyVersions { .. } => {
                Failure::new(Code::BadValue, "the template cannot be removed").caused_by(&error).unchanged().hint("move that elsewhere first")
            }
            TemplateError::UnknownUses { container, source } => Failure::new(Code::Damaged, error.to_string())
                .caused_by(source)
                .unchanged()
                .hint(hint_of(source, container)),
            TemplateError::Default(source) => {
                Failure::new(Code::Damaged, error.to_string()).caused_by(source).unchanged().hint("correct that line")
            }
            // Nothing is wrong with any template then.
            _ if code_of(&error, Code::UnknownTemplate) == Code::NoSpace => {
                system("cannot write below /vz/template", &error).unchanged()
            }
            _ => Failure::new(Code::UnknownTemplate, "the template cannot be used")
                .caused_by(&error)
                .unchanged()
                .hint("`vzpkg list` shows the templates of this host, and `vzpkg create cache NAME` makes one again"),
        }
    }
}

impl From<store::TrashError> for Failure {
    fn from(error: store::TrashError) -> Failure {
        system("cannot move it to the trash", &error)
    }
}

impl From<store::RegistryError> for Failure {
    fn from(error: store::RegistryError) -> Failure {
        system("cannot write the container's name", &error)
    }
}

impl From<tree::TreeError> for Failure {
    fn from(error: tree::TreeError) -> Failure {
        system("cannot read or write in a root", &error)
    }
}
