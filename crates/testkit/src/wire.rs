//! A network of its own for a test's host, and a neighbour at the other end of its wire: two network namespaces, each kept by a process that ends when
//! the test does.
//!
//! ```text
//! host      eth0 192.0.2.1/24, 2001:db8:1::1/64
//! outside   eth0 192.0.2.9/24, 2001:db8:1::9/64
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Ran;
use crate::real_host::not_run_here;

/// See the module.
#[derive(Debug)]
pub struct Wire {
    host: Child,
    outside: Child,
}

/// A namespace lives as long as its process, which lives as long as somebody holds the other end of its input.
fn keeper() -> Child {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec cat >/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run unshare");
    let mut said = [0; 3];
    let output = child.stdout.as_mut().expect("it has an output");
    std::io::Read::read_exact(output, &mut said).expect("the namespace is there");
    child
}

fn namespace(keeper: &Child) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/net", keeper.id()))
}

fn enter(namespace: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).arg("--").stdin(Stdio::null());
    command
}

impl Wire {
    /// Lays it; `None` where there is no `ip`, `nft` or busybox.
    pub fn new(program: &str) -> Option<Wire> {
        for tool in ["/usr/sbin/ip", "/usr/sbin/nft", "/usr/bin/busybox"] {
            if !Path::new(tool).exists() && !Path::new(&tool.replace("/usr", "")).exists() {
                not_run_here(Path::new(program), &format!("there is no {tool}"));
                return None;
            }
        }
        let wire = Wire { host: keeper(), outside: keeper() };
        let peer = wire.outside.id().to_string();
        wire.ok(
            &wire.host(),
            ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &peer],
        );
        for (namespace, last) in [(wire.host(), "1"), (wire.outside(), "9")] {
            wire.ok(&namespace, ["ip", "addr", "add", &format!("192.0.2.{last}/24"), "dev", "eth0"]);
            wire.ok(
                &namespace,
                ["ip", "-6", "addr", "add", &format!("2001:db8:1::{last}/64"), "dev", "eth0", "nodad"],
            );
            // Without the wait in which an address of a link is nobody's yet.
            wire.ok(&namespace, ["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad"]);
            wire.ok(&namespace, ["ip", "link", "set", "eth0", "up"]);
        }
        Some(wire)
    }

    /// The host's namespace.
    pub fn host(&self) -> PathBuf {
        namespace(&self.host)
    }

    /// The neighbour's.
    pub fn outside(&self) -> PathBuf {
        namespace(&self.outside)
    }

    /// A command in one of them.
    pub fn command(&self, namespace: &Path) -> Command {
        enter(namespace)
    }

    /// Runs something in one of them.
    pub fn run<Word: AsRef<OsStr>>(&self, namespace: &Path, words: impl IntoIterator<Item = Word>) -> Ran {
        Ran::of(enter(namespace).args(words).output().expect("run nsenter"))
    }

    /// The same, which must succeed; its output.
    pub fn ok<Word: AsRef<OsStr>>(&self, namespace: &Path, words: impl IntoIterator<Item = Word>) -> String {
        let ran = self.run(namespace, words);
        assert_eq!(ran.code, 0, "{ran}");
        ran.stdout
    }

    /// The neighbour is answered from this address, in one of a few tries: whoever looks for a neighbour may wait for a moment.
    pub fn reaches(&self, ip: &str) -> bool {
        let family = if ip.contains(':') { "-6" } else { "-4" };
        self.run(&self.outside(), ["busybox", "ping", family, "-c", "3", "-A", "-W", "2", ip])
            .stdout
            .lines()
            .any(|line| line.contains("packets received") && !line.contains(" 0 packets received"))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for child in [&mut self.host, &mut self.outside] {
            drop(child.stdin.take());
            drop(child.wait());
        }
    }
}
