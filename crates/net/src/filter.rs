//! The packet filter: one table a host, whose rules are the same for one container and for a thousand; what differs is in sets, where a look costs the
//! same whatever their size.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use store::{Address, Forward, Prefix};

use crate::record::Forwarding;
use crate::{Network, NetworkError, Probation};

/// Where Debian and Ubuntu have it.
const NFT: [&str; 2] = ["/usr/sbin/nft", "/sbin/nft"];

/// So long it may take, on however loaded a host.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of what it says of a refusal, which is less than a pipe holds.
const LONGEST: u64 = 4096;

/// The set that tells that the table is there, and has these rules: another number where they are others.
const RULES: &str = "rules_4";

/// The table, made anew where it is not there: of an earlier version, or since somebody has flushed all there was, as a reload of Debian's own
/// `nftables.conf` does. In one transaction with what is put into it: nothing passes in between.
///
/// `sent` comes before anything else is done with a packet. `counted` is about connections that the kernel remembers for all of the host: one container
/// that begins them without end would leave no room for others'. Not about packets of one that nobody has answered yet.
const TABLE: &str = "
add table inet TABLE
add set inet TABLE RULES { type ifname; }
add set inet TABLE ours { type ifname; }
add set inet TABLE four { type ifname . ipv4_addr; }
add set inet TABLE six { type ifname . ipv6_addr; }
add set inet TABLE probation { type ifname; }
add set inet TABLE silent { type ifname; }
add set inet TABLE private { type ipv4_addr; }
add set inet TABLE private6 { type ipv6_addr; }
add set inet TABLE closed { type ifname . ifname; }
add map inet TABLE forwards { type inet_proto . inet_service : ipv4_addr . inet_service; }
add map inet TABLE forwards6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
add set inet TABLE beginning { type ifname; flags dynamic,timeout; timeout 1m; }
add chain inet TABLE sent { type filter hook prerouting priority -300; policy accept; }
add chain inet TABLE counted { type filter hook prerouting priority -150; policy accept; }
add chain inet TABLE forwarded { type filter hook forward priority 0; policy accept; }
add chain inet TABLE received { type filter hook postrouting priority 0; policy accept; }
add chain inet TABLE forwarded_to { type nat hook prerouting priority -100; policy accept; }
add chain inet TABLE forwarded_here { type nat hook output priority -100; policy accept; }
add chain inet TABLE translated { type nat hook postrouting priority 100; policy accept; }
flush set inet TABLE ours
flush set inet TABLE four
flush set inet TABLE six
flush set inet TABLE probation
flush set inet TABLE silent
flush set inet TABLE private
flush set inet TABLE private6
flush set inet TABLE closed
flush map inet TABLE forwards
flush map inet TABLE forwards6
flush chain inet TABLE sent
flush chain inet TABLE counted
flush chain inet TABLE forwarded
flush chain inet TABLE received
flush chain inet TABLE forwarded_to
flush chain inet TABLE forwarded_here
flush chain inet TABLE translated
add rule inet TABLE sent iifname @silent drop
add rule inet TABLE sent iifname . ip saddr @four accept
add rule inet TABLE sent iifname . ip6 saddr @six accept
add rule inet TABLE sent iifname @ours drop
add rule inet TABLE counted iifname @ours ct state new ct status & confirmed == 0 update @beginning { iifname limit rate over 1000/second burst 10000 packets } drop
add rule inet TABLE received oifname @silent drop
add rule inet TABLE received oifname @probation ct state new drop
add rule inet TABLE forwarded_to fib daddr type local dnat ip to meta l4proto . th dport map @forwards
add rule inet TABLE forwarded_to fib daddr type local dnat ip6 to meta l4proto . th dport map @forwards6
add rule inet TABLE forwarded_here ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to meta l4proto . th dport map @forwards
add rule inet TABLE forwarded_here ip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @forwards6
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
pub(crate) fn admit(prefix: &Prefix, network: &Network) -> Result<(), NetworkError> {
    put(prefix, &network.table, &addition(network))
}

/// Instead of what was said of it as it was, what it is now, in one transaction: at no moment may it send what it likes.
pub(crate) fn exchange(prefix: &Prefix, old: &Network, new: &Network) -> Result<(), NetworkError> {
    put(prefix, &new.table, &(removal(old) + &addition(new)))
}

/// Takes away what was said of it. That something of it is not there is no error.
pub(crate) fn forget(prefix: &Prefix, network: &Network) -> Result<(), NetworkError> {
    put(prefix, &network.table, &removal(network))
}

/// Says all of it again, of every container: what somebody has flushed. The caller has the lock.
pub(crate) fn restore(prefix: &Prefix) -> Result<(), NetworkError> {
    if Network::all(prefix).is_empty() && Forwarding::load(prefix).families().next().is_none() {
        return Ok(());
    }
    tell(&whole(prefix, &Network::table_of(prefix)))
}

/// The table as it is, or made anew with all containers in it.
fn put(prefix: &Prefix, table: &str, change: &str) -> Result<(), NetworkError> {
    // Refused where it is not there.
    let same = format!("flush set inet {table} {RULES}\n{change}");
    match tell(&same) {
        Err(NetworkError::Filter { .. }) => tell(&(whole(prefix, table) + change)),
        other => other,
    }
}

fn whole(prefix: &Prefix, table: &str) -> String {
    let mut text = TABLE.replace("TABLE", table).replace("RULES", RULES);
    let forwarding = Forwarding::load(prefix);
    for family in forwarding.families() {
        text.push_str(&format!(
            "add rule inet {table} forwarded meta nfproto {family} iifname . oifname @closed drop\n"
        ));
    }
    for (from, to) in forwarding.closed() {
        text.push_str(&format!("add element inet {table} closed {{ \"{from}\" . \"{to}\" }}\n"));
    }
    for network in Network::all(prefix) {
        text.push_str(&addition(&network));
    }
    text
}

fn addition(network: &Network) -> String {
    let table = &network.table;
    elements(network).iter().map(|element| format!("add element inet {table} {element}\n")).collect()
}

fn removal(network: &Network) -> String {
    let mut network = network.clone();
    let mut text = String::new();
    let mut all = Vec::new();
    for probation in [Some(Probation::Outgoing), Some(Probation::None)] {
        network.probation = probation;
        all.extend(elements(&network));
    }
    // What the kernel has put there itself.
    all.push(format!("beginning {{ \"{}\" }}", network.interface));
    for element in all {
        text.push_str(&absent(&network.table, &element));
    }
    text
}

/// `delete` refuses what is not there, and there is no other word for it before nftables 1.0.7.
fn absent(table: &str, element: &str) -> String {
    format!("add element inet {table} {element}\ndelete element inet {table} {element}\n")
}

/// Its probation is over.
pub(crate) fn release(prefix: &Prefix, network: &Network) -> Result<(), NetworkError> {
    let Network { table, interface, .. } = network;
    let sets = ["probation", "silent"].map(|set| absent(table, &format!("{set} {{ \"{interface}\" }}")));
    put(prefix, table, &sets.concat())
}

fn elements(network: &Network) -> Vec<String> {
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
    for (is_four, map) in [(true, "forwards"), (false, "forwards6")] {
        // The first address of a family is what it speaks from.
        let Some(Address { ip, .. }) = network.addresses.iter().find(|one| one.ip.is_ipv4() == is_four)
        else {
            continue;
        };
        for Forward { transport, port, to } in &network.forwards {
            elements.push(format!("{map} {{ {transport} . {port} : {ip} . {to} }}"));
        }
    }
    for ip in network.translated() {
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
