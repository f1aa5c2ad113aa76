//! Where a host's files are, in its guest.

use std::path::{Path, PathBuf};

use crate::machine::cpu::CpuIdentity;
use crate::source::Unavailable;

/// The variable that names the host's file, or the folder that holds it.
pub const VARIABLE: &str = "LITHOWATT_GUEST";

/// Where the ring of the host's agent is looked for, below the root.
pub const DEFAULT_RING: &str = "var/lithowatt/ring";

/// Where scaphandre's guests mount its folder: its `--vm` looks nowhere else
/// (src/sensors/powercap_rapl.rs of scaphandre 1.0).
pub const SCAPHANDRE: &str = "var/scaphandre";

/// Most sockets that scaphandre's folder is read for.
const MOST_SOCKETS: usize = 8;

/// Files that count this machine's energy, of one kind.
pub(super) fn find(root: &Path) -> Result<Vec<PathBuf>, Unavailable> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(named);
        let files = files_at(&path);
        if files.is_empty() {
            let why = format!(
                "{VARIABLE}={}: no ring, no energy_uj and no file of watts is there",
                path.display()
            );
            return Err(Unavailable::absent(why));
        }
        return Ok(files);
    }
    let ring = root.join(DEFAULT_RING);
    let files = match ring.exists() {
        true => vec![ring],
        false => counters_in(&root.join(SCAPHANDRE)),
    };
    let Some(first) = files.first() else {
        return Err(Unavailable::absent(format!(
            "no host hands this machine's energy on: there is no /{DEFAULT_RING} and no \
             /{SCAPHANDRE}"
        )));
    };
    // On a host such a folder would be one guest's, and its energy none of this machine's.
    if !CpuIdentity::read(root).hypervisor {
        return Err(Unavailable::absent(format!(
            "{} is not read, for this is no virtual machine (to read it nevertheless: {VARIABLE}=\
             {0})",
            first.display()
        )));
    }
    Ok(files)
}

/// What there is at a path that the user gave.
fn files_at(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return if path.exists() {
            vec![path.to_owned()]
        } else {
            Vec::new()
        };
    }
    let ring = path.join("ring");
    if ring.exists() {
        return vec![ring];
    }
    counters_in(path)
}

/// `intel-rapl:N/energy_uj` of scaphandre's folder. What is inside a socket (`intel-rapl:N:M`) would be
/// counted twice.
fn counters_in(folder: &Path) -> Vec<PathBuf> {
    if !folder.is_dir() {
        return Vec::new();
    }
    (0..MOST_SOCKETS)
        .map(|socket| folder.join(format!("intel-rapl:{socket}/energy_uj")))
        .filter(|path| path.exists())
        .collect()
}
