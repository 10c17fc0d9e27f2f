//! What the merge has to say: who was carried, who was not, and why.
//!
//! Each note is one line for people. Names and paths come from a hostile root, so they are escaped.

use std::fmt;

/// Which file of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountFile {
    Passwd,
    Shadow,
    Group,
    Gshadow,
    Subuid,
    Subgid,
    LoginDefs,
}

impl AccountFile {
    /// Where it lies in a root.
    pub fn path(self) -> &'static str {
        match self {
            AccountFile::Passwd => "/etc/passwd",
            AccountFile::Shadow => "/etc/shadow",
            AccountFile::Group => "/etc/group",
            AccountFile::Gshadow => "/etc/gshadow",
            AccountFile::Subuid => "/etc/subuid",
            AccountFile::Subgid => "/etc/subgid",
            AccountFile::LoginDefs => "/etc/login.defs",
        }
    }
}

impl fmt::Display for AccountFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountNote {
    Carried {
        name: String,
        uid: u32,
    },
    NotCarried {
        name: String,
        because: Because,
    },
    GroupCarried {
        name: String,
        gid: u32,
    },
    GroupNotCarried {
        name: String,
        because: Because,
    },
    /// Root's, or that of a user who is in both roots.
    PasswordKept {
        name: String,
    },
    PasswordNotKept {
        name: String,
        because: PasswordBecause,
    },
    /// The one that was given with `--password` is valid.
    PasswordGiven {
        name: String,
    },
    /// He had an empty one, and it was carried as it was.
    EmptyPassword {
        name: String,
    },
    MembershipAdded {
        group: String,
        user: String,
    },
    MembershipNotAdded {
        group: String,
        user: String,
        because: Because,
    },
    ShellReplaced {
        name: String,
        old: String,
        new: String,
    },
    HomeNotMade {
        name: String,
        path: String,
        because: HomeBecause,
    },
    RangeCarried {
        file: AccountFile,
        name: String,
        first: u32,
        count: u32,
    },
    RangeNotCarried {
        file: AccountFile,
        name: String,
        first: u32,
        count: u32,
        because: RangeBecause,
    },
    LineKeptOut {
        file: AccountFile,
        line_number: usize,
        because: LineBecause,
    },
    /// More than are listed one by one.
    MoreLinesKeptOut {
        file: AccountFile,
        count: usize,
    },
    /// `key` of the old root's login.defs is no number; 1000 was taken.
    MinimumUnusable {
        key: &'static str,
        line_number: usize,
    },
    OldFileMissing {
        file: AccountFile,
    },
}

/// Why an account, a group or a membership was not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Because {
    /// Its id is below the old root's minimum, or that of `nobody`.
    System,
    /// A second name for root.
    UidZero,
    /// `by`, another name, has this id in the new root.
    IdTaken { id: u32, by: String },
    /// The new root has the name, with another id.
    OtherId { old: u32, new: u32 },
    /// The new root has a line of this name that cannot be understood.
    NewLineMalformed,
    /// The id of his primary group means another group in the new root.
    PrimaryGroupTaken { gid: u32, by: String },
    /// The new root has no group with the id of his primary one.
    PrimaryGroupMissing { gid: u32 },
    /// The group is not in the new root.
    GroupMissing,
    /// The member is not a user that was carried, or that both roots have.
    UserMissing,
}

/// Why a password hash was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasswordBecause {
    /// Root's was empty: anybody could have logged in.
    Empty,
    /// The old root has no hash for the account.
    NoneInOld,
    /// The account is not in the new root.
    NotInNew,
}

/// Why no home is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HomeBecause {
    NotAbsolute,
    ParentDirectory,
    /// `/old`, `/proc` and the like.
    Reserved,
    /// The owner is no id of a container.
    Owner,
}

/// Why a range of subordinate ids was not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeBecause {
    /// It overlaps with a range of `with`.
    Overlaps { with: String },
    /// The id of an account lies in it.
    HoldsAccount { id: u32 },
    /// The new root has a range for this user.
    HasOne,
}

/// Why a line of the old root was kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineBecause {
    TooLong {
        kib: usize,
    },
    ControlCharacter,
    Nis,
    Comment,
    Fields {
        found: usize,
        wanted: usize,
    },
    EmptyName,
    BadName,
    BadId,
    BadRange,
    DuplicateName,
    NoSuchAccount,
    /// Of subuid and subgid: its user was not carried.
    AccountNotCarried,
}

impl AccountNote {
    /// Whether somebody ought to look at it; the others only say what went as it should.
    pub fn is_warning(&self) -> bool {
        match self {
            AccountNote::Carried { .. }
            | AccountNote::GroupCarried { .. }
            | AccountNote::PasswordKept { .. }
            | AccountNote::PasswordGiven { .. }
            | AccountNote::MembershipAdded { .. }
            | AccountNote::RangeCarried { .. } => false,
            AccountNote::NotCarried { because, .. }
            | AccountNote::GroupNotCarried { because, .. }
            | AccountNote::MembershipNotAdded { because, .. } => *because != Because::System,
            AccountNote::PasswordNotKept { .. }
            | AccountNote::EmptyPassword { .. }
            | AccountNote::ShellReplaced { .. }
            | AccountNote::HomeNotMade { .. }
            | AccountNote::RangeNotCarried { .. }
            | AccountNote::LineKeptOut { .. }
            | AccountNote::MoreLinesKeptOut { .. }
            | AccountNote::MinimumUnusable { .. }
            | AccountNote::OldFileMissing { .. } => true,
        }
    }
}

/// A name of a hostile root, for the terminal.
fn shown(name: &str) -> String {
    tree::escaped(name.as_bytes())
}

impl fmt::Display for AccountNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountNote::Carried { name, uid } => {
                write!(f, "user `{}` ({uid}) was carried over", shown(name))
            }
            AccountNote::NotCarried { name, because } => {
                write!(f, "user `{}` was not carried over: {because}", shown(name))
            }
            AccountNote::GroupCarried { name, gid } => {
                write!(f, "group `{}` ({gid}) was carried over", shown(name))
            }
            AccountNote::GroupNotCarried { name, because } => {
                write!(f, "group `{}` was not carried over: {because}", shown(name))
            }
            AccountNote::PasswordKept { name } => write!(f, "`{}` keeps the old password", shown(name)),
            AccountNote::PasswordGiven { name } => {
                write!(f, "`{}` has the password that was given", shown(name))
            }
            AccountNote::PasswordNotKept { name, because } => {
                write!(f, "`{}` does not keep the old password: {because}", shown(name))
            }
            AccountNote::EmptyPassword { name } => {
                write!(f, "`{}` had an empty password and has it still", shown(name))
            }
            AccountNote::MembershipAdded { group, user } => {
                write!(f, "`{}` is in group `{}` again", shown(user), shown(group))
            }
            AccountNote::MembershipNotAdded { group, user, because } => {
                write!(f, "`{}` is no more in group `{}`: {because}", shown(user), shown(group))
            }
            AccountNote::ShellReplaced { name, old, new } => {
                let (name, old, new) = (shown(name), shown(old), shown(new));
                write!(f, "the shell of `{name}` is now {new}: the new root has no {old}")
            }
            AccountNote::HomeNotMade { name, path, because } => {
                write!(f, "the home of `{}`, `{}`, is not made: {because}", shown(name), shown(path))
            }
            AccountNote::RangeCarried { file, name, first, count } => {
                write!(f, "{file}: `{}` has {count} ids from {first} again", shown(name))
            }
            AccountNote::RangeNotCarried { file, name, first, count, because } => {
                write!(
                    f,
                    "{file}: the {count} ids from {first} of `{}` were not carried over: {because}",
                    shown(name)
                )
            }
            AccountNote::LineKeptOut { file, line_number, because } => {
                write!(f, "line {line_number} of the old {file} was kept out: {because}")
            }
            AccountNote::MoreLinesKeptOut { file, count } => {
                write!(f, "{count} more lines of the old {file} were kept out")
            }
            AccountNote::MinimumUnusable { key, line_number } => {
                let file = AccountFile::LoginDefs;
                write!(f, "line {line_number} of the old {file}: {key} is no number; 1000 is taken")
            }
            AccountNote::OldFileMissing { file } => write!(f, "the old root has no {file}"),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Because::System => f.write_str("it is a system account"),
            Because::UidZero => f.write_str("it is another name for root"),
            Because::IdTaken { id, by } => write!(f, "id {id} is taken by `{}`", shown(by)),
            Because::OtherId { old, new } => write!(f, "the new root has it with id {new}, not {old}"),
            Because::NewLineMalformed => f.write_str("the new root has a malformed line of that name"),
            Because::PrimaryGroupTaken { gid, by } => {
                write!(f, "the id of the primary group, {gid}, is that of `{}` in the new root", shown(by))
            }
            Because::PrimaryGroupMissing { gid } => {
                write!(f, "the new root has no group with the id of the primary one, {gid}")
            }
            Because::GroupMissing => f.write_str("the new root has no such group"),
            Because::UserMissing => f.write_str("the user was not carried over"),
        }
    }
}

impl fmt::Display for PasswordBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PasswordBecause::Empty => "it was empty",
            PasswordBecause::NoneInOld => "the old root has none",
            PasswordBecause::NotInNew => "the new root has no such account",
        })
    }
}

impl fmt::Display for HomeBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HomeBecause::NotAbsolute => "it is no absolute path",
            HomeBecause::ParentDirectory => "there is a `..` in it",
            HomeBecause::Reserved => "nobody's home may be there",
            HomeBecause::Owner => "a container has no such user id",
        })
    }
}

impl fmt::Display for RangeBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeBecause::Overlaps { with } => write!(f, "they overlap with those of `{}`", shown(with)),
            RangeBecause::HoldsAccount { id } => write!(f, "{id} is somebody's own"),
            RangeBecause::HasOne => f.write_str("the new root has others for this user"),
        }
    }
}

impl fmt::Display for LineBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineBecause::TooLong { kib } => write!(f, "it is longer than {kib} KiB"),
            LineBecause::ControlCharacter => f.write_str("it has a control character in it"),
            LineBecause::Nis => f.write_str("NIS entries are not carried over"),
            LineBecause::Comment => f.write_str("it is a comment"),
            LineBecause::Fields { found, wanted } => write!(f, "it has {found} fields instead of {wanted}"),
            LineBecause::EmptyName => f.write_str("the name is empty"),
            LineBecause::BadName => f.write_str("the name cannot be one"),
            LineBecause::BadId => f.write_str("the id is no number of an account"),
            LineBecause::BadRange => f.write_str("it is no range of ids"),
            LineBecause::DuplicateName => f.write_str("an earlier line has the same name"),
            LineBecause::NoSuchAccount => f.write_str("there is no such account"),
            LineBecause::AccountNotCarried => f.write_str("its account was not carried over"),
        }
    }
}

/// How many lines of one file are reported one by one; a hostile file has millions.
const LISTED: usize = 1000;

/// The report while it is being written.
#[derive(Debug, Default)]
pub(super) struct Notes {
    notes: Vec<AccountNote>,
    kept_out: Vec<(AccountFile, usize)>,
}

impl Notes {
    pub(super) fn push(&mut self, note: AccountNote) {
        self.notes.push(note);
    }

    pub(super) fn line(&mut self, file: AccountFile, line_number: usize, because: LineBecause) {
        let position = self.kept_out.iter().position(|(of, _)| *of == file).unwrap_or_else(|| {
            self.kept_out.push((file, 0));
            self.kept_out.len() - 1
        });
        let count = &mut self.kept_out[position].1;
        *count += 1;
        if *count <= LISTED {
            self.notes.push(AccountNote::LineKeptOut { file, line_number, because });
        }
    }

    pub(super) fn finish(mut self) -> Vec<AccountNote> {
        for (file, count) in self.kept_out {
            if let Some(count) = count.checked_sub(LISTED).filter(|count| *count > 0) {
                self.notes.push(AccountNote::MoreLinesKeptOut { file, count });
            }
        }
        self.notes
    }
}
