//! How much memory undoing compression takes. The only test of its program, since it is this process that is measured.

use std::io::{self, Read, Write};

use archive::{Compression, decompress};

const MIB: u64 = 1024 * 1024;
/// What is decompressed: more than any window.
const LENGTH: u64 = 160 * MIB;
/// The largest window, and its tables and our buffers.
const MOST: u64 = 64 * MIB + 6 * MIB;

/// The most that this process has had at once since it was last reset, in bytes.
fn most_of_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("of that, too");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn zstd(window: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("there is a level 1");
    encoder.window_log(window).expect("it can be so large");
    io::copy(&mut io::repeat(b'x').take(LENGTH), &mut encoder).expect("it is in memory");
    encoder.finish().expect("it is in memory")
}

fn xz(dictionary: u64) -> Vec<u8> {
    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
    let mut options = LzmaOptions::new_preset(0).expect("there is a preset 0");
    options.dict_size(u32::try_from(dictionary).expect("it can be so large"));
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let stream = Stream::new_stream_encoder(&filters, Check::Crc32).expect("they can be used");
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    io::copy(&mut io::repeat(b'x').take(LENGTH), &mut encoder).expect("it is in memory");
    encoder.finish().expect("it is in memory")
}

#[test]
fn undoing_compression_takes_little_memory_or_is_refused() {
    for (what, compression, bytes) in
        [("zstd with 64 MiB", Compression::Zstd, zstd(26)), ("xz with 64 MiB", Compression::Xz, xz(64 * MIB))]
    {
        // Resets what is the most.
        let mut reset =
            std::fs::File::options().write(true).open("/proc/self/clear_refs").expect("it is there");
        reset.write_all(b"5").expect("5 is known");
        let before = most_of_memory();
        assert_eq!(decompress(compression, &bytes[..], io::sink()).expect("it is whole"), LENGTH, "{what}");
        let taken = most_of_memory() - before;
        assert!(taken <= MOST, "{what} took {} KiB", taken / 1024);
        // It is measured.
        assert!(taken >= 32 * MIB, "{what} took {} KiB", taken / 1024);
    }
    for (what, compression, bytes) in [
        ("zstd with 128 MiB", Compression::Zstd, zstd(27)),
        ("xz with 96 MiB", Compression::Xz, xz(96 * MIB)),
    ] {
        let error = decompress(compression, &bytes[..], io::sink()).expect_err("it wants more");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{what}: {error}");
    }
}
