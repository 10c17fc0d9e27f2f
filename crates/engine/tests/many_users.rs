//! Whoever is root in a container makes its account files as long as he likes: carrying them has to end, and soon.

use engine::accounts::{AccountFiles, homes_of_people, merge};

/// As many as there are ids, and more.
const MANY: u32 = 60_000;

fn files(name: &str) -> AccountFiles {
    let lines =
        |line: &dyn Fn(u32) -> String| (1_000..1_000 + MANY).map(line).collect::<String>().into_bytes();
    AccountFiles {
        passwd: Some(lines(&|id| format!("{name}{id}:x:{id}:{id}::/home/{name}{id}:/bin/sh\n"))),
        shadow: Some(lines(&|id| format!("{name}{id}:$6$a$b:1:0:99999:7:::\n"))),
        group: Some(lines(&|id| format!("{name}{id}:x:{id}:\n"))),
        gshadow: Some(lines(&|id| format!("{name}{id}:!::\n"))),
        subuid: Some(lines(&|id| format!("{name}{id}:{}:1\n", 100_000 + id))),
        subgid: Some(lines(&|id| format!("{name}{id}:{}:1\n", 100_000 + id))),
        login_defs: None,
    }
}

/// With work that grew with the square of them, the test runner would end this.
#[test]
fn as_many_users_as_there_are_ids_are_merged() {
    let root = b"root:x:0:0::/root:/bin/sh\n".to_vec();
    let merged =
        merge(&files("u"), &AccountFiles { passwd: Some(root), ..AccountFiles::default() }, &|_| true);
    assert_eq!(merged.homes.len(), MANY as usize);
    let merged = merge(&files("u"), &files("v"), &|_| true);
    assert!(merged.homes.is_empty(), "every id is taken");
}

#[test]
fn as_many_homes_as_there_are_ids_are_found() {
    let old = files("u");
    let new = files("u");
    assert_eq!(homes_of_people(&old, new.passwd.as_deref()).len(), MANY as usize);
}
