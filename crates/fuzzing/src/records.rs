//! The JSON files of the host, read and written by the functions that do it for the product.

use std::fmt::Debug;

use serde_json::{Value, json};
use store::record::{Record, Refusal, decode, encode};

/// What is accepted has a format that is known and reads the same when it was written again; the same in a newer format is refused as that and nothing
/// else, and without a format as damaged.
pub(crate) fn check<T: Record + PartialEq + Debug>(bytes: &[u8], format: fn(&T) -> u32) {
    let document = serde_json::from_slice::<Value>(bytes).ok();
    let claimed = document.as_ref().and_then(|document| document.get("format")?.as_u64());
    let record = match decode::<T>(bytes) {
        Ok(record) => record,
        Err(Refusal::NewerFormat { found }) => {
            assert!(claimed == Some(found) && found > u64::from(T::FORMAT), "{claimed:?}");
            return;
        }
        Err(Refusal::Damaged(because)) => {
            assert!(!because.is_empty());
            assert!(claimed.is_none_or(|claimed| claimed <= u64::from(T::FORMAT)), "{claimed:?}");
            return;
        }
    };
    let found = format(&record);
    assert!((1..=T::FORMAT).contains(&found), "format {found} is accepted");
    assert_eq!(claimed, Some(u64::from(found)));
    let written = encode(&record).expect("a record is JSON");
    assert_eq!(decode::<T>(&written).as_ref(), Ok(&record), "what is written is what is read");

    let mut document = document.expect("what is accepted is JSON");
    let mut with = |format: Value| {
        document["format"] = format;
        decode::<T>(&serde_json::to_vec(&document).expect("a document is JSON"))
    };
    for newer in [u64::from(T::FORMAT) + 1, u64::from(u32::MAX) + 1 + u64::from(T::FORMAT), u64::MAX] {
        assert_eq!(with(json!(newer)), Err(Refusal::NewerFormat { found: newer }));
    }
    for no_number in [json!(0), json!(-1), json!(1.5), json!("1"), json!(null)] {
        assert!(matches!(with(no_number.clone()), Err(Refusal::Damaged(_))), "{no_number}");
    }
}
