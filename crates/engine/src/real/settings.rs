//! Other settings for a container that runs.

use std::net::IpAddr;
use std::os::fd::AsFd;

use net::{Holder, Network, NetworkError};
use runtime::cgroup::Cgroups;
use runtime::confined::{Reach, confined};
use runtime::limits::{self, Disk};
use runtime::monitor::Session;
use runtime::mounts::generation_point;
use runtime::{network_files, state, uts};
use store::{ContainerId, Prefix};
use tree::Root;

use super::errors::{monitor_error, other};
use crate::runtime::{RuntimeErrorKind, RuntimeResult, Settings};

/// See [`crate::runtime::Runtime::change`]. One that has ended meanwhile finds them in its `ve.conf`.
pub fn change(
    prefix: &Prefix,
    id: &ContainerId,
    before: Option<&Settings>,
    wanted: &Settings,
) -> RuntimeResult<Vec<String>> {
    let Some(state) = state::running(prefix, id) else { return Ok(Vec::new()) };
    let Some(init) = state.init.open().map_err(|error| other(&error))? else { return Ok(Vec::new()) };
    let groups = Cgroups::of(prefix, id).map_err(|error| other(&error))?;
    let limits_before = limits::now(&groups, Disk::of(prefix)).limits;
    let lacking = limits::change(&groups, &wanted.limits, Disk::of(prefix)).map_err(|error| other(&error))?;
    let mut warnings: Vec<String> =
        lacking.into_iter().map(|(key, because)| format!("`{key}` is not enforced: {because}")).collect();
    match net::change(prefix, id, init.as_fd(), wanted.network(prefix, id, None)) {
        Ok(told) => warnings.extend(told),
        Err(error) => {
            // All or none.
            let limits = limits::change(&groups, &limits_before, Disk::of(prefix)).err();
            let mut failed = other(&error);
            if let Some(limits) = &limits {
                let left = other(limits).because;
                failed.because = format!("{}; and its limits are not as they were: {left}", failed.because);
            }
            if limits.is_some() || matches!(error, NetworkError::InPart { .. }) {
                failed.kind = RuntimeErrorKind::InPart;
            }
            return Err(failed);
        }
    }
    warnings.extend(write_network_files(prefix, id, &state, wanted));
    if let Err(error) = uts::set_hostname(init.as_fd(), &wanted.hostname) {
        warnings.push(format!("its host name is another only from its next start on: {error}"));
    }
    let told = match Session::connect(prefix, id).map_err(monitor_error) {
        Ok(Some(session)) => session.change(wanted).map_err(monitor_error),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match told {
        Ok(()) => warnings.extend(unknown(&state, before, wanted)),
        Err(error) => warnings.push(format!(
            "its monitor, perhaps one of another version, has not been told ({error}): a reboot from inside brings the old settings back, until \
             `prlctl restart`"
        )),
    }
    Ok(warnings)
}

/// What its monitor passes over: it is of a version that did not have it yet.
fn unknown(state: &state::RuntimeState, before: Option<&Settings>, wanted: &Settings) -> Option<String> {
    let keys = wanted.unknown_to(state.protocol, before);
    (!keys.is_empty()).then(|| {
        format!(
            "its monitor is of an earlier version of Reroot and does not know {}: after a reboot from inside, or a crash, it is as it was, until \
             `prlctl restart` begins with what ve.conf says",
            keys.join(", ")
        )
    })
}

/// What its own tools are told of it; they may be told at the next start, if now they cannot.
fn write_network_files(
    prefix: &Prefix,
    id: &ContainerId,
    state: &state::RuntimeState,
    wanted: &Settings,
) -> Vec<String> {
    let files = wanted.network_files();
    let point = generation_point(prefix, id, state.generation);
    let result = Root::open(&point).map_err(|error| error.to_string()).and_then(|root| {
        let reach = Reach { reads: Vec::new(), writes: vec![root.handle()], ids: Some(state.ids.first) };
        confined(&reach, || network_files::apply(&root, state.ids, files.as_ref()))
            .map_err(|error| error.to_string())
    });
    result.unwrap_or_else(|because| {
        vec![format!("the network files in the container are left as they are: {because}")]
    })
}

/// See [`crate::runtime::Runtime::holder_of`]. A route that nobody can be asked for is seen at the start.
pub fn holder_of(ip: IpAddr, is_routed: bool, but: Option<&ContainerId>) -> Option<String> {
    let holder = net::holder_of(ip, is_routed).ok().flatten()?;
    let is_own = but.is_some_and(|id| holder == Holder::Container(Network::alias_of(id)));
    (!is_own).then(|| holder.to_string())
}
