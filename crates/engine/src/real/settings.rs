//! Other settings for a container that runs.

use std::net::IpAddr;
use std::os::fd::AsFd;

use net::{Holder, Network};
use runtime::cgroup::Cgroups;
use runtime::confined::{Reach, confined};
use runtime::limits::{self, Disk};
use runtime::monitor::Session;
use runtime::mounts::generation_point;
use runtime::{network_files, state, uts};
use store::{ContainerId, Prefix};
use tree::Root;

use super::errors::{monitor_error, other};
use crate::runtime::{RuntimeResult, Settings};

/// See [`crate::runtime::Runtime::change`]. One that has ended meanwhile finds them in its `ve.conf`.
pub fn change(prefix: &Prefix, id: &ContainerId, wanted: &Settings) -> RuntimeResult<Vec<String>> {
    let Some(state) = state::running(prefix, id) else { return Ok(Vec::new()) };
    let Some(init) = state.init.open().map_err(|error| other(&error))? else { return Ok(Vec::new()) };
    let groups = Cgroups::of(prefix, id).map_err(|error| other(&error))?;
    let Settings {
        limits,
        hostname,
        addresses,
        translates,
        forwards,
        interfaces,
        rate,
        restarts_on_crash,
        resolver: _,
        leaves_network_files: _,
        says_files: _,
    } = wanted;
    let before = limits::now(&groups, Disk::of(prefix)).limits;
    let lacking = limits::change(&groups, limits, Disk::of(prefix)).map_err(|error| other(&error))?;
    let mut warnings: Vec<String> =
        lacking.into_iter().map(|(key, because)| format!("`{key}` is not enforced: {because}")).collect();
    let network = Network {
        forwards: forwards.clone(),
        rate: *rate,
        ..Network::of(prefix, id, addresses.clone(), *translates, None).with_bridged(prefix, id, interfaces)
    };
    match net::change(prefix, id, init.as_fd(), network) {
        Ok(told) => warnings.extend(told),
        Err(error) => {
            // All or none.
            let _ = limits::change(&groups, &before, Disk::of(prefix));
            return Err(other(&error));
        }
    }
    warnings.extend(write_network_files(prefix, id, &state, wanted));
    if let Err(error) = uts::set_hostname(init.as_fd(), hostname) {
        warnings.push(format!("its host name is another only from its next start on: {error}"));
    }
    let told = match Session::connect(prefix, id).map_err(monitor_error) {
        Ok(Some(session)) => session.change(wanted.clone()).map_err(monitor_error),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if *restarts_on_crash && state.protocol < 2 {
        warnings.push(
            "its monitor is of an earlier version: only from its next start on is it started again after a crash".to_owned(),
        );
    }
    if let Err(error) = told {
        warnings.push(format!(
            "its monitor, perhaps one of an earlier version, has not been told ({error}): a reboot from inside brings the old settings back, until \
             `prlctl restart`"
        ));
    }
    Ok(warnings)
}

/// What its own tools are told of it; they may be told at the next start, if now they cannot.
fn write_network_files(
    prefix: &Prefix,
    id: &ContainerId,
    state: &state::RuntimeState,
    wanted: &Settings,
) -> Vec<String> {
    let files = network_files::Wanted {
        addresses: &wanted.addresses,
        interfaces: &wanted.interfaces,
        resolver: wanted.resolver.as_deref(),
    };
    let files = (!wanted.leaves_network_files).then_some(&files);
    let point = generation_point(prefix, id, state.generation);
    let result = Root::open(&point).map_err(|error| error.to_string()).and_then(|root| {
        let reach = Reach { reads: Vec::new(), writes: vec![root.handle()], ids: Some(state.ids.first) };
        confined(&reach, || network_files::apply(&root, state.ids, files)).map_err(|error| error.to_string())
    });
    result.unwrap_or_else(|because| {
        vec![format!("the network files in the container are left as they are: {because}")]
    })
}

/// See [`crate::runtime::Runtime::holder_of`]. A route that nobody can be asked for is seen at the start.
pub fn holder_of(ip: IpAddr, but: Option<&ContainerId>) -> Option<String> {
    let holder = net::holder_of(ip).ok().flatten()?;
    let is_own = but.is_some_and(|id| holder == Holder::Container(Network::alias_of(id)));
    (!is_own).then(|| holder.to_string())
}
