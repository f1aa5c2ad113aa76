//! Whose ring is believed, and what an agent may replace.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::layout::MAGIC;

/// The variable that names one more user, by number, whose ring is believed.
pub const OWNER_VARIABLE: &str = "LITHOWATT_RING_OWNER";

/// A ring is no longer, bytes: it is read into memory by the agent that goes on from it.
const LONGEST: u64 = 64 << 20;

/// Who may write to a folder beside its owner.
const OTHERS: u32 = 0o022;

/// Why the open ring `meta` at `path` is not believed; `None` where it is.
///
/// Whoever wrote it decides what its readers say, so that must be root, the reader itself, or whom
/// root gave the folder: nobody else can have made that one, where the folder above is root's.
pub fn distrust(path: &Path, meta: &Metadata) -> Option<String> {
    let owner = meta.uid();
    let given_to_owner = || {
        let folder = fs::metadata(path.parent()?).ok()?;
        let above = fs::metadata(path.parent()?.parent()?).ok()?;
        let closed = (folder.mode() | above.mode()) & OTHERS == 0;
        let theirs = folder.uid() == owner || is_ours(folder.uid());
        Some(closed && theirs && is_ours(above.uid()))
    };
    if is_ours(owner) || named() == Some(owner) || given_to_owner() == Some(true) {
        return None;
    }
    Some(format!(
        "it belongs to user {owner}, who is neither root nor this user; if that user is to be \
         believed: {OWNER_VARIABLE}={owner}"
    ))
}

fn is_ours(uid: u32) -> bool {
    // SAFETY: geteuid has no preconditions.
    uid == 0 || uid == unsafe { libc::geteuid() }
}

fn named() -> Option<u32> {
    std::env::var(OWNER_VARIABLE).ok()?.trim().parse().ok()
}

/// What is at `path`, read to its end, if it is a ring or empty; `None` where there is nothing.
///
/// # Errors
/// Why it may not be replaced: it is something else, which somebody needs.
pub fn replaceable(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let opened = File::options()
        .read(true)
        // A link may lead anywhere; the opening of a pipe would wait for its other end.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => return Err("is a link".into()),
        Err(e) => return Err(format!("is there and cannot be looked at ({e})")),
    };
    let fault = |e: io::Error| format!("is there and cannot be looked at ({e})");
    let meta = file.metadata().map_err(fault)?;
    if meta.is_dir() {
        return Err("is a directory".into());
    }
    if !meta.is_file() {
        return Err("is no plain file".into());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.is_empty() || bytes.starts_with(&MAGIC.to_le_bytes()) {
        return Ok(Some(bytes));
    }
    Err("is a file of something else, and no ring".into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_ring_an_empty_file_and_nothing_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        assert_eq!(replaceable(&path), Ok(None));
        fs::write(&path, "").unwrap();
        assert_eq!(replaceable(&path), Ok(Some(Vec::new())));
        fs::write(&path, "LITHOWAT and more").unwrap();
        assert!(replaceable(&path).unwrap().unwrap().ends_with(b"more"));
    }

    #[test]
    fn nothing_else_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        fs::write(dir.path().join("other"), "LITHOWAT").unwrap();
        symlink("other", &path).unwrap();
        assert_eq!(replaceable(&path), Err("is a link".into()));
        fs::remove_file(&path).unwrap();
        for content in ["LITHOWA", "precious", "\n"] {
            fs::write(&path, content).unwrap();
            assert!(replaceable(&path).unwrap_err().contains("something else"));
        }
        assert_eq!(replaceable(dir.path()), Err("is a directory".into()));
        assert_eq!(
            replaceable(Path::new("/dev/null")),
            Err("is no plain file".into())
        );
    }

    /// Changes owners, so it can run as root only; else it has nothing to look at.
    #[test]
    fn whose_ring_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let above = dir.path().join("above");
        let folder = above.join("folder");
        let ring = folder.join("ring");
        fs::create_dir_all(&folder).unwrap();
        fs::write(&ring, "").unwrap();
        let own = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None);
        let allow = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        allow(&above, 0o755);
        allow(&folder, 0o755);
        let verdict = || distrust(&ring, &fs::metadata(&ring).unwrap());
        assert_eq!(verdict(), None, "our own");
        if own(&ring, 12345).is_err() {
            return;
        }
        assert_eq!(
            verdict(),
            None,
            "root made the folder and let them write it"
        );
        own(&folder, 12345).unwrap();
        assert_eq!(verdict(), None, "root gave them the folder");
        allow(&above, 0o1777);
        assert!(
            verdict().unwrap().contains("12345"),
            "anybody may have made the folder"
        );
        allow(&above, 0o755);
        allow(&folder, 0o1777);
        assert!(verdict().is_some(), "anybody may have made the ring");
        allow(&folder, 0o755);
        own(&folder, 23456).unwrap();
        assert!(verdict().is_some(), "another user's folder");
        own(&folder, 12345).unwrap();
        own(&above, 12345).unwrap();
        assert!(verdict().is_some(), "all of it theirs");
    }
}
