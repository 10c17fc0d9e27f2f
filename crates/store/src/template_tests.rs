use super::*;
use crate::Base;
use crate::area::tests::{container, generation, put};
use crate::prefix::tests::prefix;

const FIRST: &str = "00112233445566778899aabbccddeeff";
const SECOND: &str = "ffeeddccbbaa99887766554433221100";

fn name() -> TemplateName {
    "debian-12-x86_64".parse().unwrap()
}

fn record(digest: &str) -> TemplateRecord {
    TemplateRecord {
        format: TemplateRecord::FORMAT,
        name: name(),
        digest: digest.into(),
        source: "test".into(),
        created: Timestamp::now(),
        distribution: "debian".into(),
        release: Some("12".into()),
        architecture: "x86_64".into(),
        init: "/sbin/init".into(),
        stop_signal: "SIGRTMIN+3".into(),
        size_bytes: 1,
        disk_bytes: None,
        entries: 1,
        systemd: true,
        application: None,
        own_files: Vec::new(),
        origin: Some(TemplateOrigin::Recipe),
    }
}

pub(crate) fn publish(prefix: &Prefix, digest: &str) -> Template {
    let staging = staging(prefix, &name()).unwrap();
    put(&staging.rootfs().join("file"), digest.as_bytes());
    staging.publish(record(digest)).unwrap()
}

fn root_on(container: &crate::ContainerId, number: crate::GenerationNumber, digest: &str) -> User {
    User { template: name(), version: digest.into(), who: Who::Root { container: *container, number } }
}

fn top(prefix: &Prefix) -> Vec<OsString> {
    atomic::names_in(atomic::open_directory(&prefix.template_dir()).unwrap().as_fd()).unwrap()
}

#[test]
fn is_there_when_it_is_published_and_not_before() {
    let (_directory, prefix) = prefix();
    assert!(matches!(latest(&prefix, &name()), Err(TemplateError::Unknown { .. })));
    let first = publish(&prefix, FIRST);
    assert_eq!(first.rootfs(), prefix.template_dir().join("debian-12-x86_64").join(FIRST).join("rootfs"));
    assert_eq!(latest(&prefix, &name()).unwrap(), first);

    let second = publish(&prefix, SECOND);
    assert_eq!(latest(&prefix, &name()).unwrap(), second);
    assert!(!exact(&prefix, &name(), FIRST).unwrap().is_latest);
    assert_eq!(templates(&prefix).unwrap().len(), 2);
    assert!(matches!(exact(&prefix, &name(), "0000000000"), Err(TemplateError::Missing { .. })));
    assert!(matches!(exact(&prefix, &name(), "../../../etc"), Err(TemplateError::Missing { .. })));
}

#[test]
fn a_record_of_before_origins_is_read() {
    let (_directory, prefix) = prefix();
    let first = publish(&prefix, FIRST);
    let file = first.path.join("template.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let before = text.replace(",\n  \"origin\": \"recipe\"", "");
    assert_ne!(before, text);
    put(&file, before.as_bytes());
    assert_eq!(exact(&prefix, &name(), FIRST).unwrap().record.origin, None);
    let from = |more: &str| format!(",\n  \"origin\": {{ \"from\": {{ \"source\": \"/a.tar\"{more} }} }}");
    for more in ["", ", \"image\": \"a:1\", \"init\": null"] {
        put(&file, text.replace(",\n  \"origin\": \"recipe\"", &from(more)).as_bytes());
        let origin = exact(&prefix, &name(), FIRST).unwrap().record.origin;
        assert!(matches!(origin, Some(TemplateOrigin::From { source, .. }) if source == "/a.tar"), "{more}");
    }
}

#[test]
fn the_same_tree_again_is_the_same_template() {
    let (_directory, prefix) = prefix();
    publish(&prefix, FIRST);
    publish(&prefix, SECOND);
    assert!(publish(&prefix, FIRST).is_latest);
    assert_eq!(top(&prefix), ["debian-12-x86_64"]);
}

#[test]
fn the_same_tree_of_another_source_is_made_of_that_one_from_then_on() {
    let (_directory, prefix) = prefix();
    let first = publish(&prefix, FIRST).record;
    let from = |source: &str| TemplateOrigin::From {
        source: source.into(),
        image: None,
        init: None,
        stop_signal: None,
        entry_point: false,
    };
    for origin in [Some(from("/a.tar")), None, Some(from("/b.tar"))] {
        let source = format!("{origin:?}");
        let made = TemplateRecord {
            origin: origin.clone(),
            source: source.clone(),
            systemd: false,
            ..record(FIRST)
        };
        let template = staging(&prefix, &name()).unwrap().publish(made).unwrap();
        assert_eq!(template.record, TemplateRecord { origin, source, ..first.clone() });
        assert_eq!(std::fs::read(template.rootfs().join("file")).unwrap(), FIRST.as_bytes());
    }
}

#[test]
fn a_whole_tree_takes_the_place_of_a_damaged_one() {
    let (_directory, prefix) = prefix();
    let first = publish(&prefix, FIRST);
    publish(&prefix, SECOND);
    let file = |content: &[u8]| put(&first.rootfs().join("file"), content);
    let tried = |damage: &dyn Fn()| {
        damage();
        let staging = staging(&prefix, &name()).unwrap();
        put(&staging.rootfs().join("file"), FIRST.as_bytes());
        let (made, damaged) = staging.publish_in_place(record(FIRST)).unwrap();
        assert_eq!(top(&prefix).len(), 2, "what was damaged goes when nobody waits for it");
        drop(damaged);
        assert!(made.is_latest && made.path == first.path);
        assert_eq!(std::fs::read(first.rootfs().join("file")).unwrap(), FIRST.as_bytes());
        assert_eq!(top(&prefix), ["debian-12-x86_64"], "what was damaged is gone");
    };
    tried(&|| file(b"damaged"));
    tried(&|| {
        let version = atomic::open_directory(&first.path).unwrap();
        trash::remove_now(version.as_fd(), ROOTFS).unwrap();
    });
    tried(&|| put(&first.path.join("template.json"), b"{"));
    assert_eq!(templates(&prefix).unwrap().iter().filter(|one| one.is_ok()).count(), 2);

    // A death between the exchange and all else: what was damaged has no name that anybody looks for.
    file(b"damaged");
    let dead = prefix.template_dir().join(".staging-1-dead");
    std::fs::create_dir_all(dead.join("rootfs")).unwrap();
    put(&dead.join("rootfs/file"), FIRST.as_bytes());
    put(&dead.join("template.json"), &record::encode(&record(FIRST)).unwrap());
    let open = |path: &std::path::Path| atomic::open_directory(path).unwrap();
    let (above, named) = (open(&prefix.template_dir()), open(first.path.parent().unwrap()));
    atomic::exchange_at(above.as_fd(), ".staging-1-dead", named.as_fd(), FIRST).unwrap();
    assert_eq!(std::fs::read(dead.join("rootfs/file")).unwrap(), b"damaged");
    assert_eq!(sweep(&prefix).unwrap(), 1);
    assert_eq!(top(&prefix), ["debian-12-x86_64"]);
    assert_eq!(std::fs::read(first.rootfs().join("file")).unwrap(), FIRST.as_bytes());

    // Nothing is there that it could take the place of: then it takes none.
    let other = FIRST.replace("eeff", "eeee");
    let failed = staging(&prefix, &name()).unwrap().publish_in_place(record(&other));
    assert!(failed.is_err() && exact(&prefix, &name(), &other).is_err());
}

#[test]
fn who_lies_on_a_version_is_known_and_who_may() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    let number = area.next_generation_number().unwrap();
    let base = Base::Template { name: name(), digest: FIRST.into() };
    area.create_generation(&crate::GenerationRecord { base, ..generation(number, Some(1)) }).unwrap();
    let lying = |digest: &str| {
        let lying = lying_on(&prefix, &name(), digest).unwrap();
        lying.into_iter().map(|one| (*one.area.id(), one.generations)).collect::<Vec<_>>()
    };
    assert_eq!(lying(FIRST), [(*area.id(), Some(vec![number]))]);
    assert!(lying(SECOND).is_empty());
    for file in ["generation.json", "made.json"] {
        put(&area.generation_dir(number).join(file), b"{");
    }
    assert_eq!(lying(SECOND), [(*area.id(), None)]);
}

#[test]
fn a_version_is_chosen_by_the_digits_that_only_it_has() {
    let (_directory, prefix) = prefix();
    let similar = FIRST.replace("eeff", "eeee");
    for digest in [FIRST, SECOND, &similar] {
        publish(&prefix, digest);
    }
    let chosen = |version: &str| {
        choose(&prefix, &format!("debian-12-x86_64@{version}").parse().unwrap())
            .map(|template| template.record.digest)
            .map_err(|error| error.to_string())
    };
    assert_eq!(choose(&prefix, &name().into()).unwrap().record.digest, similar);
    for (version, digest) in
        [("ffeeddcc", SECOND), (SECOND, SECOND), (FIRST, FIRST), (similar.as_str(), similar.as_str())]
    {
        assert_eq!(chosen(version).unwrap(), digest);
    }
    let refused = chosen("00112233").unwrap_err();
    assert!(
        refused.contains("more than one") && refused.contains(FIRST) && refused.contains(&similar),
        "{refused}"
    );
    let refused = chosen("0123456789").unwrap_err();
    assert!(refused.contains("there are: 001122334455") && refused.contains("(the latest)"), "{refused}");
    let unknown = choose(&prefix, &"other@00112233".parse().unwrap()).unwrap_err();
    assert!(matches!(unknown, TemplateError::Unknown { .. }), "{unknown}");
}

#[test]
fn a_version_that_a_container_is_pinned_to_is_used_though_a_script_made_the_root() {
    let (_directory, prefix) = prefix();
    publish(&prefix, FIRST);
    publish(&prefix, SECOND);
    let area = container(&prefix, "web01");
    let number = area.next_generation_number().unwrap();
    let mut record = crate::GenerationRecord { base: Base::Empty, ..generation(number, Some(1)) };
    record.ostemplate = Some(format!("{}@{FIRST}", name()));
    area.create_generation(&record).unwrap();
    assert_eq!(users_of(&prefix, &name()).unwrap(), [root_on(area.id(), number, FIRST)]);
    assert!(prune(&prefix, &name()).unwrap().is_empty());
    record.ostemplate = Some(name().to_string());
    area.store_generation(&record).unwrap();
    assert_eq!(prune(&prefix, &name()).unwrap(), [FIRST]);
}

#[test]
fn what_a_configuration_is_pinned_to_stays_and_says_by_whom() {
    let (_directory, prefix) = prefix();
    publish(&prefix, FIRST);
    publish(&prefix, SECOND);
    let area = container(&prefix, "web01");
    let pin = |version: &str| {
        let mut conf = area.conf().unwrap();
        conf.set("OSTEMPLATE", &format!("{}{version}", name())).unwrap();
        area.store_conf(&conf).unwrap();
    };
    let default = |text: &str| put(&prefix.vz_conf(), text.as_bytes());
    let remove_first = || remove_version(&prefix, &format!("{}@{FIRST}", name()).parse().unwrap());
    let stays = |what: &str| {
        assert!(prune(&prefix, &name()).unwrap().is_empty(), "{what}");
        let refused = [remove_first().unwrap_err(), remove(&prefix, &name()).unwrap_err()];
        for refused in refused.map(|error| error.to_string()) {
            assert!(refused.contains(what), "{refused}");
        }
    };
    for digits in [FIRST.to_owned(), FIRST[..8].to_owned(), FIRST.to_uppercase()] {
        pin(&format!("@{digits}"));
        stays("(pinned)");
    }
    // Not of that one, and of none.
    pin("@ffeeddcc");
    default(&format!("DEF_OSTEMPLATE=\"{}@{}\"\n", name(), &FIRST[..10]));
    stays("vz.conf");
    default(&format!("DEF_OSTEMPLATE=\"{}\"\n", name()));
    pin("");

    // What cannot be read may name any.
    let conf = area.path().join("ve.conf");
    let text = std::fs::read(&conf).unwrap();
    let broken: [&dyn Fn(); 4] = [
        &|| put(&conf, b""),
        &|| put(&conf, b"OSTEMPLATE=\"x\n"),
        &|| std::fs::remove_file(&conf).unwrap(),
        &|| put(&prefix.vz_conf(), b"DEF_OSTEMPLATE=\"x\n"),
    ];
    for damage in broken {
        put(&conf, &text);
        damage();
        for refused in [prune(&prefix, &name()).unwrap_err(), remove_first().unwrap_err()] {
            let is_it = matches!(refused, TemplateError::UnknownUses { .. } | TemplateError::Default(_));
            assert!(is_it, "{refused}");
        }
        assert_eq!(users(&prefix).unwrap().unreadable.len(), 1);
    }
    put(&conf, &text);
    default("");
    assert_eq!(prune(&prefix, &name()).unwrap(), [FIRST]);
}

#[test]
fn of_a_container_that_is_damaged_is_known_what_can_be() {
    let (_directory, prefix) = prefix();
    publish(&prefix, FIRST);
    let areas = ["web01", "web02"].map(|name| container(&prefix, name));
    let mut expected = Vec::new();
    for area in &areas {
        for _ in 0..2 {
            let number = area.next_generation_number().unwrap();
            let base = Base::Template { name: name(), digest: FIRST.into() };
            area.create_generation(&crate::GenerationRecord { base, ..generation(number, Some(1)) }).unwrap();
            expected.push(root_on(area.id(), number, FIRST));
        }
    }
    let last = expected.pop().unwrap();
    let Who::Root { number, .. } = last.who else { panic!("it is a root") };
    for file in ["generation.json", "made.json"] {
        put(&areas[1].generation_dir(number).join(file), b"{");
    }
    let mut found = users(&prefix).unwrap();
    let in_order = |user: &User| format!("{user:?}");
    found.known.sort_by_key(in_order);
    expected.sort_by_key(in_order);
    assert_eq!(found.known, expected);
    assert!(
        matches!(&found.unreadable[..], [TemplateError::UnknownUses { container, .. }] if container == "web02"),
        "{found:?}"
    );
}

#[test]
fn a_staging_that_is_dropped_is_gone_and_one_that_is_left_is_swept() {
    let (_directory, prefix) = prefix();
    drop(staging(&prefix, &name()).unwrap());
    assert!(top(&prefix).is_empty());

    let working = staging(&prefix, &name()).unwrap();
    std::fs::create_dir_all(prefix.template_dir().join(".staging-1-dead/rootfs/x")).unwrap();
    assert_eq!(sweep(&prefix).unwrap(), 1);
    assert!(working.rootfs().is_dir());
    assert_eq!(top(&prefix).len(), 1);
}

#[test]
fn a_temporary_beside_latest_is_swept_unless_somebody_publishes() {
    let (_directory, prefix) = prefix();
    publish(&prefix, FIRST);
    let temporary = prefix.template_dir().join(name().as_str()).join(".reroot-tmp.dead");
    std::os::unix::fs::symlink("nowhere", &temporary).unwrap();
    let lock = Lock::exclusive(&prefix, LockName::Template(name()), Duration::ZERO, "publishing").unwrap();
    assert_eq!(sweep(&prefix).unwrap(), 0);
    drop(lock);
    assert_eq!(sweep(&prefix).unwrap(), 1);
    assert!(temporary.symlink_metadata().is_err());
}

#[test]
fn a_record_of_another_template_is_not_published() {
    let (_directory, prefix) = prefix();
    for record in [record("../x"), TemplateRecord { name: "other".parse().unwrap(), ..record(FIRST) }] {
        assert!(staging(&prefix, &name()).unwrap().publish(record).is_err());
    }
    assert!(top(&prefix).is_empty());
}

#[test]
fn says_what_is_wrong_with_one_and_lists_the_others() {
    let (_directory, prefix) = prefix();
    let first = publish(&prefix, FIRST);
    publish(&prefix, SECOND);
    let file = first.path.join("template.json");
    let text = std::fs::read_to_string(&file).unwrap();
    for (bytes, newer) in [
        (String::new(), false),
        ("{".into(), false),
        (text.replace(FIRST, SECOND), false),
        (text.replace("\"format\": 1", "\"format\": 2"), true),
    ] {
        put(&file, bytes.as_bytes());
        let error = exact(&prefix, &name(), FIRST).unwrap_err();
        assert_eq!(matches!(error, TemplateError::NewerFormat { .. }), newer, "{error}");
        assert_eq!(matches!(error, TemplateError::Damaged { .. }), !newer, "{error}");
    }
    assert_eq!(templates(&prefix).unwrap().iter().filter(|template| template.is_ok()).count(), 1);
}

#[test]
fn is_not_removed_while_a_generation_lies_on_it() {
    let (_directory, prefix) = prefix();
    publish(&prefix, FIRST);
    publish(&prefix, SECOND);
    let area = container(&prefix, "web01");
    let number = area.next_generation_number().unwrap();
    let base = Base::Template { name: name(), digest: FIRST.into() };
    let record = crate::GenerationRecord { base, ..generation(number, Some(1)) };
    area.create_generation(&record).unwrap();

    assert_eq!(users_of(&prefix, &name()).unwrap(), [root_on(area.id(), number, FIRST)]);
    let error = remove(&prefix, &name()).unwrap_err();
    assert!(error.to_string().contains(&area.id().to_string()), "{error}");
    assert!(prune(&prefix, &name()).unwrap().is_empty());

    // A record that cannot be read: the copy from its making still tells; without one, nothing is removed.
    let directory = area.generation_dir(number);
    put(&directory.join("generation.json"), b"{");
    assert!(matches!(remove(&prefix, &name()), Err(TemplateError::InUse { .. })));
    put(&directory.join("made.json"), b"{");
    let refused = remove(&prefix, &name()).unwrap_err();
    assert!(
        matches!(&refused, TemplateError::UnknownUses { container, source: AreaError::Damaged { .. } } if container == "web01"),
        "{refused}"
    );

    area.discard_generation(&prefix, number).unwrap();
    assert_eq!(prune(&prefix, &name()).unwrap(), [FIRST]);
    remove(&prefix, &name()).unwrap();
    assert!(matches!(latest(&prefix, &name()), Err(TemplateError::Unknown { .. })));
    assert!(matches!(remove(&prefix, &name()), Err(TemplateError::Unknown { .. })));
}

#[test]
fn a_version_is_removed_by_itself_and_the_newest_of_the_others_is_the_latest() {
    let (_directory, prefix) = prefix();
    const THIRD: &str = "33333333333333333333333333333333";
    for digest in [FIRST, SECOND, THIRD] {
        publish(&prefix, digest);
    }
    let remove = |version: &str| remove_version(&prefix, &format!("{}@{version}", name()).parse().unwrap());
    let area = container(&prefix, "web01");
    let number = area.next_generation_number().unwrap();
    let base = Base::Template { name: name(), digest: SECOND.into() };
    area.create_generation(&crate::GenerationRecord { base, ..generation(number, Some(1)) }).unwrap();
    let error = remove(SECOND).unwrap_err();
    assert!(
        matches!(&error, TemplateError::InUse { users, .. } if users[..] == [root_on(area.id(), number, SECOND)]),
        "{error}"
    );

    let removed = remove(&THIRD[..8]).unwrap();
    assert_eq!(removed, Removed { digest: THIRD.into(), latest: Some(SECOND.into()) });
    assert_eq!(latest(&prefix, &name()).unwrap().record.digest, SECOND);
    // One that is not the latest, and is damaged.
    put(&name_dir(&prefix, &name()).join(FIRST).join("template.json"), b"{");
    assert_eq!(remove(FIRST).unwrap().latest.as_deref(), Some(SECOND));
    assert!(matches!(remove(FIRST), Err(TemplateError::NoVersion { .. })));
    area.discard_generation(&prefix, number).unwrap();
    assert_eq!(remove(SECOND).unwrap(), Removed { digest: SECOND.into(), latest: None });
    assert!(top(&prefix).is_empty());
}

#[test]
fn the_latest_version_stays_where_all_others_are_damaged() {
    let (_directory, prefix) = prefix();
    publish(&prefix, FIRST);
    publish(&prefix, SECOND);
    put(&name_dir(&prefix, &name()).join(FIRST).join("template.json"), b"{");
    let error = remove_version(&prefix, &format!("{}@{SECOND}", name()).parse().unwrap()).unwrap_err();
    assert!(matches!(error, TemplateError::Damaged { .. }), "{error}");
    assert_eq!(latest(&prefix, &name()).unwrap().record.digest, SECOND);
}

#[test]
fn a_record_tells_what_to_run_or_nothing_and_old_ones_are_read() {
    let plain = record(FIRST);
    let bytes = record::encode(&plain).unwrap();
    assert!(
        !String::from_utf8_lossy(&bytes).contains("application"),
        "as it was written before there were any"
    );
    assert_eq!(record::decode::<TemplateRecord>(&bytes).unwrap(), plain);
    let application = Application {
        arguments: vec!["app".into(), "-v".into()],
        environment: vec!["KEY=value".into()],
        user: Some("app:1000".into()),
        directory: Some("/srv".into()),
    };
    for application in
        [application.clone(), Application { arguments: application.arguments, ..Application::default() }]
    {
        let with = TemplateRecord { application: Some(application), ..record(FIRST) };
        assert_eq!(record::decode::<TemplateRecord>(&record::encode(&with).unwrap()).unwrap(), with);
    }
}
