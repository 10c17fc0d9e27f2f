//! Name and resolver of a container, written into its root before anybody in it runs.
//!
//! A file is written only when it does not say already what it should, so that a start costs three reads. Everything goes through a handle on
//! the root: `/etc` may be a link, `/etc/hosts` a FIFO. What cannot be written is a warning, not a reason not to start.

use std::path::Path;

use store::IdRange;
use tree::Root;

/// Larger files are not ours to edit.
const LARGEST: u64 = 1024 * 1024;

/// Makes `/etc/hostname`, `/etc/hosts` and, when `resolver` is given, `/etc/resolv.conf` say what they should. Call it on a thread with the
/// filesystem ids of `ids`. Returns what could not be done.
pub fn apply(root: &Root, ids: IdRange, hostname: &str, resolver: Option<&str>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut write = |path: &str, wanted: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
        let result = root.read_file(Path::new(path), LARGEST).and_then(|found| {
            let (bytes, mode) = found.map_or((Vec::new(), 0o644), |file| (file.bytes, file.mode & 0o777));
            match wanted(&bytes) {
                Some(new) => root.replace_file(Path::new(path), &new, mode, ids.first, ids.first),
                None => Ok(()),
            }
        });
        if let Err(error) = result {
            warnings.push(format!("{path} in the container is left as it is: {error}"));
        }
    };
    write("/etc/hosts", &|found| hosts(found, hostname));
    write("/etc/hostname", &|found| {
        (found.trim_ascii() != hostname.as_bytes()).then(|| format!("{hostname}\n").into_bytes())
    });
    if let Some(resolver) = resolver {
        write("/etc/resolv.conf", &|found| {
            (found != resolver.as_bytes()).then(|| resolver.as_bytes().to_vec())
        });
    }
    warnings
}

/// What ends a line that a start has written. Without it nobody could tell that line from one that the container's owner, or an installer, wrote.
const MARK: &str = "\t# prlctl\n";

/// The line that a start writes.
fn line(hostname: &str) -> String {
    format!("127.0.1.1\t{hostname}{MARK}")
}

/// The file with a line for the container's own name, and without those that starts have written of other names; `None` if it is so already.
fn hosts(found: &[u8], hostname: &str) -> Option<Vec<u8>> {
    let own = line(hostname);
    let is_former = |one: &[u8]| {
        one.starts_with(b"127.0.1.1\t") && one.ends_with(MARK.as_bytes()) && one != own.as_bytes()
    };
    let kept: Vec<u8> = found
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|one| !is_former(one))
        .flatten()
        .copied()
        .collect();
    let added = with_name(&kept, hostname);
    if added.is_none() && kept.len() != found.len() { Some(kept) } else { added }
}

fn with_name(found: &[u8], hostname: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(found);
    let is_named = text.lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).any(|name| name == hostname)
    });
    if is_named {
        return None;
    }
    let mut new = found.to_vec();
    if new.is_empty() {
        new.extend_from_slice(b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    } else if !new.ends_with(b"\n") {
        new.push(b'\n');
    }
    new.extend_from_slice(line(hostname).as_bytes());
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_the_name_once() {
        let first = hosts(b"127.0.0.1 localhost", "web01").unwrap();
        assert_eq!(first, b"127.0.0.1 localhost\n127.0.1.1\tweb01\t# prlctl\n");
        assert_eq!(hosts(&first, "web01"), None);
    }

    #[test]
    fn a_name_in_a_comment_is_no_name() {
        assert!(hosts(b"127.0.0.1 localhost # web01\n", "web01").is_some());
    }

    #[test]
    fn replaces_the_line_of_a_start_and_no_other() {
        let found = b"127.0.0.1 localhost\n127.0.1.1\tweb01\t# prlctl\n127.0.1.1\tweb01\n192.0.2.1\tweb01\t# prlctl\n";
        let new = hosts(found, "shop").unwrap();
        let wanted =
            "127.0.0.1 localhost\n127.0.1.1\tweb01\n192.0.2.1\tweb01\t# prlctl\n127.0.1.1\tshop\t# prlctl\n";
        assert_eq!(String::from_utf8_lossy(&new), wanted);
        assert_eq!(hosts(&new, "shop"), None);
        // The new name is there by somebody's hand: the old line goes all the same.
        assert_eq!(hosts(b"127.0.1.1\tweb01\t# prlctl\n::1 shop\n", "shop").unwrap(), b"::1 shop\n");
    }
}
