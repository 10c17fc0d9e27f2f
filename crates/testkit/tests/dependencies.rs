//! What comes in from outside, and what is unsafe: as `deny.toml` and the house rules have it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// So many lines above it an argument may begin.
const FURTHEST: usize = 12;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn packages() -> Vec<serde_json::Value> {
    // What is built here: for no other system has anything been downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(workspace())
        .output()
        .expect("run cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    metadata["packages"].as_array().expect("it has packages").clone()
}

#[test]
fn every_dependency_has_a_licence_of_the_list_and_comes_from_the_registry() {
    let list = std::fs::read_to_string(workspace().join("deny.toml")).expect("read deny.toml");
    let licences =
        list.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("it has a list");
    let allowed: Vec<&str> = licences.split('"').skip(1).step_by(2).collect();
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    for package in packages {
        let (name, source) = (&package["name"], &package["source"]);
        let is_ours = source.is_null();
        assert!(
            is_ours
                || source
                    .as_str()
                    .is_some_and(|source| source.starts_with("registry+https://github.com/rust-lang/")),
            "{name}: {source}"
        );
        // Looked up, and written down there.
        if list.contains(&format!("crate = {name}")) {
            continue;
        }
        // `A OR B`, `A/B`, `A AND B`, and brackets: one that is allowed on every side of AND.
        let licence =
            package["license"].as_str().unwrap_or_default().replace(['(', ')'], " ").replace('/', " OR ");
        let is_allowed =
            licence.split(" AND ").all(|part| part.split(" OR ").any(|one| allowed.contains(&one.trim())));
        assert!(is_allowed, "{name}: {licence:?} is not in deny.toml");
    }
}

/// The lines with an unsafe block or item, from 0, and whether each has an argument of its own: a `SAFETY` that stands above it and below the
/// unsafe one before.
fn unsafe_lines(lines: &[&str]) -> Vec<(usize, bool)> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    let mut from = 0;
    for (index, line) in lines.iter().enumerate() {
        let code = code(line);
        let count: usize = ["{", "fn", "impl", "extern"]
            .iter()
            .map(|what| code.matches(&format!("unsafe {what}")).count())
            .sum();
        if count == 0 {
            continue;
        }
        let near = from.max(index.saturating_sub(FURTHEST));
        let arguments =
            lines[near..index].iter().filter(|line| line.trim_start().starts_with("// SAFETY:")).count();
        // Two in a line would need two.
        found.push((index, arguments >= count));
        from = index + 1;
    }
    found
}

#[test]
fn an_argument_is_of_one_unsafe_block_alone() {
    let lines = |text: &str| {
        let lines: Vec<&str> = text.split('|').collect();
        unsafe_lines(&lines).into_iter().map(|(_, is_argued)| is_argued).collect::<Vec<_>>()
    };
    for (text, wanted) in [
        ("// SAFETY: a|unsafe { a() };", vec![true]),
        ("// SAFETY: a|let a =|    unsafe { a() };", vec![true]),
        ("unsafe { a() }; // SAFETY: a", vec![false]),
        ("// SAFETY: a|unsafe { a() };|unsafe { b() };", vec![true, false]),
        ("// SAFETY: a|unsafe { a() };|// SAFETY: b|unsafe { b() };", vec![true, true]),
        ("// SAFETY: a|unsafe { a() } + unsafe { b() };", vec![false]),
        ("// no SAFETY: a|unsafe fn a() {}", vec![false]),
        ("// unsafe { a() }", vec![]),
    ] {
        assert_eq!(lines(text), wanted, "{text}");
    }
    let far = format!("// SAFETY: a|{}unsafe {{ a() }};", "|".repeat(FURTHEST + 1));
    assert_eq!(lines(&far), [false]);
}

#[test]
fn unsafe_stands_in_the_crate_linux_alone_and_has_its_argument() {
    let mut todo = vec![workspace().join("crates")];
    let mut blocks = 0;
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).expect("list a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs")
                || path.ends_with("testkit/tests/dependencies.rs")
            {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("read a source");
            let lines: Vec<&str> = text.lines().collect();
            for (line, is_argued) in unsafe_lines(&lines) {
                let place = format!("{}:{}", path.display(), line + 1);
                assert!(path.to_string_lossy().contains("crates/linux/src"), "{place}: unsafe");
                blocks += 1;
                assert!(is_argued, "{place}: without its argument");
            }
        }
    }
    assert!(blocks > 10, "only {blocks} are seen");
}
