//! Signals as something to poll for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};

/// Some signals of this process, blocked and read from a descriptor instead.
#[derive(Debug)]
pub struct SignalReader {
    descriptor: OwnedFd,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Which.
    pub number: i32,
    /// A process has sent it, and not the kernel of its own accord (a child's end, a terminal that is hung up).
    pub is_by_process: bool,
}

impl SignalReader {
    /// Blocks `signals` for the calling thread (make no other before) and opens a descriptor that tells of them.
    ///
    /// # Errors
    /// As in signalfd(2).
    pub fn new(signals: &[i32]) -> io::Result<SignalReader> {
        let set = signal_set(signals);
        // SAFETY: `set` was initialised by sigemptyset; a null old set is allowed; the flags are those of signalfd(2).
        let raw = unsafe {
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor and nobody else knows it.
        Ok(SignalReader { descriptor: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    /// The next signal that came, if any; does not wait.
    ///
    /// # Errors
    /// As in read(2).
    pub fn try_next(&self) -> io::Result<Option<i32>> {
        Ok(self.try_next_sent()?.map(|sent| sent.number))
    }

    /// As [`SignalReader::try_next`], with who has sent it.
    ///
    /// # Errors
    /// As in read(2).
    pub fn try_next_sent(&self) -> io::Result<Option<Sent>> {
        let mut record = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the buffer is as large as said, and a signalfd fills whole records.
        let read = unsafe {
            libc::read(
                self.descriptor.as_raw_fd(),
                record.as_mut_ptr().cast(),
                size_of::<libc::signalfd_siginfo>(),
            )
        };
        if read < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: a successful read of a signalfd has filled one whole record.
        let record = unsafe { record.assume_init() };
        // sigaction(2): what a process sends has a code of 0 or less, what the kernel sends one above.
        Ok(Some(Sent { number: record.ssi_signo as i32, is_by_process: record.ssi_code <= 0 }))
    }
}

impl AsFd for SignalReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Sends the signal of that number, real-time ones included, to the process behind `pidfd`; that it is dead already is no error.
///
/// # Errors
/// As in pidfd_send_signal(2).
pub fn signal_by_number(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: takes numbers, and a null siginfo, which means that of kill(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// The number of a signal by its name as `kill -l` and systemd write it: `SIGTERM`, `TERM`, `SIGRTMIN+3`, or a number.
pub fn signal_number(name: &str) -> Option<i32> {
    let short = name.strip_prefix("SIG").unwrap_or(name);
    if let Some(offset) = short.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        let number = libc::SIGRTMIN() + offset;
        return (0..=30).contains(&offset).then_some(number);
    }
    let number = match short {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "TERM" => libc::SIGTERM,
        "PWR" => libc::SIGPWR,
        "WINCH" => libc::SIGWINCH,
        other => other.parse().ok().filter(|number| (1..=64).contains(number))?,
    };
    Some(number)
}

/// This process ignores the signal: nohup(1) and shells that start something in the background have it so, and it is to stay so.
pub fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action changes nothing, and the old one is written to a place that is large enough for it; read only on success.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// How many of the standard signals have words: those below this number.
const SPEAKING: usize = 32;
static LAST_WORDS: [AtomicPtr<u8>; SPEAKING] = [const { AtomicPtr::new(std::ptr::null_mut()) }; SPEAKING];
static LAST_WORDS_LENGTH: [AtomicUsize; SPEAKING] = [const { AtomicUsize::new(0) }; SPEAKING];
static LAST_WORDS_TO: AtomicI32 = AtomicI32::new(2);

/// How many of the signals have come that [`count_signals`] was told of.
static COUNTED: AtomicUsize = AtomicUsize::new(0);

/// From now on the first of `signals` that comes is only counted, for [`counted_signals`]; the second ends this process at once, with 128 and its number.
///
/// Nothing is blocked, and what is executed knows nothing of it: execve(2) resets handlers, unlike the mask.
///
/// # Errors
/// As in sigaction(2).
pub fn count_signals(signals: &[i32]) -> io::Result<()> {
    for &signal in signals {
        // SAFETY: `sigaction` is plain numbers, for which zero is valid; the handler has the signature for flags without SA_SIGINFO, and calls
        // nothing but what signal-safety(7) allows.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// How many have come since [`count_signals`].
pub fn counted_signals() -> usize {
    COUNTED.load(Ordering::SeqCst)
}

extern "C" fn count_signal(signal: libc::c_int) {
    if COUNTED.fetch_add(1, Ordering::SeqCst) > 0 {
        // SAFETY: _exit(2) takes a number and does not return; a handler may call it.
        unsafe { libc::_exit(128 + signal) }
    }
}

/// From now on each of `signals`, standard ones, which are unblocked, ends this process at once, whatever it is doing: it writes its words to the
/// descriptor `to` and exits with 128 and the signal's number. No destructor runs.
///
/// # Errors
/// As in sigaction(2).
pub fn end_at(signals: &[(i32, String)], to: i32) -> io::Result<()> {
    LAST_WORDS_TO.store(to, Ordering::SeqCst);
    for (signal, words) in signals {
        let signal = *signal;
        let Some(index) = usize::try_from(signal).ok().filter(|&index| index < SPEAKING) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // For the rest of the process: the handler may read it at any time. Of words that take the place of others the shorter length holds
        // between the stores.
        let words: &'static mut [u8] = words.clone().into_bytes().leak();
        LAST_WORDS_LENGTH[index].store(0, Ordering::SeqCst);
        LAST_WORDS[index].store(words.as_mut_ptr(), Ordering::SeqCst);
        LAST_WORDS_LENGTH[index].store(words.len(), Ordering::SeqCst);
        // SAFETY: `sigaction` is plain numbers, for which zero is valid; the handler has the signature for flags without SA_SIGINFO, and calls
        // nothing but what signal-safety(7) allows.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = end_with_last_words as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let set = signal_set(&signals.iter().map(|(signal, _)| *signal).collect::<Vec<_>>());
    // SAFETY: `set` is initialised, and a null old set is allowed.
    if unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes [`end_at`] back: each of `signals` has its default action again, unless it is ignored.
pub fn end_silently(signals: &[i32]) {
    for &signal in signals.iter().filter(|&&signal| !is_ignored(signal)) {
        // SAFETY: SIG_DFL installs no code; for a number that is none the call fails without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

extern "C" fn end_with_last_words(signal: libc::c_int) {
    let index = usize::try_from(signal).unwrap_or(0).min(SPEAKING - 1);
    // The length first: a null pointer has the length 0.
    let length = LAST_WORDS_LENGTH[index].load(Ordering::SeqCst);
    let words = LAST_WORDS[index].load(Ordering::SeqCst);
    // SAFETY: both calls are async-signal-safe; the words were leaked, with that length, before this handler was installed.
    unsafe {
        libc::write(LAST_WORDS_TO.load(Ordering::SeqCst), words.cast_const().cast(), length);
        libc::_exit(128 + signal)
    }
}

/// Unblocks every signal of the calling thread: what a program that is about to be executed expects.
pub fn unblock_signals() {
    let set = signal_set(&[]);
    // SAFETY: `set` is initialised, a null old set is allowed, and SIG_SETMASK with a valid set cannot fail.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// Has a program begin with no signal blocked, whatever this process has blocked for itself.
pub fn with_signals_unblocked(command: &mut std::process::Command) -> &mut std::process::Command {
    // SAFETY: between fork and exec it calls sigemptyset and sigprocmask only, which signal-safety(7) allows, and it allocates nothing.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, || {
            unblock_signals();
            Ok(())
        })
    }
}

/// Gives every signal its default action again; ignored ones would stay ignored over exec (signal(7)).
pub fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no code; for the numbers that cannot be changed the call fails without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set; sigaddset then works on an initialised one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}
