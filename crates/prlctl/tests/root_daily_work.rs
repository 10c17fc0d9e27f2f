//! What is refused to containers keeps nobody from his daily work: a Debian does all this as it does on a machine of its own.

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
fn root_daily_work_on_the_network_that_there_is() {
    let Some(host) = debian() else { return };
    // A raw socket (ping, tcpdump) and a packet one on the loopback; an interface and a route of one's own.
    let perl = "use Socket; socket(my $r, AF_INET, SOCK_RAW, 1) or die; socket(my $p, 17, SOCK_RAW, 0x300) or die; print qq(raw\\n)";
    host.exec("web01", "ip link add name d type dummy 2>/dev/null; ip addr add 192.0.2.1/32 dev lo; ip route add 192.0.2.0/24 dev lo");
    assert_eq!(host.exec("web01", &format!("perl -e '{perl}'; ip route | grep -c 192.0.2.0")), "raw\n1");
}
