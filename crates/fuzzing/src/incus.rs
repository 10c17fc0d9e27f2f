//! `metadata.yaml` of an image of Incus or LXD.

use std::time::{Duration, Instant};

/// No few bytes take long, or become many; what is said of them is fit for eyes, and what is taken stands there.
pub(crate) fn read(bytes: &[u8]) {
    let began = Instant::now();
    let read = archive::incus::metadata(bytes);
    assert!(began.elapsed() < Duration::from_secs(20), "it ends");
    let metadata = match read {
        Ok(metadata) => metadata,
        Err(said) => {
            assert!(!said.is_empty() && !said.chars().any(char::is_control), "{said:?}");
            return;
        }
    };
    let text = std::str::from_utf8(bytes).expect("what was taken is text");
    let words = [metadata.architecture, metadata.os, metadata.release].into_iter().flatten();
    let of_files = metadata.files.iter().flat_map(|file| [&file.path, &file.template]).cloned();
    let mut length = 0;
    for word in words.chain(of_files) {
        length += word.len();
        // Escapes and folded lines become something else; a plain word does not.
        let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(!is_plain || text.contains('\\') || text.contains(&word), "{word:?}");
    }
    // An escape is at least as long as what it stands for, but for two that are not (`\L`, `\P`).
    assert!(length <= 2 * bytes.len(), "nothing is multiplied");
    assert!(metadata.files.len() <= 64);
    for file in &metadata.files {
        let unheeded = file.unheeded.as_deref().unwrap_or_default();
        assert!(!unheeded.chars().any(char::is_control), "{unheeded:?}");
    }
}
