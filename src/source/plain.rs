//! Files that somebody else may have put where one of ours is expected.
//!
//! A name below a root, in a state directory or in `/run` may turn out to be a pipe, a device, a
//! link to one of them, or a file without an end. Such a name is refused: it is opened without
//! waiting, must be a regular file, and is read up to a stated size.

use std::ffi::CString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// More than any file of /proc or /sys that is read as a whole: /proc/cpuinfo of 8192 CPUs is
/// below this, bytes.
pub const MOST_OF_KERNEL_TEXT: u64 = 64 << 20;

/// Room for what most texts of /proc need, bytes.
const LEAST_ROOM: usize = 4096;

/// `PROC_SUPER_MAGIC` of linux/magic.h.
pub const PROC: i64 = 0x9fa0;

/// The kind of file system that serves `path`.
pub fn file_system(path: &Path) -> Option<i64> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: the path is a string that lives through the call, which only fills `found`.
    kind(|found| unsafe { libc::statfs(path.as_ptr(), found) })
}

/// The kind of file system that a file is of.
pub fn file_system_of(file: &File) -> Option<i64> {
    // SAFETY: the descriptor is open as long as the file is there; the call only fills `found`.
    kind(|found| unsafe { libc::fstatfs(file.as_raw_fd(), found) })
}

fn kind(ask: impl FnOnce(&mut libc::statfs) -> libc::c_int) -> Option<i64> {
    // SAFETY: all-zero is valid for a structure of numbers.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    #[allow(
        clippy::unnecessary_cast,
        reason = "its type differs between architectures"
    )]
    (ask(&mut found) == 0).then_some(found.f_type as i64)
}

/// Opens a regular file for reading, and returns what it is.
///
/// # Errors
/// The system's error, or `InvalidInput` where the name is a pipe, a device or a directory.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    open_with(path, 0)
}

/// [`open`], past the pages that this kernel keeps of the file (`O_DIRECT`).
///
/// # Errors
/// As [`open`]; `EINVAL`, which is `InvalidInput`, where its file system cannot.
pub fn open_direct(path: &Path) -> io::Result<(File, Metadata)> {
    open_with(path, libc::O_DIRECT)
}

fn open_with(path: &Path, flags: libc::c_int) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new()
        .read(true)
        // A pipe must not make its reader wait, and a terminal must not become ours.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | flags)
        .open(path)?;
    let found = file.metadata()?;
    if found.is_file() {
        return Ok((file, found));
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is not a regular file",
    ))
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; `FileTooLarge` where it is longer; `OutOfMemory` where its text finds no room.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, found) = open(path)?;
    let too_large = || {
        io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {most} bytes"),
        )
    };
    if found.len() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // Files of /proc say that they are empty: the size is a hint only, and with none they would be read in steps
    // that begin at 32 bytes.
    let hint = usize::try_from(found.len()).map_err(io::Error::other)?;
    bytes.try_reserve(hint.max(LEAST_ROOM))?;
    let read = file.take(most + 1).read_to_end(&mut bytes)?;
    if read as u64 > most {
        return Err(too_large());
    }
    Ok(bytes)
}

/// [`read`] as text.
///
/// # Errors
/// As [`read`]; `InvalidData` where it is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// A text of /proc or /sys below a root, as a whole.
///
/// # Errors
/// As [`read_text`].
pub fn kernel_text(path: &Path) -> io::Result<String> {
    read_text(path, MOST_OF_KERNEL_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn pipes_devices_and_endless_files_are_refused_at_once() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        let name = CString::new(pipe.as_os_str().as_bytes()).unwrap();
        // SAFETY: `name` ends in NUL and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let link = place.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for path in [&pipe, &link, &place.path().to_owned()] {
            let refused = read(path, 1000).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_the_stated_size() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, "1234567890").unwrap();
        assert_eq!(read_text(&path, 10).unwrap(), "1234567890");
        let refused = read(&path, 9).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        // A file of length 0 is measured while it is read.
        assert!(read(Path::new("/proc/self/status"), 10).is_err());
        assert!(kernel_text(Path::new("/proc/self/status")).is_ok());
        std::fs::write(&path, [0xff]).unwrap();
        let refused = read_text(&path, 9).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
}
