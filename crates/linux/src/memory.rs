//! Giving memory back.

use std::io;

/// Takes this program's machine code out of the process: a page that is executed again is mapped again, from the page cache.
///
/// A process that has done its large work and from now on waits for years, one for each container, should not hold the code of that work. Only
/// executable mappings of files are touched: nobody has written to them, so nothing is lost.
///
/// # Errors
/// When `/proc/self/maps` cannot be read.
pub fn release_code_pages() -> io::Result<()> {
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some("r-xp"), Some(path)) = (fields.next(), fields.next(), fields.nth(3)) else {
            continue;
        };
        let bounds = range
            .split_once('-')
            .map(|(first, end)| (usize::from_str_radix(first, 16), usize::from_str_radix(end, 16)));
        if let Some((Ok(first), Ok(end))) = bounds
            && path.starts_with('/')
        {
            // SAFETY: the range is a whole mapping of this process, as the kernel has just said; it is private, of a file, and not writable,
            // so every page of it is clean and is read from the file again when it is next touched, this code's own included.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_DONTNEED) };
        }
    }
    Ok(())
}
