//! Which cgroups this process is in: their directories, and their rows in an agent's ring.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::source::plain;
use crate::source::ring::layout::GroupRow;

/// Directories of this process's cgroup in the hierarchy `version` (1: cpuacct, 2: unified), from
/// its own up to the top of what is mounted, below `root`.
///
/// In a container with a cgroup namespace the path is `/` and the mount's top is the container;
/// without one the path is the host's, and only the mount's top is to be seen.
pub fn directories(root: &Path, version: u32) -> Vec<PathBuf> {
    let path = root.join("proc/self/cgroup");
    let text = plain::read(&path, plain::MOST_OF_KERNEL_TEXT).unwrap_or_default();
    let Some(mount) = mount(root, version) else {
        return Vec::new();
    };
    upwards(&mount, path_in(&text, version).unwrap_or(b"/"))
}

/// Where the hierarchy is mounted.
pub fn mount(root: &Path, version: u32) -> Option<PathBuf> {
    let base = root.join("sys/fs/cgroup");
    match version {
        2 => ["", "unified"]
            .into_iter()
            .map(|d| base.join(d))
            .find(|d| d.join("cgroup.controllers").exists() || d.join("cpu.stat").exists()),
        1 => ["cpuacct", "cpu,cpuacct", "cpuacct,cpu"]
            .into_iter()
            .map(|d| base.join(d))
            .find(|d| d.join("cpuacct.usage").exists()),
        _ => None,
    }
}

/// The path in the hierarchy by the text of /proc/self/cgroup.
///
/// ```
/// use lithowatt::cgroup::own::path_in;
/// let text = b"5:cpu,cpuacct:/docker/f00\n0::/caf\xe9.scope\n";
/// assert_eq!(path_in(text, 1), Some(&b"/docker/f00"[..]));
/// assert_eq!(path_in(text, 2), Some(&b"/caf\xe9.scope"[..]));
/// assert_eq!(path_in(b"", 2), None);
/// ```
pub fn path_in(text: &[u8], version: u32) -> Option<&[u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match version {
            2 => number == b"0" && controllers.is_empty(),
            _ => controllers
                .split(|byte| *byte == b',')
                .any(|c| c == b"cpuacct"),
        };
        ours.then_some(path)
    })
}

/// `base` joined with `path` and everything in between, deepest first; those that exist.
pub(super) fn upwards(base: &Path, path: &[u8]) -> Vec<PathBuf> {
    let mut dirs = vec![base.to_owned()];
    let mut dir = base.to_owned();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                dir.push(name);
                if !dir.is_dir() {
                    // Seen from inside a container the path is the host's.
                    break;
                }
                dirs.push(dir.clone());
            }
            // Outside of this cgroup namespace.
            Component::ParentDir | Component::Prefix(_) => break,
        }
    }
    dirs.reverse();
    dirs
}

/// The rows of the groups that this process is in, innermost first.
pub fn rows_of<'r>(root: &Path, version: u32, rows: &'r [GroupRow]) -> Vec<&'r GroupRow> {
    directories(root, version)
        .iter()
        .filter_map(|dir| fs::metadata(dir).ok())
        .filter_map(|meta| rows.iter().find(|row| row.id == meta.ino()))
        .collect()
}
