//! Containers come and go whole, with their names; generations go out of the middle of a chain.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::os::fd::AsFd;

use engine::operation::{create, delete, forget};
use engine::{Code, recover};
use store::{Area, AreaRecord, ContainerId, GenerationNumber, Lock, LockName, registry};
use testkit::How;
use testkit::fake_script::put;
use testkit::host::{TestHost, create_options, reinstall_options};

fn links(host: &TestHost) -> Vec<String> {
    let mut names: Vec<String> = host.snapshot(&host.prefix.names_dir()).into_keys().collect();
    names.extend(host.snapshot(&host.prefix.conf_dir()).into_keys().filter(|name| name.ends_with(".conf")));
    names
}

fn private(host: &TestHost) -> Vec<String> {
    let entries = std::fs::read_dir(host.prefix.private_dir()).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn delete(host: &TestHost, name: &str, is_forced: bool) -> engine::Result<()> {
    let engine = host.host();
    let container = engine.open(name)?;
    delete::delete(container, is_forced)
}

fn forget(host: &TestHost, id: &ContainerId, number: u32) -> engine::Result<Option<String>> {
    let engine = host.host();
    let container = engine.open(&id.to_string())?;
    forget::delete(&container, GenerationNumber::new(number))
}

fn parents(host: &TestHost, id: &ContainerId) -> Vec<(u32, Option<u32>)> {
    let all = host.area(id).generations().unwrap().into_iter();
    all.map(|(number, record)| (number.get(), record.unwrap().parent.map(GenerationNumber::get))).collect()
}

#[test]
fn a_created_container_is_whole_and_has_its_names() {
    let host = TestHost::new();
    put(
        &host.prefix.conf_dir().join("ve-small.conf-sample"),
        b"# mine\nPHYSPAGES=\"0:65536\"\nNAME=\"thief\"\nOSTEMPLATE=\"maxi\"\n",
    );
    let mut options = create_options("мой web 01");
    options.sample = Some("small".to_owned());
    let id = create::create(&host.host(), &options).unwrap();
    assert_eq!(host.host().find("мой web 01").unwrap(), id);
    assert_eq!(host.host().find(&id.braced()).unwrap(), id);
    assert_eq!((host.generations(&id), host.live(&id)), (vec![1], 1));
    let value = |key| host.value(&id, key).unwrap_or_default();
    assert_eq!((value("NAME"), value("UUID")), ("мой web 01".into(), id.to_string()));
    assert_eq!((value("OSTEMPLATE"), value("DISTRIBUTION")), ("mini".into(), "mini-linux".into()));
    assert_eq!((value("PHYSPAGES"), value("ONBOOT")), ("0:65536".into(), "no".into()));
    let text = host.area(&id).conf().unwrap().to_bytes();
    assert!(text.starts_with(b"# mine\n"), "comments of the sample stay");
    for link in
        [host.prefix.names_dir().join("мой web 01"), host.prefix.conf_dir().join(format!("{id}.conf"))]
    {
        assert_eq!(std::fs::read(&link).unwrap(), text, "{}", link.display());
    }
    assert!(host.container(&id).running.is_none());
}

#[test]
fn the_template_and_the_sample_of_vz_conf_are_the_default() {
    let host = TestHost::new();
    let mut options = create_options("web01");
    options.template = None;
    let failure = create::create(&host.host(), &options).unwrap_err();
    assert_eq!((failure.code, failure.state.as_deref()), (Code::BadOption, Some("nothing was changed")));
    put(&host.prefix.vz_conf(), b"DEF_OSTEMPLATE=\"maxi\"\nCONFIGFILE=\"basic\"\n");
    let id = create::create(&host.host(), &options).unwrap();
    assert_eq!(host.value(&id, "OSTEMPLATE").as_deref(), Some("maxi"));
    assert_eq!(std::fs::read_to_string(host.delta(&id, 1, "etc/machine-id")).unwrap().trim().len(), 32);
}

#[test]
fn two_containers_share_neither_name_nor_id_nor_ids() {
    let host = TestHost::new();
    let one = host.create("web01");
    let failure = create::create(&host.host(), &create_options("web01")).unwrap_err();
    assert_eq!((failure.code, failure.state.as_deref()), (Code::BadName, Some("nothing was changed")));
    assert!(failure.to_string().contains("the name `web01` is taken"), "{failure}");

    let mut options = create_options("web02");
    options.id = Some(one);
    let failure = create::create(&host.host(), &options).unwrap_err();
    assert_eq!((failure.code, failure.state.as_deref()), (Code::Exists, Some("nothing was changed")));

    let two = host.create("web02");
    let ids = |id: &ContainerId| host.area(id).record().unwrap().id_range;
    assert!(!ids(&one).overlaps(&ids(&two)));
    assert_eq!(registry::list(&host.prefix).unwrap().len(), 2);
    assert_eq!(links(&host).len(), 4);
}

#[test]
fn what_cannot_be_created_leaves_nothing() {
    let host = TestHost::new();
    put(&host.prefix.conf_dir().join("ve-broken.conf-sample"), b"PHYSPAGES=\"many\"\n");
    let (before, names) = (private(&host), links(&host));
    type Spoil = fn(&mut create::Options);
    let cases: [(&str, Spoil, u8); 5] = [
        ("template", |options| options.template = Some("none".parse().unwrap()), 91),
        ("sample", |options| options.sample = Some("none".into()), 82),
        ("sample's name", |options| options.sample = Some("../vz".into()), 21),
        ("sample's value", |options| options.sample = Some("broken".into()), 82),
        ("a file in the place of its name", |options| options.name = "taken".parse().unwrap(), 3),
    ];
    put(&host.prefix.names_dir().join("taken"), b"not ours");
    for (case, spoil, exit) in cases {
        let mut options = create_options("web01");
        spoil(&mut options);
        let failure = create::create(&host.host(), &options).unwrap_err();
        assert_eq!(
            (failure.code.exit(), failure.state.as_deref()),
            (exit, Some("nothing was changed")),
            "{case}: {failure}"
        );
        assert_eq!(private(&host), before, "{case}");
    }
    assert_eq!(std::fs::read(host.prefix.names_dir().join("taken")).unwrap(), b"not ours");
    std::fs::remove_file(host.prefix.names_dir().join("taken")).unwrap();
    assert_eq!(links(&host), names);
}

/// What a creation leaves that died just before its last rename.
fn dead_creation(host: &TestHost, name: &str) -> ContainerId {
    let id = ContainerId::random();
    let lock = host.host().lock_host().unwrap();
    let ids = registry::allocate_id_range(&host.prefix, &lock).unwrap();
    Area::stage(&host.prefix, &AreaRecord::new(id, ids)).unwrap();
    registry::link_name(&host.prefix, &name.parse().unwrap(), &id).unwrap();
    registry::link_conf(&host.prefix, &id).unwrap();
    id
}

#[test]
fn what_a_dead_creation_left_is_nobody_and_is_swept() {
    let host = TestHost::new();
    host.create("web01");
    let (before, names) = (private(&host), links(&host));
    let dead = dead_creation(&host, "web02");
    assert_eq!(host.host().open("web02").unwrap_err().code, Code::UnknownContainer);
    assert!(recover::recover_all(&host.host()).unwrap().iter().all(|result| result.failure.is_none()));
    assert_eq!(private(&host), before, "the staged area is gone");
    assert_eq!(links(&host), names, "and so are its names");
    assert!(registry::staged(&host.prefix).unwrap().is_empty(), "{dead}");
}

#[test]
fn a_name_and_an_id_of_a_dead_creation_can_be_taken() {
    let host = TestHost::new();
    let dead = dead_creation(&host, "web01");
    let mut options = create_options("web01");
    options.id = Some(dead);
    let id = create::create(&host.host(), &options).unwrap();
    assert_eq!((id, host.host().find("web01").unwrap()), (dead, dead));
    assert_eq!(host.generations(&id), [1]);
    let other = dead_creation(&host, "web02");
    let second = host.create("web02");
    assert_ne!(second, other);
    recover::recover_all(&host.host()).unwrap();
    assert_eq!(host.host().find("web02").unwrap(), second, "the sweep spares who has the name now");
}

#[test]
fn a_staged_template_of_the_dead_is_swept_and_one_of_the_living_is_not() {
    let host = TestHost::new();
    let living = store::template::staging(&host.prefix, &"other".parse().unwrap()).unwrap();
    let dead = host.prefix.template_dir().join(".staging-1-dead");
    put(&dead.join("rootfs/file"), b"");
    recover::recover_all(&host.host()).unwrap();
    assert!(!dead.exists() && living.rootfs().is_dir());
}

#[test]
fn a_stopped_container_is_deleted_with_its_names() {
    let host = TestHost::new();
    let id = host.create("web01");
    host.reinstall(&id, &reinstall_options()).unwrap();
    host.create("web02");
    delete(&host, "web01", false).unwrap();
    assert_eq!(host.host().find("web01").unwrap_err().code, Code::UnknownContainer);
    assert_eq!((links(&host).len(), registry::list(&host.prefix).unwrap().len()), (2, 1));
    assert!(!host.prefix.area_dir(&id).exists() && !host.prefix.run_dir_of(&id).exists());
    assert!(!store::trash::is_empty(&host.prefix).unwrap());
    store::trash::empty(&host.prefix).unwrap();
    assert!(store::trash::is_empty(&host.prefix).unwrap());
    host.create("web01");
}

#[test]
fn a_deletion_leaves_no_link_whatever_an_editor_has_made_of_the_name() {
    let host = TestHost::new();
    for (number, name) in ["a/b", "\"", "web03"].into_iter().enumerate() {
        let id = host.create("web01");
        registry::link_name(&host.prefix, &format!("old{number}").parse().unwrap(), &id).unwrap();
        let conf = host.prefix.area_dir(&id).join("ve.conf");
        let text = std::fs::read_to_string(&conf).unwrap();
        put(&conf, text.replace("NAME=\"web01\"", &format!("NAME=\"{name}\"")).as_bytes());
        delete(&host, &id.to_string(), false).unwrap();
        assert_eq!(links(&host), Vec::<String>::new(), "NAME=\"{name}\"");
    }
}

#[test]
fn a_running_container_is_only_deleted_by_force() {
    let host = TestHost::new();
    let id = host.create_running("web01");
    let failure = delete(&host, "web01", false).unwrap_err();
    assert_eq!((failure.code.exit(), failure.state.as_deref()), (32, Some("nothing was changed")));
    assert!(host.container(&id).running.is_some());
    delete(&host, "web01", true).unwrap();
    assert_eq!(registry::list(&host.prefix).unwrap(), []);
    assert!(host.container(&id).mounts.is_empty());
    assert_eq!(host.fake().world().violations, Vec::<String>::new());
}

#[test]
fn a_container_that_is_in_use_is_not_deleted() {
    for method in ["stop", "wait_until_gone", "unmount_all"] {
        let host = TestHost::new();
        let id = host.create_running("web01");
        host.fake().fail(method, 1, How::ErrorBefore);
        let failure = delete(&host, "web01", true).unwrap_err();
        assert!(matches!(failure.code, Code::Mounted | Code::CannotStop), "{method}: {failure}");
        assert!(failure.state.is_some() || method == "stop", "{method}: {failure}");
        assert_eq!((host.host().find("web01").unwrap(), host.live(&id)), (id, 1), "{method}");
        delete(&host, "web01", true).unwrap();
        assert_eq!(links(&host), Vec::<String>::new(), "{method}");
    }
}

#[test]
fn a_deletion_that_died_after_its_commit_leaves_names_that_are_swept() {
    let host = TestHost::new();
    let id = host.create("web01");
    let private = store::atomic::open_directory(&host.prefix.private_dir()).unwrap();
    store::trash::discard(&host.prefix, private.as_fd(), id.to_string()).unwrap();
    assert_eq!(links(&host).len(), 2);
    assert_eq!(host.host().find("web01").unwrap_err().code, Code::UnknownContainer);
    recover::recover_all(&host.host()).unwrap();
    assert_eq!(links(&host), Vec::<String>::new());
}

#[test]
fn lost_names_are_made_again() {
    let host = TestHost::new();
    let id = host.create("web01");
    let before = links(&host);
    registry::unlink_name(&host.prefix, &"web01".parse().unwrap(), &id).unwrap();
    registry::unlink_conf(&host.prefix, &id).unwrap();
    recover::recover_all(&host.host()).unwrap();
    assert_eq!(links(&host), before);
}

#[test]
fn one_container_that_cannot_be_recovered_does_not_keep_the_others() {
    let host = TestHost::new();
    let (bad, good) = (host.create("bad"), host.create("good"));
    put(&host.prefix.area_dir(&bad).join("area.json"), b"{");
    registry::unlink_name(&host.prefix, &"good".parse().unwrap(), &good).unwrap();
    let results = recover::recover_all(&host.host()).unwrap();
    let failed: Vec<&str> =
        results.iter().filter(|one| one.failure.is_some()).filter_map(|one| one.name.as_deref()).collect();
    assert_eq!((results.len(), failed), (2, vec!["bad"]));
    assert_eq!(host.host().find("good").unwrap(), good);
}

#[test]
fn what_cannot_be_swept_is_told_and_keeps_no_container() {
    let host = TestHost::new();
    let good = host.create("good");
    registry::unlink_name(&host.prefix, &"good".parse().unwrap(), &good).unwrap();
    let templates = host.prefix.template_dir();
    rustix::fs::rename(&templates, templates.with_extension("away")).unwrap();
    let results = recover::recover_all(&host.host()).unwrap();
    let failed: Vec<_> = results.iter().filter(|one| one.failure.is_some()).collect();
    assert_eq!((results.len(), failed.len(), &failed[0].name), (2, 1, &None));
    let failure = failed[0].failure.as_ref().unwrap();
    assert_eq!(
        (failure.code, failure.what.as_str()),
        (Code::System, "cannot remove what dead commands have left")
    );
    assert!(failure.state.is_some() && failure.hint.is_some(), "{failure}");
    assert_eq!(host.host().find("good").unwrap(), good);
}

/// Generations 1, 2, 3 and 4, each at the `/old` of the next, running on 4.
fn chain(host: &TestHost) -> ContainerId {
    let id = host.create_running("web01");
    for _ in 0..3 {
        host.reinstall(&id, &reinstall_options()).unwrap();
    }
    id
}

#[test]
fn a_generation_in_the_middle_goes_and_the_chain_closes() {
    let host = TestHost::new();
    let id = chain(&host);
    assert_eq!(forget(&host, &id, 3).unwrap(), None);
    assert_eq!(parents(&host, &id), [(1, None), (2, Some(1)), (4, Some(2))]);
    assert_eq!(host.container(&id).running.unwrap().old, [2, 1]);
    let mounts = host.container(&id).mounts;
    assert!(!mounts.contains_key(&3) && !mounts[&2].is_read_only && mounts[&1].is_read_only, "{mounts:?}");
    forget(&host, &id, 1).unwrap();
    forget(&host, &id, 2).unwrap();
    assert_eq!(parents(&host, &id), [(4, None)]);
    assert_eq!(host.container(&id).running.unwrap().old, Vec::<u32>::new());
    assert_eq!(host.fake().world().violations, Vec::<String>::new());
}

#[test]
fn a_generation_that_nobody_has_at_old_goes_without_touching_it() {
    let host = TestHost::new();
    let id = chain(&host);
    host.script("vps.configure", "exit 1");
    host.reinstall(&id, &reinstall_options()).unwrap_err();
    let before = host.fake().world().counts.get("replace_old").copied();
    forget(&host, &id, 5).unwrap();
    assert_eq!(host.generations(&id), [1, 2, 3, 4]);
    assert_eq!(host.fake().world().counts.get("replace_old").copied(), before);
}

#[test]
fn a_generation_that_the_container_holds_stays_with_everything_as_it_was() {
    let host = TestHost::new();
    let id = chain(&host);
    let before = parents(&host, &id);
    host.fake().change(|world| {
        world.containers.get_mut(&id.to_string()).unwrap().held.insert(3);
    });
    let failure = forget(&host, &id, 3).unwrap_err();
    assert_eq!(failure.code.exit(), 41, "{failure}");
    assert!(failure.hint.unwrap().contains("prlctl stop"));
    assert_eq!((parents(&host, &id), host.container(&id).running.unwrap().old), (before, vec![3, 2, 1]));
    host.stop(&id);
    forget(&host, &id, 3).unwrap();
    assert_eq!(host.generations(&id), [1, 2, 4]);
}

#[test]
fn a_template_in_use_stays() {
    let host = TestHost::new();
    let id = host.create("web01");
    let name = "mini".parse().unwrap();
    let _lock = Lock::exclusive(
        &host.prefix,
        LockName::Template("mini".parse().unwrap()),
        std::time::Duration::ZERO,
        "a test",
    )
    .unwrap();
    assert!(store::template::remove(&host.prefix, &name).is_err());
    delete(&host, &id.to_string(), false).unwrap();
    store::template::remove(&host.prefix, &name).unwrap();
}

#[test]
fn a_deletion_that_has_happened_is_no_error_whatever_becomes_of_the_links() {
    let host = TestHost::new();
    let id = create::create(&host.host(), &create_options("web01")).unwrap();
    let links = host.prefix.conf_dir();
    std::fs::remove_file(links.join(format!("{id}.conf"))).unwrap();
    std::fs::remove_dir(&links).unwrap();
    host.told();
    delete(&host, "web01", false).unwrap();
    assert!(!host.prefix.area_dir(&id).exists());
    assert!(format!("{:?}", host.told()).contains("it is deleted"));
}
