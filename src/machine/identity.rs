//! Which machine is it that a root shows?
//!
//! A root may be this machine's own, the same mounted elsewhere in a container, or files that somebody made.
//! What was measured below one holds below another only where both are the same machine.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::source::plain;

/// Places below a root where counters are, that of most machines first.
const COUNTERS: [&str; 3] = ["sys/class/powercap", "sys/class/hwmon", "sys"];

/// Where a system keeps the number that it was given when it was installed (man 5 machine-id).
const NUMBER: &str = "etc/machine-id";

/// The machine below `root` in words, which no other machine has: by its number, which is not told, but a
/// hash of it. Files that no kernel shows are known by where they are, and machines without a number are
/// all alike.
///
/// ```
/// use std::path::Path;
/// use lithowatt::machine::identity::identity;
/// assert!(identity(Path::new("/")).starts_with("machine"));
/// ```
pub fn identity(root: &Path) -> String {
    if root != Path::new("/") && !is_kernels(root) {
        let place = root.canonicalize();
        let place = place.as_deref().unwrap_or(root);
        return format!("files at {}", place.display());
    }
    let number = plain::read_text(&root.join(NUMBER), 64).unwrap_or_default();
    match number.trim() {
        "" | "uninitialized" => "machine without a machine-id".into(),
        number => format!("machine {:016x}", hash(number)),
    }
}

/// Whether the counters below `root` are the kernel's own.
fn is_kernels(root: &Path) -> bool {
    let places = COUNTERS.map(|place| root.join(place));
    places
        .iter()
        .find(|place| place.exists())
        .is_some_and(|place| is_sysfs(place))
}

fn is_sysfs(place: &Path) -> bool {
    let Ok(path) = CString::new(place.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: all-zero is a valid `statfs`.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with 0 and `found` outlives the call, which keeps neither.
    let code = unsafe { libc::statfs(path.as_ptr(), &mut found) };
    #[allow(clippy::unnecessary_cast, reason = "their widths are the platform's")]
    let same = found.f_type as i64 == libc::SYSFS_MAGIC as i64;
    code == 0 && same
}

/// FNV-1a: the number of a machine is not to be handed on as it is (man 5 machine-id).
fn hash(number: &str) -> u64 {
    let bytes = b"lithowatt".iter().chain(number.as_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_no_machine_and_sysfs_is_by_its_number() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("sys")).unwrap();
        std::fs::create_dir_all(tree.path().join("etc")).unwrap();
        std::fs::write(tree.path().join("etc/machine-id"), "ab\n").unwrap();
        assert!(identity(tree.path()).starts_with("files at /"));
        assert_ne!(hash("a"), hash("b"));
        if !is_sysfs(Path::new("/sys")) {
            return;
        }
        std::fs::remove_dir(tree.path().join("sys")).unwrap();
        std::os::unix::fs::symlink("/sys", tree.path().join("sys")).unwrap();
        let by_number = identity(tree.path());
        assert!(by_number.len() == "machine ".len() + 16 && !by_number.contains("ab\n"));
        std::fs::write(tree.path().join("etc/machine-id"), "\n").unwrap();
        assert_eq!(identity(tree.path()), "machine without a machine-id");
    }
}
