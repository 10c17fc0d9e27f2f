//! What an image consists of: its index, the manifest for this machine, its configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

use super::blobs::{Blob, Blobs, text_of};
use super::{GoesOn, unfit, wrong};
use crate::error::ArchiveError;

/// Indexes in indexes.
const DEEPEST: usize = 4;
/// Indexes that are looked through for a digest.
const MOST_INDEXES: usize = 1_000;
/// Layers. Overlays have 127 at the most; what others build may have more.
const MOST_LAYERS: usize = 512;
/// What the kinds of layers begin with. Those of the latter two need not be handed on with an image; one that was is a layer like any.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
// What to do about an image of which nothing can be made.
const BY_NAME: &str = "name one of them with `--image NAME`";
const OF_THIS_MACHINE: &str = "take the one that was made for this machine";
const WITH_A_ROOT: &str = "take an image that has a root in it";
const WITH_ALL_LAYERS: &str = "copy it with `skopeo copy`, which brings such layers along";
const WITH_FEWER_LAYERS: &str = "make one of fewer layers of it";
const NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// Which image is wanted, where there are several.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// A name with tag as the image has it, or a digest.
    pub image: Option<String>,
    /// As images name it: `amd64`.
    pub architecture: String,
}

/// What is known of an image before anything is unpacked.
#[derive(Debug)]
pub struct Image {
    /// How it names itself, or its digest.
    pub name: String,
    /// How it is meant to be run.
    pub configuration: Configuration,
    /// For which machine.
    pub architecture: String,
    /// The lowest first.
    pub layers: Vec<Layer>,
}

/// A layer whose bytes are what they should be.
#[derive(Debug)]
pub struct Layer {
    /// As it is stored.
    pub blob: Blob,
    /// Its digest when compression is undone.
    pub digest: String,
}

/// How an image is meant to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Configuration {
    /// `KEY=value`
    pub env: Option<Vec<String>>,
    /// The program.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    /// The program, or what it is called with.
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    /// `USER[:GROUP]`, by name or number.
    pub user: Option<String>,
    /// Where it is started.
    pub working_dir: Option<String>,
    /// What stops it.
    pub stop_signal: Option<String>,
}

/// A list, or one word alone, as Docker takes it.
fn words<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Several(Vec<String>),
        One(String),
    }
    let words: Option<Words> = Option::deserialize(from)?;
    Ok(words.map(|words| match words {
        Words::Several(words) => words,
        Words::One(word) if word.is_empty() => Vec::new(),
        Words::One(word) => vec![word],
    }))
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct ImageRecord {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<Configuration>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Reads what an image consists of; every layer is there then, and is what its digest says. `goes_on` is asked now and then.
///
/// # Errors
/// [`ArchiveError`].
pub fn read(blobs: &Blobs, wish: &Wish, goes_on: GoesOn<'_>) -> Result<Image, ArchiveError> {
    if let Some(index) = blobs.record("index.json")? {
        let index: Index = parse("index.json", &index)?;
        return of_index(blobs, index, wish, goes_on);
    }
    if let Some(saved) = blobs.record("manifest.json")? {
        return of_saved(blobs, parse("manifest.json", &saved)?, wish);
    }
    Err(wrong("it has neither `index.json` nor `manifest.json`"))
}

fn parse<'a, T: Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|error| {
        wrong(format!(
            "`{}` in it cannot be understood: {}",
            tree::escaped(name.as_bytes()),
            tree::escaped(error.to_string().as_bytes())
        ))
    })
}

fn shown(text: &str) -> String {
    ArchiveError::quoted(text.as_bytes())
}

fn of_index(
    blobs: &Blobs,
    mut index: Index,
    wish: &Wish,
    goes_on: GoesOn<'_>,
) -> Result<Image, ArchiveError> {
    let mut wanted = wish.image.as_deref();
    let mut name = None;
    if let Some(digest) = wanted.filter(|wanted| !index.manifests.iter().any(|one| is_wanted(one, wanted)))
        && path_of(digest).is_ok()
        && let Some(found) = holder_of(blobs, &index, digest, goes_on)?
    {
        (name, index) = found;
    }
    for _ in 0..DEEPEST {
        supported(&index)?;
        let chosen = choose(index.manifests, wanted, wish)?;
        // Below the one that was named there are only platforms.
        wanted = None;
        name = name.or_else(|| name_of(&chosen));
        let bytes = checked_record(blobs, &chosen, goes_on)?;
        if !chosen.is_index() {
            return of_manifest(blobs, &bytes, name.unwrap_or(chosen.digest), wish, goes_on);
        }
        index = parse(&chosen.digest, &bytes)?;
    }
    Err(wrong("its indexes lead from one to another without end"))
}

fn supported(index: &Index) -> Result<(), ArchiveError> {
    if index.schema_version != 2 {
        return Err(wrong(format!("its index is of version {}", index.schema_version)));
    }
    Ok(())
}

/// The index that names `digest`, of all that are below the outermost one, and what the one is called that leads to it; `None`: none does. Each is read
/// once; one of another machine may not have been copied.
fn holder_of(
    blobs: &Blobs,
    outermost: &Index,
    digest: &str,
    goes_on: GoesOn<'_>,
) -> Result<Option<(Option<String>, Index)>, ArchiveError> {
    let mut known = BTreeSet::new();
    let mut level = Vec::new();
    let mut take = |level: &mut Vec<(Option<String>, Descriptor)>, name: &Option<String>, index: &Index| {
        for one in index.manifests.iter().filter(|one| one.is_index()) {
            if known.insert(one.digest.clone()) {
                level.push((name.clone().or_else(|| name_of(one)), one.clone()));
            }
        }
        if known.len() > MOST_INDEXES {
            return Err(wrong(format!("it has more than {MOST_INDEXES} indexes")));
        }
        Ok(())
    };
    take(&mut level, &None, outermost)?;
    for _ in 1..DEEPEST {
        for (name, descriptor) in std::mem::take(&mut level) {
            if blobs.open(&path_of(&descriptor.digest)?)?.is_none() {
                continue;
            }
            let index: Index = parse(&descriptor.digest, &checked_record(blobs, &descriptor, goes_on)?)?;
            supported(&index)?;
            if index.manifests.iter().any(|one| one.digest == digest) {
                return Ok(Some((name, index)));
            }
            take(&mut level, &name, &index)?;
        }
    }
    Ok(None)
}

impl Descriptor {
    fn is_index(&self) -> bool {
        self.media_type.ends_with("image.index.v1+json") || self.media_type.ends_with("manifest.list.v2+json")
    }
}

fn name_of(descriptor: &Descriptor) -> Option<String> {
    descriptor.annotations.get(FULL_NAME).or(descriptor.annotations.get(NAME)).cloned()
}

fn is_wanted(one: &Descriptor, wanted: &str) -> bool {
    let names = [NAME, FULL_NAME].into_iter().filter_map(|key| one.annotations.get(key));
    one.digest == wanted || names.into_iter().any(|name| is_named(name, wanted))
}

/// The one that is wanted, and that runs on this machine. Of one that has several names it is the first.
fn choose(found: Vec<Descriptor>, wanted: Option<&str>, wish: &Wish) -> Result<Descriptor, ArchiveError> {
    let names: Vec<String> =
        found.iter().map(|one| shown(&name_of(one).unwrap_or_else(|| one.digest.clone()))).collect();
    if names.is_empty() {
        return Err(nothing());
    }
    let runs_here = |one: &Descriptor| {
        one.platform
            .as_ref()
            .is_none_or(|platform| platform.os == "linux" && platform.architecture == wish.architecture)
    };
    let platforms: Vec<String> = found
        .iter()
        .filter_map(|one| one.platform.as_ref())
        .map(|platform| shown(&format!("{}/{}", platform.os, platform.architecture)))
        .collect();
    let named: Vec<Descriptor> =
        found.into_iter().filter(|one| wanted.is_none_or(|wanted| is_wanted(one, wanted))).collect();
    if let (true, Some(wanted)) = (named.is_empty(), wanted) {
        return Err(no_such(wanted, &names));
    }
    let mut fit = named.into_iter().filter(runs_here);
    let Some(first) = fit.next() else {
        let because = format!(
            "there is nothing for linux/{} in it; it has: {}",
            wish.architecture,
            platforms.join(", ")
        );
        return Err(unfit(because, OF_THIS_MACHINE));
    };
    if fit.any(|other| other.digest != first.digest) {
        return Err(several(&names));
    }
    Ok(first)
}

fn nothing() -> ArchiveError {
    unfit("there is no image in it", WITH_A_ROOT)
}

fn several(names: &[String]) -> ArchiveError {
    unfit(format!("there are several images in it: {}", names.join(", ")), BY_NAME)
}

fn no_such(wanted: &str, names: &[String]) -> ArchiveError {
    unfit(format!("there is no {} in it; there are: {}", shown(wanted), names.join(", ")), BY_NAME)
}

/// Is `found` what somebody means who says `wanted`? `busybox`, `busybox:latest` and `docker.io/library/busybox:latest` are one name.
fn is_named(found: &str, wanted: &str) -> bool {
    found == wanted || full_name(found) == full_name(wanted)
}

/// A name with all that is left out when it is short. Source: "Reference grammar" of the OCI distribution, and what Docker takes for granted.
fn full_name(name: &str) -> String {
    let has_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let mut full = match name.split_once('/') {
        Some((first, _)) if has_registry(first) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    let last = full.rsplit('/').next().unwrap_or_default();
    if !last.contains([':', '@']) {
        full.push_str(":latest");
    }
    full
}

/// `blobs/sha256/<hex>`
fn path_of(digest: &str) -> Result<String, ArchiveError> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
    match hex.filter(|hex| hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))) {
        Some(hex) => Ok(format!("blobs/sha256/{hex}")),
        None => Err(wrong(format!("{} is no digest that is known: sha256 is", shown(digest)))),
    }
}

/// Something that a descriptor tells of: it is there, and as long as it says.
fn opened(blobs: &Blobs, descriptor: &Descriptor) -> Result<Blob, ArchiveError> {
    let Some(blob) = blobs.open(&path_of(&descriptor.digest)?)? else {
        return Err(wrong(format!("{} is missing in it", shown(&descriptor.digest))));
    };
    if blob.length != descriptor.size {
        return Err(wrong(format!(
            "{} has {} bytes in it and should have {}",
            shown(&descriptor.digest),
            blob.length,
            descriptor.size
        )));
    }
    Ok(blob)
}

/// It has the digest that it is called by.
fn has_digest(descriptor: &Descriptor, found: &str) -> Result<(), ArchiveError> {
    if found != descriptor.digest {
        return Err(wrong(format!("what is called {} in it is {found}", shown(&descriptor.digest))));
    }
    Ok(())
}

/// A layer, held open: what is unpacked is what was looked at, whoever puts another one in its place.
fn checked(blobs: &Blobs, descriptor: &Descriptor, goes_on: GoesOn<'_>) -> Result<Blob, ArchiveError> {
    let mut blob = opened(blobs, descriptor)?;
    has_digest(descriptor, &blob.digest(goes_on)?)?;
    Ok(blob)
}

/// A record, read once: the digest is that of these very bytes.
fn checked_record(
    blobs: &Blobs,
    descriptor: &Descriptor,
    goes_on: GoesOn<'_>,
) -> Result<Vec<u8>, ArchiveError> {
    if !goes_on() {
        return Err(ArchiveError::Interrupted);
    }
    let bytes = opened(blobs, descriptor)?.record(&descriptor.digest)?;
    has_digest(descriptor, &text_of(&Sha256::digest(&bytes)))?;
    Ok(bytes)
}

fn of_manifest(
    blobs: &Blobs,
    bytes: &[u8],
    name: String,
    wish: &Wish,
    goes_on: GoesOn<'_>,
) -> Result<Image, ArchiveError> {
    let manifest: Manifest = parse("the manifest", bytes)?;
    if manifest.schema_version != 2 {
        return Err(wrong(format!("its manifest is of version {}", manifest.schema_version)));
    }
    let record: ImageRecord = parse("the configuration", &checked_record(blobs, &manifest.config, goes_on)?)?;
    few(manifest.layers.len())?;
    for layer in &manifest.layers {
        let kind = layer.media_type.as_str();
        let is_layer = LAYERS.iter().any(|known| kind.starts_with(known));
        if is_elsewhere(kind) && blobs.open(&path_of(&layer.digest)?)?.is_none() {
            return Err(unfit(format!("a layer of it is kept elsewhere: {}", shown(kind)), WITH_ALL_LAYERS));
        }
        if !is_layer {
            return Err(unfit(
                format!("a layer of it is of a kind that is not known: {}", shown(kind)),
                WITH_A_ROOT,
            ));
        }
    }
    // One that is named again is not read again.
    let (mut layers, mut known): (Vec<Blob>, BTreeMap<(&str, u64), usize>) = (Vec::new(), BTreeMap::new());
    for layer in &manifest.layers {
        let blob = match known.get(&(layer.digest.as_str(), layer.size)) {
            Some(&same) => layers[same].again()?,
            None => checked(blobs, layer, goes_on)?,
        };
        known.entry((&layer.digest, layer.size)).or_insert(layers.len());
        layers.push(blob);
    }
    finish(record, layers, name, wish)
}

fn of_saved(blobs: &Blobs, mut saved: Vec<Saved>, wish: &Wish) -> Result<Image, ArchiveError> {
    let name_of =
        |one: &Saved| one.repo_tags.iter().flatten().next().cloned().unwrap_or_else(|| one.config.clone());
    let names: Vec<String> = saved.iter().map(|one| shown(&name_of(one))).collect();
    if let (Some(wanted), false) = (&wish.image, saved.is_empty()) {
        saved.retain(|one| {
            one.repo_tags.iter().flatten().any(|tag| is_named(tag, wanted))
                || digest_in(&one.config).as_ref() == Some(wanted)
        });
        if saved.is_empty() {
            return Err(no_such(wanted, &names));
        }
    }
    let one = match (saved.pop(), saved.pop()) {
        (Some(one), None) => one,
        (None, _) => return Err(nothing()),
        (Some(_), Some(_)) => {
            return Err(several(&names));
        }
    };
    let name = name_of(&one);
    let Some(record) = blobs.record(&one.config)? else {
        return Err(wrong(format!("{} is missing in it", shown(&one.config))));
    };
    let found = text_of(&Sha256::digest(&record));
    if digest_in(&one.config).is_some_and(|digest| digest != found) {
        return Err(wrong(format!("what is called {} in it is {found}", shown(&one.config))));
    }
    let record: ImageRecord = parse(&one.config, &record)?;
    few(one.layers.len())?;
    let mut layers = Vec::new();
    for path in &one.layers {
        layers.push(blobs.open(path)?.ok_or_else(|| wrong(format!("{} is missing in it", shown(path))))?);
    }
    finish(record, layers, name, wish)
}

/// `docker save` calls a configuration `<hex>.json` or `blobs/sha256/<hex>`: the digest, if the name tells one.
fn digest_in(path: &str) -> Option<String> {
    let last = path.rsplit('/').next().unwrap_or_default();
    let digest = format!("sha256:{}", last.strip_suffix(".json").unwrap_or(last));
    path_of(&digest).is_ok().then_some(digest)
}

fn is_elsewhere(kind: &str) -> bool {
    LAYERS[2..].iter().any(|known| kind.starts_with(known))
}

/// Each is held open: refused before any is.
fn few(layers: usize) -> Result<(), ArchiveError> {
    if layers == 0 || layers > MOST_LAYERS {
        return Err(unfit(
            format!("it has {layers} layers; from 1 to {MOST_LAYERS} can be unpacked"),
            if layers == 0 { WITH_A_ROOT } else { WITH_FEWER_LAYERS },
        ));
    }
    Ok(())
}

fn finish(record: ImageRecord, blobs: Vec<Blob>, name: String, wish: &Wish) -> Result<Image, ArchiveError> {
    let digests = record.rootfs.diff_ids;
    if digests.len() != blobs.len() {
        return Err(wrong(format!("it has {} layers and digests of {}", blobs.len(), digests.len())));
    }
    if record.os != "linux" || record.architecture != wish.architecture {
        let found = shown(&format!("{}/{}", record.os, record.architecture));
        let because = format!("it is for {found}, and this host is linux/{}", wish.architecture);
        return Err(unfit(because, OF_THIS_MACHINE));
    }
    for digest in &digests {
        path_of(digest)?;
    }
    let layers = blobs.into_iter().zip(digests).map(|(blob, digest)| Layer { blob, digest }).collect();
    let configuration = record.config.unwrap_or_default();
    Ok(Image { name, configuration, architecture: record.architecture, layers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_run_is_a_list_or_one_word() {
        let of =
            |text: &str| serde_json::from_str::<Configuration>(text).map(|one| (one.entrypoint, one.cmd));
        let word = |word: &str| Some(vec![word.to_owned()]);
        assert_eq!(
            of(r#"{"Entrypoint":"/app/run","Cmd":"-v -x"}"#).unwrap(),
            (word("/app/run"), word("-v -x"))
        );
        assert_eq!(of(r#"{"Entrypoint":["/app/run"],"Cmd":null}"#).unwrap(), (word("/app/run"), None));
        assert_eq!(of(r#"{"Entrypoint":""}"#).unwrap(), (Some(Vec::new()), None));
        assert_eq!(of("{}").unwrap(), (None, None));
        for nonsense in [r#"{"Cmd":1}"#, r#"{"Cmd":[1]}"#, r#"{"Cmd":{}}"#] {
            assert!(of(nonsense).is_err(), "{nonsense}");
        }
    }
}
