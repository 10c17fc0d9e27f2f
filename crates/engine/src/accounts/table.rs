//! A file of the new root, line by line: added to, one field changed, all else byte for byte.

use std::collections::{HashMap, HashSet};

/// The field of passwd and group that holds the id.
const ID: usize = 2;

/// The lines of one file. A row keeps its number whatever is added.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Those that were there, then those that were added.
    rows: Vec<Row>,
    /// How many were there.
    old: usize,
    /// Whether the root has the file.
    pub exists: bool,
    is_changed: bool,
    names: HashMap<Vec<u8>, Vec<usize>>,
    /// The first entry with each number in the field of the id.
    holders: HashMap<u32, usize>,
}

#[derive(Debug)]
struct Row {
    fields: Vec<Vec<u8>>,
    /// Line feed, with or without a carriage return, or nothing at the end of the file.
    end: Vec<u8>,
}

impl Table {
    pub(super) fn parse(bytes: Option<&[u8]>) -> Table {
        let mut table = Table { exists: bytes.is_some(), ..Table::default() };
        for line in bytes.unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let fields = text.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect();
            table.push(Row { fields, end: line[text.len()..].to_vec() });
        }
        table.old = table.rows.len();
        table
    }

    /// The first line of that name with at least `fields` fields: the one that counts.
    pub(super) fn find(&self, name: &str, fields: usize) -> Option<usize> {
        let rows = self.names.get(name.as_bytes())?;
        rows.iter().copied().find(|row| self.rows[*row].fields.len() >= fields)
    }

    /// Whether any line, understood or not, begins with that name.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.contains_key(name.as_bytes())
    }

    pub(super) fn field(&self, row: usize, field: usize) -> &[u8] {
        self.rows[row].fields.get(field).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn set(&mut self, row: usize, field: usize, value: &[u8]) {
        let place = &mut self.rows[row].fields[field];
        if place != value {
            *place = value.to_vec();
            self.is_changed = true;
        }
    }

    /// The number in a field, read as generously as glibc would: what may be an id is taken.
    pub(super) fn number(&self, row: usize, field: usize) -> Option<u32> {
        number(&self.rows[row], field)
    }

    /// Whoever has this id first.
    pub(super) fn holder(&self, id: u32) -> Option<String> {
        self.holders.get(&id).map(|row| self.name(*row))
    }

    /// All ids that are somebody's.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.holders.keys().copied()
    }

    pub(super) fn name(&self, row: usize) -> String {
        String::from_utf8_lossy(self.field(row, 0)).into_owned()
    }

    pub(super) fn rows(&self) -> std::ops::Range<usize> {
        0..self.rows.len()
    }

    pub(super) fn add(&mut self, fields: Vec<Vec<u8>>) {
        self.push(Row { fields, end: b"\n".to_vec() });
        self.is_changed = true;
    }

    fn push(&mut self, row: Row) {
        let index = self.rows.len();
        if !matches!(row.fields[0].first(), Some(b'#' | b'+' | b'-')) {
            if let Some(id) = number(&row, ID) {
                self.holders.entry(id).or_insert(index);
            }
            self.names.entry(row.fields[0].clone()).or_default().push(index);
        }
        self.rows.push(row);
    }

    /// Adds names to a list that is separated by commas; returns those that it lacked.
    pub(super) fn add_to_list(&mut self, row: usize, field: usize, names: &[String]) -> Vec<String> {
        let mut list = self.field(row, field).to_vec();
        let mut there: HashSet<Vec<u8>> =
            list.split(|byte| *byte == b',').map(|name| name.trim_ascii().to_vec()).collect();
        let mut added = Vec::new();
        for name in names {
            if there.insert(name.clone().into_bytes()) {
                if !list.is_empty() && !list.ends_with(b",") {
                    list.push(b',');
                }
                list.extend_from_slice(name.as_bytes());
                added.push(name.clone());
            }
        }
        if !added.is_empty() {
            self.set(row, field, &list);
        }
        added
    }

    /// The file as it is to be, if it is to change. What was added goes before what NIS adds, which would
    /// win otherwise.
    pub(super) fn into_changed(mut self) -> Option<Vec<u8>> {
        if !self.is_changed {
            return None;
        }
        let added = self.rows.split_off(self.old);
        let is_nis = |row: &Row| matches!(row.fields[0].first(), Some(b'+' | b'-'));
        let place = self.rows.iter().position(is_nis).unwrap_or(self.rows.len());
        if let Some(last) = self.rows[..place].last_mut()
            && !last.end.ends_with(b"\n")
            && !added.is_empty()
        {
            last.end.push(b'\n');
        }
        self.rows.splice(place..place, added);
        let mut bytes = Vec::new();
        for row in self.rows {
            bytes.extend_from_slice(&row.fields.join(&b':'));
            bytes.extend_from_slice(&row.end);
        }
        Some(bytes)
    }
}

fn number(row: &Row, field: usize) -> Option<u32> {
    std::str::from_utf8(row.fields.get(field)?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_byte_for_byte() {
        let text = b"root:x:0\r\n\n#comment\nno newline:\xff";
        assert_eq!(Table::parse(Some(text)).into_changed(), None);
        let mut table = Table::parse(Some(text));
        table.add(vec![b"a".to_vec(), b"b".to_vec()]);
        table.set(0, 1, b"y");
        assert_eq!(table.into_changed().unwrap(), b"root:y:0\r\n\n#comment\nno newline:\xff\na:b\n");
    }

    #[test]
    fn additions_go_before_nis() {
        let mut table = Table::parse(Some(b"a:1\n+@admins::\n+::\n"));
        table.add(vec![b"b".to_vec(), b"2".to_vec()]);
        assert_eq!(table.into_changed().unwrap(), b"a:1\nb:2\n+@admins::\n+::\n");
        let mut only = Table::parse(Some(b"+::"));
        only.add(vec![b"b".to_vec()]);
        assert_eq!(only.into_changed().unwrap(), b"b\n+::");
    }

    #[test]
    fn ids_are_read_generously() {
        let table = Table::parse(Some(b"a:x: 01000\nb:x:+5\nc:x:-1\n#d:x:7\n"));
        assert_eq!(table.holder(1000).as_deref(), Some("a"));
        assert_eq!(table.holder(5).as_deref(), Some("b"));
        assert_eq!(table.holder(7), None);
    }
}
