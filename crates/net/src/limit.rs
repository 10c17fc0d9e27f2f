//! How much of a container passes in a second, in each direction: two `limit` objects of nft, which one look into a map leads to. What is too much is
//! dropped, and senders slow down: every kernel with nft has that, and none of the schedulers of tc is needed.

use store::Rate;

/// What may come at once beside what a second has, which the kernel adds: more than the largest packet, or at a low rate none would ever pass.
const BURST: u64 = 64 << 10;

/// Makes the objects of a container, after one of its interfaces.
pub(crate) fn objects(table: &str, of: &str, rate: Rate) -> String {
    let one = |way: &str| {
        format!(
            "add limit {table} {of}_{way} {{ rate over {} bytes/second burst {BURST} bytes; }}\n",
            rate.bytes()
        )
    };
    one("out") + &one("in")
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
