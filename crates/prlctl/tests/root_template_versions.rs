//! Versions of a template: made again, pinned, removed; nobody gets another than the one that was promised.

use testkit::{Ran, RealHost};

fn new_host() -> Option<RealHost> {
    RealHost::bare(env!("CARGO_BIN_EXE_prlctl"))
}

fn vzpkg(host: &RealHost, words: &[&str]) -> Ran {
    Ran::of(host.vzpkg().args(words).output().expect("run vzpkg"))
}

fn vzpkg_json(host: &RealHost, words: &[&str]) -> serde_json::Value {
    let ran = vzpkg(host, words);
    assert_eq!(ran.code, 0, "{ran}");
    serde_json::from_str(&ran.stdout).expect("it is JSON")
}

/// Has the root that `mine` is made of say another word; it starts, and a shell is all that is in it.
fn write_root(host: &RealHost, word: &str) -> String {
    let init = "#!/bin/sh\ntrap 'exit 0' USR2\nwhile :; do sleep 1 & wait $!; done\n";
    host.script("roots/mine/sbin/init", init);
    host.write("roots/mine/version", word, 0o644);
    let root = host.path("roots/mine").display().to_string();
    let line = "cd \"$1\" && mkdir -p bin dev etc proc run sys tmp && cp /bin/busybox bin && ln -sf busybox bin/sh && ln -sf busybox bin/sleep";
    let made = std::process::Command::new("sh").args(["-ec", line, "sh", &root]).status();
    assert!(made.expect("run a shell").success());
    root
}

/// A version of `mine`, and its digest.
fn version(host: &RealHost, word: &str) -> String {
    let from = write_root(host, word);
    let made = vzpkg_json(host, &["create", "cache", "mine", "--from", &from, "-j"]);
    made["digest"].as_str().expect("it has a digest").to_owned()
}

/// What the root of a stopped container lies on.
fn word_of(host: &RealHost, container: &str) -> String {
    host.ok(["mount", container]);
    let uuid = host.area(container).file_name().expect("an area has a name").to_owned();
    let word =
        std::fs::read_to_string(host.path("vz/root").join(uuid).join("version")).expect("read the version");
    host.ok(["umount", container]);
    word
}

#[test]
fn root_a_template_is_made_again_of_what_it_was_made_of() {
    let Some(host) = new_host() else { return };
    let one = version(&host, "one");
    host.ok(["create", "web01", "--ostemplate", "mine"]);
    let same = vzpkg(&host, &["update", "cache", "mine"]);
    assert!(same.code == 0 && same.stdout.contains("nothing was changed"), "{same}");
    let same = vzpkg_json(&host, &["update", "cache", "mine", "-j"]);
    assert_eq!((&same["result"], &same["digest"]), (&"unchanged".into(), &one.as_str().into()));
    assert_eq!(vzpkg_json(&host, &["list", "-j"]).as_array().map(Vec::len), Some(1));

    write_root(&host, "two");
    let updated = vzpkg_json(&host, &["update", "cache", "mine", "-j"]);
    assert_eq!((&updated["result"], &updated["before"]), (&"updated".into(), &one.as_str().into()));
    let list = vzpkg_json(&host, &["list", "-j"]);
    let of = |digest: &serde_json::Value| {
        list.as_array().unwrap().iter().find(|one| one["digest"] == *digest).unwrap().clone()
    };
    let (old, new) = (of(&one.as_str().into()), of(&updated["digest"]));
    assert_eq!(
        (&old["users"], &old["is_latest"], &new["users"], &new["is_latest"]),
        (&1.into(), &false.into(), &0.into(), &true.into())
    );
    assert_eq!(old["used_by"][0]["generation"], 1);
    assert!(new["age_seconds"].as_u64().is_some_and(|age| age < 600), "{new}");
    assert_eq!(vzpkg(&host, &["list"]).stdout.lines().filter(|line| line.starts_with("mine ")).count(), 2);

    assert_eq!(word_of(&host, "web01"), "one");
    host.ok(["reinstall", "web01"]);
    assert_eq!(word_of(&host, "web01"), "two");

    // A path is remembered as it is found from anywhere.
    write_root(&host, "three");
    let mut command = host.vzpkg();
    let words = ["update", "cache", "mine", "--from", "mine"];
    let ran = Ran::of(command.args(words).current_dir(host.path("roots")).output().expect("run vzpkg"));
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(vzpkg_json(&host, &["update", "cache", "mine", "-j"])["result"], "unchanged");

    // Of the same tree elsewhere: no other version, and made of that one from now on; also where nothing was on record.
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([host.path("roots/mine"), host.path("roots/copy")])
        .status();
    assert!(copied.expect("run cp").success());
    let latest = || {
        let list = vzpkg_json(&host, &["list", "-j"]);
        list.as_array().unwrap().iter().find(|one| one["is_latest"] == true).unwrap().clone()
    };
    let before = latest();
    let copy = host.path("roots/copy").display().to_string();
    let ran = vzpkg(&host, &["update", "cache", "mine", "--from", &copy]);
    assert!(ran.code == 0 && ran.stdout.contains("from now on"), "{ran}");
    let after = latest();
    assert_eq!(after["origin"]["from"]["source"], copy.as_str());
    assert!(after["source"].as_str().is_some_and(|source| source.ends_with("roots/copy")), "{after}");
    assert_eq!((&after["created"], &after["digest"]), (&before["created"], &before["digest"]));
    let digest = after["digest"].as_str().unwrap();
    let file = format!("vz/template/mine/{digest}/template.json");
    let mut record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(host.path(&file)).unwrap()).unwrap();
    record.as_object_mut().unwrap().remove("origin");
    host.write(&file, &record.to_string(), 0o600);
    let from = host.path("roots/mine").display().to_string();
    assert_eq!(vzpkg_json(&host, &["update", "cache", "mine", "--from", &from, "-j"])["result"], "unchanged");
    assert_eq!(vzpkg_json(&host, &["update", "cache", "mine", "-j"])["result"], "unchanged");

    // From elsewhere from now on; what fails leaves the latest version what it was.
    vzpkg(&host, &["update", "cache", "mine", "--from", "/nonexistent"]).failed(
        21,
        &["cannot update template `mine`", "`/nonexistent` cannot be read", "nothing was changed"],
    );
    host.ok(["create", "golden", "--ostemplate", "mine"]);
    host.ok(["mount", "golden"]);
    let uuid = host.area("golden").file_name().expect("an area has a name").display().to_string();
    host.write(&format!("vz/root/{uuid}/version"), "golden", 0o644);
    host.ok(["umount", "golden"]);
    let updated = vzpkg_json(&host, &["update", "cache", "mine", "--from", "container:golden", "-j"]);
    assert_eq!(updated["result"], "updated");
    let list = vzpkg_json(&host, &["list", "-j"]);
    let latest = list.as_array().unwrap().iter().find(|one| one["is_latest"] == true).unwrap();
    assert_eq!(latest["origin"]["from"]["source"], format!("container:{uuid}"), "its name may be another's");
    assert_eq!(vzpkg_json(&host, &["update", "cache", "mine", "-j"])["result"], "unchanged");
    host.ok(["delete", "golden"]);
    vzpkg(&host, &["update", "cache", "mine"]).failed(14, &["cannot update template `mine`", &uuid]);
    vzpkg(&host, &["update", "cache", "nonesuch"]).failed(91, &["unknown template `nonesuch`"]);
}

#[test]
fn root_a_damaged_version_is_made_whole_again_but_under_nobody_who_runs() {
    let Some(host) = new_host() else { return };
    let one = version(&host, "one");
    let from = host.path("roots/mine").display().to_string();
    let again = |words: &[&str]| vzpkg(&host, &[words, &["--from", &from]].concat());
    let create = ["create", "cache", "mine"];
    host.ok(["create", "web01", "--ostemplate", "mine"]);
    host.ok(["start", "web01"]);
    let rootfs = format!("vz/template/mine/{one}/rootfs");
    host.write(&format!("{rootfs}/version"), "two", 0o644);
    let ran = again(&create);
    ran.failed(
        32,
        &[
            "cannot make template `mine`",
            "is damaged",
            "`web01` runs",
            "nothing was changed",
            "prlctl stop web01`, then `",
        ],
    );
    assert!(host.path(&format!("{rootfs}/version")).exists());
    // Stopped, and mounted still.
    let uuid = host.area("web01").file_name().expect("an area has a name").display().to_string();
    let mut inside = std::process::Command::new("sleep")
        .arg("1000")
        .current_dir(host.path(&format!("run/vz/{uuid}/generations/1")))
        .spawn()
        .expect("run sleep");
    host.ok(["stop", "web01"]);
    again(&create).failed(41, &["`web01` is mounted still", "leave its directories on the host"]);
    inside.kill().expect("end sleep");
    inside.wait().expect("wait for sleep");
    let state = format!("run/vz/{uuid}/state.json");
    host.write(&state, "{", 0o600);
    again(&create).failed(85, &["nobody can tell whether `web01`", "runs", "prlctl stop web01 --kill"]);
    std::fs::remove_file(host.path(&state)).expect("remove the state");
    host.ok(["mount", "web01"]);
    again(&create).failed(41, &["`web01` is mounted on the host", "prlctl umount web01"]);
    host.ok(["umount", "web01"]);

    let ran = again(&create);
    assert!(ran.code == 0 && ran.stderr.contains("it is whole again"), "{ran}");
    assert_eq!(vzpkg(&host, &["verify", "mine"]).code, 0);
    assert_eq!(word_of(&host, "web01"), "one");
    host.ok(["start", "web01"]);
    assert_eq!(host.exec("web01", "cat /version"), "one");
    // Whole: it stays, under whoever runs.
    let ran = again(&create);
    assert!(ran.code == 0 && !ran.stderr.contains("whole again"), "{ran}");
    host.ok(["stop", "web01"]);

    let removed = std::process::Command::new("rm").arg("-r").arg(host.path(&rootfs)).status();
    assert!(removed.expect("run rm").success());
    let updated = vzpkg_json(&host, &["create", "cache", "mine", "--from", &from, "-j"]);
    assert_eq!(updated["digest"], one.as_str());
    std::fs::remove_file(host.path(&rootfs).join("bin/busybox")).expect("remove a file");
    assert_eq!(vzpkg_json(&host, &["update", "cache", "mine", "-j"])["result"], "repaired");
    host.write(&format!("vz/template/mine/{one}/template.json"), "{", 0o600);
    assert_eq!(again(&create).code, 0);
    assert_eq!(vzpkg(&host, &["verify", "mine"]).code, 0);
    host.ok(["start", "web01"]);
    let left = std::fs::read_dir(host.path("vz/template")).expect("list the store").flatten();
    assert_eq!(left.map(|entry| entry.file_name()).collect::<Vec<_>>(), ["mine"]);
}

#[test]
fn root_a_template_by_a_recipe_is_made_by_the_recipe_as_it_is_now() {
    let Some(host) = new_host() else { return };
    let from = write_root(&host, "one");
    let recipe = |more: &str| {
        let text = format!("kind = \"import\"\nfrom = \"{from}\"\n{more}");
        host.write("etc/vz/templates.d/mine.toml", &text, 0o644);
    };
    recipe("");
    assert_eq!(vzpkg(&host, &["create", "cache", "mine"]).code, 0);
    assert_eq!(vzpkg_json(&host, &["list", "-j"])[0]["origin"], "recipe");
    recipe("stop-signal = \"SIGINT\"\n");
    // How it is run is a part of it.
    assert_eq!(vzpkg_json(&host, &["update", "cache", "mine", "-j"])["result"], "updated");
    assert_eq!(vzpkg_json(&host, &["update", "cache", "mine", "-j"])["result"], "unchanged");
    write_root(&host, "two");
    assert_eq!(vzpkg_json(&host, &["update", "cache", "mine", "-j"])["result"], "updated");
    let list = vzpkg_json(&host, &["list", "-j"]);
    assert!(list.as_array().unwrap().iter().any(|one| one["stop_signal"] == "SIGINT"), "{list}");

    recipe("nonsense = 1\n");
    vzpkg(&host, &["update", "cache", "mine"]).failed(21, &["cannot update template `mine`", "`nonsense`"]);
    std::fs::remove_file(host.path("etc/vz/templates.d/mine.toml")).unwrap();
    vzpkg(&host, &["update", "cache", "mine"]).failed(91, &["there is no recipe of that name"]);

    // Of a program that did not write down what a template was made of.
    let file = std::fs::canonicalize(host.path("vz/template/mine/latest")).unwrap().join("template.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    record.as_object_mut().unwrap().remove("origin");
    let digest = record["digest"].as_str().unwrap().to_owned();
    host.write(&format!("vz/template/mine/{digest}/template.json"), &record.to_string(), 0o600);
    vzpkg(&host, &["update", "cache", "mine"])
        .failed(91, &["it is not written down what it was made of", "vzpkg update cache mine --from SOURCE"]);
}

#[test]
fn root_a_pinned_version_stays_until_another_one_is_named() {
    let Some(host) = new_host() else { return };
    let (one, two) = (version(&host, "one"), version(&host, "two"));
    let short = |digest: &str| format!("mine@{}", &digest[..8]);
    let ostemplate = |name: &str| {
        let ran = host.ok(["list", name, "-o", "ostemplate", "-j"]);
        let json: serde_json::Value = serde_json::from_str(&ran).expect("a list is JSON");
        json[0]["ostemplate"].as_str().expect("it has one").to_owned()
    };
    host.ok(["create", "web01", "--ostemplate", &short(&one)]);
    host.ok(["create", "web02", "-t", "mine"]);
    assert_eq!((word_of(&host, "web01").as_str(), word_of(&host, "web02").as_str()), ("one", "two"));
    assert_eq!((ostemplate("web01"), ostemplate("web02")), (format!("mine@{one}"), "mine".to_owned()));
    let table = host.ok(["list", "-a", "-o", "name,ostemplate", "-H"]);
    assert!(table.contains(&format!("mine@{}\n", &one[..12])), "{table}");

    // It stays where it is pinned to, and says so; the one that is not goes with the latest.
    let three = version(&host, "three");
    let plan = host.ok(["reinstall", "web01", "--dry-run"]);
    assert!(plan.contains(&format!("mine, pinned to version {}", &one[..12])), "{plan}");
    host.ok(["reinstall", "--based-on", "mine", "--yes"]);
    assert_eq!((word_of(&host, "web01").as_str(), word_of(&host, "web02").as_str()), ("one", "three"));
    assert_eq!(ostemplate("web01"), format!("mine@{one}"));

    // Upper case is as good; another version, the latest, and back again with the old root.
    host.ok(["reinstall", "web01", "--ostemplate", &format!("mine@{}", two[..10].to_uppercase())]);
    assert_eq!((word_of(&host, "web01").as_str(), ostemplate("web01")), ("two", format!("mine@{two}")));
    host.ok(["reinstall", "web01", "-t", "mine"]);
    assert_eq!((word_of(&host, "web01").as_str(), ostemplate("web01")), ("three", "mine".to_owned()));
    host.ok(["reinstall", "web01", "--undo"]);
    assert_eq!((word_of(&host, "web01").as_str(), ostemplate("web01")), ("two", format!("mine@{two}")));
    host.ok(["reinstall", "--based-on", &short(&two), "--yes"]);

    for words in [["create", "web03", "-t", "mine@00000000"], ["reinstall", "web01", "-t", "mine@00000000"]] {
        let ran = host.run(words);
        ran.failed(91, &["template `mine` has no version 00000000", &one[..12], "nothing was changed"]);
        assert!(ran.stderr.contains(&format!("{} (the latest)", &three[..12])), "{ran}");
    }
    for (words, because) in [("mine@1234", "at least 8 digits"), ("mine@latest-one", "hexadecimal digits")] {
        host.run(["create", "web03", "-t", words]).failed(21, &["is no name of a template", because]);
    }
    host.run(["create", "web03", "-t", "nonesuch@00000000"]).failed(91, &["unknown template `nonesuch`"]);
    // What a template is made as has no version.
    vzpkg(&host, &["create", "cache", &short(&one)]).failed(21, &["is no name of a template"]);

    host.write("etc/vz/vz.conf", &format!("DEF_OSTEMPLATE=\"{}\"\n", short(&one)), 0o644);
    host.ok(["create", "web04"]);
    assert_eq!(ostemplate("web04"), format!("mine@{one}"));
}

#[test]
fn root_a_pinned_version_is_kept_for_a_container_whose_root_a_script_has_made() {
    let Some(host) = new_host() else { return };
    let one = version(&host, "one");
    host.ok(["create", "web01", "--ostemplate", &format!("mine@{one}")]);
    let two = version(&host, "two");
    host.script(
        "etc/vz/conf/vps.reinstall",
        "#!/bin/sh -e\nmkdir -p \"$VE_PRIVATE_TMP\"\ncp -a \"$OSTEMPLATE_ROOT/.\" \"$VE_PRIVATE_TMP\"\n",
    );
    host.ok(["reinstall", "web01", "--skipbackup"]);
    assert_eq!(word_of(&host, "web01"), "one");
    // Nothing lies on it any more; but the next reinstall is to be from it.
    assert_eq!(vzpkg_json(&host, &["gc", "-j"])["removed"].as_array().map(Vec::len), Some(0));
    host.ok(["reinstall", "web01", "--skipscripts", "--ostemplate", "mine", "--skipbackup"]);
    // Written by hand, in either place: nothing lies on it, and somebody is to be made of it.
    let conf = host.area("web01").join("ve.conf");
    let text = std::fs::read_to_string(&conf).expect("read the ve.conf");
    let below = conf.strip_prefix(host.prefix()).expect("it is below the prefix").display().to_string();
    let pinned = format!("OSTEMPLATE=\"mine@{}\"", &one[..8]);
    host.write(&below, &text.replace("OSTEMPLATE=\"mine\"", &pinned), 0o600);
    let remove = || vzpkg(&host, &["remove", "cache", &format!("mine@{one}")]);
    assert_eq!(vzpkg_json(&host, &["gc", "-j"])["removed"].as_array().map(Vec::len), Some(0));
    remove().failed(
        21,
        &["in use by `web01`", "pinned to it by OSTEMPLATE of its ve.conf", "nothing was changed"],
    );
    let list = vzpkg_json(&host, &["list", "-j"]);
    let pins = |list: &serde_json::Value| {
        list.as_array().unwrap().iter().find(|v| v["digest"] == one.as_str()).unwrap()["pinned_by"].clone()
    };
    assert!(pins(&list)[0]["uuid"].is_string(), "{list}");
    host.write(&below, &text, 0o600);
    host.write("etc/vz/vz.conf", &format!("DEF_OSTEMPLATE=\"mine@{}\"\n", &one[..8]), 0o644);
    assert_eq!(vzpkg_json(&host, &["gc", "-j"])["removed"].as_array().map(Vec::len), Some(0));
    remove().failed(21, &["etc/vz/vz.conf` (DEF_OSTEMPLATE is pinned to it)", "nothing was changed"]);
    host.write("etc/vz/vz.conf", "DEF_OSTEMPLATE=\"mine\"\n", 0o644);

    assert_eq!(vzpkg_json(&host, &["gc", "-j"])["removed"][0]["digest"], one);
    assert_ne!(one, two);
}

#[test]
fn root_one_version_is_removed_and_those_in_use_say_by_whom() {
    let Some(host) = new_host() else { return };
    let (one, two, three) = (version(&host, "one"), version(&host, "two"), version(&host, "three"));
    let remove = |digest: &str| vzpkg(&host, &["remove", "cache", &format!("mine@{}", &digest[..10])]);
    host.ok(["create", "web01", "--ostemplate", &format!("mine@{two}")]);
    let ran = remove(&two);
    let uuid = host.area("web01").file_name().expect("an area has a name").display().to_string();
    ran.failed(
        21,
        &["cannot remove template `mine@", "in use by `web01`", &uuid, "generation 1", "nothing was changed"],
    );

    let verified = vzpkg_json(&host, &["verify", &format!("mine@{}", &one[..8]), "-j"]);
    assert_eq!((verified.as_array().map(Vec::len), &verified[0]["digest"]), (Some(1), &one.as_str().into()));

    let ran = remove(&one);
    let said = format!("Version {} of the template mine has been successfully removed.\n", &one[..12]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, said.as_str()), "{ran}");
    remove(&one).failed(91, &["has no version", &two[..12], &format!("{} (the latest)", &three[..12])]);
    // The latest: what is left of them is the latest then.
    let ran = remove(&three);
    assert!(ran.code == 0 && ran.stderr.contains(&format!("from version {}", &two[..12])), "{ran}");
    host.ok(["create", "web02", "--ostemplate", "mine"]);
    assert_eq!(word_of(&host, "web02"), "two");
    assert_eq!(vzpkg_json(&host, &["list", "-j"])[0]["users"], 2);
    host.ok(["delete", "web01"]);
    host.ok(["delete", "web02"]);
    let removed = vzpkg_json(&host, &["remove", "cache", &format!("mine@{two}"), "-j"]);
    assert!(removed["latest"].is_null() && removed["digest"] == two.as_str(), "{removed}");
    assert!(!host.path("vz/template/mine").exists());
}

#[test]
fn root_a_damaged_container_hides_no_users_and_loses_no_version() {
    let Some(host) = new_host() else { return };
    let one = version(&host, "one");
    for name in ["web01", "web02"] {
        host.ok(["create", name, "--ostemplate", "mine"]);
    }
    version(&host, "two");
    let directory = host.area("web02").join("generations/1");
    let text = std::fs::read_to_string(directory.join("generation.json")).expect("read the record");
    let write = |name: &str, text: &str| {
        let below =
            directory.join(name).strip_prefix(host.prefix()).expect("it is below").display().to_string();
        host.write(&below, text, 0o600);
    };
    write("generation.json", "{");
    write("made.json", "{");

    let ran = vzpkg(&host, &["list", "-j"]);
    let list: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    let of_one = list.as_array().and_then(|all| all.iter().find(|found| found["digest"] == one.as_str()));
    assert_eq!(of_one.expect("it is listed")["users"], 1, "{ran}");
    let ran = vzpkg(&host, &["list"]);
    for words in
        ["which templates `web02` uses", "generation.json` is damaged", "prlctl recover --rebuild web02"]
    {
        assert!(ran.code == 0 && ran.stderr.contains(words), "{ran}");
    }
    let hint = "hint: `prlctl recover --rebuild web02`";
    let told = ["which templates `web02` uses", "generation.json` is damaged", "nothing was changed", hint];
    for words in [&["gc"][..], &["remove", "cache", "mine"], &["remove", "cache", &format!("mine@{one}")]] {
        vzpkg(&host, words).failed(85, &told);
    }
    write("generation.json", &text);
    let conf = host.area("web01").join("ve.conf");
    let below = conf.strip_prefix(host.prefix()).expect("it is below").display().to_string();
    let text = std::fs::read_to_string(&conf).expect("read the ve.conf");
    host.write(&below, "OSTEMPLATE=\"mine\n", 0o600);
    vzpkg(&host, &["gc"]).failed(85, &["ve.conf` is damaged in line 1", "correct that file in an editor"]);
    host.write(&below, &text, 0o600);
    host.write("etc/vz/vz.conf", "DEF_OSTEMPLATE=\"mine\n", 0o644);
    vzpkg(&host, &["gc"]).failed(85, &["vz.conf` is damaged in line 1", "correct that line"]);
    host.write("etc/vz/vz.conf", "", 0o644);
    assert_eq!(vzpkg(&host, &["gc"]).code, 0);
}

#[test]
fn root_a_start_without_an_init_leads_to_the_template() {
    let Some(host) = new_host() else { return };
    let one = version(&host, "one");
    host.ok(["create", "web01", "--ostemplate", "mine"]);
    std::fs::remove_file(host.path(&format!("vz/template/mine/{one}/rootfs/sbin/init"))).expect("remove it");
    let damaged = format!("template `mine` {} is damaged: it has no /sbin/init", &one[..12]);
    let ran = host.run(["start", "web01"]);
    for words in
        [damaged.as_str(), "`web01` is stopped", "hint: `vzpkg verify mine`", "`prlctl reinstall web01`"]
    {
        assert!(ran.code != 0 && ran.stderr.contains(words), "{words}: {ran}");
    }
    assert_eq!(vzpkg(&host, &["update", "cache", "mine"]).code, 0);
    host.ok(["start", "web01"]);
}

/// Whoever makes an old version again, damaged or not, need not think of it that new roots get it from then on.
#[test]
fn root_an_old_version_that_is_made_again_is_told_to_be_the_latest() {
    let Some(host) = new_host() else { return };
    let (one, two) = (version(&host, "one"), version(&host, "two"));
    let create = |word: &str| {
        let from = write_root(&host, word);
        vzpkg(&host, &["create", "cache", "mine", "--from", &from])
    };
    let told = |from: &str, to: &str| {
        format!(
            "version {} was there already, and is the latest now, which new roots get; until now that was {}",
            &to[..12],
            &from[..12]
        )
    };
    host.write(&format!("vz/template/mine/{one}/rootfs/version"), "bad", 0o644);
    let ran = create("one");
    assert!(ran.stderr.contains("it is whole again") && ran.stderr.contains(&told(&two, &one)), "{ran}");
    let ran = create("two");
    assert!(ran.code == 0 && ran.stderr.contains(&told(&one, &two)), "{ran}");
    let ran = create("two");
    assert!(ran.code == 0 && !ran.stderr.contains("is the latest now"), "{ran}");
}

#[test]
fn root_a_source_that_is_gone_leads_to_another_one() {
    let Some(host) = new_host() else { return };
    version(&host, "one");
    host.ok(["create", "web01", "--ostemplate", "mine"]);
    assert_eq!(vzpkg(&host, &["create", "cache", "golden", "--from", "container:web01"]).code, 0);
    host.ok(["delete", "web01"]);
    let hint = "hint: `vzpkg update cache golden --from SOURCE`";
    vzpkg(&host, &["update", "cache", "golden"])
        .failed(14, &["unknown container", "it was made of `container:", hint]);
    rustix::fs::rename(host.path("roots/mine"), host.path("roots/gone")).expect("move it");
    vzpkg(&host, &["update", "cache", "mine"]).failed(
        21,
        &["cannot be read", "it was made of `/", "hint: `vzpkg update cache mine --from SOURCE`"],
    );
    // What somebody has typed he knows.
    let ran = vzpkg(&host, &["update", "cache", "mine", "--from", "/nowhere"]);
    assert!(ran.code == 21 && !ran.stderr.contains("it was made of"), "{ran}");
    let ran = vzpkg(&host, &["update", "web01", "--from", "root"]);
    assert!(ran.code != 0 && ran.stderr.contains("hint: `vzpkg update cache NAME --from SOURCE`"), "{ran}");
}

#[test]
fn root_versions_without_a_latest_one_are_named() {
    let Some(host) = new_host() else { return };
    let (one, two) = (version(&host, "one"), version(&host, "two"));
    std::fs::remove_file(host.path("vz/template/mine/latest")).expect("remove the link");
    assert!(vzpkg(&host, &["list"]).stdout.contains(&one[..12]));
    let told = [
        "template `mine` has no latest version",
        &one[..12],
        &two[..12],
        "hint: name the version that is meant, as in `mine@",
    ];
    host.run(["create", "web01", "--ostemplate", "mine"]).failed(91, &told);
    assert_eq!(vzpkg(&host, &["gc"]).code, 0);
    assert_eq!(vzpkg(&host, &["verify", "mine"]).code, 0);
    host.ok(["create", "web01", "--ostemplate", &format!("mine@{}", &one[..12])]);
    assert_eq!(version(&host, "two"), two);
    host.ok(["create", "web02", "--ostemplate", "mine"]);
}

/// What has holes takes no more than what is in it.
#[test]
fn root_the_size_in_the_list_is_that_on_the_disk() {
    let Some(host) = new_host() else { return };
    let root = write_root(&host, "one");
    let holes = std::fs::File::create(std::path::Path::new(&root).join("holes")).expect("make a file");
    holes.set_len(3 << 30).expect("make a hole");
    assert_eq!(vzpkg(&host, &["create", "cache", "mine", "--from", &root]).code, 0);
    let list = vzpkg_json(&host, &["list", "-j"]);
    let size = |key: &str| list[0][key].as_u64().expect("a number");
    assert!(size("size_bytes") > 3 << 30 && size("disk_bytes") < 100 << 20, "{list}");
    let shown = vzpkg(&host, &["list", "-H"]).stdout;
    assert!(shown.contains(&format!(" {}M ", size("disk_bytes") / 1_000_000)), "{shown}");
}

#[test]
fn root_a_plan_promises_no_more_of_a_damaged_root_than_there_is() {
    let Some(host) = new_host() else { return };
    let one = version(&host, "one");
    host.ok(["create", "web01", "--ostemplate", "mine"]);
    version(&host, "two");
    let plan = || host.ok(["reinstall", "web01", "--dry-run"]);
    assert!(plan().contains("generation 1 stays at /old, whole"), "{}", plan());
    rustix::fs::rename(host.path(&format!("vz/template/mine/{one}")), host.path("gone")).expect("move it");
    let plan = plan();
    assert!(
        plan.contains("what generation 1 has made itself stays at /old") && !plan.contains("whole"),
        "{plan}"
    );
}

/// Nothing has begun where there is nobody to do it, and the same again would not help.
#[test]
fn root_packages_without_a_package_manager_are_not_promised() {
    let Some(host) = RealHost::new(env!("CARGO_BIN_EXE_prlctl")) else { return };
    host.started("web01");
    let ran = vzpkg(&host, &["install", "web01", "nginx"]);
    ran.failed(
        70,
        &["there is none of apt-get, apk, dnf", "state: nothing was changed", "hint: `prlctl enter web01`"],
    );
    assert!(!ran.stderr.contains("goes on where it was"), "{ran}");
}

/// They are marks of a layer, which is no root.
#[test]
fn root_a_directory_with_marks_of_overlayfs_is_refused_by_name() {
    let Some(host) = new_host() else { return };
    let root = write_root(&host, "one");
    for (below, name) in [
        ("version", "trusted.overlay.metacopy"),
        ("tmp", "trusted.overlay.opaque"),
        ("", "trusted.overlay.origin"),
    ] {
        let path = std::path::Path::new(&root).join(below);
        let set = |value: Option<&[u8]>| match value {
            Some(value) => rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty()),
            None => rustix::fs::removexattr(&path, name),
        };
        set(Some(b"y")).expect("set it");
        let ran = vzpkg(&host, &["create", "cache", "mine", "--from", &root]);
        ran.failed(
            21,
            &[
                &format!("has the attribute `{name}`"),
                "nothing was changed",
                &format!("hint: `setfattr -x {name} PATH`"),
            ],
        );
        set(None).expect("remove it");
    }
    assert_eq!(vzpkg(&host, &["create", "cache", "mine", "--from", &root]).code, 0);
}

/// Another process that has the lock of `mine`; until its input ends.
fn holder(host: &RealHost) -> std::process::Child {
    holder_of(host, "mine")
}

fn holder_of(host: &RealHost, name: &str) -> std::process::Child {
    host.ok(["list"]);
    let mut command = std::process::Command::new("flock");
    command.arg(host.path(&format!("run/vz/lock/template-{name}.lock"))).args([
        "sh",
        "-c",
        "echo held; cat >/dev/null",
    ]);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("run flock");
    let mut said = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().expect("it has an output"), &mut said)
        .expect("it is held");
    child
}

/// A command that is under way, with what it says so far.
struct Waiting {
    child: std::process::Child,
    said: std::path::PathBuf,
}

impl Waiting {
    /// It waits for the lock of a template.
    fn begin(host: &RealHost, name: &str, words: &[&str]) -> Waiting {
        let said = host.path(name);
        let file = std::fs::File::create(&said).expect("make a file");
        let mut command = host.vzpkg();
        let child = command.args(words).stdout(std::process::Stdio::null()).stderr(file).spawn();
        let waiting = Waiting { child: child.expect("run vzpkg"), said };
        host.wait_until("it waits", || waiting.said().contains("Waiting for `"));
        assert!(waiting.said().contains("is at work on template `"), "{}", waiting.said());
        waiting
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).expect("read what it says")
    }

    fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("wait for vzpkg");
        (status.code(), self.said())
    }
}

#[test]
fn root_two_who_make_a_template_at_once_make_one() {
    let Some(host) = new_host() else { return };
    let from = write_root(&host, "one");
    let create = ["create", "cache", "mine", "--from", &from];
    let both = |name: &str, one: &[&str], other: &[&str]| {
        let mut holder = holder_of(&host, name);
        let begun = [Waiting::begin(&host, "one.err", one), Waiting::begin(&host, "other.err", other)];
        drop(holder.stdin.take());
        holder.wait().expect("wait for flock");
        let ended = begun.map(Waiting::end);
        assert!(ended.iter().all(|(code, _)| *code == Some(0)), "{ended:?}");
        ended.iter().filter(|(_, said)| said.contains("another command has made it meanwhile")).count()
    };
    let versions = || vzpkg_json(&host, &["list", "-j"]).as_array().map(Vec::len);
    let recipe = ["create", "cache", "busybox"];
    assert_eq!(both("busybox", &recipe, &recipe), 1);
    assert_eq!(versions(), Some(1));
    // An update is asked for what there is now.
    assert_eq!(both("busybox", &["update", "cache", "busybox"], &["update", "cache", "busybox"]), 0);
    // What others have made may have been changed since the first one read it: it is read again, and is the same version.
    assert_eq!(both("mine", &create, &create), 0);
    assert_eq!(versions(), Some(2));
}

#[test]
fn root_a_signal_ends_the_wait_for_who_makes_a_template() {
    let Some(host) = new_host() else { return };
    version(&host, "one");
    let from = host.path("roots/mine").display().to_string();
    let mut holder = holder(&host);
    // As long as somebody said, where somebody did.
    vzpkg(&host, &["remove", "cache", "mine", "--lock-wait", "1"])
        .failed(9, &["template `mine` is locked by another command"]);
    for (words, state) in [
        (&["create", "cache", "mine", "--from", &from][..], "nothing of it had begun"),
        (&["update", "cache", "mine"], "nothing of it had begun"),
        (&["remove", "cache", "mine"], "nothing of it had begun"),
        (&["gc"], "what was removed so far was used by nobody"),
    ] {
        let waiting = Waiting::begin(&host, "said.err", words);
        let began = std::time::Instant::now();
        let pid = rustix::process::Pid::from_child(&waiting.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("send a signal");
        let (code, said) = waiting.end();
        assert!(began.elapsed() < testkit::patience(10), "{words:?}");
        assert!(code == Some(130) && said.contains(state), "{words:?}: {code:?} {said}");
    }
    drop(holder.stdin.take());
    holder.wait().expect("wait for flock");
    assert_eq!(vzpkg(&host, &["verify", "mine"]).code, 0);
}

/// An archive of a root with so many files, in directories of a thousand, whose names are as long as names can be, or nearly.
fn archive_of_long_names(host: &RealHost, files: usize) -> String {
    use std::io::Write as _;
    let path = host.path("long.tar");
    let mut archive = std::io::BufWriter::new(std::fs::File::create(&path).expect("make the archive"));
    let mut write = |bytes: &[u8]| archive.write_all(bytes).expect("write the archive");
    write(&testkit::TarMaker::root().unfinished());
    for number in 0..files {
        let directory = format!("data{}", number / 1000);
        if number % 1000 == 0 {
            write(&testkit::TarMaker::new().directory(&directory).unfinished());
        }
        let name = format!("{directory}/{number:0>240}");
        let entry = testkit::TarMaker::new().long_name(name.as_bytes()).file(&name[..99], b"x");
        write(&entry.unfinished());
    }
    write(&[0; 1024]);
    path.display().to_string()
}

/// The most memory that a process of ours has had at once, in KiB, when it has ended as it should.
fn most_memory(mut command: std::process::Command) -> u64 {
    let silent = std::process::Stdio::null;
    let mut child = command.stdout(silent()).stderr(silent()).spawn().expect("run vzpkg");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let here = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(here.unwrap_or(0));
        if let Some(status) = child.try_wait().expect("wait for vzpkg") {
            assert!(status.success(), "{status}");
            return most;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn root_memory_is_bounded_however_many_files_there_are_and_were() {
    let Some(host) = new_host() else { return };
    let from = archive_of_long_names(&host, 30_000);
    for time in ["the first time", "the second time"] {
        let mut command = host.vzpkg();
        command.args(["create", "cache", "mine", "--from", &from]);
        let most = most_memory(command);
        // Half of what an archive of any length may take: as much as all of the names together is more than that.
        assert!((1..32 * 1024).contains(&most), "{time}: {most} KiB");
    }
}

/// Bytes in use where the templates lie, when all that is there is on the disk.
fn used(host: &RealHost) -> u64 {
    let there = std::fs::File::open(host.path("vz/template")).expect("open the store");
    rustix::fs::syncfs(&there).expect("sync the store");
    let found = rustix::fs::fstatvfs(&there).expect("ask the filesystem");
    (found.f_blocks - found.f_bfree) * found.f_frsize
}

const BIG: u64 = 48 * 1024 * 1024;

/// The second version of a template that has a large file which is the same in both; how much room it takes.
fn second_version(host: &RealHost) -> (u64, Ran) {
    let archive = |word: &str| {
        let root = write_root(host, word);
        let line =
            "[ -e \"$1/big\" ] || head -c \"$2\" /dev/urandom >\"$1/big\"; tar -C \"$1\" -cf \"$1.tar\" .";
        let made =
            std::process::Command::new("sh").args(["-ec", line, "sh", &root, &BIG.to_string()]).status();
        assert!(made.expect("run tar").success());
        root + ".tar"
    };
    let ran = vzpkg(host, &["create", "cache", "mine", "--from", &archive("one")]);
    assert_eq!(ran.code, 0, "{ran}");
    let from = archive("two");
    let before = used(host);
    let ran = vzpkg(host, &["update", "cache", "mine", "--from", &from]);
    assert_eq!(ran.code, 0, "{ran}");
    (used(host).saturating_sub(before), ran)
}

#[test]
fn root_what_two_versions_have_in_common_takes_room_once_where_the_filesystem_can() {
    for (kind, shares) in [("btrfs", true), ("ext4", false)] {
        let Some(host) = RealHost::on_image(env!("CARGO_BIN_EXE_prlctl"), "600M", kind) else { return };
        let (room, ran) = second_version(&host);
        assert_eq!(ran.stderr.contains("take no room of their own"), shares, "{kind}\n{ran}");
        assert_eq!(room < BIG / 4, shares, "{kind}: {room} bytes\n{ran}");
        assert_eq!(vzpkg(&host, &["verify", "mine"]).code, 0, "{kind}");
        // What is damaged in the one is not taken for what is in the other, nor does it come into it.
        let damage = "for one in \"$1\"/mine/*/rootfs/big; do printf x | dd of=\"$one\" bs=1 seek=4096 conv=notrunc 2>/dev/null; break; done";
        let store = host.path("vz/template");
        let done = std::process::Command::new("sh").args(["-ec", damage, "sh"]).arg(&store).status();
        assert!(done.expect("run a shell").success());
        let ran = vzpkg(&host, &["verify", "mine"]);
        assert_eq!(ran.code, 85, "{ran}");
        assert_eq!(ran.stdout.matches("changed big").count(), 1, "{kind}\n{ran}");
    }
}
