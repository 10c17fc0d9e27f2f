//! The rows of one table of an SQLite database, out of its bytes.
//!
//! As much of the format (<https://www.sqlite.org/fileformat2.html>) as the records of rpm and dnf need: table b-trees with their overflow pages, and the
//! write-ahead log beside the file, in which dnf leaves its newest transactions for good. A container's root has made these bytes, and they are read as
//! root: so not by the library, which is C. Nothing is trusted in them; whatever they say, no more pages are visited than there are.

use std::collections::HashMap;

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

/// A database that lies in memory.
#[derive(Debug)]
pub struct Database<'a> {
    file: &'a [u8],
    page_size: usize,
    /// What every page has reserved at its end.
    usable: usize,
    /// Pages that the log has newer.
    newer: HashMap<u32, &'a [u8]>,
    pages: usize,
}

const MAGIC: &[u8] = b"SQLite format 3\0";
/// A row longer than this is left out: no name is.
const LONGEST_ROW: usize = 64 * 1024;
/// All rows of a table together, as they lie in memory. A page may lead to one row thousands of times, and be led to again itself.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Pages in pages in pages: a table of 2^64 rows is not as deep.
const DEEPEST: usize = 32;

impl<'a> Database<'a> {
    /// Of a file, and of the log beside it, which may be empty. `None`: it is none.
    pub fn of(file: &'a [u8], log: &'a [u8]) -> Option<Database<'a>> {
        let size = |bytes: &[u8]| match usize::from(u16::from_be_bytes([*bytes.get(16)?, *bytes.get(17)?])) {
            1 => Some(65_536),
            size if size.is_power_of_two() && size >= 512 => Some(size),
            _ => None,
        };
        // A database that has been made and never been checkpointed is all in its log.
        let newer = Log::of(log).map(|log| (log.page_size, log.pages()));
        let first = match &newer {
            Some((_, pages)) if pages.contains_key(&1) => pages[&1],
            _ => file,
        };
        if !first.starts_with(MAGIC) {
            return None;
        }
        let page_size = size(first)?;
        let newer =
            newer.filter(|(logged, _)| *logged == page_size).map(|(_, pages)| pages).unwrap_or_default();
        let usable = page_size.checked_sub(usize::from(*first.get(20)?)).filter(|&usable| usable >= 480)?;
        let pages = file.len() / page_size + newer.len();
        Some(Database { file, page_size, usable, newer, pages })
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

    fn page(&self, number: u32) -> Option<&'a [u8]> {
        if let Some(page) = self.newer.get(&number) {
            return Some(page);
        }
        let from = usize::try_from(number).ok()?.checked_sub(1)?.checked_mul(self.page_size)?;
        self.file.get(from..from.checked_add(self.page_size)?)
    }

    fn rows_below(&self, root: u32) -> Vec<(i64, Vec<Value>)> {
        let (mut rows, mut visited, mut left) = (Vec::new(), 0, MOST_BYTES);
        let mut todo = vec![(root, 0)];
        while let Some((number, depth)) = todo.pop() {
            visited += 1;
            if visited > self.pages || depth > DEEPEST {
                break;
            }
            let Some(page) = self.page(number) else { continue };
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
            next = be(page, 0, 4)?;
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
    bytes: &'a [u8],
    page_size: usize,
    is_big_endian: bool,
}

const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

impl<'a> Log<'a> {
    fn of(bytes: &'a [u8]) -> Option<Log<'a>> {
        let is_big_endian = match be(bytes, 0, 4)? {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        let page_size =
            be(bytes, 8, 4).filter(|size| size.is_power_of_two() && (512..=65_536).contains(size))?;
        Some(Log { bytes, page_size, is_big_endian })
    }

    /// The newest of every page as of the last transaction that was written whole. What a former use of the log has left at its end has another salt, or
    /// another sum.
    fn pages(&self) -> HashMap<u32, &'a [u8]> {
        let (mut committed, mut pending) = (HashMap::new(), HashMap::new());
        let mut sum = self.sum((0, 0), &self.bytes[..24]);
        if !self.is_sum(sum, 24) {
            return committed;
        }
        let mut at = LOG_HEADER;
        while let Some(frame) = self.bytes.get(at..at + FRAME_HEADER + self.page_size) {
            sum = self.sum(self.sum(sum, &frame[..8]), &frame[FRAME_HEADER..]);
            if frame[8..16] != self.bytes[16..24] || !self.is_sum(sum, at + 16) {
                break;
            }
            let (page, commit) = (be(frame, 0, 4).unwrap_or(0), be(frame, 4, 4).unwrap_or(0));
            pending.insert(page as u32, &frame[FRAME_HEADER..]);
            if commit != 0 {
                committed.extend(pending.drain());
            }
            at += FRAME_HEADER + self.page_size;
        }
        committed
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

    fn is_sum(&self, (one, two): (u32, u32), at: usize) -> bool {
        be(self.bytes, at, 4) == Some(one as usize) && be(self.bytes, at + 4, 4) == Some(two as usize)
    }
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
        let database = Database::of(&page, b"").unwrap();
        let rows = database.rows_below(1);
        let bytes: usize =
            rows.iter().flat_map(|(_, columns)| columns).filter_map(Value::text).map(str::len).sum();
        assert!(bytes > 1_000_000, "only {bytes}: it is not the page that it is to be");
        // What is no UTF-8 becomes three bytes.
        assert!(bytes <= 3 * MOST_BYTES, "{bytes}");
    }
}
