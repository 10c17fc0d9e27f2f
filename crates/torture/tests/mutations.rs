//! The list of mutations, the places in the code that do them, and the hunts for them are the same ones.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use torture::mutations::{MUTATIONS, SEEN_BY_HOSTILE_ROOTS};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// How often each name stands in a `mutated!("…")` of the program's own crates.
fn used() -> BTreeMap<String, usize> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for one in ["prlctl", "engine", "runtime", "store", "net", "tree", "linux"] {
        sources(&crates.join(one).join("src"), &mut files);
    }
    let list = crates.join("linux/src/mutation.rs").canonicalize().unwrap();
    let mut used = BTreeMap::new();
    for file in files.iter().filter(|file| file.canonicalize().unwrap() != list) {
        let text = std::fs::read_to_string(file).unwrap();
        for part in text.split("mutated!(\"").skip(1) {
            *used.entry(part.split('"').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    used
}

#[test]
fn every_mutation_is_done_in_one_place_and_hunted_for() {
    let hunted: BTreeMap<String, usize> =
        MUTATIONS.iter().map(|mutation| (mutation.name.to_owned(), 1)).collect();
    assert_eq!(hunted.len(), MUTATIONS.len(), "two hunts for one");
    let mut used = used();
    for name in SEEN_BY_HOSTILE_ROOTS {
        assert!(used.remove(*name).is_some(), "{name} is done nowhere");
    }
    assert_eq!(used, hunted);
}

#[test]
fn every_mutation_is_in_the_list_of_the_program_in_the_same_order() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../linux/src/mutation.rs");
    let text = std::fs::read_to_string(list).unwrap();
    // However rustfmt has broken its lines.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( \"", "(\"");
    let (_, list) = text.split_once("pub static MUTATIONS").unwrap();
    let listed: Vec<&str> = list
        .split("(\"")
        .skip(1)
        .filter_map(|part| part.split_once("\", \"").map(|(name, _)| name))
        .filter(|name| !SEEN_BY_HOSTILE_ROOTS.contains(name))
        .collect();
    let hunted: Vec<&str> = MUTATIONS.iter().map(|mutation| mutation.name).collect();
    assert_eq!(listed, hunted);
}

#[test]
fn the_page_has_a_row_for_each_of_them() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/mutations.md");
    let page = std::fs::read_to_string(page).unwrap();
    for mutation in MUTATIONS {
        assert!(page.contains(&format!("| {} | ", mutation.name)), "{}: run `make mutations`", mutation.name);
    }
    assert!(!page.contains("SURVIVED"), "a guard is taken away, and no sweep sees it");
}
