//! The network files of the distribution inside: its own tools find what the host has made, and leave it.

use testkit::RealHost;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prlctl");
const FOUR: &str = "192.0.2.50";
const SIX: &str = "2001:db8:1::50";
const NETWORKD: &str = "/etc/systemd/network/00-reroot-venet0.network";
const IFUPDOWN: &str = "/etc/network/interfaces.d/reroot";
const MANAGER: &str = "/etc/NetworkManager/system-connections/reroot-venet0.nmconnection";
const NETPLAN: &str = "/etc/netplan/90-reroot.yaml";
const ALL: [&str; 4] = [NETWORKD, IFUPDOWN, MANAGER, NETPLAN];

#[test]
fn root_tools_of_a_debian_leave_the_network_as_it_is() {
    let Some(host) = RealHost::with_ifupdown(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", RealHost::IFUPDOWN, "--ipadd", FOUR, "--ipadd", SIX]);
    host.ok(["set", "web01", "--ipadd", "192.0.2.51", "--nameserver", "192.0.2.9"]);
    let works = |when: &str| {
        for ip in [FOUR, "192.0.2.51", SIX] {
            assert!(host.wire().reaches(ip), "{ip} is not reached {when}");
        }
        for ip in ["192.0.2.9", "2001:db8:1::9"] {
            assert!(host.calls("web01", ip), "{ip} does not answer {when}");
        }
        let routes = host.exec("web01", "ip route show default; ip -6 route show default");
        assert!(routes.contains("src 192.0.2.50") && routes.contains(SIX), "{when}: {routes}");
    };
    let is_up = |when: &str| {
        host.wait_until("its systemd is up", || {
            host.run(["exec", "web01", "systemctl is-system-running --wait"]).stdout.contains("running")
        });
        works(when);
    };
    host.ok(["start", "web01"]);
    is_up("after ifupdown has begun");
    assert!(host.exec("web01", "ifquery --state venet0").contains("venet0=venet0"), "it has it");
    for line in ["systemctl restart networking", "ifdown venet0; ifup venet0", "ifup -a --force"] {
        host.exec("web01", line);
        works(line);
    }
    assert_eq!(host.exec("web01", "systemctl --failed --no-legend"), "");
    // The other tool, from the next boot on; also after a reinstall.
    host.script(
        "etc/vz/conf/vps.configure",
        "#!/bin/sh\nsystemctl disable networking\nsystemctl enable systemd-networkd\n",
    );
    host.ok(["reinstall", "web01"]);
    host.ok(["restart", "web01"]);
    let is_configured = || {
        is_up("with networkd");
        host.exec("web01", "/lib/systemd/systemd-networkd-wait-online --timeout 60");
        let told = host.exec("web01", "networkctl status venet0 --no-pager");
        assert!(told.contains(NETWORKD) && told.contains("(configured)"), "{told}");
    };
    is_configured();
    host.exec("web01", "systemctl restart systemd-networkd");
    is_configured();
    // A pattern of an image's own, which would have it ask for an address, is no word about it.
    host.exec("web01", "printf '[Match]\\nName=*\\n[Network]\\nDHCP=yes\\n' >/etc/systemd/network/20-all.network; systemctl restart systemd-networkd");
    is_configured();
    host.ok(["set", "web01", "--ipdel", "all"]);
    assert_eq!(host.exec("web01", &format!("ls {NETWORKD} {IFUPDOWN} 2>/dev/null; :")), "");
}

/// Ends with the test, also where that fails.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("end a server");
    }
}

/// Its own client asks, since a file of ours has it do so.
#[test]
fn root_an_interface_with_dhcp_asks_for_its_address() {
    let Some(host) = RealHost::with_ifupdown(PROGRAM) else { return };
    let wire = host.wire();
    wire.ok(
        &wire.host(),
        ["sh", "-c", "ip addr flush dev eth0; ip link add br0 type bridge; ip link set eth0 master br0; ip link set br0 up"],
    );
    host.write("udhcpd.leases", "", 0o600);
    let at = |name: &str| host.path(name).display().to_string();
    let server = format!(
        "start 192.0.2.100\nend 192.0.2.110\ninterface eth0\noption subnet 255.255.255.0\noption router 192.0.2.9\nlease_file {}\npidfile {}\n",
        at("udhcpd.leases"),
        at("udhcpd.pid")
    );
    host.write("udhcpd.conf", &server, 0o600);
    let mut command = wire.command(&wire.outside());
    command.args(["busybox", "udhcpd", "-f", &at("udhcpd.conf")]).stderr(std::process::Stdio::null());
    let _server = Server(command.spawn().expect("run udhcpd"));
    host.ok(["create", "web01", "--ostemplate", RealHost::IFUPDOWN, "--netif_add", "eth0"]);
    host.ok(["set", "web01", "--ifname", "eth0", "--network", "br0", "--dhcp", "yes", "--ipfilter", "no"]);
    host.ok(["start", "web01"]);
    // Its networkd is there, and nobody has enabled it.
    let ran = host.run(["set", "web01", "--ifname", "eth0", "--dhcp", "yes"]);
    assert!(
        ran.code == 0 && ran.stderr.contains("has systemd-networkd, which is not enabled"),
        "nobody asks: {ran}"
    );
    // Without a client for it, ifupdown is told nothing of what it could only fail at.
    host.run(["exec", "web01", &format!("test -e {IFUPDOWN}")]).failed(1, &[]);
    host.wait_until("its systemd is up", || {
        host.run(["exec", "web01", "systemctl is-system-running --wait"]).stdout.contains("running")
    });
    host.exec(
        "web01",
        "systemctl enable --now systemd-networkd && /lib/systemd/systemd-networkd-wait-online --timeout 60",
    );
    let has = host.exec("web01", "ip addr show eth0; ip route");
    assert!(has.contains("inet 192.0.2.1") && has.contains("default via 192.0.2.9"), "{has}");
    assert!(host.calls("web01", "192.0.2.9"));
    let ran = host.run(["set", "web01", "--ifname", "eth0", "--dhcp", "yes"]);
    assert!(ran.code == 0 && !ran.stderr.contains("DHCP"), "it asks: {ran}");
}

/// A busybox that has, by name, the tools of everybody.
fn with_tools(settings: &[&str]) -> Option<RealHost> {
    let host = RealHost::on_wire(PROGRAM)?;
    host.ok([&["create", "web01", "--ostemplate", "busybox"], settings].concat());
    host.ok(["start", "web01"]);
    host.exec(
        "web01",
        "mkdir -p /etc/systemd/network /etc/network/interfaces.d /etc/NetworkManager/system-connections /etc/netplan /usr/lib/systemd /usr/sbin; \
         echo 'source /etc/network/interfaces.d/*' >/etc/network/interfaces; \
         for i in /usr/lib/systemd/systemd-networkd /usr/sbin/NetworkManager /usr/sbin/netplan /usr/sbin/ifup; do ln -s /bin/true $i; done",
    );
    Some(host)
}

fn there(host: &RealHost) -> Vec<&'static str> {
    let is_there = |path: &&str| host.run(["exec", "web01", &format!("test -f {path}")]).code == 0;
    ALL.into_iter().filter(is_there).collect()
}

#[test]
fn root_files_come_with_an_address_and_go_with_it() {
    let Some(host) = with_tools(&[]) else { return };
    assert!(there(&host).is_empty(), "there is nothing to say");
    // What somebody has written himself may be anything.
    let conf = std::fs::read_to_string(host.area("web01").join("ve.conf")).expect("it can be read");
    let odd = "SEARCHDOMAIN='$(reboot) a\"b c;d good.example'\n";
    let area = host.area("web01");
    let below = area.strip_prefix(host.prefix()).expect("it is below").join("ve.conf");
    host.write(below.to_str().expect("it is text"), &format!("{conf}{odd}"), 0o600);
    host.ok(["set", "web01", "--ipadd", FOUR, "--ipadd", SIX, "--nameserver", "192.0.2.9"]);
    assert_eq!(there(&host), ALL);
    for path in ALL {
        let text = host.exec("web01", &format!("cat {path}"));
        assert!(text.starts_with("# Written by prlctl"), "{text}");
        for wanted in [FOUR, SIX, "192.0.2.9", "venet0"] {
            assert!(text.contains(wanted), "{path} has no {wanted}: {text}");
        }
        assert!(text.contains("good.example"), "{path}: {text}");
        for odd in ["reboot", "a\"b", "c;d"] {
            assert!(!text.contains(odd), "{path}: {text}");
        }
    }
    assert_eq!(host.exec("web01", &format!("stat -c %a {MANAGER} {NETPLAN}")), "600\n600");
    host.ok(["set", "web01", "--ipdel", SIX, "--ipadd", "192.0.2.51"]);
    for path in ALL {
        let text = host.exec("web01", &format!("cat {path}"));
        assert!(text.contains("192.0.2.51") && !text.contains(SIX), "{path}: {text}");
    }
    // Only what is other is written; what was changed by hand is said anew.
    let number = |path: &str| host.exec("web01", &format!("stat -c %i {path}"));
    let before = number(NETWORKD);
    host.exec("web01", &format!("echo x >>{IFUPDOWN}"));
    host.ok(["restart", "web01"]);
    assert_eq!(number(NETWORKD), before);
    assert!(!host.exec("web01", &format!("cat {IFUPDOWN}")).contains("\nx"));
    // Where the main file reads no others, a section of it, and all else there stays.
    host.exec("web01", "printf 'auto lo\\niface lo inet loopback' >/etc/network/interfaces");
    host.ok(["restart", "web01"]);
    let text = host.exec("web01", "cat /etc/network/interfaces");
    assert!(text.starts_with("auto lo\niface lo inet loopback\n# BEGIN") && text.contains(FOUR), "{text}");
    assert_eq!(there(&host), [NETWORKD, MANAGER, NETPLAN]);
    host.ok(["set", "web01", "--ipdel", "all"]);
    assert_eq!(host.exec("web01", "cat /etc/network/interfaces"), "auto lo\niface lo inet loopback");
    assert!(there(&host).is_empty());
    // Nobody wants them: then all that was ever written goes.
    host.exec("web01", "echo 'source /etc/network/interfaces.d/*' >/etc/network/interfaces");
    host.ok(["set", "web01", "--ipadd", FOUR]);
    assert_eq!(there(&host), ALL);
    let conf = std::fs::read_to_string(host.path("etc/vz/vz.conf")).unwrap_or_default();
    host.write("etc/vz/vz.conf", &format!("{conf}\nNETWORK_FILES=\"no\"\n"), 0o644);
    host.ok(["restart", "web01"]);
    assert!(there(&host).is_empty());
    host.ok(["set", "web01", "--ipadd", "192.0.2.52"]);
    assert!(there(&host).is_empty() && host.wire().reaches("192.0.2.52"));
}

#[test]
fn root_what_somebody_has_written_himself_stays_and_is_said() {
    let Some(host) = with_tools(&[]) else { return };
    host.exec(
        "web01",
        "printf '[Match]\\nName=eth0 venet0\\n' >/etc/systemd/network/10-own.network; \
         printf 'iface venet0 inet manual\\n' >/etc/network/interfaces.d/own; \
         printf '[connection]\\ninterface-name = venet0\\n' >/etc/NetworkManager/system-connections/own; \
         printf 'network:\\n  ethernets:\\n    venet0:\\n' >/etc/netplan/01-own.yaml",
    );
    let before = host
        .exec("web01", "cd /etc; find systemd network NetworkManager netplan -type f | sort | xargs md5sum");
    let ran = host.run(["set", "web01", "--ipadd", FOUR]);
    assert_eq!(ran.code, 0, "{ran}");
    for path in ["10-own.network", "interfaces.d/own", "system-connections/own", "01-own.yaml"] {
        assert!(
            ran.stderr.contains(&format!("{path} in the container says something of `venet0` already")),
            "{path}: {ran}"
        );
    }
    assert_eq!(
        host.exec(
            "web01",
            "cd /etc; find systemd network NetworkManager netplan -type f | sort | xargs md5sum"
        ),
        before
    );
    assert!(host.wire().reaches(FOUR));
    // One that has our name, and is not ours.
    host.exec("web01", &format!("rm /etc/systemd/network/*; echo '# mine' >{NETWORKD}"));
    let ran = host.run(["set", "web01", "--ipadd", "192.0.2.51"]);
    assert!(ran.code == 0 && ran.stderr.contains("is somebody's own, and stays"), "{ran}");
    host.ok(["set", "web01", "--ipdel", "all"]);
    assert_eq!(host.exec("web01", &format!("cat {NETWORKD}")), "# mine");
}

/// Whoever is root in it has made all that is in the way.
#[test]
fn root_a_hostile_root_has_nothing_written_anywhere_else_and_starts() {
    let Some(host) = with_tools(&["--ipadd", FOUR]) else { return };
    let outside = host.path("outside");
    std::fs::create_dir(&outside).expect("make a directory");
    let to = outside.display();
    for line in [
        format!("rm -rf /etc/systemd/network; ln -s {to} /etc/systemd/network"),
        format!("rm -rf /etc/netplan; ln -s ../../../../../../../../..{to} /etc/netplan"),
        "rm -rf /etc/network/interfaces.d; ln -s /proc/1/root/etc /etc/network/interfaces.d".to_owned(),
        format!("rm -f /etc/network/interfaces; ln -s {to}/interfaces /etc/network/interfaces"),
        format!("rm -f {MANAGER}; mkfifo {MANAGER}"),
        format!("rm -f {MANAGER}; mkdir -p {MANAGER}/x"),
        format!("rm -rf {MANAGER}; dd if=/dev/zero of={MANAGER} bs=1024 count=1024 2>/dev/null"),
        "rm -rf /etc/NetworkManager/system-connections; ln -s system-connections /etc/NetworkManager/system-connections".to_owned(),
        "rm -f /etc/network/interfaces; mkfifo /etc/network/interfaces".to_owned(),
    ] {
        host.exec("web01", &line);
        for words in [&["restart", "web01"][..], &["set", "web01", "--ipadd", "192.0.2.51"], &["set", "web01", "--ipdel", "192.0.2.51"]] {
            let ran = host.run(words);
            assert_eq!(ran.code, 0, "{line}: {words:?} {ran}");
        }
        assert!(host.wire().reaches(FOUR), "{line}");
        assert_eq!(std::fs::read_dir(&outside).expect("it can be read").count(), 0, "{line}");
    }
}

#[test]
fn root_a_reinstall_takes_no_file_of_ours_for_a_change_of_somebodys() {
    let Some(host) = RealHost::with_ifupdown(PROGRAM) else { return };
    host.ok(["create", "web01", "--ostemplate", RealHost::IFUPDOWN, "--ipadd", FOUR]);
    host.ok(["start", "web01"]);
    let own = "/etc/systemd/network/50-own.network";
    host.exec("web01", &format!("ls {NETWORKD} {IFUPDOWN}; echo '[Match]' >{own}"));
    // By its name ours, and by what is in it his.
    let his = "/etc/systemd/network/00-reroot-own.network";
    host.exec("web01", &format!("echo '# mine' >{his}"));
    host.ok(["stop", "web01"]);
    host.ok(["reinstall", "web01", "--keep-changed", "/etc"]);
    let kept = |path: &str| host.area("web01").join("live/delta").join(path.trim_start_matches('/')).exists();
    assert!(kept(own) && kept(his));
    assert!(!kept(NETWORKD) && !kept(IFUPDOWN), "they are nobody's change");
}

/// What is in the main file of ifupdown is not ours to lose.
#[test]
fn root_a_main_file_that_cannot_be_written_again_as_it_is_stays() {
    let Some(host) = with_tools(&[]) else { return };
    let sum = |path: &str| host.exec("web01", &format!("md5sum <{path}; ls -l {path} | cut -c1"));
    let main = "/etc/network/interfaces";
    host.exec("web01", &format!("printf '# Br\\374cke\\nauto lo\\n' >{main}"));
    assert_eq!(host.exec("web01", &format!("wc -c <{main}")), "17");
    let stays = |ip: &str, why: &str| {
        let before = sum(main);
        let ran = host.run(["set", "web01", "--ipadd", ip]);
        assert!(ran.code == 0 && ran.stderr.contains(why), "{ran}");
        assert_eq!(sum(main), before, "{why}");
        assert!(host.wire().reaches(ip));
    };
    stays(FOUR, "it is not UTF-8");
    host.exec(
        "web01",
        &format!(
            "mkdir -p /srv/cm; printf 'auto lo\\n' >/srv/cm/interfaces; ln -sf /srv/cm/interfaces {main}"
        ),
    );
    stays("192.0.2.51", "is a symlink, and stays as it is");
    assert_eq!(host.exec("web01", "cat /srv/cm/interfaces"), "auto lo");
}

/// A name in a directory costs its owner nothing.
#[test]
fn root_a_directory_of_many_names_is_not_read() {
    let Some(host) = with_tools(&[]) else { return };
    host.exec(
        "web01",
        "cd /etc/systemd/network; : >x.network; for i in $(seq 300); do ln x.network $i.network; done",
    );
    let ran = host.run(["set", "web01", "--ipadd", FOUR]);
    let why = "systemd-networkd in the container are left as they are: `/etc/systemd/network` has more than 256 names";
    assert!(ran.code == 0 && ran.stderr.contains(why), "{ran}");
    assert_eq!(there(&host), &ALL[1..]);
}

/// What was set meanwhile holds also in the next life, whose files the monitor writes.
#[test]
fn root_a_reboot_inside_has_the_files_that_were_set() {
    let Some(host) = with_tools(&["--ipadd", FOUR, "--nameserver", "192.0.2.8"]) else { return };
    let reboots = || {
        let boot = "cat /proc/1/stat | cut -d' ' -f22";
        let before = host.exec("web01", boot);
        drop(host.run(["exec", "web01", "reboot"]));
        host.wait_until("it is up again", || {
            let ran = host.run(["exec", "web01", boot]);
            ran.code == 0 && ran.stdout.trim() != before
        });
    };
    host.ok(["set", "web01", "--nameserver", "192.0.2.9"]);
    reboots();
    let resolver = host.exec("web01", &format!("cat /etc/resolv.conf {NETWORKD}"));
    assert!(resolver.contains("192.0.2.9") && !resolver.contains("192.0.2.8"), "{resolver}");
    assert_eq!(there(&host), ALL);
    let conf = std::fs::read_to_string(host.path("etc/vz/vz.conf")).unwrap_or_default();
    host.write("etc/vz/vz.conf", &format!("{conf}\nNETWORK_FILES=\"no\"\n"), 0o644);
    host.ok(["set", "web01", "--ipadd", "192.0.2.52"]);
    assert!(there(&host).is_empty());
    reboots();
    assert!(there(&host).is_empty(), "they are back");
}

/// The new root has none of the tools but the `ifup` of a busybox.
#[test]
fn root_files_that_a_root_has_no_tool_for_go() {
    let Some(host) = with_tools(&["--ipadd", FOUR]) else { return };
    host.ok(["restart", "web01"]);
    assert_eq!(there(&host), ALL);
    host.exec("web01", "echo mine >/etc/netplan/mine");
    host.ok(["reinstall", "web01", "--keep", "/etc"]);
    assert_eq!(host.exec("web01", "cat /etc/netplan/mine"), "mine");
    assert_eq!(there(&host), [IFUPDOWN]);
    assert!(host.wire().reaches(FOUR));
}
