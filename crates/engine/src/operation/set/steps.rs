//! What a call does, one step after the other: where one fails, those before it are taken back, the last first.
//!
//! ```text
//! step          does                                         taken back by
//! Name          links the new name                           removing the link
//! Smaller       makes a disk smaller, of a stopped one       making it as large as it was
//! Disk          makes a disk, or looks whose a found one is  throwing the new one away, but where somebody inside is in it already
//! Kernel        tells the kernel its limits, addresses …     telling what it was
//! Attachments   mounts and unmounts in it                    the other way round
//! Conf          writes `ve.conf`                             writing it as it was
//! Password      gives an account its password                -
//! Larger        makes a disk larger                          -
//! ```
//!
//! The last two cannot be taken back, and nobody asks for both in one call: only where `ve.conf` was edited the disk becomes larger after a password, and an error of that says that the
//! password stays. No two disks become of another size in one call. What else could not be taken back the error says, too, and of what is mounted the next
//! command tries it again. What is deleted is deleted when all of it is done.

use store::{ContainerName, registry};

use super::name::{claim, claim_the_rest};
use super::plan::{Plan, difference};
use super::{Options, Report};
use crate::error::{Code, Failure, Result};
use crate::host::Container;
use crate::names;
use crate::operation::user_password::{self, Given};
use crate::runtime::RuntimeErrorKind;
use crate::volume::{self, Resize};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Name,
    Smaller,
    Disk,
    Kernel,
    Attachments,
    Conf,
    Password,
    Larger,
}

/// All there are, in their order.
const STEPS: [Step; 8] = [
    Step::Name,
    Step::Smaller,
    Step::Disk,
    Step::Kernel,
    Step::Attachments,
    Step::Conf,
    Step::Password,
    Step::Larger,
];

/// A call that is being done.
struct Call<'a> {
    container: &'a Container<'a>,
    options: &'a Options,
    plan: Plan,
    what: &'a str,
    name: Option<ContainerName>,
    passwords: Vec<Given>,
}

/// Does all of it, or none.
///
/// # Errors
/// Of the step that failed, with those before it taken back.
pub fn take(container: &Container<'_>, options: &Options, plan: Plan, what: &str) -> Result<Report> {
    let mut call = Call { container, options, plan, what, name: None, passwords: Vec::new() };
    for (index, step) in STEPS.iter().enumerate() {
        if let Err(failure) = call.apply(*step) {
            let left: Vec<String> =
                STEPS[..index].iter().rev().filter_map(|done| call.take_back(*done)).collect();
            return Err(match left.is_empty() {
                true => failure,
                false => and_stays(failure, &left.join("; ")),
            });
        }
    }
    Ok(call.conclude())
}

/// What is not as it was, beside what the failure itself says of that.
fn and_stays(failure: Failure, what: &str) -> Failure {
    let own = failure.state.clone().unwrap_or_default();
    let own = own.strip_prefix(Failure::UNCHANGED).unwrap_or(&own);
    let own = own.trim_start_matches([',', ';', ' ']).trim_start_matches("but ");
    let semicolon = if own.is_empty() { "" } else { "; " };
    let state = format!("{own}{semicolon}{what}; nothing else was changed");
    failure.state(state)
}

impl Call<'_> {
    /// With an error it has done nothing, or its state says what stays.
    fn apply(&mut self, step: Step) -> Result<()> {
        let Call { container, options, what, .. } = *self;
        let plan = &mut self.plan;
        match step {
            Step::Name => self.name = claim(container, &plan.old, &options.changes)?,
            Step::Smaller => {
                if let Some(resize @ (Resize::Shrink { .. } | Resize::Limit(_))) = plan.resize {
                    volume::resize(container, resize)?;
                }
                container.make_smaller(&plan.disk)?;
            }
            Step::Disk => {
                if linux::mutated!("disk-gone-first") {
                    drop(container.conclude(&plan.disk));
                }
                container.make_or_take_disk(&plan.disk, &mut plan.new)?;
            }
            Step::Kernel => {
                // What is not kept is of one that runs: else it was refused.
                if container.is_running() || !options.is_kept {
                    let told =
                        container.runtime().change(container.id(), plan.before.as_ref().ok(), &plan.wanted);
                    plan.warnings.extend(told.map_err(|error| {
                        let failure = Failure::new(Code::BadValue, what).because(error.because);
                        if error.kind == RuntimeErrorKind::InPart {
                            let name = &container.name;
                            return failure
                                .state(format!(
                                    "`{name}` runs, and not all of it is as it was; its ve.conf is"
                                ))
                                .hint(format!("`prlctl restart {name}` makes it as its ve.conf says"));
                        }
                        failure.hint(format!("`prlctl list -i {}` shows what it uses", container.name))
                    })?);
                }
            }
            Step::Attachments => {
                if container.is_running() && options.is_kept {
                    plan.warnings.extend(container.attach(&plan.old, &plan.new)?);
                }
            }
            Step::Conf => {
                if options.is_kept {
                    let _lock = claim_the_rest(container, options, &plan.new)?;
                    let written = container.area.store_conf(&plan.disk.not_yet_larger(&plan.new));
                    // It may have its name already, and not be durable.
                    written.inspect_err(|_| drop(container.area.store_conf(&plan.old)))?;
                }
            }
            Step::Password => {
                for given in &options.passwords {
                    match user_password::give(container, given, false) {
                        Ok(became) => self.passwords.push(became),
                        Err(failure) if self.passwords.is_empty() => return Err(failure),
                        // It was tried beforehand, and has failed all the same.
                        Err(failure) => {
                            let before = options.passwords[..self.passwords.len()].iter();
                            let users: Vec<_> = before
                                .map(|one| format!("`{}`", tree::escaped(one.user().as_bytes())))
                                .collect();
                            let stays = format!(
                                "the password of {} has been changed, and stays so",
                                users.join(", ")
                            );
                            return Err(and_stays(failure, &stays));
                        }
                    }
                }
            }
            Step::Larger => {
                if let Some(resize @ Resize::Grow(_)) = plan.resize {
                    volume::resize(container, resize)?;
                }
                plan.warnings.extend(container.make_larger(&plan.disk, &plan.new)?);
            }
        }
        Ok(())
    }

    /// As far as it can be; what cannot.
    fn take_back(&self, step: Step) -> Option<String> {
        let Call { container, options, plan, .. } = self;
        match step {
            Step::Name => {
                if let Some(name) = &self.name {
                    // One that stays is removed by `recover`.
                    let _ = registry::unlink_name(&container.host.prefix, name, container.id());
                }
            }
            Step::Smaller => {
                match plan.resize {
                    Some(Resize::Shrink { before, .. }) => {
                        let _ = volume::resize(container, Resize::Grow(before));
                    }
                    // What is configured still.
                    Some(Resize::Limit(_)) => container.keep_to_disk_space(),
                    Some(Resize::Grow(_)) | None => {}
                }
                container.make_as_large_as_before(&plan.disk);
            }
            Step::Disk => return container.unmake_disk(&plan.disk),
            Step::Kernel => {
                if container.is_running() {
                    let told = plan.before.as_ref().map_err(Clone::clone).and_then(|before| {
                        let told = container.runtime().change(container.id(), Some(&plan.wanted), before);
                        told.map_err(|error| error.because)
                    });
                    return told.err().map(|because| {
                        format!("what it may use is as this call said, until it is stopped: {because}")
                    });
                }
            }
            Step::Attachments => {
                if container.is_running() && options.is_kept {
                    return container.attach_as_before(&plan.new, &plan.old);
                }
            }
            Step::Conf => {
                if options.is_kept {
                    // As it could be written a moment ago.
                    let _ = container.area.store_conf(&plan.old);
                }
            }
            Step::Password => {
                let is_given = !self.passwords.is_empty();
                return is_given.then(|| "the password has been changed, and stays so".to_owned());
            }
            Step::Larger => {}
        }
        None
    }

    /// Nothing of this keeps the call from being done.
    fn conclude(self) -> Report {
        let Call { container, options, plan, name, passwords, .. } = self;
        container.end_attaching();
        if container.is_running() && options.is_kept {
            crate::boot::note_that_it_runs(container);
        }
        let mut warnings = plan.warnings;
        if name.is_some()
            && let Err(failure) = names::put_right(container, true)
        {
            warnings.push(failure.reason());
        }
        warnings.extend(container.conclude(&plan.disk));
        warnings.sort();
        warnings.dedup();
        Report { changed: difference(&plan.old, &plan.new), passwords, warnings }
    }
}
