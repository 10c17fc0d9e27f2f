//! Files with holes: where their data goes. GNU's old format, and its three in extended headers.

use std::io::{self, Read};

use crate::pax::{Pax, number};

/// A disk image of terabytes has fewer.
const MOST_PIECES: usize = 256 * 1024;
/// Blocks after a header in GNU's old format, each of which has room for 21 pieces.
pub const MOST_BLOCKS: usize = MOST_PIECES / 21 + 1;

/// Pieces that are in order, apart from one another, within the file, and as long together as what is stored. Those without data are left out.
pub fn checked(pieces: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Vec<(u64, u64)>, String> {
    let (mut end, mut sum) = (0u64, 0u64);
    for &(offset, length) in &pieces {
        let after = offset.checked_add(length);
        if offset < end || after.is_none_or(|after| after > size) {
            return Err("a map of holes that cannot be".to_owned());
        }
        end = after.unwrap_or(end);
        sum += length;
    }
    if sum != stored {
        return Err(format!("a map of holes for {sum} bytes where there are {stored}"));
    }
    Ok(pieces.into_iter().filter(|(_, length)| *length > 0).collect())
}

/// Version 0.1: `GNU.sparse.map`, `OFFSET,LENGTH,…`; version 0.0: a record a number. `None`: it has none.
pub fn of_header(pax: &Pax) -> Result<Option<Vec<(u64, u64)>>, String> {
    let pieces = match pax.bytes("GNU.sparse.map") {
        Some(map) => {
            let numbers: Option<Vec<u64>> = map.split(|&byte| byte == b',').map(number).collect();
            let numbers =
                numbers.filter(|numbers| numbers.len() % 2 == 0).ok_or("a map of holes that is none")?;
            numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
        }
        None if !pax.pieces.is_empty() || pax.bytes("GNU.sparse.numblocks").is_some() => pax.pieces.clone(),
        None => return Ok(None),
    };
    few(&pieces)?;
    Ok(Some(pieces))
}

/// Where data is, offset and length, and how long what told it was; or why it tells nothing.
type Found = Result<(Vec<(u64, u64)>, u64), String>;

/// Version 1.0: before the data, in decimal lines, filled up to a block. Returns how long it was, too.
pub fn before_the_data(data: &mut dyn Read) -> io::Result<Found> {
    let (mut block, mut at, mut blocks) = ([0; 512], 512, 0);
    let mut line = |data: &mut dyn Read| -> io::Result<Option<u64>> {
        let mut digits = Vec::new();
        loop {
            if at == block.len() {
                data.read_exact(&mut block)?;
                (at, blocks) = (0, blocks + 1);
            }
            let byte = block[at];
            at += 1;
            match byte {
                b'\n' => return Ok(number(&digits)),
                _ if digits.len() < 20 => digits.push(byte),
                _ => return Ok(None),
            }
        }
    };
    let none = || Ok(Err("a map of holes that is none".to_owned()));
    let Some(count) = line(data)? else { return none() };
    if count > MOST_PIECES as u64 {
        return Ok(Err(format!("a file with {count} holes")));
    }
    let mut pieces = Vec::new();
    for _ in 0..count {
        let (Some(offset), Some(length)) = (line(data)?, line(data)?) else { return none() };
        pieces.push((offset, length));
    }
    Ok(Ok((pieces, blocks * 512)))
}

/// There are not too many.
pub fn few(pieces: &[(u64, u64)]) -> Result<(), String> {
    if pieces.len() > MOST_PIECES { Err(format!("a file with {} holes", pieces.len())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_cannot_be_are_refused() {
        assert_eq!(checked(vec![(0, 1), (4, 2), (9, 0)], 9, 3).unwrap(), [(0, 1), (4, 2)]);
        for (pieces, size, stored) in [
            (vec![(4, 2), (0, 1)], 9, 3),
            (vec![(0, 4), (3, 2)], 9, 6),
            (vec![(0, 10)], 9, 10),
            (vec![(u64::MAX, 2)], u64::MAX, 2),
            (vec![(0, 2)], 9, 3),
        ] {
            assert!(checked(pieces, size, stored).is_err());
        }
    }

    #[test]
    fn a_map_before_the_data_is_read_with_what_fills_it_up() {
        let mut text = b"2\n0\n5\n1000\n3\n".to_vec();
        text.resize(512, 0);
        text.extend(b"data");
        let mut data = &text[..];
        assert_eq!(before_the_data(&mut data).unwrap().unwrap(), (vec![(0, 5), (1000, 3)], 512));
        assert_eq!(data, b"data");
        for nonsense in ["x\n", "1\n\n\n", "999999999\n", "99999999999999999999999999\n"] {
            let mut text = nonsense.as_bytes().to_vec();
            text.resize(512, 0);
            assert!(before_the_data(&mut &text[..]).unwrap().is_err(), "{nonsense}");
        }
    }
}
