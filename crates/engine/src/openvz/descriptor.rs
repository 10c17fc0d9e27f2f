//! `DiskDescriptor.xml`: which images a disk of ploop is made of, and which of them lies over which.

use std::path::{Path, PathBuf};

use roxmltree::{Document, Node, ParsingOptions};

/// So many are more than a disk has.
const MOST_NODES: u32 = 20_000;
/// A snapshot's image over another's, over another's …
const LONGEST_CHAIN: usize = 512;
/// What the first image is called everywhere, and what has none below it.
const BASE: &str = "5fbaabe3-6958-40ff-92a7-860e329aab41";
const NONE: &str = "00000000-0000-0000-0000-000000000000";

/// An image of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// In the directory of the descriptor.
    pub file: PathBuf,
    /// Its bytes are the disk's; else it is one of Parallels' own.
    pub is_plain: bool,
}

/// What a disk is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The one that is written to first, below it the one that it was made over, and so on.
    pub chain: Vec<Image>,
    /// How many images there are of other states.
    pub others: usize,
}

/// Reads a descriptor.
///
/// # Errors
/// What is wrong with it, for people.
pub fn read(text: &str) -> Result<Disk, String> {
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
    let root = document.root_element();
    if !root.has_tag_name("Parallels_disk_image") {
        return Err("it is no `Parallels_disk_image`".to_owned());
    }
    let is_encrypted = root
        .descendants()
        .any(|node| node.has_tag_name("KeyId") && node.text().is_some_and(|text| !text.trim().is_empty()));
    if is_encrypted {
        return Err("the disk is encrypted".to_owned());
    }
    let storages = || root.descendants().filter(|node| node.has_tag_name("Storage"));
    if storages().count() > 1 {
        return Err("the disk is in several parts (`Storage`), which those of containers are not".to_owned());
    }
    let images: Vec<(String, Image)> = storages()
        .flat_map(|storage| storage.children())
        .filter(|node| node.has_tag_name("Image"))
        .map(|node| image(&node))
        .collect::<Result<_, _>>()?;
    let shots: Vec<(String, String)> = root
        .descendants()
        .filter(|node| node.has_tag_name("Shot"))
        .map(|node| (uuid(&node, "GUID"), uuid(&node, "ParentGUID")))
        .collect();
    let top = root.descendants().find(|node| node.has_tag_name("Snapshots"));
    let top = top.map(|snapshots| uuid(&snapshots, "TopGUID")).filter(|top| !top.is_empty());
    let top = match (top, &images[..]) {
        (Some(top), _) => top,
        (None, [(only, _)]) => only.clone(),
        (None, _) => BASE.to_owned(),
    };

    let mut chain = Vec::new();
    let mut next = top;
    while next != NONE && !next.is_empty() {
        let Some((_, image)) = images.iter().find(|(id, _)| *id == next) else {
            return Err(format!("there is no image {next}"));
        };
        if chain.len() == LONGEST_CHAIN || chain.contains(image) {
            return Err(format!("the image {next} lies over itself"));
        }
        chain.push(image.clone());
        next =
            shots.iter().find(|(id, _)| *id == next).map_or_else(String::new, |(_, parent)| parent.clone());
    }
    if chain.is_empty() {
        return Err("it names no image".to_owned());
    }
    Ok(Disk { others: images.len() - chain.len(), chain })
}

fn image(node: &Node<'_, '_>) -> Result<(String, Image), String> {
    let file = text(node, "File");
    // A whole path is that of the old host: the file lies beside the descriptor all the same.
    let file = Path::new(&file).file_name().map(PathBuf::from).ok_or("an image has no file")?;
    let is_plain = match text(node, "Type").as_str() {
        "Compressed" => false,
        "Plain" => true,
        other => {
            return Err(format!("an image of the type `{}` is unknown", tree::escaped(other.as_bytes())));
        }
    };
    Ok((uuid(node, "GUID"), Image { file, is_plain }))
}

fn text(node: &Node<'_, '_>, name: &str) -> String {
    let child = node.children().find(|child| child.has_tag_name(name));
    child.and_then(|child| child.text()).unwrap_or_default().trim().to_owned()
}

/// In lower case and without braces.
fn uuid(node: &Node<'_, '_>, name: &str) -> String {
    text(node, name).trim_matches(['{', '}']).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(images: &[(&str, &str, &str)], top: &str, shots: &[(&str, &str)]) -> String {
        let images: String = images
            .iter()
            .map(|(id, kind, file)| {
                format!("<Image><GUID>{{{id}}}</GUID><Type>{kind}</Type><File>{file}</File></Image>")
            })
            .collect();
        let shots: String = shots
            .iter()
            .map(|(id, parent)| {
                format!("<Shot><GUID>{{{id}}}</GUID><ParentGUID>{{{parent}}}</ParentGUID></Shot>")
            })
            .collect();
        let top = if top.is_empty() { String::new() } else { format!("<TopGUID>{{{top}}}</TopGUID>") };
        format!(
            "<?xml version=\"1.0\"?>\n<Parallels_disk_image Version=\"1.0\"><Disk_Parameters><Disk_size>1</Disk_size></Disk_Parameters>\
             <StorageData><Storage><Start>0</Start>{images}</Storage></StorageData><Snapshots>{top}{shots}</Snapshots></Parallels_disk_image>"
        )
    }

    fn files(disk: &Disk) -> Vec<&str> {
        disk.chain.iter().map(|image| image.file.to_str().unwrap()).collect()
    }

    #[test]
    fn a_chain_is_read_from_its_top_and_other_states_are_left() {
        let one = descriptor(&[(BASE, "Compressed", "root.hds")], "", &[]);
        assert_eq!(files(&read(&one).unwrap()), ["root.hds"]);
        let images = [
            (BASE, "Plain", "base"),
            ("AA", "Compressed", "/vz/private/101/root.hdd/a"),
            ("bb", "Compressed", "b"),
        ];
        let shots = [(BASE, NONE), ("aa", BASE), ("bb", BASE)];
        let disk = read(&descriptor(&images, "aa", &shots)).unwrap();
        assert_eq!((files(&disk), disk.others), (vec!["a", "base"], 1));
        assert!(!disk.chain[0].is_plain && disk.chain[1].is_plain);
    }

    #[test]
    fn what_is_no_disk_is_refused_with_the_reason() {
        let image = [(BASE, "Compressed", "a"), ("bb", "Compressed", "b")];
        for (text, why) in [
            ("", "root"),
            ("<x/>", "no `Parallels_disk_image`"),
            ("<!DOCTYPE x [<!ENTITY a \"b\">]><Parallels_disk_image/>", "DTD"),
            ("<Parallels_disk_image/>", "there is no image"),
            (&descriptor(&image, "cc", &[]), "there is no image cc"),
            (&descriptor(&image, "bb", &[("bb", BASE), (BASE, "bb")]), "lies over itself"),
            (&descriptor(&[(BASE, "Odd", "a")], "", &[]), "type `Odd`"),
            (&descriptor(&[(BASE, "Plain", "..")], "", &[]), "no file"),
            (
                "<Parallels_disk_image><Encryption><KeyId>k</KeyId></Encryption></Parallels_disk_image>",
                "encrypted",
            ),
            ("<Parallels_disk_image><Storage/><Storage/></Parallels_disk_image>", "several parts"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.to_lowercase().contains(&why.to_lowercase()), "{text}: {error}");
        }
    }
}
