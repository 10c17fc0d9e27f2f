//! What a carried user logs in with, when the new root lacks his shell.
//!
//! A well-known shell is replaced by another one. Whatever else stood there may have been there to keep him
//! *out* (`nologin`, `git-shell`, a menu): it is replaced by something that lets nobody in.

const LOGIN_SHELLS: [&str; 17] = [
    "ash", "bash", "csh", "dash", "elvish", "fish", "ksh", "ksh93", "loksh", "mksh", "nu", "oksh", "sh",
    "tcsh", "xonsh", "yash", "zsh",
];
const DIRECTORIES: [&str; 5] = ["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin"];
const INSTEAD: [&str; 4] = ["/bin/bash", "/bin/sh", "/usr/bin/bash", "/usr/bin/sh"];
const NOBODY: [&str; 4] = ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false"];

/// The shell to take instead of one that the new root does not have; `None`: it has it.
pub(super) fn replacement(shell: &[u8], exists: &dyn Fn(&str) -> bool) -> Option<String> {
    if shell.is_empty() {
        // passwd(5): the same as /bin/sh.
        return None;
    }
    let shell = std::str::from_utf8(shell).unwrap_or_default();
    let is_clean = shell.starts_with('/') && !shell.split('/').any(|part| part == "..");
    if is_clean && exists(shell) {
        return None;
    }
    let program = shell.rsplit('/').next().unwrap_or_default();
    let elsewhere = |directory: &&str| format!("{directory}/{program}");
    let same = DIRECTORIES.iter().map(elsewhere).find(|path| !program.is_empty() && exists(path));
    let others = if LOGIN_SHELLS.contains(&program) { INSTEAD } else { NOBODY };
    let other = || others.iter().find(|path| exists(path)).copied();
    // Where nothing exists a name is still needed; empty would mean /bin/sh.
    let last = if LOGIN_SHELLS.contains(&program) { "/bin/sh" } else { "/usr/sbin/nologin" };
    Some(same.unwrap_or_else(|| other().unwrap_or(last).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_shell_is_replaced_by_one_that_grants_no_more() {
        let new_root = ["/bin/bash", "/bin/sh", "/usr/bin/fish", "/bin/false"];
        let sparse = ["/bin/sh", "/sbin/nologin"];
        for (shell, root, wanted) in [
            ("/bin/bash", &new_root[..], None),
            ("", &new_root, None),
            ("/bin/zsh", &new_root, Some("/bin/bash")),
            ("/bin/zsh", &sparse, Some("/bin/sh")),
            ("/usr/local/bin/fish", &new_root, Some("/usr/bin/fish")),
            ("/usr/sbin/nologin", &new_root, Some("/bin/false")),
            ("/usr/sbin/nologin", &sparse, Some("/sbin/nologin")),
            ("/usr/bin/git-shell", &new_root, Some("/bin/false")),
            ("/opt/menu", &new_root, Some("/bin/false")),
            ("bash", &new_root, Some("/bin/bash")),
            ("/bin/../bin/bash", &new_root, Some("/bin/bash")),
            ("/bin/", &new_root, Some("/bin/false")),
            ("/bin/sh", &[], Some("/bin/sh")),
            ("/bin/false", &[], Some("/usr/sbin/nologin")),
        ] {
            let found = replacement(shell.as_bytes(), &|path| root.contains(&path));
            assert_eq!(found.as_deref(), wanted, "{shell} in {root:?}");
        }
        assert_eq!(replacement(b"/bin/\xff", &|_| true).as_deref(), Some("/usr/sbin/nologin"));
    }
}
