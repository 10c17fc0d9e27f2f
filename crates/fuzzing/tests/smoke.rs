//! The corpus of every target, and some thousand changes of it that are always the same.
//!
//! An input for which something does not hold is printed so that it can be pasted, and lies afterwards in `target/tmp/fuzz`: copied into the corpus, under a
//! name that says what it is, it stays a test.

use std::path::{Path, PathBuf};

/// A generator of numbers that is the same everywhere: xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

const WORDS: &[&[u8]] = &[
    b":",
    b"\n",
    b"\0",
    b"=",
    b"\"",
    b"'",
    b"\\",
    b"/",
    b"..",
    b"~",
    b"*",
    b"[",
    b"{",
    b"}",
    b"\xff",
    b"\r\n",
    b"18446744073709551616",
    b"-1",
    b"null",
    b"@packages",
    b"#!",
    b"\x1b[31m",
    b"\xe2\x80\xae",
    b"\xe2\x80\x8b",
    b"\"format\": 2",
    b"@nis",
    b"+::",
    b"\"\"\"",
    b"[[",
];

fn changed(seed: &[u8], others: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 => drop(bytes.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
            2 => drop(bytes.drain(at..(at + dice.below(16)).min(bytes.len()))),
            3 => bytes.truncate(at),
            4 => {
                let other = &others[dice.below(others.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[dice.below(other.len() + 1)..]);
            }
            _ => {
                let part = bytes[at..(at + dice.below(64)).min(bytes.len())].to_vec();
                drop(bytes.splice(at..at, part));
            }
        }
    }
    bytes
}

/// Writes down an input for which a target does not hold; returns where.
fn kept(name: &str, bytes: &[u8]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    std::fs::create_dir_all(&directory).expect("make the directory of findings");
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let path = directory.join(format!("{name}-{sum:016x}"));
    std::fs::File::create(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

fn check(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    if std::panic::catch_unwind(|| target(bytes)).is_err() {
        let path = kept(name, bytes);
        panic!("{name} does not hold for b\"{}\", which is now in {}", bytes.escape_ascii(), path.display());
    }
}

fn check_corpus(name: &str) {
    let (_, target) = fuzzing::TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(corpus)
        .unwrap_or_else(|error| panic!("{name} has a corpus: {error}"))
        .map(|entry| entry.expect("list a corpus").path())
        .collect();
    // The changes are the same only if the seeds come in the same order.
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("read a seed")).collect();
    assert!(!seeds.is_empty(), "{name} has a corpus");
    let mut dice = Dice(0x5eed);
    for seed in &seeds {
        check(name, *target, seed);
    }
    for _ in 0..3_000 {
        let bytes = changed(&seeds[dice.below(seeds.len())], &seeds, &mut dice);
        check(name, *target, &bytes);
    }
}

macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        const TESTED: &[&str] = &[$(stringify!($name)),+];

        $(
            #[test]
            fn $name() {
                check_corpus(stringify!($name));
            }
        )+
    };
}

targets!(
    conf,
    area,
    generation,
    operation,
    tar,
    images,
    incus,
    descriptor,
    parallels,
    template,
    accounts,
    keep,
    keep_file,
    recipe,
    packages,
    names,
    nameserver,
    addresses,
    disks,
    bind_mounts,
    device_nodes,
    interfaces,
    events,
    shell_word,
    escape,
    mountinfo,
    interpreter,
);

#[test]
fn every_target_is_one_of_the_fuzzer_and_has_its_test() {
    let manifest =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml")).unwrap();
    for (name, _) in fuzzing::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is missing in fuzz/Cargo.toml");
        assert!(TESTED.contains(name), "{name} has no test here");
    }
    assert_eq!(TESTED.len(), fuzzing::TARGETS.len());
}
