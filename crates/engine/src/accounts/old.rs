//! The old root's accounts, line by line, nothing believed.
//!
//! A line is taken only if it is plainly what it should be; any other is kept out and reported with its
//! number. Of several lines of one name the first counts, as in glibc.

use super::AccountFiles;
use super::note::{AccountFile, LineBecause, Notes};
use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};

const LONGEST_LINE: usize = 64 * 1024;
/// The members of a large site's group take more than that, and there is nothing wrong with them.
const LONGEST_LINE_OF_GROUPS: usize = 1024 * 1024;
const LONGEST_NAME: usize = 255;
pub(super) const ROOT: &str = "root";
/// (uid_t) -1, which means "nobody at all" to the system calls, also in its old 16 bits.
const NO_ID: [u32; 2] = [u32::MAX, 65_535];

#[derive(Debug)]
pub(super) struct OldUser {
    pub name: String,
    /// As it stands in passwd: `x`, or the hash itself.
    pub password: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    pub comment: Vec<u8>,
    pub home: Vec<u8>,
    pub shell: Vec<u8>,
}

impl OldUser {
    /// Root where passwd has no usable line of his: for his password, all else is the new root's anyway.
    fn lost_root() -> OldUser {
        OldUser {
            name: ROOT.to_owned(),
            password: b"x".to_vec(),
            uid: 0,
            gid: 0,
            comment: Vec::new(),
            home: Vec::new(),
            shell: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct OldGroup {
    pub name: String,
    pub password: Vec<u8>,
    pub gid: u32,
    pub members: Vec<String>,
}

/// A range of subordinate ids; `owner` is a name or a number.
#[derive(Debug)]
pub(super) struct OldRange {
    pub line_number: usize,
    pub owner: String,
    pub first: u32,
    pub count: u32,
}

#[derive(Debug)]
pub(super) struct OldAccounts {
    pub users: Vec<OldUser>,
    pub groups: Vec<OldGroup>,
    /// All fields of the lines of shadow and gshadow.
    pub shadow: HashMap<String, Vec<Vec<u8>>>,
    pub gshadow: HashMap<String, Vec<Vec<u8>>>,
    pub subuid: Vec<OldRange>,
    pub subgid: Vec<OldRange>,
}

impl OldAccounts {
    pub(super) fn read(files: &AccountFiles, notes: &mut Notes) -> OldAccounts {
        let mut users = users(files.passwd.as_deref(), notes);
        let groups = groups(files.group.as_deref(), notes);
        let mut user_names: HashSet<&str> = users.iter().map(|user| user.name.as_str()).collect();
        // Root is there whatever a broken passwd says: his password may be all that was left.
        user_names.insert(ROOT);
        let group_names = groups.iter().map(|group| group.name.as_str()).collect();
        let shadow = secrets(AccountFile::Shadow, 9, files.shadow.as_deref(), &user_names, notes);
        let gshadow = secrets(AccountFile::Gshadow, 4, files.gshadow.as_deref(), &group_names, notes);
        let subuid = ranges(AccountFile::Subuid, files.subuid.as_deref(), notes);
        let subgid = ranges(AccountFile::Subgid, files.subgid.as_deref(), notes);
        if shadow.contains_key(ROOT) && !users.iter().any(|user| user.name == ROOT) {
            users.push(OldUser::lost_root());
        }
        OldAccounts { users, groups, shadow, gshadow, subuid, subgid }
    }
}

fn users(passwd: Option<&[u8]>, notes: &mut Notes) -> Vec<OldUser> {
    let file = AccountFile::Passwd;
    let mut seen = HashSet::new();
    let mut users = Vec::new();
    for line in lines(file, passwd, |found| found == 7, 7, notes) {
        let [_, password, uid, gid, comment, home, shell] =
            <[Vec<u8>; 7]>::try_from(line.fields).expect("lines of any other count are kept out");
        let (Some(uid), Some(gid)) = (id(&uid), id(&gid)) else {
            notes.line(file, line.number, LineBecause::BadId);
            continue;
        };
        if !seen.insert(line.name.clone()) {
            notes.line(file, line.number, LineBecause::DuplicateName);
            continue;
        }
        users.push(OldUser { name: line.name, password, uid, gid, comment, home, shell });
    }
    users
}

fn groups(group: Option<&[u8]>, notes: &mut Notes) -> Vec<OldGroup> {
    let file = AccountFile::Group;
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    for line in lines(file, group, |found| found == 4, 4, notes) {
        let [_, password, gid, members] =
            <[Vec<u8>; 4]>::try_from(line.fields).expect("lines of any other count are kept out");
        let Some(gid) = id(&gid) else {
            notes.line(file, line.number, LineBecause::BadId);
            continue;
        };
        if !seen.insert(line.name.clone()) {
            notes.line(file, line.number, LineBecause::DuplicateName);
            continue;
        }
        groups.push(OldGroup { name: line.name, password, gid, members: names_in(&members) });
    }
    groups
}

/// shadow or gshadow. Fields beyond those we know are kept.
fn secrets(
    file: AccountFile,
    wanted: usize,
    bytes: Option<&[u8]>,
    accounts: &HashSet<&str>,
    notes: &mut Notes,
) -> HashMap<String, Vec<Vec<u8>>> {
    let mut found = HashMap::new();
    for line in lines(file, bytes, |fields| fields >= wanted, wanted, notes) {
        let Line { number, name, fields } = line;
        if !accounts.contains(name.as_str()) {
            notes.line(file, number, LineBecause::NoSuchAccount);
            continue;
        }
        match found.entry(name) {
            Entry::Vacant(place) => {
                place.insert(fields);
            }
            Entry::Occupied(_) => notes.line(file, number, LineBecause::DuplicateName),
        }
    }
    found
}

fn ranges(file: AccountFile, bytes: Option<&[u8]>, notes: &mut Notes) -> Vec<OldRange> {
    let mut found = Vec::new();
    for line in lines(file, bytes, |fields| fields == 3, 3, notes) {
        let (first, count) = (digits(&line.fields[1]), digits(&line.fields[2]));
        match (first, count) {
            (Some(first), Some(count)) if count > 0 && first.checked_add(count).is_some() => {
                found.push(OldRange { line_number: line.number, owner: line.name, first, count });
            }
            _ => notes.line(file, line.number, LineBecause::BadRange),
        }
    }
    found
}

struct Line {
    number: usize,
    name: String,
    fields: Vec<Vec<u8>>,
}

/// The lines that have a name and as many fields as they should; the others are reported.
fn lines(
    file: AccountFile,
    bytes: Option<&[u8]>,
    is_right: impl Fn(usize) -> bool,
    wanted: usize,
    notes: &mut Notes,
) -> Vec<Line> {
    let mut found = Vec::new();
    for (index, line) in bytes.unwrap_or_default().split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let fields: Vec<Vec<u8>> = match check(file, line) {
            Ok(()) => line.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect(),
            Err(because) => {
                notes.line(file, index + 1, because);
                continue;
            }
        };
        let may_be_a_number = matches!(file, AccountFile::Subuid | AccountFile::Subgid);
        let name = if is_right(fields.len()) {
            name(&fields[0], may_be_a_number)
        } else {
            Err(LineBecause::Fields { found: fields.len(), wanted })
        };
        match name {
            Ok(name) => found.push(Line { number: index + 1, name, fields }),
            Err(because) => notes.line(file, index + 1, because),
        }
    }
    found
}

fn check(file: AccountFile, line: &[u8]) -> Result<(), LineBecause> {
    let longest = match file {
        AccountFile::Group | AccountFile::Gshadow => LONGEST_LINE_OF_GROUPS,
        AccountFile::Passwd
        | AccountFile::Shadow
        | AccountFile::Subuid
        | AccountFile::Subgid
        | AccountFile::LoginDefs => LONGEST_LINE,
    };
    if line.len() > longest {
        return Err(LineBecause::TooLong { kib: longest / 1024 });
    }
    // A tab is seen in comments; every other one is there to harm a terminal or a parser.
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(LineBecause::ControlCharacter);
    }
    match line[0] {
        b'+' | b'-' => Err(LineBecause::Nis),
        b'#' => Err(LineBecause::Comment),
        _ => Ok(()),
    }
}

/// The rule is systemd's relaxed one, without blanks, and without the comma that separates members.
fn name(bytes: &[u8], may_be_a_number: bool) -> Result<String, LineBecause> {
    if bytes.is_empty() {
        return Err(LineBecause::EmptyName);
    }
    let bad = LineBecause::BadName;
    let name = std::str::from_utf8(bytes).map_err(|_| bad)?;
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | ':' | ',');
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let is_usable = name.len() <= LONGEST_NAME
        && !name.contains(is_odd)
        && !name.starts_with(['-', '+', '#', '~'])
        && name != "."
        && name != ".."
        && (may_be_a_number || !is_number);
    if is_usable { Ok(name.to_owned()) } else { Err(bad) }
}

fn id(bytes: &[u8]) -> Option<u32> {
    digits(bytes).filter(|id| !NO_ID.contains(id))
}

/// Digits only: `+5`, ` 5` and `0x5` are read differently by different programs.
fn digits(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Members; one that can be nobody's name is nobody.
pub(super) fn names_in(list: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for member in list.split(|byte| *byte == b',') {
        let member = String::from_utf8_lossy(member.trim_ascii()).into_owned();
        if !member.is_empty() && seen.insert(member.clone()) {
            names.push(member);
        }
    }
    names
}
