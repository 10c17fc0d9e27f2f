use super::*;
use crate::area::tests::{add_generation, container, generation, put};
use crate::lock::LockName;
use crate::prefix::tests::prefix;
use std::time::Duration;

fn rebuild(prefix: &Prefix, area: &Area) -> Result<Vec<String>, AreaError> {
    let host = Lock::exclusive(prefix, LockName::Host, Duration::ZERO, "test").unwrap();
    Area::rebuild(prefix, area.id(), &host)
}

fn three_generations(prefix: &Prefix) -> Area {
    let area = container(prefix, "web01");
    add_generation(&area, Some(1));
    add_generation(&area, Some(2));
    area.point_live(GenerationNumber::new(3)).unwrap();
    area
}

#[test]
fn changes_nothing_where_nothing_is_damaged() {
    let (_directory, prefix) = prefix();
    let area = three_generations(&prefix);
    assert!(rebuild(&prefix, &area).unwrap().is_empty());
}

#[test]
fn makes_each_file_again_and_says_so_once() {
    let (_directory, prefix) = prefix();
    let area = three_generations(&prefix);
    let before = area.generation(GenerationNumber::new(2)).unwrap();
    for file in
        ["area.json", "operation.json", "generations/1/generation.json", "generations/2/generation.json"]
    {
        put(&area.path().join(file), b"\0\0\0");
    }
    atomic::remove_file_at(area.handle(), LIVE).unwrap();
    let report = rebuild(&prefix, &area).unwrap();
    assert_eq!(report.len(), 5, "{report:#?}");

    let area = Area::open(&prefix, area.id()).unwrap();
    assert_eq!(area.generation(GenerationNumber::new(2)).unwrap(), before);
    assert_eq!(area.live().unwrap().get(), 3);
    assert_eq!(area.journal().unwrap(), None);
    assert_eq!(area.next_generation_number().unwrap().get(), 4);
    assert!(rebuild(&prefix, &area).unwrap().is_empty());
}

#[test]
fn guesses_from_the_directory_when_there_is_no_copy_either() {
    let (_directory, prefix) = prefix();
    let area = three_generations(&prefix);
    let second = area.generation_dir(GenerationNumber::new(2));
    for file in ["generation.json", "made.json"] {
        put(&second.join(file), b"");
    }
    let error = rebuild(&prefix, &area).unwrap_err();
    assert!(error.to_string().contains("which template"), "{error}");

    for name in ["bin", "etc", "lib", "sbin", "usr", "var"] {
        std::fs::create_dir(second.join("delta").join(name)).unwrap();
    }
    let report = rebuild(&prefix, &area).unwrap();
    assert!(report[0].contains("by guessing"), "{report:#?}");
    let record = area.generation(GenerationNumber::new(2)).unwrap();
    assert_eq!((record.base, record.parent), (Base::Empty, Some(GenerationNumber::FIRST)));
    assert_eq!(record.mount_options, ["index=off", "metacopy=off"]);
}

#[test]
fn what_a_lost_operation_had_staged_is_kept_as_failed_unless_it_is_live() {
    let (_directory, prefix) = prefix();
    let area = three_generations(&prefix);
    for number in [2, 3] {
        let record = GenerationRecord {
            state: GenerationState::Staged,
            ..generation(GenerationNumber::new(number), Some(1))
        };
        area.store_generation(&record).unwrap();
    }
    put(&area.path().join("operation.json"), b"{");
    assert_eq!(rebuild(&prefix, &area).unwrap().len(), 3);
    assert_eq!(area.generation(GenerationNumber::new(2)).unwrap().state, GenerationState::Failed);
    assert_eq!(area.generation(GenerationNumber::new(3)).unwrap().state, GenerationState::Kept);
    let names = atomic::names_in(area.handle()).unwrap();
    assert!(names.iter().any(|name| name.to_string_lossy().starts_with("operation.json.damaged-")));
}

#[test]
fn leaves_a_whole_journal_to_recovery() {
    let (_directory, prefix) = prefix();
    let area = three_generations(&prefix);
    let journal = Journal {
        format: Journal::FORMAT,
        operation: "reinstall".into(),
        steps: Vec::new(),
        boot_id: String::new(),
        was_running: false,
        started: Timestamp::now(),
        pid: 1,
        arguments: serde_json::Value::Null,
    };
    area.store_journal(&journal).unwrap();
    let staged = add_generation(&area, Some(3));
    put(&area.generation_dir(staged).join("generation.json"), b"");
    rebuild(&prefix, &area).unwrap();
    assert_eq!(area.journal().unwrap(), Some(journal));
    assert_eq!(area.generation(staged).unwrap().state, GenerationState::Staged);
}

#[test]
fn never_overwrites_what_a_newer_version_wrote() {
    let (_directory, prefix) = prefix();
    for file in ["area.json", "operation.json", "generations/2/generation.json"] {
        let area = three_generations(&prefix);
        put(&area.path().join("generations/1/generation.json"), b"");
        put(&area.path().join(file), b"{\"format\": 99}");
        let error = rebuild(&prefix, &area).unwrap_err();
        assert!(matches!(error, AreaError::NewerFormat { found: 99, known: 1, .. }), "{error}");
        assert_eq!(std::fs::read(area.path().join("generations/1/generation.json")).unwrap(), b"");
    }
}
