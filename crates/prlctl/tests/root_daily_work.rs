//! What is refused to containers keeps nobody from his daily work: a Debian does all this as it does on a machine of its own.

use std::process::Command;

use testkit::RealHost;

fn debian() -> Option<RealHost> {
    let host = RealHost::with_debian(env!("CARGO_BIN_EXE_prlctl"))?;
    host.ok(["create", "web01", "--ostemplate", "debian-12"]);
    host.ok(["start", "web01", "--wait"]);
    Some(host)
}

/// Does it as a service with these settings; what it says.
fn as_unit(host: &RealHost, settings: &str, line: &str) -> String {
    let properties: String = settings.split_whitespace().map(|setting| format!(" -p {setting}")).collect();
    host.exec("web01", &format!("systemd-run --quiet --wait --pipe{properties} sh -c '{line}'"))
}

#[test]
fn root_daily_work_with_mounts() {
    let Some(host) = debian() else { return };
    let line = "mkdir -p /m/a /m/b /m/lower /m/upper /m/work /m/o; mount -t tmpfs none /m/a; echo x > /m/a/f; mount --bind /m/a /m/b; cat /m/b/f; \
                mount -t tmpfs none /m/upper; mkdir /m/upper/u /m/upper/w; echo low > /m/lower/f; \
                mount -t overlay overlay -o lowerdir=/m/lower,upperdir=/m/upper/u,workdir=/m/upper/w /m/o; echo up > /m/o/f; cat /m/lower/f /m/upper/u/f; \
                mount -o remount,ro /m/o; umount /m/o /m/b /m/a; mount -t proc proc /m/a && ls /m/a/1 >/dev/null && echo proc";
    assert_eq!(host.exec("web01", line), "x\nlow\nup\nproc");
}

#[test]
fn root_daily_work_with_namespaces_of_ones_own() {
    let Some(host) = debian() else { return };
    let line = "useradd -m u; unshare -Urmpf --mount-proc sh -c 'id -u; ls /proc | grep -c ^1$'; \
                su u -c 'unshare -Ur id -u'; unshare -n ip link show lo | grep -c 'lo:'; unshare -u sh -c 'hostname x; hostname'";
    assert_eq!(host.exec("web01", line), "0\n1\n0\n1\nx");
}

#[test]
fn root_daily_work_with_users() {
    let Some(host) = debian() else { return };
    let line = "useradd -m -s /bin/bash u; echo u:secret | chpasswd; su - u -c 'id -un; pwd; umask'; \
                su u -c \"perl -e '\\$SIG{ALRM}=sub{exit 1}; alarm 10; open(my \\$s, q(|-), q(su root -c id)) or exit 2; exit 0' 2>/dev/null; echo asked\"; \
                setpriv --reuid u --regid u --init-groups id -un; passwd -S u | cut -d' ' -f2; newgrp daemon </dev/null; echo done";
    let said = host.exec("web01", line);
    assert!(said.starts_with("u\n/home/u\n0022\n"), "{said}");
    assert!(said.contains("\nu\nP\n") && said.ends_with("done"), "{said}");
}

#[test]
fn root_daily_work_of_confined_units() {
    let Some(host) = debian() else { return };
    host.exec("web01", "echo outer > /tmp/f");
    assert_eq!(as_unit(&host, "PrivateTmp=yes", "ls /tmp | wc -l; echo x > /tmp/g; cat /tmp/g"), "0\nx");
    assert_eq!(
        as_unit(
            &host,
            "ProtectSystem=strict",
            "touch /etc/x 2>/dev/null || echo no; touch /dev/shm/x && echo yes"
        ),
        "no\nyes"
    );
    assert_eq!(
        as_unit(
            &host,
            "DynamicUser=yes StateDirectory=s",
            "id -u | grep -c ...; touch $STATE_DIRECTORY/f && echo kept"
        ),
        "1\nkept"
    );
    assert_eq!(as_unit(&host, "PrivateNetwork=yes", "ls /sys/class/net | wc -l"), "1");
    assert_eq!(
        as_unit(
            &host,
            "ProtectHome=yes ProtectProc=invisible NoNewPrivileges=yes",
            "ls /home | wc -l; grep NoNewPrivs /proc/self/status | cut -f2"
        ),
        "0\n1"
    );
    assert_eq!(
        as_unit(
            &host,
            "SystemCallFilter=@system-service RestrictNamespaces=yes",
            "unshare -n true 2>/dev/null || echo no"
        ),
        "no"
    );
    assert_eq!(
        as_unit(
            &host,
            "CapabilityBoundingSet=CAP_CHOWN PrivateDevices=yes",
            "ls /dev/kmsg /dev/mem 2>/dev/null | wc -l"
        ),
        "0"
    );
}

#[test]
fn root_daily_work_with_timers_sockets_and_the_journal() {
    let Some(host) = debian() else { return };
    let line = "systemd-run --quiet --on-active=1ms --timer-property=AccuracySec=1ms --unit=soon touch /run/came; \
                for i in $(seq 500); do [ -e /run/came ] && break; sleep 0.02; done; ls /run/came; \
                systemd-run --quiet --wait logger from-a-unit; journalctl --sync; journalctl -q | grep -c from-a-unit; systemctl is-system-running";
    let said = host.exec("web01", line);
    assert!(said.starts_with("/run/came\n") && said.ends_with("running"), "{said}");
}

#[test]
fn root_daily_work_with_cron() {
    let Some(host) = debian() else { return };
    // A line of a user's own, run by the daemon when it first starts: other lines would be waited for up to a minute.
    let line = "useradd -m u; echo '@reboot touch /tmp/came' | crontab -u u -; crontab -u u -l; rm -f /run/crond.reboot; systemctl restart cron; \
                for i in $(seq 500); do [ -e /tmp/came ] && break; sleep 0.02; done; stat -c %U /tmp/came";
    assert_eq!(host.exec("web01", line), "@reboot touch /tmp/came\nu");
}

/// Files of these packages of the host, which is of the same distribution, in the container.
fn bring(host: &RealHost, programs: &[&str]) -> Result<(), String> {
    host.ok(["stop", "web01"]);
    host.ok(["mount", "web01"]);
    let root = host.path("vz/root").join(host.area("web01").file_name().expect("it has a name"));
    let line = format!(
        "PATH=$PATH:/usr/sbin; for p in {programs}; do command -v $p >/dev/null || {{ echo $p is missing >&2; exit 1; }}; done; \
         files=$(for p in {programs}; do p=$(command -v $p); echo $p; ldd $p | grep -o '/[^ ]*'; done; ls -d /usr/lib/*/xtables/*.so); \
         tar -ch --hard-dereference -P $files | tar -x -P --transform 's#^#{root}#' --skip-old-files --keep-directory-symlink",
        programs = programs.join(" "),
        root = root.display()
    );
    let ran = Command::new("sh").args(["-c", &line]).output().expect("run sh");
    host.ok(["umount", "web01"]);
    host.ok(["start", "web01", "--wait"]);
    if ran.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ran.stderr).into_owned()) }
}

#[test]
fn root_daily_work_on_the_network_that_there_is() {
    let Some(host) = debian() else { return };
    // An interface and a route of one's own, and what asks the kernel for raw sockets.
    let line = "ip link add name d type dummy 2>/dev/null; ip addr add 192.0.2.1/32 dev lo; ip route add 192.0.2.0/24 dev lo; ip route | grep -c 192.0.2.0; \
                ping -q -c 2 -i 0.01 192.0.2.1 | grep -o '2 received'; useradd u; su u -c 'ping -q -c 1 127.0.0.1' | grep -o '1 received'";
    assert_eq!(host.exec("web01", line), "1\n2 received\n1 received");
}

#[test]
fn root_daily_work_with_firewalls_and_captures() {
    let Some(host) = debian() else { return };
    if let Err(because) = bring(&host, &["nft", "iptables", "ip6tables", "tcpdump"]) {
        let because = format!("nft, iptables and tcpdump are not on this host: {because}");
        return testkit::real_host::not_run_here(env!("CARGO_BIN_EXE_prlctl").as_ref(), &because);
    }
    let received = |address: &str| {
        host.exec("web01", &format!("ping -q -c 1 -W 1 {address} | grep -o '[01] received'; true"))
    };
    assert_eq!(received("127.0.0.1"), "1 received");
    host.exec(
        "web01",
        "nft 'add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ip protocol icmp counter drop'",
    );
    assert_eq!(received("127.0.0.1"), "0 received");
    let counted = host.exec("web01", "nft list ruleset");
    assert!(counted.contains("packets 1"), "{counted}");
    host.exec(
        "web01",
        "nft flush ruleset; iptables -A INPUT -p icmp -j DROP; ip6tables -A INPUT -s 2001:db8::1 -j DROP",
    );
    assert_eq!(received("127.0.0.1"), "0 received");
    assert!(host.exec("web01", "iptables -S").contains("-A INPUT -p icmp -j DROP"));
    host.exec("web01", "iptables -F; iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE");
    // Nothing of it is the host's.
    let outside =
        Command::new("sh").args(["-c", "PATH=$PATH:/usr/sbin; nft list ruleset"]).output().expect("run nft");
    assert!(!String::from_utf8_lossy(&outside.stdout).contains("192.0.2.0/24"));
    let captured = host.exec(
        "web01",
        "tcpdump -Z root -i lo -n -c 2 -w /tmp/capture icmp >/tmp/said 2>&1 & for i in $(seq 500); do grep -q listening /tmp/said && break; sleep 0.02; done; \
         ping -q -c 1 127.0.0.1 >/dev/null; wait; tcpdump -Z root -n -r /tmp/capture 2>/dev/null | grep -c ICMP",
    );
    assert_eq!(captured, "2");
}
