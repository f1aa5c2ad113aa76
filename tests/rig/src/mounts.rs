//! Where the tree becomes visible: bind mounts, private namespaces, and their removal.

use crate::config::Bind;
use crate::sys;
use crate::tree::{CLASS, DEVICES};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every folder of a rig has a name that begins so: only such folders are ever cleaned.
const FOLDER: &str = "lithowatt-rig-";
/// Locked by the rig while it lives.
const LOCK: &str = "lock";

/// Claims a rig's folder for this process; the lock is held as long as the file lives.
pub fn claim(base: &Path) -> io::Result<File> {
    let file = File::create(base.join(LOCK))?;
    if sys::try_lock(&file) {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("{}: another rig lives here", base.display()),
        ))
    }
}

/// Shows the tree's two directories, and what else was asked for, in the rig's own root.
pub fn bind_all(base: &Path, more: &[Bind]) -> io::Result<()> {
    let live = base.join("live");
    let sys = base.join("root/sys");
    bind(&live.join(CLASS), &sys.join("class/powercap"))?;
    bind(&live.join(DEVICES), &sys.join("devices/virtual/powercap"))?;
    for b in more {
        bind(&base.join(&b.source), &base.join(&b.target))?;
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    sys::mount(source, target, "", libc::MS_BIND | libc::MS_REC, "")?;
    // A bind joins its source's peer group: what is mounted below it would show there too.
    sys::mount(target, target, "", libc::MS_PRIVATE | libc::MS_REC, "")
}

/// Mount points below `base` in this namespace, innermost first.
fn mounted_below(base: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = mount_points(&table)
        .into_iter()
        .filter(|p| p.starts_with(base))
        .collect();
    found.reverse();
    found
}

/// Field five of every line of `mountinfo`, in the order of mounting.
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    table
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .collect()
}

/// Blanks and the like are written as `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|d| {
            let text = std::str::from_utf8(d).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Takes a rig's mounts and folder away.
pub fn remove(base: &Path) {
    let named = base
        .file_name()
        .is_some_and(|n| n.to_string_lossy().starts_with(FOLDER));
    if !named {
        return;
    }
    for point in mounted_below(base) {
        let _ = sys::unmount(&point);
    }
    // Never delete through a mount that would not go.
    if mounted_below(base).is_empty() {
        let _ = fs::remove_dir_all(base);
    }
}

/// Removes what rigs have left that were killed: their folder's lock is free.
pub fn sweep(mine: &Path) {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let bases: BTreeSet<PathBuf> = mount_points(&table)
        .iter()
        .filter_map(|p| {
            p.ancestors()
                .find(|a| {
                    a.file_name()
                        .is_some_and(|n| n.to_string_lossy().starts_with(FOLDER))
                })
                .map(Path::to_path_buf)
        })
        .filter(|base| base != mine)
        .collect();
    for base in bases {
        // A folder without a lock file is not ours to judge.
        if File::open(base.join(LOCK)).is_ok_and(|f| sys::try_lock(&f)) {
            remove(&base);
        }
    }
}

/// Runs a program in a mount namespace of its own in which `/sys` is the rig's.
///
/// `/sys` becomes an overlay of the rig's additions over the real one, with the real one's mounts
/// (cgroup, bpf, tracing, …) put back, and the live tree on top. Returns only on failure.
pub fn exec(base: &Path, command: &[OsString]) -> io::Error {
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no command");
    };
    if let Err(e) = enter(base) {
        return e;
    }
    Command::new(program).args(arguments).exec()
}

fn enter(base: &Path) -> io::Result<()> {
    sys::private_mounts()?;
    let real = Path::new("/sys");
    let table = fs::read("/proc/self/mountinfo")?;
    let all = mount_points(&table);
    let below: Vec<&PathBuf> = all
        .iter()
        .filter(|p| p.starts_with(real) && *p != real)
        .collect();
    let new = base.join("ns");
    let layers = format!("lowerdir={}:/sys", base.join("overlay").display());
    sys::mount(
        Path::new("lithowatt-rig"),
        &new,
        "overlay",
        libc::MS_RDONLY,
        &layers,
    )?;
    for point in &below {
        let outermost = !below.iter().any(|p| p != point && point.starts_with(p));
        if let (true, Ok(rest)) = (outermost, point.strip_prefix(real)) {
            // powercap itself may be masked by a mount; ours comes on top of it below.
            bind(point, &new.join(rest))?;
        }
    }
    let live = base.join("live");
    bind(&live.join(CLASS), &new.join("class/powercap"))?;
    bind(&live.join(DEVICES), &new.join("devices/virtual/powercap"))?;
    sys::mount(&new, real, "", libc::MS_MOVE, "")?;
    let cpuinfo = base.join("cpuinfo");
    if cpuinfo.exists() {
        bind(&cpuinfo, Path::new("/proc/cpuinfo"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_field_five_unescaped() {
        let table = b"36 35 98:0 / /mnt/a\\040b rw - ext3 /dev/root rw\n37 35 0:5 / /sys rw - sysfs sysfs rw\n";
        assert_eq!(
            mount_points(table),
            [PathBuf::from("/mnt/a b"), PathBuf::from("/sys")]
        );
    }

    #[test]
    fn only_a_rigs_own_folder_is_removed() {
        let dir = std::env::temp_dir().join(format!("keep-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        remove(&dir);
        assert!(dir.exists());
        fs::remove_dir(&dir).expect("removed");
    }
}
