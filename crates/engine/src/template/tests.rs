//! The busybox recipe for real (as root), and the runner of the recipes of mmdebstrap with small scripts in its place.

#![expect(clippy::disallowed_methods, reason = "the trees of these tests are their own")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::mmdebstrap::run;
use super::recipe::Mmdebstrap;
use super::*;

const BUSYBOX: &str = "/bin/busybox";

/// A root in a temporary directory, or a loud word about why there is none.
fn busybox_root() -> Option<(tempfile::TempDir, PathBuf, BuiltTemplate)> {
    if !rustix::process::geteuid().is_root() || !Path::new(BUSYBOX).exists() {
        testkit::real_host::unit_test_not_run_here(&format!(
            "it needs root and {BUSYBOX}: `sudo apt-get install busybox-static`, then run the tests with sudo"
        ));
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let rootfs = directory.path().join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    let built = build_busybox(&rootfs, Path::new(BUSYBOX)).unwrap();
    Some((directory, rootfs, built))
}

fn chroot(rootfs: &Path, options: &[&str], command: &str) -> Output {
    Command::new("chroot").args(options).arg(rootfs).args(["/bin/sh", "-c", command]).output().unwrap()
}

#[test]
fn root_busybox_has_every_applet_and_each_link_stays_inside() {
    let Some((_directory, rootfs, built)) = busybox_root() else { return };
    let list = Command::new(BUSYBOX).arg("--list-full").output().unwrap();
    let busybox = rootfs.join("bin/busybox");
    let mut seen = 0;
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        if ["linuxrc", "sbin/init"].contains(&applet) {
            continue;
        }
        assert!(
            fs::read_link(rootfs.join(applet)).is_ok_and(|link| link.is_relative())
                || applet == "bin/busybox"
        );
        assert_eq!(rootfs.join(applet).canonicalize().unwrap(), busybox, "{applet}");
        seen += 1;
    }
    assert!(seen > 200, "{seen} applets");
    assert_eq!(built.distribution, "busybox");
    assert!(built.source.starts_with("BusyBox v"), "{}", built.source);
    assert!(!built.systemd);
    assert!(!rootfs.join("old").exists());
}

#[test]
fn root_busybox_runs_and_its_files_have_their_modes() {
    let Some((_directory, rootfs, _)) = busybox_root() else { return };
    let output = chroot(&rootfs, &[], "echo ok; id -un; stat -c %G /etc/shadow");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\nroot\nshadow\n");
    for (path, mode) in [
        ("bin/busybox", 0o4755),
        ("sbin/init", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
        ("etc/passwd", 0o644),
        ("etc/shadow", 0o640),
        ("etc/gshadow", 0o640),
    ] {
        let found = fs::symlink_metadata(rootfs.join(path)).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!(found.uid(), 0, "{path}");
    }
    assert!(fs::read_to_string(rootfs.join("etc/shadow")).unwrap().starts_with("root:!:"));
}

#[test]
fn root_busybox_su_is_setuid_and_nothing_else_keeps_it() {
    let Some((_directory, rootfs, _)) = busybox_root() else { return };
    let output =
        chroot(&rootfs, &["--userspec=65534:65534"], "id -u; cat /etc/shadow; echo guess | su root -c id");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "65534\nPassword: \n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/etc/shadow': Permission denied"), "{said}");
    // What busybox says to a hash that no password has.
    assert!(said.contains("su: bad salt"), "{said}");
}

#[test]
fn root_busybox_comes_out_the_same_twice() {
    let (Some((_one, first, _)), Some((_other, second, _))) = (busybox_root(), busybox_root()) else {
        return;
    };
    let digest = |path: &Path| tree::digest(tree::Root::open(path).unwrap().handle()).unwrap().hex;
    assert_eq!(digest(&first), digest(&second));
}

#[test]
fn busybox_that_is_missing_names_its_package() {
    let directory = tempfile::tempdir().unwrap();
    let error = build_busybox(directory.path(), Path::new("/nonexistent/busybox")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`/nonexistent/busybox` is not there: run `apt-get install busybox-static`"
    );
}

#[test]
fn busybox_must_be_busybox() {
    let directory = tempfile::tempdir().unwrap();
    let error = build_busybox(directory.path(), Path::new("/bin/true")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`/bin/true` cannot be a template's root: it does not say that it is BusyBox"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

fn bookworm() -> Prepared {
    let recipe = Mmdebstrap {
        suite: "bookworm".to_owned(),
        distribution: Some("debian".to_owned()),
        release: Some("12".to_owned()),
        ..Mmdebstrap::default()
    };
    Prepared { recipe, pre: None, post: None }
}

/// Runs `script` where the recipe of mmdebstrap would be run.
fn run_script(script: &str) -> (Result<(), RecipeError>, Vec<String>, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut stages = Vec::new();
    let mut log = Vec::new();
    let mut progress = |stage: &str| stages.push(stage.to_owned());
    let result = run(script, directory.path(), &bookworm(), None, &mut progress, &mut log);
    (result, stages, String::from_utf8(log).unwrap())
}

#[test]
fn recipe_tells_its_stages_and_logs_the_rest() {
    let (result, stages, log) =
        run_script("echo \"I: making $1...\"; echo detail >&2; [ -d \"$2\" ]; read -r _ || true");
    result.unwrap();
    assert_eq!(stages, ["making bookworm"]);
    assert_eq!(log, "I: making bookworm...\ndetail\n");
}

#[test]
fn recipe_is_ended_with_all_of_its_processes_when_somebody_wants_it() {
    let directory = tempfile::tempdir().unwrap();
    let (interrupt, told) = std::io::pipe().unwrap();
    let mut told = Some(told);
    // It has said who is to end before it is ended. Half a line, too: what is waited for is its end.
    let script = "sleep 1000 & echo $! >\"$2/pid\"; echo 'I: begun'; printf half; sleep 1000";
    let pid = directory.path().join("pid");
    let mut progress = |_: &str| drop(told.take());
    let began = Instant::now();
    let directory = directory.path();
    let interrupt = Some(std::os::fd::AsFd::as_fd(&interrupt));
    let result = run(script, directory, &bookworm(), interrupt, &mut progress, &mut Vec::new());
    assert!(matches!(result, Err(RecipeError::Interrupted)), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!pid.trim().is_empty());
    while Path::new("/proc").join(pid.trim()).exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "{pid} goes on");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn recipe_that_fails_gives_its_last_error() {
    let (result, _, _) = run_script("echo 'E: no route to the archive'; echo bye; exit 25");
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "`mmdebstrap bookworm` ended with exit status: 25: E: no route to the archive");
}

#[test]
fn recipe_keeps_only_the_end_of_a_long_story() {
    let (result, _, log) = run_script("seq 1 100000; exit 3");
    let Err(RecipeError::Failed { said, .. }) = result else { panic!("{result:?}") };
    assert_eq!(said.len(), 20);
    assert_eq!(log.lines().count(), 100_000);
}

#[test]
fn recipe_without_mmdebstrap_names_the_package() {
    let (result, _, _) = run_script("exit 127");
    assert_eq!(
        result.unwrap_err().to_string(),
        "`mmdebstrap` is not there: run `apt-get install mmdebstrap`"
    );
}

/// A log that takes nothing.
struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn recipe_is_killed_with_all_its_children_when_it_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let script = "sleep 1000 & echo $! >\"$2/pid\"; echo; wait";
    let began = Instant::now();
    let result = run(script, directory.path(), &bookworm(), None, &mut |_| {}, &mut Full);
    assert!(matches!(result, Err(RecipeError::Log(_))), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(is_gone(directory.path()));
}

#[test]
fn recipe_is_killed_when_whoever_runs_it_dies() {
    let directory = tempfile::tempdir().unwrap();
    // The guard as it is run, with a pipe that we close: to it that is our death.
    let mut child = Command::new("sh")
        .args(["-c", super::mmdebstrap::GUARD, "sleep 1000 & echo $! >\"$2/pid\"; echo; wait", "bookworm"])
        .arg(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    drop(child.stdin.take());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
    assert!(is_gone(directory.path()));
}

/// The process whose number is in the file `pid` has ended, or does at once: it was killed with the rest, and is not
/// ours to wait for.
fn is_gone(directory: &Path) -> bool {
    let pid = fs::read_to_string(directory.join("pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return true;
    };
    let limit = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
    let mut poll = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    matches!(rustix::event::poll(&mut poll, Some(&limit)), Ok(1))
}

#[test]
fn recipe_that_reaches_no_mirror_says_which_were_tried() {
    let directory = tempfile::tempdir().unwrap();
    let mut prepared = bookworm();
    let script = "echo 'E: Failed to fetch http://a/InRelease  Could not resolve'; echo 'E: other'; exit 25";
    let run = |prepared: &Prepared| {
        run(script, directory.path(), prepared, None, &mut |_| {}, &mut Vec::new()).unwrap_err().to_string()
    };
    assert_eq!(run(&prepared), "Failed to fetch http://a/InRelease  Could not resolve");
    prepared.recipe.mirrors = vec!["http://a/".to_owned(), "deb http://b/ x main".to_owned()];
    assert_eq!(
        run(&prepared),
        "Failed to fetch http://a/InRelease  Could not resolve; tried: http://a/, deb http://b/ x main"
    );
}

#[test]
fn recipe_says_the_script_all_that_it_says_and_nobody_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut prepared = bookworm();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    prepared.recipe.mirrors = words(&["deb http://a/ x main", "http://b/"]);
    prepared.recipe.packages = words(&["vim", "curl"]);
    prepared.recipe.proxy = Some("http://proxy:3128".to_owned());
    prepared.post = Some("echo \"it's\"\n".to_owned());
    let script = "printf '%s|' \"$1\" \"$3\" \"$4\" \"$RECIPE_PACKAGES\" \"${RECIPE_BASE_PACKAGES-none}\" \"$RECIPE_VARIANT\" \
                  \"$http_proxy\" \"$RECIPE_POST\" \"${RECIPE_PRE-none}\" $#";
    let mut log = Vec::new();
    run(script, directory.path(), &prepared, None, &mut |_| {}, &mut log).unwrap();
    assert_eq!(
        String::from_utf8(log).unwrap(),
        "bookworm|deb http://a/ x main|http://b/|vim,curl|none|minbase|http://proxy:3128|echo \"it's\"\n|none|4|\n"
    );
}

#[test]
fn a_keyring_that_is_missing_is_told_with_its_package() {
    let directory = tempfile::tempdir().unwrap();
    let mut prepared = bookworm();
    prepared.recipe.keyring = Some("/nonexistent/ubuntu-archive-keyring.gpg".into());
    let error = build(directory.path(), &prepared, None, &mut |_| {}, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "there is no keyring `/nonexistent/ubuntu-archive-keyring.gpg`");
    let RecipeError::MissingKeyring { package, .. } = error else { panic!("{error:?}") };
    assert_eq!(package, Some("ubuntu-archive-keyring"));
}

#[test]
fn another_release_is_not_adopted() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("sbin")).unwrap();
    fs::create_dir(directory.path().join("etc")).unwrap();
    fs::copy("/bin/true", directory.path().join("sbin/init")).unwrap();
    let os_release = directory.path().join("etc/os-release");
    fs::write(&os_release, "ID=debian\nVERSION_ID=\"11\"\nPRETTY_NAME=\"Debian 11\"\n").unwrap();
    let adopt = |recipe: &Mmdebstrap| adopt(directory.path(), recipe, &mut |_| {});
    let refused = |recipe: &Mmdebstrap| adopt(recipe).unwrap_err().to_string();

    let mut recipe = bookworm().recipe;
    assert!(refused(&recipe).ends_with("it is debian 11, not debian 12, as the recipe says"));
    recipe.release = Some("11".to_owned());
    assert_eq!(adopt(&recipe).unwrap().release.as_deref(), Some("11"));
    recipe.distribution = Some("ubuntu".to_owned());
    assert!(refused(&recipe).ends_with("it is debian 11, not ubuntu 11, as the recipe says"));
    (recipe.distribution, recipe.release) = (None, None);
    assert_eq!(adopt(&recipe).unwrap().distribution, "debian");

    fs::write(directory.path().join("etc/machine-id"), "0123\n").unwrap();
    assert!(refused(&recipe).ends_with("it has a machine-id, which all containers would share"));
}
