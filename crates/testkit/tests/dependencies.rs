//! What comes in from outside, and what is unsafe: as `deny.toml` and the house rules have it.

use std::path::{Path, PathBuf};
use std::process::Command;

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
            for (index, line) in lines.iter().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let is_unsafe =
                    ["{", "fn", "impl", "extern"].iter().any(|what| code.contains(&format!("unsafe {what}")));
                if !is_unsafe {
                    continue;
                }
                assert!(
                    path.to_string_lossy().contains("crates/linux/src"),
                    "{}:{}: unsafe",
                    path.display(),
                    index + 1
                );
                blocks += 1;
                let is_argued =
                    lines[index.saturating_sub(12)..index].iter().any(|line| line.contains("// SAFETY:"));
                assert!(is_argued, "{}:{}: without its argument", path.display(), index + 1);
            }
        }
    }
    assert!(blocks > 10, "only {blocks} are seen");
}
