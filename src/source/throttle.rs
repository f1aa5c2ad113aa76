//! How often the processor slowed down for its temperature, as x86 kernels count it in sysfs.
//!
//! Read where the kernel has no thermal tracepoint for probes.

use std::path::Path;

use super::kept::Kept;
use super::procfs::cpu_list;
use super::topology::{Scope, one_cpu_each};

/// With more CPUs than this, cores are left out.
const MOST_CPUS: usize = 64;

/// The counts of every core and package.
#[derive(Debug)]
pub struct Throttle(Vec<Kept>);

impl Throttle {
    /// Opens the counts of each core once and of each package once; those of packages alone where
    /// there are many CPUs, as they are read at every edge of a window. `None` where there are none.
    pub fn open(root: &Path) -> Option<Self> {
        let cpus = root.join("sys/devices/system/cpu");
        let online = super::plain::kernel_text(&cpus.join("online")).ok();
        let online = online.and_then(|text| cpu_list(&text)).unwrap_or_default();
        let files = if online.len() > MOST_CPUS {
            let one_each = one_cpu_each(root, &online, Scope::Package);
            let counts = one_each.iter().map(|(_, cpu)| {
                cpus.join(format!("cpu{cpu}/thermal_throttle/package_throttle_count"))
            });
            counts.filter_map(|path| Kept::open(&path).ok()).collect()
        } else {
            of_each(&cpus)
        };
        (!files.is_empty()).then_some(Self(files))
    }

    /// All of them together, since the machine started; `None` where one cannot be read.
    pub fn read(&self) -> Option<u64> {
        let mut buffer = [0u8; 32];
        self.0.iter().try_fold(0, |sum, kept| {
            let count: u64 = kept.read(&mut buffer).ok()?.trim().parse().ok()?;
            Some(sum + count)
        })
    }
}

/// The counts of each core once and of each package once.
fn of_each(cpus: &Path) -> Vec<Kept> {
    let mut seen = Vec::new();
    let mut files = Vec::new();
    for cpu in 0.. {
        let cpu = cpus.join(format!("cpu{cpu}"));
        if !cpu.is_dir() {
            break;
        }
        let id = |name: &str| super::plain::kernel_text(&cpu.join("topology").join(name)).ok();
        let package = id("physical_package_id");
        let core = id("core_id");
        for (name, place) in [
            ("core_throttle_count", (package.clone(), core)),
            ("package_throttle_count", (package, None)),
        ] {
            // Hardware threads of a core, and cores of a package, show the same count.
            if seen.contains(&(name, place.clone())) {
                continue;
            }
            if let Ok(kept) = Kept::open(&cpu.join("thermal_throttle").join(name)) {
                files.push(kept);
                seen.push((name, place));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_core_and_package_counts_once() {
        let root = tempfile::tempdir().unwrap();
        assert!(Throttle::open(root.path()).is_none());
        for cpu in 0..4 {
            let cpu_path = root.path().join(format!("sys/devices/system/cpu/cpu{cpu}"));
            for (file, text) in [
                ("topology/physical_package_id", "0\n".to_owned()),
                // CPUs 0 and 2 are threads of one core, 1 and 3 of another.
                ("topology/core_id", format!("{}\n", cpu % 2)),
                (
                    "thermal_throttle/core_throttle_count",
                    format!("{}\n", cpu % 2 + 1),
                ),
                ("thermal_throttle/package_throttle_count", "10\n".to_owned()),
            ] {
                let path = cpu_path.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
        }
        let throttle = Throttle::open(root.path()).unwrap();
        assert_eq!(throttle.read(), Some(1 + 2 + 10));
        let one = root
            .path()
            .join("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count");
        std::fs::write(&one, "many\n").unwrap();
        assert_eq!(throttle.read(), None);
    }
}
