//! The keys that a process has from whoever started it.

use std::io;

/// From linux/keyctl.h.
const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Gives the calling process a session keyring of its own, with nothing in it, instead of the one that it has inherited.
///
/// # Errors
/// As in keyctl_join_session_keyring(3).
pub fn take_new_session_keyring() -> io::Result<()> {
    // SAFETY: the name is a null pointer, which stands for none; no memory is read or written.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
