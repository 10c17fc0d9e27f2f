//! The rows of one table of an SQLite database, out of its bytes.
//!
//! As much of the format (<https://www.sqlite.org/fileformat2.html>) as the records of rpm and dnf need: table b-trees with their overflow pages, and the
//! write-ahead log beside the file, in which dnf leaves its newest transactions for good. A container's root has made these bytes, and they are read as
//! root: so not by the library, which is C. Nothing is trusted in them; whatever they say, what is read and kept of them has an end. Only the pages of the
//! tables that are asked for are read: the database of rpm has hundreds of megabytes where some hundred packages are installed.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes that lie in memory or in a file.
pub trait Stored: std::fmt::Debug {
    /// Those from there on; `None`: there are not as many.
    fn part(&self, from: u64, length: usize) -> Option<Vec<u8>>;
}

impl Stored for &[u8] {
    fn part(&self, from: u64, length: usize) -> Option<Vec<u8>> {
        let from = usize::try_from(from).ok()?;
        self.get(from..from.checked_add(length)?).map(<[u8]>::to_vec)
    }
}

impl Stored for File {
    fn part(&self, from: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, from).ok()?;
        Some(bytes)
    }
}

/// What a database has that has none: its log.
pub const NO_LOG: &[u8] = b"";

/// A column of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Also for what is no text and no whole number.
    Other,
    /// INTEGER.
    Number(i64),
    /// TEXT.
    Text(String),
}

impl Value {
    /// Its number, if it is one.
    pub fn number(&self) -> Option<i64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Text(_) | Value::Other => None,
        }
    }

    /// Its text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Other => None,
        }
    }
}

/// A database and the log beside it.
#[derive(Debug)]
pub struct Database<'a> {
    file: &'a dyn Stored,
    log: &'a dyn Stored,
    page_size: usize,
    /// What every page has not reserved at its end.
    usable: usize,
    /// Pages that the log has newer, and where in it.
    newer: HashMap<u32, u64>,
}

const MAGIC: &[u8] = b"SQLite format 3\0";
/// A row longer than this is left out: no name is.
const LONGEST_ROW: usize = 64 * 1024;
/// All rows of a table together, as they lie in memory. A page may lead to one row thousands of times, and be led to again itself.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Of one table. The names of 100,000 packages fill a thousand.
const MOST_PAGES: usize = 16 * 1024;
/// Of a log: SQLite writes it back after a thousand.
const MOST_FRAMES: usize = 64 * 1024;
/// Pages in pages in pages: a table of 2^64 rows is not as deep.
const DEEPEST: usize = 32;

impl<'a> Database<'a> {
    /// Of a file, and of the log beside it, which may be empty. `None`: it is none.
    pub fn of(file: &'a dyn Stored, log: &'a dyn Stored) -> Option<Database<'a>> {
        let newer = Log::of(log).map(|log| Some((log.page_size, log.pages()?)));
        // Not without what may be the newest.
        let newer = if let Some(newer) = newer { Some(newer?) } else { None };
        // A database that has been made and never been checkpointed is all in its log.
        let in_log = newer.as_ref().and_then(|(_, pages)| pages.get(&1).copied());
        let first = match in_log {
            Some(at) => log.part(at, 100)?,
            None => file.part(0, 100)?,
        };
        if !first.starts_with(MAGIC) {
            return None;
        }
        let page_size = match be(&first, 16, 2)? {
            1 => 65_536,
            size if size.is_power_of_two() && size >= 512 => size,
            _ => return None,
        };
        let newer =
            newer.filter(|(logged, _)| *logged == page_size).map(|(_, pages)| pages).unwrap_or_default();
        let usable = page_size.checked_sub(be(&first, 20, 1)?).filter(|&usable| usable >= 480)?;
        Some(Database { file, log, page_size, usable, newer })
    }

    /// The rows of a table, each with its number, which stands for an INTEGER PRIMARY KEY. Of a table that is not there, or is torn, as many as there are.
    pub fn rows(&self, table: &str) -> Vec<(i64, Vec<Value>)> {
        // type, name, tbl_name, rootpage, sql
        let root = self.rows_below(1).into_iter().find_map(|(_, columns)| {
            let is_it = columns.first()?.text() == Some("table") && columns.get(1)?.text() == Some(table);
            is_it.then(|| columns.get(3)?.number()).flatten()
        });
        root.and_then(|root| u32::try_from(root).ok()).map(|root| self.rows_below(root)).unwrap_or_default()
    }

    fn page(&self, number: u32) -> Option<Vec<u8>> {
        if let Some(&at) = self.newer.get(&number) {
            return self.log.part(at, self.page_size);
        }
        self.file.part(u64::from(number).checked_sub(1)? * self.page_size as u64, self.page_size)
    }

    fn rows_below(&self, root: u32) -> Vec<(i64, Vec<Value>)> {
        let (mut rows, mut visited, mut left) = (Vec::new(), 0, MOST_BYTES);
        let mut todo = vec![(root, 0)];
        while let Some((number, depth)) = todo.pop() {
            visited += 1;
            if visited > MOST_PAGES || todo.len() > MOST_PAGES || depth > DEEPEST {
                break;
            }
            let Some(page) = self.page(number) else { continue };
            let page = page.as_slice();
            let header = if number == 1 { 100 } else { 0 };
            let Some(&kind) = page.get(header) else { continue };
            let (cells, is_leaf) = match kind {
                13 => (header + 8, true),
                5 => (header + 12, false),
                _ => continue,
            };
            let count = be(page, header + 3, 2).unwrap_or(0);
            let cell_at = |index: usize| be(page, cells + 2 * index, 2);
            if is_leaf {
                for index in 0..count {
                    if left == 0 {
                        return rows;
                    }
                    rows.extend(cell_at(index).and_then(|at| self.row(page, at, &mut left)));
                }
                continue;
            }
            let right = be(page, header + 8, 4).map(|right| (right as u32, depth + 1));
            let left = (0..count).filter_map(|index| Some((be(page, cell_at(index)?, 4)? as u32, depth + 1)));
            // The first one is to be the next one.
            let mut children: Vec<(u32, usize)> = left.chain(right).collect();
            children.reverse();
            todo.extend(children);
        }
        rows
    }

    /// What it takes is taken from `left` before it is made.
    fn row(&self, page: &[u8], at: usize, left: &mut usize) -> Option<(i64, Vec<Value>)> {
        let (length, after) = varint(page, at)?;
        let (number, after) = varint(page, after)?;
        let length = usize::try_from(length).ok().filter(|&length| length <= LONGEST_ROW)?;
        *left = left.saturating_sub(length + size_of::<(i64, Vec<Value>)>());
        let bytes = self.payload(page, after, length)?;
        let columns = columns(&bytes)?;
        *left = left.saturating_sub(columns.len() * size_of::<Value>());
        Some((number, columns))
    }

    /// What of a row does not fit into its page is in a chain of others.
    fn payload(&self, page: &[u8], at: usize, length: usize) -> Option<Vec<u8>> {
        let most = self.usable - 35;
        if length <= most {
            return Some(page.get(at..at.checked_add(length)?)?.to_vec());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let wanted = least + (length - least) % (self.usable - 4);
        let here = if wanted <= most { wanted } else { least };
        let mut bytes = page.get(at..at.checked_add(here)?)?.to_vec();
        let mut next = be(page, at + here, 4)?;
        while bytes.len() < length {
            let page = self.page(u32::try_from(next).ok()?)?;
            let part = (length - bytes.len()).min(self.usable - 4);
            bytes.extend_from_slice(page.get(4..4 + part)?);
            next = be(&page, 0, 4)?;
        }
        Some(bytes)
    }
}

fn columns(bytes: &[u8]) -> Option<Vec<Value>> {
    let (header, mut at) = varint(bytes, 0)?;
    let header = usize::try_from(header).ok().filter(|&header| header <= bytes.len())?;
    let (mut columns, mut data) = (Vec::new(), header);
    while at < header {
        let (kind, after) = varint(bytes, at)?;
        at = after;
        let (length, value) = match kind {
            1..=4 => (kind as usize, None),
            5 => (6, None),
            6 => (8, None),
            7 => (8, Some(Value::Other)),
            8 | 9 => (0, Some(Value::Number(kind - 8))),
            0 | 10 | 11 => (0, Some(Value::Other)),
            kind if kind < 0 => return None,
            kind if kind % 2 == 0 => (usize::try_from((kind - 12) / 2).ok()?, Some(Value::Other)),
            kind => {
                let length = usize::try_from((kind - 13) / 2).ok()?;
                let text = bytes.get(data..data.checked_add(length)?)?;
                (length, Some(Value::Text(String::from_utf8_lossy(text).into_owned())))
            }
        };
        let stored = bytes.get(data..data.checked_add(length)?)?;
        columns.push(value.unwrap_or_else(|| {
            // Two's complement, of as many bytes as there are.
            let negative = stored.first().is_some_and(|&first| first >= 0x80);
            let start = if negative { -1i64 } else { 0 };
            Value::Number(stored.iter().fold(start, |number, &byte| number << 8 | i64::from(byte)))
        }));
        data += length;
    }
    Some(columns)
}

/// A number of up to nine bytes, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let mut number: u64 = 0;
    for index in 0..9 {
        let byte = *bytes.get(at.checked_add(index)?)?;
        if index == 8 {
            return Some(((number << 8 | u64::from(byte)).cast_signed(), at + 9));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((number.cast_signed(), at + index + 1));
        }
    }
    None
}

fn be(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
}

/// A write-ahead log.
struct Log<'a> {
    stored: &'a dyn Stored,
    header: [u8; LOG_HEADER],
    page_size: usize,
    is_big_endian: bool,
}

const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

impl<'a> Log<'a> {
    fn of(stored: &'a dyn Stored) -> Option<Log<'a>> {
        let header: [u8; LOG_HEADER] = stored.part(0, LOG_HEADER)?.try_into().ok()?;
        let is_big_endian = match be(&header, 0, 4)? {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        let page_size =
            be(&header, 8, 4).filter(|size| size.is_power_of_two() && (512..=65_536).contains(size))?;
        Some(Log { stored, header, page_size, is_big_endian })
    }

    /// Where the newest of every page is as of the last transaction that was written whole; `None`: it is too long to be read. What a former use of the log
    /// has left at its end has another salt, or another sum.
    fn pages(&self) -> Option<HashMap<u32, u64>> {
        let (mut committed, mut pending) = (HashMap::new(), HashMap::new());
        let mut sum = self.sum((0, 0), &self.header[..24]);
        if !is_sum(sum, &self.header[24..]) {
            return Some(committed);
        }
        let mut at = LOG_HEADER as u64;
        let length = FRAME_HEADER + self.page_size;
        for _ in 0..MOST_FRAMES {
            let Some(frame) = self.stored.part(at, length) else { return Some(committed) };
            sum = self.sum(self.sum(sum, &frame[..8]), &frame[FRAME_HEADER..]);
            if frame[8..16] != self.header[16..24] || !is_sum(sum, &frame[16..24]) {
                return Some(committed);
            }
            let (page, commit) = (be(&frame, 0, 4)?, be(&frame, 4, 4)?);
            pending.insert(page as u32, at + FRAME_HEADER as u64);
            if commit != 0 {
                committed.extend(pending.drain());
            }
            at += length as u64;
        }
        None
    }

    fn sum(&self, (mut one, mut two): (u32, u32), bytes: &[u8]) -> (u32, u32) {
        let word = |bytes: &[u8]| {
            let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
            if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        for pair in bytes.chunks_exact(8) {
            one = one.wrapping_add(word(&pair[..4])).wrapping_add(two);
            two = two.wrapping_add(word(&pair[4..])).wrapping_add(one);
        }
        (one, two)
    }
}

fn is_sum((one, two): (u32, u32), stored: &[u8]) -> bool {
    be(stored, 0, 4) == Some(one as usize) && be(stored, 4, 4) == Some(two as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30,000 pointers to one row of 40,000 bytes: a gigabyte out of a page of 64 KiB.
    #[test]
    fn a_page_that_leads_to_one_row_again_and_again_takes_no_more_than_a_table_may() {
        let mut page = vec![0; 65_536];
        page[..16].copy_from_slice(MAGIC);
        page[17] = 1;
        page[100] = 13;
        page[103..105].copy_from_slice(&30_000u16.to_be_bytes());
        for pointer in page[108..108 + 60_000].chunks_exact_mut(2) {
            pointer.copy_from_slice(&0x4040u16.to_be_bytes());
        }
        // 40,000 bytes, row 1; a header of four bytes, of which three say that a text of the rest follows.
        page[0x4040..0x4048].copy_from_slice(&[0x82, 0xb8, 0x40, 0x01, 0x04, 0x84, 0xf0, 0x45]);
        let page = page.as_slice();
        let database = Database::of(&page, &NO_LOG).unwrap();
        let rows = database.rows_below(1);
        let bytes: usize =
            rows.iter().flat_map(|(_, columns)| columns).filter_map(Value::text).map(str::len).sum();
        assert!(bytes > 1_000_000, "only {bytes}: it is not the page that it is to be");
        // What is no UTF-8 becomes three bytes.
        assert!(bytes <= 3 * MOST_BYTES, "{bytes}");
    }
}
