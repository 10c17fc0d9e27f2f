//! Which addresses a container gets, and that nobody else has them.

use std::net::IpAddr;
use std::os::fd::AsFd;

use runtime::state::Looked;
use store::{ADDRESSES, Address, AddressError, Area, Conf, ContainerId, Forward, Interface, registry};

use crate::error::{Code, Failure, Result};
use crate::host::Host;
use crate::runtime::Life;

/// `--ipadd` and `--ipdel`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressChange {
    /// Besides those that are there.
    pub add: Vec<Address>,
    /// No more.
    pub remove: Vec<IpAddr>,
    /// None of those that were there stays.
    pub removes_all: bool,
}

impl AddressChange {
    /// Understands what was typed.
    ///
    /// # Errors
    /// [`Code::BadAddress`].
    pub fn read(add: &[String], remove: &[String]) -> Result<AddressChange> {
        let refused = |option: &str, error: &AddressError| {
            Failure::new(
                Code::BadAddress,
                format!("`{option} {}` cannot be used", tree::escaped(error.text.as_bytes())),
            )
            .because(format!("it {}", error.why))
            .unchanged()
        };
        let words = |all: &[String]| -> Vec<String> {
            all.iter()
                .flat_map(|words| words.split([',', ' ']))
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let mut change = AddressChange::default();
        for word in words(add) {
            change.add.push(word.parse().map_err(|error| refused("--ipadd", &error))?);
        }
        for word in words(remove) {
            if word == "all" {
                change.removes_all = true;
            } else {
                let address: Address = word.parse().map_err(|error| refused("--ipdel", &error))?;
                change.remove.push(address.ip);
            }
        }
        Ok(change)
    }

    /// Nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == AddressChange::default()
    }

    /// Writes it into the configuration of container `id`.
    ///
    /// # Errors
    /// [`Code::AddressInUse`]; [`Code::BadValue`] for one that is to go and is not there.
    pub fn apply(&self, host: &Host, id: Option<&ContainerId>, conf: &mut Conf) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut addresses = if self.removes_all {
            Vec::new()
        } else {
            Address::all(conf).map_err(|error| {
                Failure::new(Code::BadValue, format!("`{ADDRESSES}` cannot be used"))
                    .caused_by(&error)
                    .hint("`--ipdel all` takes away all that is there")
            })?
        };
        self.apply_to(&mut addresses, |ip| {
            is_free(host, id, ip, Place::Routed)?;
            let of_a_bridge = Interface::all(conf).unwrap_or_default();
            match of_a_bridge.iter().find(|one| one.addresses.iter().any(|own| own.ip == ip)) {
                None => Ok(()),
                Some(one) => Err(taken(
                    ip,
                    format!("the container has it already, on {}", one.name),
                    &format!("take it from there with `--ifname {} --ipdel {ip}` first", one.name),
                )),
            }
        })?;
        let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        conf.set(ADDRESSES, &words.join(" "))?;
        Ok(())
    }

    /// Does it to these, where each new one passes.
    pub(crate) fn apply_to(
        &self,
        addresses: &mut Vec<Address>,
        is_free: impl Fn(IpAddr) -> Result<()>,
    ) -> Result<()> {
        if self.removes_all {
            addresses.clear();
        }
        for ip in &self.remove {
            let before = addresses.len();
            addresses.retain(|address| address.ip != *ip);
            if addresses.len() == before {
                return Err(Failure::new(Code::BadAddress, format!("`--ipdel {ip}` cannot be done"))
                    .because("it is not among its addresses")
                    .unchanged());
            }
        }
        for address in &self.add {
            is_free(address.ip)?;
            addresses.retain(|one| one.ip != address.ip);
            addresses.push(*address);
        }
        Ok(())
    }
}

/// Where an address is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Routed, and so everybody's to see.
    Routed,
    /// On this interface, seen by what is beside it.
    Bridge(&'a Interface),
}

fn taken(ip: IpAddr, whose: String, hint: &str) -> Failure {
    Failure::new(Code::AddressInUse, format!("the address {ip} is taken"))
        .because(whose)
        .unchanged()
        .hint(hint)
}

/// Nobody else on this host has the address where that would be seen, whether it runs or not.
pub(crate) fn is_free(host: &Host, id: Option<&ContainerId>, ip: IpAddr, place: Place<'_>) -> Result<()> {
    let taken =
        |whose: String| Err(taken(ip, whose, "choose another address, or take it from there with --ipdel"));
    for other in registry::list(&host.prefix)? {
        if Some(&other) == id {
            continue;
        }
        let Ok(area) = Area::open_unchecked(&host.prefix, &other) else { continue };
        // What cannot be read says nothing; a start of it is refused then.
        let Ok(conf) = area.conf() else { continue };
        let has_it = |all: &[Address]| all.iter().any(|address| address.ip == ip);
        if Address::all(&conf).is_ok_and(|all| has_it(&all)) {
            return taken(format!("container `{}` has it", area.display_name()));
        }
        let is_seen = |one: &Interface| match place {
            Place::Routed => true,
            Place::Bridge(own) => own.is_beside(one),
        };
        let theirs = Interface::all(&conf).unwrap_or_default();
        if let Some(one) = theirs.iter().find(|one| has_it(&one.addresses) && is_seen(one)) {
            return taken(format!("container `{}` has it, on {}", area.display_name(), one.name));
        }
    }
    match host.runtime.holder_of(ip, matches!(place, Place::Routed), id) {
        Some(whose) => taken(format!("it is {whose}")),
        None => Ok(()),
    }
}

/// Asked again under the host's lock, by whoever is about to write it: of two that want one address, port or interface at once, both have found it free.
///
/// # Errors
/// [`Code::AddressInUse`].
pub fn are_still_free(
    host: &Host,
    id: &ContainerId,
    added: &[Address],
    forwards: &[Forward],
    interfaces: &[Interface],
) -> Result<()> {
    for address in added {
        is_free(host, Some(id), address.ip, Place::Routed)?;
    }
    are_free(host, Some(id), forwards)?;
    crate::interfaces::are_nobody_elses(host, id, interfaces)
}

/// No other container has these ports, whether it runs or not.
///
/// # Errors
/// [`Code::AddressInUse`].
pub fn are_free(host: &Host, id: Option<&ContainerId>, forwards: &[Forward]) -> Result<()> {
    are_free_of(host, id, forwards, |_| true)
}

/// The same of those that run, or are between two lives: of two that have one in their `ve.conf` the first may start.
///
/// # Errors
/// [`Code::AddressInUse`].
pub fn are_free_now(host: &Host, id: &ContainerId, forwards: &[Forward]) -> Result<()> {
    are_free_of(host, Some(id), forwards, |other| !matches!(host.runtime.life(other), Life::Stopped))
}

fn are_free_of(
    host: &Host,
    id: Option<&ContainerId>,
    forwards: &[Forward],
    counts: impl Fn(&ContainerId) -> bool,
) -> Result<()> {
    if forwards.is_empty() {
        return Ok(());
    }
    let taken = |forward: &Forward, whose: String| {
        let port = format!("{} port {}", forward.transport, forward.port);
        Err(Failure::new(Code::AddressInUse, format!("the {port} of this host is taken"))
            .because(whose)
            .unchanged()
            .hint(format!("choose another port: `--forward {}:PORT:{}`", forward.transport, forward.to)))
    };
    for other in registry::list(&host.prefix)? {
        if Some(&other) == id || !counts(&other) {
            continue;
        }
        let Ok(area) = Area::open_unchecked(&host.prefix, &other) else { continue };
        // What cannot be read says nothing; a start of it is refused then.
        let theirs = area.conf().ok().and_then(|conf| Forward::all(&conf).ok()).unwrap_or_default();
        if let Some(own) = forwards.iter().find(|own| theirs.iter().any(|one| one.is_of_the_port_of(own))) {
            return taken(own, format!("container `{}` has it", area.display_name()));
        }
    }
    Ok(())
}

/// No program of the host listens to these ports: nobody would reach it any more. Asked of new ones; what has been said before is not taken back by who comes later.
///
/// # Errors
/// [`Code::AddressInUse`].
pub fn are_not_listened_to(host: &Host, forwards: &[Forward]) -> Result<()> {
    match forwards.iter().find(|forward| host.runtime.listens(forward)) {
        None => Ok(()),
        Some(Forward { transport, port, to }) => Err(Failure::new(
            Code::AddressInUse,
            format!("the {transport} port {port} of this host is taken"),
        )
        .because("a program of the host listens to it")
        .unchanged()
        .hint(format!("choose another port: `--forward {transport}:PORT:{to}`"))),
    }
}

/// What has gone in and out of a container that has addresses, since its start.
pub fn traffic(host: &Host, id: &ContainerId) -> Option<net::Traffic> {
    net::traffic(&host.prefix, id).ok().flatten()
}

/// What there is now of a container's network, of the process that is its init. Nobody waits for one that is between two lives.
pub fn present(host: &Host, id: &ContainerId, rates: &net::Rates) -> Option<Vec<net::Present>> {
    let Looked::Running(run) = runtime::state::look(&host.prefix, id) else { return None };
    let init = run.init.open().ok()??;
    net::present(&host.prefix, id, init.as_fd(), rates).ok()
}

/// How much of each interface passes: for all containers of a host.
pub fn rates(host: &Host) -> net::Rates {
    net::Rates::ask(&host.prefix)
}
