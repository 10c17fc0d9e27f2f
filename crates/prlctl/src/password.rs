//! `--password USER:-`: one line of stdin, which is never on a command line and never on a screen. `--userpasswd USER:PASSWORD` has OpenVZ's spelling, where
//! it is on one: it is taken off it before anything else is done, by this program executing itself with `USER:-` and that line on stdin.
//!
//! On a terminal it is asked for without echo. Whatever ends that, ^C too, gives the terminal back as it was.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Stdin};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;

use engine::accounts::{GivenPassword, LONGEST_PASSWORD, PasswordError};
use engine::error::system;
use engine::{Code, Failure, Host, Result};
use linux::SignalReader;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::arguments::Settings;
use crate::output;

const OPTION: &str = "--password";
const OF_OPENVZ: &str = "--userpasswd";
/// SIGHUP, SIGINT, SIGQUIT, SIGTERM: what ends a process that asks for something.
const ENDING_SIGNALS: [i32; 4] = [1, 2, 3, 15];

/// A password on the command line itself, refused before anything could repeat it: neither an error nor a lock has it.
pub fn on_the_command_line(mut words: impl Iterator<Item = OsString>) -> Option<Failure> {
    if words.next()? != "reinstall" {
        return None;
    }
    while let Some(word) = words.next() {
        let value = match word.as_bytes().strip_prefix(OPTION.as_bytes()) {
            Some(b"") => words.next()?,
            Some([b'=', value @ ..]) => OsStr::from_bytes(value).to_owned(),
            Some(_) | None => continue,
        };
        if user(&value).is_none() {
            return Some(
                Failure::new(Code::BadValue, "the value of --password cannot be used")
                    .because("it must be `USER:-`, and the password comes from stdin: it never belongs on a command line, since every process list shows that")
                    .unchanged()
                    .hint("prlctl reinstall NAME --password root:-"),
            );
        }
    }
    None
}

/// Whether words of the command line may be a password that somebody has put there all the same.
pub fn may_be_among(words: impl Iterator<Item = OsString>) -> bool {
    words.into_iter().any(|word| {
        word.as_bytes().starts_with(OPTION.as_bytes()) || word.as_bytes().starts_with(OF_OPENVZ.as_bytes())
    })
}

/// Executes this program again with what follows `--userpasswd` on stdin, if it is on the command line: what is there every process list shows. Returns if
/// there is none, with an error of a value that is none, which is not repeated.
pub fn take_off_the_command_line() -> Option<Failure> {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    let command = words.iter().find(|word| *word != "--quiet" && *word != "--verbose")?;
    if command != "set" && command != "create" {
        return None;
    }
    let (words, secret) = match without_secret(&words) {
        Ok((words, secret)) => (words, secret?),
        Err(failure) => return Some(failure),
    };
    let failed = |error: &std::io::Error| {
        system("the password cannot be taken off the command line", error)
            .unchanged()
            .hint("`--userpasswd USER:-` reads it from stdin")
    };
    let stdin = rustix::fs::memfd_create(c"password", rustix::fs::MemfdFlags::CLOEXEC).and_then(|file| {
        let mut left = secret.as_slice();
        while !left.is_empty() {
            left = &left[rustix::io::write(&file, left)?..];
        }
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
        rustix::stdio::dup2_stdin(&file)
    });
    if let Err(error) = stdin {
        return Some(failed(&error.into()));
    }
    let error = std::process::Command::new("/proc/self/exe").arg0(name).args(words).exec();
    Some(failed(&error))
}

/// The words with `-` for each password among them, and those as lines.
fn without_secret(words: &[OsString]) -> std::result::Result<(Vec<OsString>, Option<Vec<u8>>), Failure> {
    let refused = || {
        Failure::new(Code::BadValue, "the value of --userpasswd cannot be used")
            .because("wanted `USER:PASSWORD`, or `USER:-` for a password that comes from stdin; what was given is not repeated")
            .unchanged()
            .hint("prlctl set NAME --userpasswd root:-")
    };
    let (mut kept, mut secret) = (Vec::new(), Vec::new());
    let (mut typed, mut from_stdin) = (false, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (value, is_joined) = match word.as_bytes().strip_prefix(OF_OPENVZ.as_bytes()) {
            Some([]) => match words.next() {
                Some(value) => (value.as_bytes(), false),
                None => return Err(refused()),
            },
            Some([b'=', value @ ..]) => (value, true),
            Some(_) | None => {
                kept.push(word.clone());
                continue;
            }
        };
        let mut parts = value.splitn(2, |&byte| byte == b':');
        let (user, password) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(refused)?);
        let user = std::str::from_utf8(user).map_err(|_| refused())?;
        if user.is_empty() || user.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(refused());
        }
        let is_typed = password != b"-";
        if is_typed && password.contains(&b'\n') {
            return Err(refused());
        }
        if is_typed {
            secret.extend_from_slice(password);
            secret.push(b'\n');
        }
        (typed, from_stdin) = (typed || is_typed, from_stdin || !is_typed);
        let value = format!("{user}:-");
        if is_joined {
            kept.push(format!("{OF_OPENVZ}={value}").into());
        } else {
            kept.extend([OF_OPENVZ.into(), value.into()]);
        }
    }
    if typed && from_stdin {
        return Err(Failure::new(Code::BadOption, "the values of --userpasswd cannot be used together")
            .because("some are on the command line, and some are to come from stdin")
            .unchanged()
            .hint("`--userpasswd USER:-` for each, and a line of stdin for each"));
    }
    Ok((kept, typed.then_some(secret)))
}

/// The passwords that `set` or `create` is to give.
///
/// # Errors
/// As of [`read`].
pub fn of_settings(
    host: &Host,
    settings: &Settings,
    container: &str,
    is_json: bool,
) -> Result<Vec<GivenPassword>> {
    let users: Vec<Option<&str>> = settings.userpasswd.iter().map(|value| user(OsStr::new(value))).collect();
    if let Some(twice) =
        users.iter().enumerate().find_map(|(index, user)| user.filter(|_| users[..index].contains(user)))
    {
        let twice = tree::escaped(twice.as_bytes());
        return Err(Failure::new(Code::BadOption, "the values of --userpasswd cannot be used together")
            .because(format!("there are two passwords for `{twice}`"))
            .unchanged()
            .hint("leave one of them out"));
    }
    let how = if settings.crypted { How::Hashed } else { How::Plain };
    settings.userpasswd.iter().map(|value| read_as(host, value, container, is_json, how)).collect()
}

/// For whom, if the value is one.
fn user(value: &OsStr) -> Option<&str> {
    let user = value.to_str()?.strip_suffix(":-")?;
    let is_odd = |c: char| c == ':' || c.is_control() || c.is_whitespace();
    (!user.is_empty() && !user.contains(is_odd)).then_some(user)
}

/// Reads and checks the password that belongs to `value`.
///
/// # Errors
/// When it cannot be read, or cannot be one; nothing has been touched.
pub fn read(host: &Host, value: &str, container: &str, is_json: bool) -> Result<GivenPassword> {
    read_as(host, value, container, is_json, How::Plain)
}

/// What the line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Plain,
    Hashed,
}

fn read_as(host: &Host, value: &str, container: &str, is_json: bool, how: How) -> Result<GivenPassword> {
    let user = user(OsStr::new(value)).unwrap_or_default();
    let stdin = std::io::stdin();
    let line = if stdin.is_terminal() {
        let prompt = format!("password for `{user}` of `{}`: ", tree::escaped(container.as_bytes()));
        ask(&stdin, || if is_json { host.note(&prompt) } else { output::prompt(&prompt) })
    } else {
        read_line(&stdin)
    };
    let what = format!("the password for `{user}` cannot be used");
    let line = line.map_err(|error| system(&what, &std::io::Error::from(error)).unchanged())?;
    let given = match how {
        How::Plain => GivenPassword::new(user, &line),
        How::Hashed => GivenPassword::hashed(user, &line),
    };
    given.map_err(|error| {
        let failure = Failure::new(Code::BadValue, what).caused_by(&error).unchanged();
        match error {
            PasswordError::Empty => failure.hint("it is one line on stdin: `<FILE`"),
            PasswordError::TooLong | PasswordError::ControlCharacter => failure.hint("give another one"),
            PasswordError::NoHash => failure
                .hint("leave --crypted out if it is the password itself; `openssl passwd -6` hashes one"),
            PasswordError::NoRandomNumbers | PasswordError::NotHashed => {
                failure.hint("try again, or leave it out and run `passwd` in the container")
            }
        }
    })
}

/// One line, byte by byte: what comes after it is for whoever reads on. Of one that is too long no more is read than tells so.
fn read_line(stdin: &Stdin) -> std::result::Result<Vec<u8>, Errno> {
    let mut line = Vec::new();
    let mut byte = [0];
    // A carriage return more is none of it.
    while line.len() <= LONGEST_PASSWORD + 1 {
        match rustix::io::read(stdin.as_fd(), &mut byte) {
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.push(byte[0]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// One line of a terminal that shows none of it. `prompt` asks for it when nothing is shown any more: who is quick has begun to type then.
fn ask(stdin: &Stdin, prompt: impl FnOnce()) -> std::result::Result<Vec<u8>, Errno> {
    let heeded: Vec<i32> = ENDING_SIGNALS.into_iter().filter(|&signal| !linux::is_ignored(signal)).collect();
    // Held back while there is no echo, and looked for: whoever dies of one would leave the terminal like that.
    let signals = SignalReader::new(&heeded).map_err(|_| Errno::IO)?;
    let line = WithoutEcho::new(stdin).and_then(|_terminal| {
        prompt();
        loop {
            let mut waited_for = [PollFd::new(stdin, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
            match poll(&mut waited_for, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            if !waited_for[1].revents().is_empty() {
                return Err(Errno::INTR);
            }
            if !waited_for[0].revents().is_empty() {
                return read_line(stdin);
            }
        }
    });
    // There is echo again. One that has come ends the process here, in the way that it would have.
    linux::unblock_signals();
    line
}

/// A terminal that shows nothing of what is typed but the end of the line, while this lives.
struct WithoutEcho<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl WithoutEcho<'_> {
    fn new(terminal: &Stdin) -> std::result::Result<WithoutEcho<'_>, Errno> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO;
        silent.local_modes |= LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(WithoutEcho { terminal, before })
    }
}

impl Drop for WithoutEcho<'_> {
    fn drop(&mut self) {
        // With what was typed and not read: the rest of a line that was too long is no command for the shell.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &[&str]) -> Option<Failure> {
        on_the_command_line(words.iter().map(OsString::from))
    }

    #[test]
    fn a_password_on_the_command_line_is_refused_and_not_repeated() {
        for words in [
            &["reinstall", "web01", "--password", "root:secret"][..],
            &["reinstall", "web01", "--password=root:secret"],
            &["reinstall", "--password", "root", "secret", "web01"],
            &["reinstall", "web01", "--password", "secret"],
            &["reinstall", "web01", "--password", "root:secret:-"],
            &["reinstall", "web01", "--password", "root:-secret"],
            &["reinstall", "web01", "--password", "ro ot:-"],
            &["reinstall", "web01", "--password", ":-"],
            &["reinstall", "web01", "--password", "-"],
            &["reinstall", "web01", "--password="],
            &["reinstall", "web01", "--password", "root:-", "--password", "root:secret"],
        ] {
            let failure = refused(words).unwrap_or_else(|| panic!("{words:?} is not refused"));
            assert_eq!(failure.code.exit(), 21);
            let text = failure.to_string();
            assert!(!text.contains("secret") && text.contains("every process list shows"), "{text}");
        }
        for words in [
            &["reinstall", "web01", "--password", "root:-"][..],
            &["reinstall", "web01", "--password=anna:-", "--undo"],
            &["reinstall", "web01", "--password"],
            &["exec", "web01", "mysql", "--password", "x"],
            &["reinstall"],
            &[],
        ] {
            assert_eq!(refused(words), None, "{words:?}");
        }
    }

    #[test]
    fn a_password_is_taken_off_the_words_and_nothing_else_is() {
        let taken = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            without_secret(&words).map(|(words, secret)| {
                let words: Vec<String> = words.into_iter().map(|word| word.into_string().unwrap()).collect();
                (words.join(" "), secret.map(|secret| String::from_utf8(secret).unwrap()))
            })
        };
        for (words, kept, secret) in [
            (
                &["set", "web01", "--userpasswd", "root:a:b -"][..],
                "set web01 --userpasswd root:-",
                Some("a:b -\n"),
            ),
            (&["set", "--userpasswd=root:x", "web01"], "set --userpasswd=root:- web01", Some("x\n")),
            (&["set", "web01", "--userpasswd", "root:-"], "set web01 --userpasswd root:-", None),
            (&["set", "web01", "--userpasswd", "root:"], "set web01 --userpasswd root:-", Some("\n")),
            (
                &["set", "--userpasswd", "a:1", "--userpasswd", "b:2"],
                "set --userpasswd a:- --userpasswd b:-",
                Some("1\n2\n"),
            ),
            (&["set", "web01", "--description", "x:y"], "set web01 --description x:y", None),
        ] {
            assert_eq!(taken(words).unwrap(), (kept.to_owned(), secret.map(str::to_owned)));
        }
        for words in [
            &["--userpasswd"][..],
            &["--userpasswd", "secret"],
            &["--userpasswd=:secret"],
            &["--userpasswd", "a\tb:secret"],
            &["--userpasswd", "a:secret", "--userpasswd", "b:-"],
        ] {
            let failure = taken(words).unwrap_err();
            assert!(
                [20, 21].contains(&failure.code.exit()) && !failure.to_string().contains("secret"),
                "{failure}"
            );
        }
    }
}
