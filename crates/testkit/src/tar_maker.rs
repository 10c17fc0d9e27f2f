//! Tar archives as nobody's tar would write them.

/// Makes one, entry by entry.
#[derive(Debug, Clone, Default)]
pub struct TarMaker {
    bytes: Vec<u8>,
}

/// A header that can be made wrong before it is written.
#[derive(Debug, Clone)]
pub struct TarHeader {
    /// All of it.
    pub block: [u8; 512],
}

impl TarHeader {
    /// A ustar header; a name that is too long is cut.
    pub fn new(kind: u8, name: &[u8]) -> TarHeader {
        let mut header = TarHeader { block: [0; 512] };
        header.put(0, &name[..name.len().min(100)]);
        header.number(100, 8, if kind == b'5' { 0o755 } else { 0o644 });
        header.number(108, 8, 0).number(116, 8, 0).number(124, 12, 0).number(136, 12, 1_600_000_000);
        header.put(156, &[kind]).put(257, b"ustar\x0000");
        header
    }

    /// Bytes at a place.
    pub fn put(&mut self, at: usize, bytes: &[u8]) -> &mut TarHeader {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// A number in octal digits in a field of that width.
    pub fn number(&mut self, at: usize, width: usize, number: u64) -> &mut TarHeader {
        let digits = format!("{number:0width$o}\0", width = width - 1);
        self.put(at, digits.as_bytes())
    }

    /// How much data follows.
    pub fn size(&mut self, size: u64) -> &mut TarHeader {
        if size < 1 << 33 {
            return self.number(124, 12, size);
        }
        let mut field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&size.to_be_bytes());
        self.put(124, &field)
    }

    /// Permission bits.
    pub fn mode(&mut self, mode: u32) -> &mut TarHeader {
        self.number(100, 8, mode.into())
    }

    /// With its sum.
    pub fn finished(&mut self) -> [u8; 512] {
        self.put(148, b"        ");
        let sum: u64 = self.block.iter().map(|&byte| u64::from(byte)).sum();
        self.number(148, 7, sum);
        self.block
    }
}

impl TarMaker {
    /// With nothing in it.
    pub fn new() -> TarMaker {
        TarMaker::default()
    }

    /// With an init and what it lies in: what a root has at the least.
    pub fn root() -> TarMaker {
        TarMaker::new().directory("sbin").executable("sbin/init", b"#!/bin/sh\n")
    }

    /// Any bytes.
    pub fn raw(mut self, bytes: &[u8]) -> TarMaker {
        self.bytes.extend(bytes);
        self
    }

    /// A header, as it is but for its sum.
    pub fn header(self, header: &mut TarHeader) -> TarMaker {
        let block = header.finished();
        self.raw(&block)
    }

    /// Data, filled up to a block.
    pub fn data(mut self, data: &[u8]) -> TarMaker {
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// An entry with data.
    pub fn entry(self, kind: u8, name: &[u8], data: &[u8]) -> TarMaker {
        self.header(TarHeader::new(kind, name).size(data.len() as u64)).data(data)
    }

    /// A regular file.
    pub fn file(self, name: &str, data: &[u8]) -> TarMaker {
        self.entry(b'0', name.as_bytes(), data)
    }

    /// A regular file that may be executed.
    pub fn executable(self, name: &str, data: &[u8]) -> TarMaker {
        let mut header = TarHeader::new(b'0', name.as_bytes());
        self.header(header.mode(0o755).size(data.len() as u64)).data(data)
    }

    /// A directory.
    pub fn directory(self, name: &str) -> TarMaker {
        self.entry(b'5', name.as_bytes(), b"")
    }

    /// `2` a symlink, `1` a hard link.
    pub fn link(self, kind: u8, name: &str, target: &str) -> TarMaker {
        let target = target.as_bytes();
        if target.len() > 100 {
            return self.entry(b'K', b"long", target).entry(kind, name.as_bytes(), b"");
        }
        self.header(TarHeader::new(kind, name.as_bytes()).put(157, target))
    }

    /// A name of any length, of what comes next.
    pub fn long_name(self, name: &[u8]) -> TarMaker {
        self.entry(b'L', b"././@LongLink", name)
    }

    /// An extended header with these records, of what comes next.
    pub fn pax(self, records: &[(&str, &[u8])]) -> TarMaker {
        let bytes: Vec<u8> = records.iter().flat_map(|(key, value)| TarMaker::record(key, value)).collect();
        self.entry(b'x', b"PaxHeaders/x", &bytes)
    }

    /// One record of an extended header.
    pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let tail = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = tail.len() + 1;
        while length.to_string().len() + tail.len() != length {
            length = length.to_string().len() + tail.len();
        }
        [length.to_string().as_bytes(), &tail].concat()
    }

    /// All of it, with the mark of its end.
    pub fn finish(self) -> Vec<u8> {
        self.raw(&[0; 1024]).unfinished()
    }

    /// All of it, without.
    pub fn unfinished(self) -> Vec<u8> {
        self.bytes
    }
}
