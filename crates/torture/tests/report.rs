//! What `docs/promises.md` says of the figures is what `docs/torture.jsonl` adds up to.

use std::path::Path;

use torture::ledger;

#[test]
fn the_figures_in_the_promises_are_those_of_the_ledger() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = std::fs::read_to_string(docs.join("promises.md")).unwrap();
    let lines = ledger::read(&docs.join("torture.jsonl")).unwrap();
    assert_eq!(ledger::render(&page, &lines).unwrap(), page, "run `torture report`");
}
