//! What is believed of an image is what was looked at.

#![expect(clippy::disallowed_methods, reason = "the image is the test's own")]

use std::fs::{self, File};

use archive::image::{Blobs, Wish};
use testkit::image_maker::machine;
use testkit::{ImageMaker, TarMaker};

/// A record that is another one when it is looked at once more.
#[test]
fn a_record_is_read_once_and_its_digest_is_that_of_what_was_read() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = scratch.path();
    ImageMaker::new().layer(&TarMaker::root().finish(), None).named("x").layout(layout);
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let (path, honest) = blobs
        .map(|blob| blob.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .find(|(_, bytes)| bytes.starts_with(b"{\"architecture\""))
        .unwrap();
    let other = String::from_utf8(honest.clone()).unwrap().replace("\"os\":\"linux\"", "\"os\":\"liNUX\"");
    assert_ne!(honest, other.as_bytes());
    let wish = Wish { image: None, architecture: machine().to_owned() };
    // Each time that somebody is asked whether to go on is a time at which somebody else may write.
    for moment in 0..20 {
        fs::write(&path, &other).unwrap();
        let mut asked = 0;
        let blobs = Blobs::Directory(File::open(layout).unwrap());
        let read = archive::image::read(&blobs, &wish, &mut || {
            if asked == moment {
                fs::write(&path, &honest).unwrap();
            }
            asked += 1;
            true
        });
        match read {
            Ok(image) => assert_eq!(image.architecture, machine()),
            Err(error) => assert!(error.to_string().contains("what is called `sha256:"), "{moment}: {error}"),
        }
    }
}
