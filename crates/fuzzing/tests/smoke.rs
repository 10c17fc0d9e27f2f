//! The corpus of every target, and some thousand changes of it that are always the same.

use std::path::Path;

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

#[test]
fn whatever_is_read_holds_what_it_has_to() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, target) in fuzzing::TARGETS {
        let seeds: Vec<Vec<u8>> = std::fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("{name} has a corpus: {error}"))
            .flatten()
            .map(|entry| std::fs::read(entry.path()).unwrap())
            .collect();
        assert!(!seeds.is_empty(), "{name} has a corpus");
        let mut dice = Dice(0x5eed);
        for seed in &seeds {
            target(seed);
        }
        for _ in 0..3_000 {
            let bytes = changed(&seeds[dice.below(seeds.len())], &seeds, &mut dice);
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                panic!("{name} does not hold for {:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

#[test]
fn every_target_is_one_of_the_fuzzer() {
    let manifest =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml")).unwrap();
    for (name, _) in fuzzing::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is missing in fuzz/Cargo.toml");
    }
}
