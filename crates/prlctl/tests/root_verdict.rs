//! A new root with a systemd is taken when that says it runs, and with units that have failed only when nobody minds.

use testkit::{Ran, RealHost};

/// A running Debian `web01` with a unit that fails where it is started, which it is at every boot from the next one on.
fn with_a_bad_unit() -> Option<RealHost> {
    let host = RealHost::with_debian(env!("CARGO_BIN_EXE_prlctl"))?;
    host.ok(["create", "web01", "--ostemplate", "debian-12"]);
    host.ok(["start", "web01", "--wait"]);
    host.exec(
        "web01",
        "for name in bad worse; do printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"echo no licence for %%n >&2; exit 3\"\\n\
         [Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/$name.service; done; \
         systemctl enable -q bad; echo old > /root/marker",
    );
    Some(host)
}

fn state(host: &RealHost) -> Ran {
    host.run(["exec", "web01", "systemctl is-system-running"])
}

#[test]
fn root_a_root_that_is_degraded_is_refused_with_its_units_and_why_they_have_failed() {
    let Some(host) = with_a_bad_unit() else { return };
    assert_eq!(state(&host).stdout, "running\n");
    let keep = ["reinstall", "web01", "--keep", "/etc/systemd/system"];
    let plan = host.ok([&keep[..], &["--dry-run"]].concat());
    assert!(plan.contains("its systemd has to be `running`, or `degraded` by no other units than"), "{plan}");
    let ran = host.run(keep);
    ran.failed(
        94,
        &[
            "because: generation 2 is not well\n",
            "because: its systemd is `degraded`; failed: bad.service\n",
            "because: `bad.service` said last:\n",
            "no licence for bad.service",
            "state: nothing was lost: `web01` runs on its old root again, generation 1",
            "`prlctl mount web01 --generation 2`",
            "--allow-degraded takes it as it is",
        ],
    );
    assert_eq!(host.exec("web01", "cat /root/marker"), "old");
    assert!(host.ok(["generation-list", "web01", "--all", "-H"]).contains("2     failed"));
    // Started again, the old one is degraded by that itself: then the new one may be, too, and by nothing else.
    host.wait_until("it is up", || state(&host).stdout == "degraded\n");
    let ran = host.run(keep);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(
        ran.stderr.contains("the new root is degraded, as in the old root; failed: bad.service\n"),
        "{ran}"
    );
    host.exec("web01", "systemctl enable -q worse");
    let ran = host.run(keep);
    ran.failed(94, &["failed: bad.service, worse.service\n", "`worse.service` said last:\n"]);
    assert!(!ran.stderr.contains("`bad.service` said last"), "that is known\n{ran}");
}

#[test]
fn root_a_root_that_is_degraded_is_taken_when_the_user_says_so() {
    let Some(host) = with_a_bad_unit() else { return };
    let words = ["reinstall", "web01", "--keep", "/etc/systemd/system", "--allow-degraded"];
    let plan = host.ok([&words[..], &["--dry-run"]].concat());
    assert!(plan.contains("its systemd has to be `running` or `degraded`\n"), "{plan}");
    let ran = host.run([&words[..], &["-j"]].concat());
    assert_eq!(ran.code, 0, "{ran}");
    let told = "the new root is degraded, taken as it is: --allow-degraded; failed: bad.service";
    assert!(ran.stdout.contains(told), "{ran}");
    assert_eq!(state(&host).stdout, "degraded\n");
    // A script, or a health command, that mends it comes too late for the verdict; but one that is stopped has nothing to be compared with.
    host.ok(["stop", "web01"]);
    host.script("etc/vz/conf/vps.configure", "#!/bin/sh\nsystemctl reset-failed\n");
    host.run(["reinstall", "web01", "--keep", "/etc/systemd/system"])
        .failed(94, &["failed: bad.service", "is stopped, on its old root"]);
    host.ok(words);
}

#[test]
fn root_an_old_systemd_that_does_not_answer_is_in_nobodys_way() {
    let Some(host) = with_a_bad_unit() else { return };
    // Everything of it stands still, also who is to be asked.
    host.exec("web01", "mv /usr/bin/systemctl /usr/bin/systemctl.gone; printf '#!/bin/sh\\nyes bad.service\\n' >/usr/bin/systemctl; chmod 755 /usr/bin/systemctl");
    let ran = host.run(["reinstall", "web01"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(state(&host).stdout, "running\n");
}

#[test]
fn root_a_root_that_does_not_come_up_is_given_up_with_the_last_words_of_its_console() {
    let Some(host) = with_a_bad_unit() else { return };
    // At its end there is nothing to ask: what it printed is all there is.
    host.exec(
        "web01",
        "systemctl disable -q bad; printf '[Service]\\nType=oneshot\\nTimeoutStartSec=infinity\\nStandardOutput=tty\\nTTYPath=/dev/console\\n\
         ExecStart=/bin/sh -c \"while :; do echo waiting for the moon; sleep 0.2; done\"\\n[Install]\\nWantedBy=multi-user.target\\n' \
         > /etc/systemd/system/moon.service; systemctl enable -q moon",
    );
    host.run(["reinstall", "web01", "--keep", "/etc/systemd/system", "--timeout", "5"]).failed(
        94,
        &[
            "because: generation 2 does not come up\n",
            "because: it has not come up within 5 s\n",
            "because: its console said:\n",
            "waiting for the moon",
            "runs on its old root again, generation 1",
        ],
    );
    assert_eq!(host.exec("web01", "cat /root/marker"), "old");
}
