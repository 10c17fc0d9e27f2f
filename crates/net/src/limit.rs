//! How much of a container passes in a second, in each direction. What is too much is dropped, and senders slow down: every kernel with nft has that, and none
//! of the schedulers of tc is needed.
//!
//! A limit is part of an element of a set, which one look finds. Where several interfaces have one limit together it is an object of nft, which a map leads to:
//! of those `nft` reads all that there are whenever it is told anything, so they are the exception.

use store::Rate;

use crate::nft::Element;

/// What may come at once beside what a second has, which the kernel adds: more than the largest packet, or at a low rate none would ever pass.
const BURST: u64 = 64 << 10;

/// As nft says it.
fn limit(rate: Rate) -> String {
    format!("limit {}", of_object(rate))
}

/// And where it is an object, which says itself that it is one.
fn of_object(rate: Rate) -> String {
    format!("rate over {} bytes/second burst {BURST} bytes", rate.bytes())
}

/// What a table has the sets by. An element without a limit has the set's own, and there is none.
pub(crate) const SETS: &str = "
add set FAMILY TABLE rate_out { type ifname; limit rate over 1000000000 bytes/second burst 65536 bytes; }
add set FAMILY TABLE rate_in { type ifname; limit rate over 1000000000 bytes/second burst 65536 bytes; }
flush set FAMILY TABLE rate_out
flush set FAMILY TABLE rate_in
";

/// An interface with a limit of its own.
pub(crate) fn own(interface: &str, rate: Rate) -> [Element; 2] {
    ["out", "in"].map(|way| Element {
        whole: format!("rate_{way} {{ \"{interface}\" {} }}", limit(rate)),
        key: format!("rate_{way} {{ \"{interface}\" }}"),
    })
}

/// Makes the objects of a container, after one of its interfaces.
pub(crate) fn objects(table: &str, of: &str, rate: Rate) -> String {
    ["out", "in"].map(|way| format!("add limit {table} {of}_{way} {{ {}; }}\n", of_object(rate))).concat()
}

/// Takes them away, after all that leads to them.
pub(crate) fn no_objects(table: &str, of: &str) -> String {
    format!("delete limit {table} {of}_out\ndelete limit {table} {of}_in\n")
}

/// Leads these interfaces to them.
pub(crate) fn elements<'a>(interfaces: impl IntoIterator<Item = &'a str>, of: &str) -> Vec<String> {
    let mut all = Vec::new();
    for interface in interfaces {
        for way in ["out", "in"] {
            all.push(format!("rates_{way} {{ \"{interface}\" : \"{of}_{way}\" }}"));
        }
    }
    all
}
