//! Users, groups and the machine-id of a new root.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]

use super::*;

#[test]
fn a_new_root_has_a_machine_id_of_its_own() {
    let host = TestHost::new();
    let id = host.create("web01");
    let mut options = reinstall_options();
    options.template = Some("maxi".parse().unwrap());
    host.reinstall(&id, &options).unwrap();
    host.reinstall(&id, &options).unwrap();
    let one = read(&host, &id, 2, "etc/machine-id").unwrap();
    let other = read(&host, &id, 3, "etc/machine-id").unwrap();
    assert_eq!((one.trim().len(), other.trim().len()), (32, 32));
    assert_ne!(one, other);
}

/// A user in the root that is live.
fn with_user(host: &TestHost, id: &ContainerId) {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000:Anna:/home/anna:/bin/sh\n";
    put(&host.delta(id, 1, "etc/passwd"), passwd.as_bytes());
    put(&host.delta(id, 1, "etc/group"), b"root:x:0:\nanna:x:1000:\n");
    put(
        &host.delta(id, 1, "etc/shadow"),
        b"root:$6$root:19000:0:99999:7:::\nanna:$6$anna:19000:0:99999:7:::\n",
    );
}

#[test]
fn users_are_carried_over() {
    let host = TestHost::new();
    let id = host.create("web01");
    with_user(&host, &id);
    let done = plain(&host, &id);
    assert!(read(&host, &id, 2, "etc/passwd").unwrap().contains("anna:x:1000:1000:Anna:/home/anna:/bin/sh"));
    let shadow = read(&host, &id, 2, "etc/shadow").unwrap();
    assert!(shadow.contains("root:$6$root:") && shadow.contains("anna:$6$anna:"), "{shadow}");
    let mode = host.delta(&id, 2, "etc/shadow").metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o644, "as it was in the new root");
    assert!(host.delta(&id, 2, "home/anna").is_dir());
    assert!(!done.report.notes.is_empty());
}

#[test]
fn users_are_not_carried_over_with_resetpwdb_and_nothing_else_changes() {
    let host = TestHost::new();
    let id = host.create("web01");
    with_user(&host, &id);
    let mut options = reinstall_options();
    options.reset_passwords = true;
    let done = host.reinstall(&id, &options).unwrap();
    assert_eq!((read(&host, &id, 2, "etc/passwd"), read(&host, &id, 2, "etc/shadow")), (None, None));
    assert!(done.report.is_old_kept);
    assert_eq!((host.generations(&id), parent(&host, &id, 2)), (vec![1, 2], Some(1)));
}

#[test]
fn an_account_file_that_is_no_file_is_reported_and_not_read() {
    let host = TestHost::new();
    let id = host.create("web01");
    put(&host.delta(&id, 1, "etc/group"), b"root:x:0:\n");
    symlink("/etc/shadow", host.delta(&id, 1, "etc/passwd")).unwrap();
    std::fs::remove_file(host.delta(&id, 1, "etc/group")).unwrap();
    std::fs::create_dir(host.delta(&id, 1, "etc/group")).unwrap();
    let done = plain(&host, &id);
    assert!(
        done.report.notes.iter().any(|line| line.contains("/etc/group of the old root is not carried over")),
        "{:?}",
        done.report.notes
    );
}

#[test]
fn a_home_that_is_missing_is_made_as_it_was_with_what_leads_to_it() {
    let host = TestHost::new();
    let id = host.create("web01");
    let passwd = "root:x:0:0:root:/root:/bin/sh\n\
        anna:x:1000:1000::/srv/homes/a/anna:/bin/sh\n\
        bert:x:1001:1000::/home/bert:/bin/sh\n\
        carl:x:1002:1000::/home/carl:/bin/sh\n\
        dora:x:1003:1000::/etc/passwd/dora:/bin/sh\n";
    put(&host.delta(&id, 1, "etc/passwd"), passwd.as_bytes());
    put(&host.delta(&id, 1, "etc/group"), b"root:x:0:\nanna:x:1000:\n");
    for (path, mode, owner) in
        [("srv/homes/a/anna", 0o2750, 1000), ("home/bert", 0o4711, 1001), ("home/carl", 0o777, 33)]
    {
        let home = host.delta(&id, 1, path);
        std::fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(owner), Some(1000)).unwrap();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let done = plain(&host, &id);
    let found = |path: &str| {
        let facts = host.delta(&id, 2, path).metadata().unwrap();
        (facts.mode() & 0o7777, facts.uid(), facts.gid())
    };
    assert_eq!(found("srv/homes/a/anna"), (0o2750, 1000, 1000));
    assert_eq!(found("srv/homes/a"), (0o755, 0, 0));
    assert_eq!(found("home/bert"), (0o711, 1001, 1000));
    assert_eq!(found("home/carl"), (0o700, 1002, 1000), "what is not his own tells nothing");
    assert!(
        done.report.notes.iter().any(|line| line.starts_with("the home /etc/passwd/dora was not made")),
        "{:?}",
        done.report.notes
    );
}
