//! Reroot is another than the one that has started a container: settings that only one of the two knows.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::RealHost;

fn new_host() -> Option<RealHost> {
    let host = RealHost::new(env!("CARGO_BIN_EXE_prlctl"))?;
    host.started("web01");
    Some(host)
}

fn run_dir(host: &RealHost) -> PathBuf {
    host.path("run/vz").join(host.area("web01").file_name().unwrap())
}

fn state(host: &RealHost) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(run_dir(host).join("state.json")).ok()?).ok()
}

/// Says to its monitor, byte for byte, what another version says, and hears what it answers.
fn say(host: &RealHost, packet: &str) -> Value {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    // An address has room for 108 bytes, and a path of a test's host may be longer.
    let directory = std::fs::File::open(run_dir(host)).unwrap();
    let path = format!("/proc/self/fd/{}/monitor", directory.as_raw_fd());
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    send(&socket, packet.as_bytes(), SendFlags::empty()).unwrap();
    let mut answer = vec![0; 64 * 1024];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty()).unwrap();
    serde_json::from_slice(&answer[..length]).unwrap()
}

fn lives_again(host: &RealHost, init: &Value) {
    host.wait_until("it lives again", || state(host).is_some_and(|state| state["init"] != *init));
}

#[test]
fn root_what_a_monitor_of_an_earlier_version_does_not_know_is_said() {
    let Some(host) = new_host() else { return };
    let mut record = state(&host).unwrap();
    record["protocol"] = 1.into();
    let path = run_dir(&host).join("state.json");
    let below = path.strip_prefix(host.prefix()).unwrap().to_str().unwrap().to_owned();
    host.write(&below, &record.to_string(), 0o600);

    let ran = host.run([
        "set",
        "web01",
        "--restart",
        "on-crash",
        "--nameserver",
        "192.0.2.1",
        "--allowreboot",
        "no",
    ]);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(
        ran.stderr.contains("does not know NAMESERVER and SEARCHDOMAIN, RESTART, ALLOWREBOOT: "),
        "{ran}"
    );
    assert!(ran.stderr.contains("until `prlctl restart`"), "{ran}");
    // Only of what has become another.
    for more in [&["--memsize", "256M"][..], &["--restart", "on-crash"], &["--hostname", "other"]] {
        let ran = host.run([&["set", "web01"], more].concat());
        assert!(ran.code == 0 && !ran.stderr.contains("does not know"), "{ran}");
    }
    host.ok(["restart", "web01"]);
    let ran = host.run(["set", "web01", "--restart", "no"]);
    assert!(ran.code == 0 && !ran.stderr.contains("does not know"), "{ran}");
}

#[test]
fn root_an_earlier_version_that_changes_one_setting_drops_no_other() {
    let Some(host) = new_host() else { return };
    host.ok(["set", "web01", "--restart", "on-crash", "--nameserver", "192.0.2.1", "--numproc", "100"]);
    // What versions since have, one of the first did not say; nor a limit that it did not have.
    let said = say(
        &host,
        r#"{"Change":{"limits":{"memory":268435456},"hostname":"other","addresses":[],"translates":true}}"#,
    );
    assert_eq!(said, serde_json::json!({ "Done": { "warnings": [] } }));
    // A later one says more; what means nothing here is refused whole.
    let said =
        say(&host, r#"{"Change":{"hostname":"other","snapshots":{"daily":7},"limits":{"brain":null}}}"#);
    assert_eq!(said, serde_json::json!({ "Done": { "warnings": [] } }));
    let said = say(&host, r#"{"Change":{"hostname":"nobody","limits":{"memory":"all"}}}"#);
    assert!(said["Refused"]["because"].as_str().is_some_and(|why| why.contains("invalid type")), "{said}");

    host.exec("web01", "rm /etc/resolv.conf");
    let init = state(&host).unwrap()["init"].clone();
    host.run(["exec", "web01", "reboot"]);
    lives_again(&host, &init);
    assert_eq!(host.exec("web01", "hostname; cat /etc/resolv.conf"), "other\nnameserver 192.0.2.1");
    let now: Value = serde_json::from_str(&host.ok(["list", "-i", "web01", "-j"])).unwrap();
    let now = &now[0]["Now"];
    assert_eq!((now["memory"].as_str(), now["processes"].as_u64()), (Some("256Mb"), Some(100)), "{now}");
    // This is no life that a command has begun, whose end at once would be no crash.
    let init = state(&host).unwrap()["init"].clone();
    kill_process(Pid::from_raw(init["pid"].as_i64().unwrap() as i32).unwrap(), Signal::KILL).unwrap();
    lives_again(&host, &init);
}
