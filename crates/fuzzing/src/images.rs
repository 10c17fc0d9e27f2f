//! Images of layers, in a notation in which digests stay right when something is changed; otherwise nothing would get beyond the first of them.
//!
//! `%% NAME` begins a file. `@NAME@` in it is the digest of an earlier one, `#NAME#` its length. Each lies under its name, and where its digest says.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;

use archive::image::{Blobs, Wish};
use sha2::{Digest as _, Sha256};

/// What is taken has the layers that its records name, and each is what its digest says; what is refused is refused in words that are fit for eyes.
pub(crate) fn read(bytes: &[u8]) {
    is_taken(bytes);
}

fn is_taken(bytes: &[u8]) -> bool {
    let files = files(bytes);
    let (mut index, mut whole) = (HashMap::new(), Vec::new());
    for (name, content) in &files {
        let place = (whole.len() as u64, content.len() as u64);
        whole.extend_from_slice(content);
        index.insert(name.clone(), place);
        index.insert(format!("blobs/sha256/{}", hex(content)).into_bytes(), place);
    }
    let file = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC).map(File::from);
    let mut file = file.expect("memory for an image");
    file.write_all(&whole).expect("write to memory");
    let blobs = Blobs::Archive { file, index };

    let mut asked = 0_usize;
    let wish = Wish { image: None, architecture: "amd64".to_owned() };
    let found = archive::image::read(&blobs, &wish, &mut || {
        asked += 1;
        true
    });
    assert!(asked < 100_000, "it ends");
    let image = match found {
        Ok(image) => image,
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && !said.chars().any(char::is_control), "{said:?}");
            return false;
        }
    };
    assert!((1..=512).contains(&image.layers.len()) && image.architecture == "amd64");
    for layer in &image.layers {
        let (start, length) = (layer.blob.offset as usize, layer.blob.length as usize);
        let content = whole.get(start..start + length).expect("a layer is within the image");
        assert!(files.iter().any(|(_, known)| known == content), "a layer is a file, whole");
        assert_eq!(layer.digest.len(), "sha256:".len() + 64);
    }
    let record = |name: &str| files.iter().rev().find(|(known, _)| known == name.as_bytes());
    if let Some((_, index)) = record("index.json") {
        let index: serde_json::Value = serde_json::from_slice(index).expect("what was taken is JSON");
        assert_eq!(index["schemaVersion"], 2);
    }
    true
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn files(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut files: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"%% ") {
            files.push((name.trim_ascii_end().to_vec(), Vec::new()));
            continue;
        }
        let line = filled(
            &filled(line, b'@', &files, &|content| format!("sha256:{}", hex(content))),
            b'#',
            &files,
            &|content| content.len().to_string(),
        );
        if let Some((_, content)) = files.last_mut() {
            content.extend_from_slice(&line);
        }
    }
    files
}

/// A line with what stands between two marks put in.
fn filled(line: &[u8], mark: u8, files: &[(Vec<u8>, Vec<u8>)], put: &dyn Fn(&[u8]) -> String) -> Vec<u8> {
    let mut made = Vec::new();
    for (number, piece) in line.split(|&byte| byte == mark).enumerate() {
        let known = files.iter().rev().skip(1).find(|(name, _)| number % 2 == 1 && name == piece);
        match known {
            Some((_, content)) => made.extend_from_slice(put(content).as_bytes()),
            None => made.extend_from_slice(piece),
        }
    }
    made
}

#[cfg(test)]
mod tests {
    /// What is changed in the smoke test is something that is read to its end.
    #[test]
    fn the_corpus_is_of_images() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/images");
        for name in ["layout", "nested", "saved"] {
            let bytes = std::fs::read(format!("{corpus}/{name}")).expect("read a seed");
            assert!(super::is_taken(&bytes), "{name}");
        }
    }
}
