//! The packet filter: one table a host, whose rules are the same for one container and for a thousand; what differs is in sets, where a look costs the
//! same whatever their size.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use store::Address;

use crate::{Network, NetworkError, Probation};

/// Where Debian and Ubuntu have it.
const NFT: [&str; 2] = ["/usr/sbin/nft", "/sbin/nft"];

/// So long it may take, on however loaded a host.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of what it says of a refusal, which is less than a pipe holds.
const LONGEST: u64 = 4096;

/// The table, made anew in the same transaction in which something is put into it: nothing passes in between.
const TABLE: &str = "
add table inet TABLE
add set inet TABLE ours { type ifname; }
add set inet TABLE four { type ifname . ipv4_addr; }
add set inet TABLE six { type ifname . ipv6_addr; }
add set inet TABLE probation { type ifname; }
add set inet TABLE silent { type ifname; }
add set inet TABLE private { type ipv4_addr; }
add set inet TABLE private6 { type ipv6_addr; }
add chain inet TABLE sent { type filter hook prerouting priority -300; policy accept; }
add chain inet TABLE received { type filter hook postrouting priority 0; policy accept; }
add chain inet TABLE translated { type nat hook postrouting priority 100; policy accept; }
flush chain inet TABLE sent
flush chain inet TABLE received
flush chain inet TABLE translated
add rule inet TABLE sent iifname @silent drop
add rule inet TABLE sent iifname . ip saddr @four accept
add rule inet TABLE sent iifname . ip6 saddr @six accept
add rule inet TABLE sent iifname @ours drop
add rule inet TABLE received oifname @silent drop
add rule inet TABLE received oifname @probation ct state new drop
add rule inet TABLE translated ip saddr @private oifname != @ours masquerade
add rule inet TABLE translated ip6 saddr @private6 oifname != @ours masquerade
";

/// This host has a packet filter that can be told something.
pub fn has_filter() -> bool {
    program().is_some()
}

fn program() -> Option<&'static str> {
    NFT.into_iter().find(|path| std::path::Path::new(path).exists())
}

/// Lets the container send from its addresses, and from no others.
pub(crate) fn admit(network: &Network, translated: &[IpAddr]) -> Result<(), NetworkError> {
    let mut text = TABLE.replace("TABLE", &network.table);
    for element in elements(network, translated) {
        text.push_str(&format!("add element inet {} {element}\n", network.table));
    }
    tell(&text)
}

/// Instead of what was said of it as it was, what it is now, in one transaction: at no moment may it send what it likes.
pub(crate) fn exchange(
    (old, lost): (&Network, &[IpAddr]),
    (new, translated): (&Network, &[IpAddr]),
) -> Result<(), NetworkError> {
    let mut text = TABLE.replace("TABLE", &new.table) + &removal(old, lost);
    for element in elements(new, translated) {
        text.push_str(&format!("add element inet {} {element}\n", new.table));
    }
    tell(&text)
}

/// Takes away what was said of it. That something of it is not there is no error.
pub(crate) fn forget(network: &Network, translated: &[IpAddr]) -> Result<(), NetworkError> {
    tell(&(TABLE.replace("TABLE", &network.table) + &removal(network, translated)))
}

fn removal(network: &Network, translated: &[IpAddr]) -> String {
    let mut network = network.clone();
    let mut text = String::new();
    let mut all = Vec::new();
    for probation in [Some(Probation::Outgoing), Some(Probation::None)] {
        network.probation = probation;
        all.extend(elements(&network, translated));
    }
    for element in all {
        // `delete` refuses what is not there, and there is no other word for it before nftables 1.0.7.
        text.push_str(&format!(
            "add element inet {0} {element}\ndelete element inet {0} {element}\n",
            network.table
        ));
    }
    text
}

/// Its probation is over.
pub(crate) fn release(network: &Network) -> Result<(), NetworkError> {
    let Network { table, interface, .. } = network;
    let mut text = String::new();
    for set in ["probation", "silent"] {
        text.push_str(&format!("add element inet {table} {set} {{ \"{interface}\" }}\n"));
        text.push_str(&format!("delete element inet {table} {set} {{ \"{interface}\" }}\n"));
    }
    tell(&text)
}

fn elements(network: &Network, translated: &[IpAddr]) -> Vec<String> {
    let interface = &network.interface;
    let mut elements = vec![format!("ours {{ \"{interface}\" }}")];
    match network.probation {
        Some(Probation::Outgoing) => elements.push(format!("probation {{ \"{interface}\" }}")),
        Some(Probation::None) => elements.push(format!("silent {{ \"{interface}\" }}")),
        Some(Probation::Full) | None => {}
    }
    for Address { ip, .. } in &network.addresses {
        let set = if ip.is_ipv4() { "four" } else { "six" };
        elements.push(format!("{set} {{ \"{interface}\" . {ip} }}"));
    }
    for ip in translated {
        let set = if ip.is_ipv4() { "private" } else { "private6" };
        elements.push(format!("{set} {{ {ip} }}"));
    }
    elements
}

/// Does all of it or nothing: `nft -f` is one transaction.
fn tell(text: &str) -> Result<(), NetworkError> {
    let program = program().ok_or(NetworkError::NoFilter)?;
    let run = |source| NetworkError::System { what: format!("run {program}"), source };
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run)?;
    if let Some(mut input) = child.stdin.take() {
        // What it has to say of an input that it did not read to its end, it says.
        let _ = input.write_all(text.as_bytes());
    }
    let status = ended(&mut child).map_err(run)?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(LONGEST).read_to_string(&mut said);
    }
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
    Err(NetworkError::Filter { said: first.trim().to_owned() })
}

/// Waits for its end, and makes one: it has milliseconds of work.
fn ended(child: &mut Child) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    // Not reaped yet, so the number is its own.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(1..) => return child.wait(),
            Ok(0) => {
                child.kill()?;
                child.wait()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Addresses that no router outside knows.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        // Also what carriers share among their customers, RFC 6598.
        IpAddr::V4(ip) => ip.is_private() || ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64,
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}
