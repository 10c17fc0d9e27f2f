//! What can be told of an init from outside, and what a systemd says of itself.

use std::os::unix::net::UnixDatagram;

/// A process has a handler for a signal, or keeps it for later (as a systemd does, which reads its signals from a descriptor).
pub fn hears(pid: i32, signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let is_set = |line: &str| {
        let mask = line.strip_prefix("SigCgt:").or_else(|| line.strip_prefix("SigBlk:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    };
    status.lines().any(is_set)
}

/// Whether a systemd has sent `READY=1`, and how many messages there were. Whatever else the container sends there is thrown away, a bounded amount a time.
pub fn is_ready(socket: &UnixDatagram) -> (bool, u32) {
    let mut buffer = [0u8; 4096];
    let (mut is_ready, mut heard) = (false, 0);
    for _ in 0..16 {
        let Ok(length) = socket.recv(&mut buffer) else { break };
        heard += 1;
        is_ready |= buffer[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1");
    }
    (is_ready, heard)
}
