//! Images as nobody's builder would make them.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::TarMaker;

/// `sha256:` and 64 digits.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// This machine, as images name it.
pub fn machine() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// An image that is put together by hand, and can be put together wrong.
#[derive(Debug, Clone, Default)]
pub struct ImageMaker {
    /// Name in the layout and contents.
    files: Vec<(String, Vec<u8>)>,
    /// Descriptors of the layers of the next image.
    pub layers: Vec<Value>,
    /// Their digests when compression is undone.
    pub digests: Vec<String>,
    /// As images name it.
    pub architecture: String,
    /// How the next image is to be run: `Entrypoint`, `Cmd`, `Env`, …
    pub config: Value,
    manifests: Vec<Value>,
}

impl ImageMaker {
    /// With nothing in it.
    pub fn new() -> ImageMaker {
        ImageMaker { architecture: machine().to_owned(), config: json!({}), ..ImageMaker::default() }
    }

    fn blob(&mut self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        self.files.push((format!("blobs/{}", digest.replace(':', "/")), bytes.to_owned()));
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    /// A layer, compressed by that program.
    pub fn layer(mut self, tar: &[u8], program: Option<&str>) -> ImageMaker {
        let stored = program.map_or_else(|| tar.to_owned(), |program| piped(program, tar));
        let kind = match program {
            Some(program) => format!("application/vnd.oci.image.layer.v1.tar+{program}"),
            None => "application/vnd.oci.image.layer.v1.tar".to_owned(),
        };
        let layer = self.blob(&kind, &stored);
        self.layers.push(layer);
        self.digests.push(digest(tar));
        self
    }

    /// How the next image is to be run.
    pub fn config(mut self, config: Value) -> ImageMaker {
        self.config = config;
        self
    }

    /// The manifest of the layers so far, under a name; what comes after is another image.
    pub fn named(mut self, name: &str) -> ImageMaker {
        let record = json!({
            "architecture": self.architecture, "os": "linux", "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": self.digests },
        });
        let config = self.blob("application/vnd.oci.image.config.v1+json", record.to_string().as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": self.layers });
        let mut descriptor = self.blob(kind, manifest.to_string().as_bytes());
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        descriptor["platform"] = json!({ "os": "linux", "architecture": self.architecture });
        self.manifests.push(descriptor);
        (self.layers, self.digests, self.config) = (Vec::new(), Vec::new(), json!({}));
        self
    }

    /// Every file of it, by its name.
    pub fn finished(mut self) -> Vec<(String, Vec<u8>)> {
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        self.files.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        self.files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        self.files
    }

    /// As a layout in that directory.
    pub fn layout(self, to: &Path) {
        for (name, bytes) in self.finished() {
            let path = to.join(name);
            std::fs::create_dir_all(path.parent().expect("a file has a directory"))
                .expect("make a directory");
            File::create(path).and_then(|mut file| file.write_all(&bytes)).expect("write a file");
        }
    }

    /// As an archive of a layout.
    pub fn archive(self) -> Vec<u8> {
        self.finished().iter().fold(TarMaker::new(), |maker, (name, bytes)| maker.file(name, bytes)).finish()
    }
}

/// What that program makes of the bytes: it compresses them.
pub fn piped(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a program that compresses");
    let mut input = child.stdin.take().expect("a program that compresses");
    let bytes = bytes.to_owned();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, &bytes));
    let output = child.wait_with_output().expect("a program that compresses").stdout;
    writer.join().expect("a program that compresses").expect("a program that compresses");
    output
}
