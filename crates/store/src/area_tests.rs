use super::*;
use crate::generation::{Base, GenerationRecord, GenerationState, Reason};
use crate::id_range::LOWEST;
use crate::journal::Journal;
use crate::prefix::tests::prefix;
use std::os::unix::fs::PermissionsExt as _;

/// A record with nothing special in it.
pub(crate) fn generation(number: GenerationNumber, parent: Option<u32>) -> GenerationRecord {
    GenerationRecord {
        format: GenerationRecord::FORMAT,
        number,
        parent: parent.map(GenerationNumber::new),
        base: Base::Empty,
        mount_options: vec!["index=off".into(), "metacopy=off".into()],
        reason: Reason::Create,
        state: GenerationState::Kept,
        created: Timestamp::now(),
        distribution: None,
        templates: None,
        left: None,
        ostemplate: None,
    }
}

/// A published container with `NAME=name` and one live generation.
pub(crate) fn container(prefix: &Prefix, name: &str) -> Area {
    let id = ContainerId::random();
    let area = Area::stage(prefix, &AreaRecord::new(id, IdRange { first: LOWEST, count: 65536 })).unwrap();
    area.store_conf(&Conf::parse(format!("NAME=\"{name}\"\n").as_bytes())).unwrap();
    add_generation(&area, None);
    area.point_live(GenerationNumber::FIRST).unwrap();
    area.sync().unwrap();
    area.publish(prefix).unwrap()
}

pub(crate) fn add_generation(area: &Area, parent: Option<u32>) -> GenerationNumber {
    let number = area.next_generation_number().unwrap();
    area.create_generation(&generation(number, parent)).unwrap();
    number
}

pub(crate) fn put(path: &Path, bytes: &[u8]) {
    atomic::replace(path, bytes, 0o600).unwrap();
}

#[test]
fn is_no_container_before_it_is_published() {
    let (_directory, prefix) = prefix();
    let record = AreaRecord::new(ContainerId::random(), IdRange { first: LOWEST, count: 65536 });
    let staged = Area::stage(&prefix, &record).unwrap();
    assert!(matches!(Area::open(&prefix, &record.uuid), Err(AreaError::Missing { .. })));
    assert_eq!(crate::registry::staged(&prefix).unwrap(), [record.uuid]);
    assert!(Area::stage(&prefix, &record).is_err());

    let area = staged.publish(&prefix).unwrap();
    assert_eq!(area.path(), prefix.area_dir(&record.uuid));
    assert_eq!(Area::open(&prefix, &record.uuid).unwrap().record().unwrap(), record);
    assert!(crate::registry::staged(&prefix).unwrap().is_empty());
    assert_eq!(area.path().metadata().unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn points_live_to_one_generation_and_then_to_another() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    let second = add_generation(&area, Some(1));
    assert_eq!(area.live().unwrap(), GenerationNumber::FIRST);
    area.point_live(second).unwrap();
    area.sync().unwrap();
    assert_eq!(area.live().unwrap(), second);
    assert_eq!(area.path().join(LIVE).canonicalize().unwrap(), area.generation_dir(second));
}

#[test]
fn a_link_that_points_elsewhere_is_damage() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    for target in
        ["generations/", "generations/0", "generations/01", "../x", "/etc", "generations/1/delta", "1"]
    {
        atomic::replace_symlink_at(area.handle(), LIVE, target).unwrap();
        assert!(matches!(area.live(), Err(AreaError::Damaged { .. })), "{target}");
    }
    atomic::remove_file_at(area.handle(), LIVE).unwrap();
    assert!(area.live().unwrap_err().to_string().contains("is missing"));
    put(&area.path().join(LIVE), b"");
    assert!(area.live().unwrap_err().to_string().contains("not a link"));
}

#[test]
fn numbers_are_never_used_twice() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    let second = add_generation(&area, Some(1));
    area.discard_generation(&prefix, second).unwrap();
    area.discard_generation(&prefix, second).unwrap();
    assert_eq!(area.next_generation_number().unwrap().get(), 3);
    // An older area.json was put back: the directories count too.
    std::fs::create_dir(area.generation_dir(GenerationNumber::new(9))).unwrap();
    assert_eq!(area.next_generation_number().unwrap().get(), 10);
    let mut record = area.record().unwrap();
    record.next_generation = u32::MAX;
    area.store_record(&record).unwrap();
    assert!(matches!(area.next_generation_number(), Err(AreaError::Damaged { .. })));
}

#[test]
fn refuses_a_newer_format_and_an_unknown_feature_with_what_it_knows() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    let file = area.path().join("area.json");
    let text = std::fs::read_to_string(&file).unwrap();

    put(&file, text.replace("\"format\": 1", "\"format\": 7").as_bytes());
    let error = Area::open(&prefix, area.id()).unwrap_err();
    assert!(matches!(error, AreaError::NewerFormat { found: 7, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("format 7") && error.to_string().contains("knows 1"), "{error}");

    put(&file, text.replace("\"features\": []", "\"features\": [\"reflink\"]").as_bytes());
    assert!(Area::open(&prefix, area.id()).unwrap_err().to_string().contains("`reflink`"));
}

#[test]
fn says_what_is_damaged() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    let file = area.path().join("area.json");
    let text = std::fs::read(&file).unwrap();
    let half = &text[..text.len() / 2];
    let zeros = vec![0; text.len()];
    let other = String::from_utf8(text.clone())
        .unwrap()
        .replace(&area.id().to_string(), &ContainerId::random().to_string());
    for bytes in
        [b"" as &[u8], half, &zeros, b"{}", b"[]", b"{\"format\": 0}", b"{\"format\": 1}", other.as_bytes()]
    {
        put(&file, bytes);
        let error = Area::open(&prefix, area.id()).unwrap_err();
        assert!(matches!(error, AreaError::Damaged { .. }), "{error}");
        // What to type is the hint's, which is said once.
        assert!(error.to_string().starts_with(&format!("`{}` is damaged: ", file.display())), "{error}");
        assert!(!error.to_string().contains("rebuild"), "{error}");
    }
    atomic::remove_file_at(area.handle(), "area.json").unwrap();
    put(&area.path().join("elsewhere"), &text);
    std::os::unix::fs::symlink("elsewhere", &file).unwrap();
    assert!(Area::open(&prefix, area.id()).unwrap_err().to_string().contains("symbolic link"));
    // It can be listed and rebuilt all the same.
    assert_eq!(Area::open_unchecked(&prefix, area.id()).unwrap().display_name(), "web01");
}

#[test]
fn a_damaged_configuration_is_refused_and_not_half_read() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    assert_eq!(area.name().unwrap().unwrap().as_str(), "web01");
    for bytes in [b"" as &[u8], b"\0\0\0\0", b"NAME=\"web01\nX=1\n"] {
        put(&area.path().join("ve.conf"), bytes);
        assert!(matches!(area.conf(), Err(AreaError::Conf(ConfError::Damaged { .. }))));
        assert_eq!(area.display_name(), area.id().to_string());
    }
    put(&area.path().join("ve.conf"), b"NAME=../../etc\n");
    assert!(matches!(area.name(), Err(AreaError::BadName { .. })));
    put(&area.path().join("ve.conf"), b"# no name\n");
    assert_eq!(area.name().unwrap(), None);
}

#[test]
fn keeps_a_journal_until_it_is_cleared() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    assert_eq!(area.journal().unwrap(), None);
    let journal = Journal {
        format: Journal::FORMAT,
        operation: "reinstall".into(),
        steps: vec!["stage".into(), "commit".into()],
        boot_id: "b".into(),
        was_running: true,
        started: Timestamp::now(),
        pid: 4711,
        arguments: serde_json::json!({"generation": 2}),
    };
    area.store_journal(&journal).unwrap();
    assert_eq!(Area::open(&prefix, area.id()).unwrap().journal().unwrap(), Some(journal));
    area.clear_journal().unwrap();
    area.clear_journal().unwrap();
    assert_eq!(area.journal().unwrap(), None);
    put(&area.path().join("operation.json"), b"{");
    assert!(matches!(area.journal(), Err(AreaError::Damaged { .. })));
}

#[test]
fn lists_generations_with_their_records_or_their_faults() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    let second = add_generation(&area, Some(1));
    put(&area.generation_dir(second).join("generation.json"), b"{");
    for odd in ["01", "x", ".reroot-tmp.1"] {
        std::fs::create_dir(area.path().join(GENERATIONS).join(odd)).unwrap();
    }
    let all = area.generations().unwrap();
    assert_eq!(all.iter().map(|(number, _)| number.get()).collect::<Vec<_>>(), [1, 2]);
    assert!(all[0].1.is_ok());
    assert!(matches!(all[1].1, Err(AreaError::Damaged { .. })));
    assert!(matches!(area.generation(GenerationNumber::new(7)), Err(AreaError::NoGeneration { .. })));
}

#[test]
fn a_record_in_another_generations_directory_is_damage() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    let second = add_generation(&area, Some(1));
    let first = std::fs::read(area.generation_dir(GenerationNumber::FIRST).join("generation.json")).unwrap();
    put(&area.generation_dir(second).join("generation.json"), &first);
    assert!(area.generation(second).unwrap_err().to_string().contains("record of generation 1"));
}

#[test]
fn follows_parents_to_the_end_and_never_in_a_circle() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    for parent in 1..=3 {
        add_generation(&area, Some(parent));
    }
    let chain = |from| {
        let chain = GenerationRecord::chain(&area, GenerationNumber::new(from));
        chain.map(|chain| chain.into_iter().map(GenerationNumber::get).collect::<Vec<_>>())
    };
    assert_eq!(chain(4).unwrap(), [4, 3, 2, 1]);
    assert_eq!(chain(1).unwrap(), [1]);
    assert!(matches!(chain(9), Err(AreaError::NoGeneration { .. })));

    area.store_generation(&generation(GenerationNumber::FIRST, Some(3))).unwrap();
    assert!(chain(4).unwrap_err().to_string().contains("among its own parents"));
    area.discard_generation(&prefix, GenerationNumber::new(2)).unwrap();
    assert_eq!(chain(4).unwrap(), [4, 3]);
}

#[test]
fn a_generation_is_made_closed_with_a_root_like_top() {
    let (_directory, prefix) = prefix();
    let area = container(&prefix, "web01");
    let directory = area.generation_dir(GenerationNumber::FIRST);
    for (name, mode) in [(".", 0o700), ("delta", 0o755), ("work", 0o700), ("generation.json", 0o600)] {
        let found = directory.join(name).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{name}");
    }
    assert!(area.create_generation(&generation(GenerationNumber::FIRST, None)).is_err());
}

#[test]
fn records_are_written_as_the_format_pages_say() {
    let value = serde_json::to_value(GenerationRecord {
        base: Base::Template { name: "debian-12".parse().unwrap(), digest: "ab".into() },
        ..generation(GenerationNumber::new(2), Some(1))
    })
    .unwrap();
    assert_eq!(value["base"], serde_json::json!({"template": {"name": "debian-12", "digest": "ab"}}));
    assert_eq!(value["state"], "kept");
    assert_eq!(value["reason"], "create");
    assert_eq!(value["parent"], 1);
    let empty = serde_json::to_value(generation(GenerationNumber::FIRST, None)).unwrap();
    assert_eq!(empty["base"], "empty");
    assert_eq!(empty["parent"], serde_json::Value::Null);
}
