//! Which addresses a container gets, and that nobody else has them.

use std::net::IpAddr;

use store::{ADDRESSES, Address, AddressError, Area, Conf, ContainerId, Forward, registry};

use crate::error::{Code, Failure, Result};
use crate::host::Host;

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
            is_free(host, id, address.ip)?;
            addresses.retain(|one| one.ip != address.ip);
            addresses.push(*address);
        }
        let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        conf.set(ADDRESSES, &words.join(" "))?;
        Ok(())
    }
}

/// Nobody else on this host has the address, whether it runs or not.
fn is_free(host: &Host, id: Option<&ContainerId>, ip: IpAddr) -> Result<()> {
    let taken = |whose: String| {
        Err(Failure::new(Code::AddressInUse, format!("the address {ip} is taken"))
            .because(whose)
            .unchanged()
            .hint("choose another address, or take it from there with --ipdel"))
    };
    for other in registry::list(&host.prefix)? {
        if Some(&other) == id {
            continue;
        }
        let Ok(area) = Area::open_unchecked(&host.prefix, &other) else { continue };
        // What cannot be read says nothing; a start of it is refused then.
        let has_it = area.conf().is_ok_and(|conf| {
            Address::all(&conf).is_ok_and(|addresses| addresses.iter().any(|address| address.ip == ip))
        });
        if has_it {
            return taken(format!("container `{}` has it", area.display_name()));
        }
    }
    match host.runtime.holder_of(ip, id) {
        Some(whose) => taken(format!("it is {whose}")),
        None => Ok(()),
    }
}
/// No other container has these ports, whether it runs or not.
///
/// # Errors
/// [`Code::AddressInUse`].
pub fn are_free(host: &Host, id: Option<&ContainerId>, forwards: &[Forward]) -> Result<()> {
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
        if Some(&other) == id {
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
