use super::*;
use crate::prefix::tests::prefix;
use std::time::Instant;

const NOW: Duration = Duration::ZERO;

fn take(prefix: &Prefix, kind: Kind, wait: Duration) -> Result<Lock, LockError> {
    Lock::take(prefix, LockName::Host, kind, wait, "prlctl\ntest")
}

#[test]
fn shared_ones_stand_together_and_exclusive_ones_alone() {
    use Kind::{Exclusive, Shared};
    let (_directory, prefix) = prefix();
    for (first, second, both) in [
        (Exclusive, Exclusive, false),
        (Exclusive, Shared, false),
        (Shared, Exclusive, false),
        (Shared, Shared, true),
    ] {
        let held = take(&prefix, first, NOW).unwrap();
        assert_eq!(take(&prefix, second, NOW).is_ok(), both, "{first:?} {second:?}");
        drop(held);
        drop(take(&prefix, Exclusive, NOW).unwrap());
    }
}

#[test]
fn different_things_do_not_lock_each_other() {
    let (_directory, prefix) = prefix();
    let id = ContainerId::random();
    let names = [
        LockName::Host,
        LockName::Trash,
        LockName::Container(id),
        LockName::Container(ContainerId::random()),
        LockName::Template("host".parse().unwrap()),
        LockName::Template(id.to_string().parse().unwrap()),
    ];
    let held: Vec<Lock> =
        names.into_iter().map(|name| Lock::exclusive(&prefix, name, NOW, "test").unwrap()).collect();
    assert_eq!(held.len(), 6);
}

#[test]
fn says_who_holds_it_and_since_when_on_one_line() {
    let (_directory, prefix) = prefix();
    let _held = take(&prefix, Kind::Exclusive, NOW).unwrap();
    let error = take(&prefix, Kind::Shared, NOW).unwrap_err();
    let LockError::Held { pid, command, since, .. } = &error else { panic!("{error}") };
    assert_eq!((*pid, command.as_str()), (std::process::id(), "prlctl test"));
    assert!(since.len() == 8 || since.len() == 19, "{since}");
    assert!(error.to_string().contains("`prlctl test` (pid"), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
fn the_holder_is_the_last_one_that_lives() {
    let me = std::process::id();
    let text =
        format!("{me} 2026-01-02T03:04:05Z prlctl exec a\n4294967294 2026-01-02T03:05:00Z prlctl exec b\n");
    assert_eq!(parse_holder(&text).unwrap().2, "prlctl exec a");
    for text in ["4294967294 2026-01-02T03:05:00Z gone\n", "", "x", "12", "12 yesterday prlctl", "\0\0\0"] {
        assert!(parse_holder(text).is_none(), "{text}");
    }
}

#[test]
fn a_holder_that_has_not_said_who_it_is_is_found_all_the_same() {
    let (_directory, prefix) = prefix();
    let path = prefix.lock_dir().join("host.lock");
    for text in ["", "4294967294 2026-01-02T03:05:00Z gone\n"] {
        let mut file = File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        let error = take(&prefix, Kind::Exclusive, NOW).unwrap_err();
        let LockError::Held { pid, command, .. } = &error else { panic!("{error}") };
        assert_eq!(*pid, std::process::id());
        assert!(!command.is_empty() && command != "gone", "{error}");
    }
}

#[test]
fn a_lock_of_another_day_is_shown_with_its_date() {
    assert_eq!(show_time("2020-01-02T12:04:05Z".parse().unwrap()).len(), 19);
    assert_eq!(show_time(Timestamp::now()).len(), 8);
}

#[test]
fn waits_until_the_other_lets_go() {
    let (_directory, prefix) = prefix();
    let held = take(&prefix, Kind::Exclusive, NOW).unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(held);
    });
    let began = Instant::now();
    drop(take(&prefix, Kind::Exclusive, Duration::from_secs(60)).unwrap());
    assert!(began.elapsed() >= Duration::from_millis(90));
    release.join().unwrap();
}

#[test]
fn who_waited_in_vain_does_not_get_it_later() {
    let (_directory, prefix) = prefix();
    let held = take(&prefix, Kind::Exclusive, NOW).unwrap();
    let began = Instant::now();
    for kind in [Kind::Exclusive, Kind::Shared] {
        let error = take(&prefix, kind, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, LockError::Held { .. }), "{error}");
    }
    assert!(began.elapsed() >= Duration::from_millis(100));
    drop(held);
    // Two threads are given the lock now, one after the other, and both must drop it. The pause lets them be first.
    std::thread::sleep(Duration::from_millis(200));
    drop(take(&prefix, Kind::Exclusive, Duration::from_secs(60)).unwrap());
}

#[test]
fn a_child_does_not_inherit_it() {
    let (_directory, prefix) = prefix();
    let held = take(&prefix, Kind::Exclusive, NOW).unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    drop(held);
    let taken = take(&prefix, Kind::Exclusive, NOW);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(taken.unwrap());
}

#[test]
fn the_file_stays_the_same_inode_and_does_not_grow() {
    use std::os::unix::fs::MetadataExt as _;
    let (_directory, prefix) = prefix();
    let file = prefix.lock_dir().join("host.lock");
    drop(take(&prefix, Kind::Exclusive, NOW).unwrap());
    let inode = file.metadata().unwrap().ino();
    for _ in 0..1000 {
        drop(take(&prefix, Kind::Shared, NOW).unwrap());
    }
    assert_eq!(file.metadata().unwrap().ino(), inode);
    assert!(file.metadata().unwrap().len() < 2 * TEXT_LIMIT as u64);
    drop(take(&prefix, Kind::Exclusive, NOW).unwrap());
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
}
