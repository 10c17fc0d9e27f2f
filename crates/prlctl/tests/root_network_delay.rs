//! A wire as long as those to the outside are: what a container has to do with it over a tenth of a second is whole, and no faster than it may be.

use std::time::Instant;

use testkit::RealHost;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");
/// Of a file that is fetched, bytes.
const SIZE: u64 = 4 << 20;

/// A host whose neighbour is 100 ms away.
fn far_from_all() -> Option<RealHost> {
    let host = RealHost::on_wire(PROGRAM)?;
    let wire = host.wire();
    let line = ["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "100ms"];
    if wire.run(&wire.outside(), line).code != 0 {
        testkit::real_host::not_run_here(
            PROGRAM.as_ref(),
            "this kernel delays nothing (CONFIG_NET_SCH_NETEM)",
        );
        return None;
    }
    Some(host)
}

#[test]
fn root_what_comes_from_far_is_whole_and_no_faster_than_its_limit() {
    let Some(host) = far_from_all() else { return };
    let wire = host.wire();
    host.ok([
        "create",
        "web01",
        "--ostemplate",
        "busybox",
        "--ipadd",
        "192.0.2.50",
        "--ipadd",
        "2001:db8:1::50",
    ]);
    host.ok(["start", "web01"]);
    let milliseconds = |options: &str| -> f64 {
        let said = host.exec("web01", &format!("ping -c 2 -W 9 {options}"));
        let mut times =
            said.lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok());
        times.next_back().expect("it is answered")
    };
    // Also after neighbours were asked for, who answer as late.
    for ip in ["192.0.2.9", "-6 2001:db8:1::9"] {
        assert!(milliseconds(ip) >= 100.0, "{ip} is near");
    }
    host.write("far/file", &"precious\n".repeat(SIZE as usize / 9), 0o644);
    let mut server = wire
        .command(&wire.outside())
        .args(["busybox", "httpd", "-f", "-p", "[::]:701", "-h"])
        .arg(host.path("far"))
        .spawn()
        .expect("run busybox");
    let fetch = |from: &str| {
        let began = Instant::now();
        let line = format!("wget -q -O - http://{from}:701/file | md5sum");
        let mut sum = String::new();
        host.wait_until("the server answers", || {
            sum = host.exec("web01", &line);
            !sum.starts_with("d41d8cd98f00b204e9800998ecf8427e")
        });
        (sum, began.elapsed().as_millis() as u64)
    };
    let (whole, _) = fetch("192.0.2.9");
    assert_eq!(fetch("[2001:db8:1::9]").0, whole);
    // 1 MB a second, and one second and 64 KiB more that are saved to begin with.
    host.ok(["set", "web01", "--rate", "*:1:8000"]);
    for from in ["192.0.2.9", "[2001:db8:1::9]"] {
        let (sum, took) = fetch(from);
        assert_eq!(sum, whole);
        let most = (took + 1000) * 1000 + (64 << 10);
        assert!(SIZE <= most, "{SIZE} bytes from {from} in {took} ms, and {most} may come");
    }
    server.kill().and_then(|()| server.wait()).expect("end it");
}
