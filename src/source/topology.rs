//! Which package, die and core is a CPU in?

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::procfs::cpu_list;

/// What has an energy counter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The package (AMD).
    Package,
    /// The die (Intel).
    Die,
    /// The core, with all its threads (AMD's `power_core`).
    Core,
}

/// The CPUs on which a PMU may be read by its `mask`: those of them that are online. Where it names
/// none that is, all that are online; where nobody knows which are, CPU 0.
pub fn readable(root: &Path, mask: Option<Vec<u32>>) -> Vec<u32> {
    let mut mask = mask.unwrap_or_default();
    mask.sort_unstable();
    mask.dedup();
    let Some(online) = online(root) else {
        return if mask.is_empty() { vec![0] } else { mask };
    };
    mask.retain(|cpu| online.binary_search(cpu).is_ok());
    if mask.is_empty() { online } else { mask }
}

/// The CPUs that are online, ascending.
fn online(root: &Path) -> Option<Vec<u32>> {
    let text = fs::read_to_string(root.join("sys/devices/system/cpu/online")).ok()?;
    cpu_list(&text).filter(|cpus| !cpus.is_empty())
}

/// Whether CPU `cpu` is known to be offline. CPU 0 of most machines has no such file.
pub fn is_offline(root: &Path, cpu: u32) -> bool {
    let file = root.join(format!("sys/devices/system/cpu/cpu{cpu}/online"));
    fs::read_to_string(file).is_ok_and(|text| text.trim() == "0")
}

/// One CPU for each package, die or core, out of `cpus`, with the package's number.
///
/// A counter of a package may be read on any of its CPUs and shows the same. The kernel names one of
/// them in a `cpumask`, or all of them where the PMU is powercap's (Linux 7), so the mask does not
/// decide.
///
/// Where nothing separates packages, `cpus` that are all of the machine's are taken for one
/// package, and others for one each.
pub fn one_cpu_each(root: &Path, cpus: &[u32], scope: Scope) -> Vec<(u32, u32)> {
    let mut chosen = Vec::new();
    let mut places = BTreeSet::new();
    let mut covered = BTreeSet::new();
    let mut cpuinfo = None;
    for cpu in cpus {
        if covered.contains(cpu) {
            continue;
        }
        let topology = root.join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
        let number = |file: &str| -> Option<u32> {
            let text = fs::read_to_string(topology.join(file)).ok()?;
            text.trim().parse().ok()
        };
        let package = number("physical_package_id").or_else(|| {
            let known = cpuinfo.get_or_insert_with(|| physical_ids(root));
            known.iter().find(|(c, _)| c == cpu).map(|(_, id)| *id)
        });
        let Some(package) = package else {
            // A CPU whose place is unknown.
            chosen.push((None, *cpu));
            continue;
        };
        let die = || number("die_id").unwrap_or(0);
        let (die, core, siblings) = match scope {
            Scope::Core => match number("core_id") {
                Some(core) => (die(), core, "core_cpus_list"),
                None => {
                    chosen.push((Some(package), *cpu));
                    continue;
                }
            },
            Scope::Die => (die(), 0, "die_cpus_list"),
            Scope::Package => (0, 0, "package_cpus_list"),
        };
        if places.insert((package, die, core)) {
            chosen.push((Some(package), *cpu));
        }
        // Spares looking at each of some hundred CPUs.
        let siblings = fs::read_to_string(topology.join(siblings)).ok();
        covered.extend(
            siblings
                .and_then(|text| cpu_list(&text))
                .unwrap_or_default(),
        );
    }
    let whole = || online(root).is_some_and(|all| all == cpus);
    if places.is_empty() && scope != Scope::Core && cpus.len() > 1 && whole() {
        chosen.truncate(1);
    }
    let numbered = chosen.into_iter().enumerate();
    numbered
        .map(|(i, (package, cpu))| (package.unwrap_or(i as u32), cpu))
        .collect()
}

/// `physical id` of every `processor` of /proc/cpuinfo.
fn physical_ids(root: &Path) -> Vec<(u32, u32)> {
    let text = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let mut cpu = None;
    let mut ids = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        match key.trim() {
            "processor" => cpu = value.trim().parse().ok(),
            "physical id" => {
                let id = value.trim().parse().ok();
                ids.extend(cpu.zip(id));
            }
            _ => {}
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPUs by (package, die), as sysfs shows them; with or without the lists of siblings.
    fn machine(places: &[(u32, u32)], lists: bool) -> tempfile::TempDir {
        let tmp = tempfile::tempdir().unwrap();
        let cpus = tmp.path().join("sys/devices/system/cpu");
        let all = |wanted: &dyn Fn(&(u32, u32)) -> bool| -> String {
            let cpus = (0..places.len()).filter(|i| wanted(&places[*i]));
            let names: Vec<String> = cpus.map(|i| i.to_string()).collect();
            names.join(",")
        };
        for (i, place) in places.iter().enumerate() {
            let dir = cpus.join(format!("cpu{i}/topology"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("physical_package_id"), format!("{}\n", place.0)).unwrap();
            fs::write(dir.join("die_id"), format!("{}\n", place.1)).unwrap();
            if lists {
                fs::write(dir.join("die_cpus_list"), all(&|p| p == place)).unwrap();
                fs::write(dir.join("package_cpus_list"), all(&|p| p.0 == place.0)).unwrap();
            }
        }
        tmp
    }

    #[test]
    fn one_cpu_of_each_whatever_the_mask_names() {
        let places = [
            (0, 0),
            (0, 0),
            (0, 1),
            (0, 1),
            (3, 0),
            (3, 0),
            (3, 1),
            (3, 1),
        ];
        for lists in [true, false] {
            let tmp = machine(&places, lists);
            let all: Vec<u32> = (0..8).collect();
            let each = |cpus: &[u32], scope| one_cpu_each(tmp.path(), cpus, scope);
            assert_eq!(each(&all, Scope::Package), [(0, 0), (3, 4)]);
            assert_eq!(each(&all, Scope::Die), [(0, 0), (0, 2), (3, 4), (3, 6)]);
            // As Linux 6 names them.
            assert_eq!(each(&[0, 4], Scope::Package), [(0, 0), (3, 4)]);
            assert_eq!(
                each(&[1, 2, 5, 6], Scope::Die),
                [(0, 1), (0, 2), (3, 5), (3, 6)]
            );
        }
    }

    #[test]
    fn one_thread_of_each_core() {
        // Two packages of two cores of two threads, numbered as AMD does: the second threads last.
        let places = [
            (0, 0),
            (0, 0),
            (1, 0),
            (1, 0),
            (0, 0),
            (0, 0),
            (1, 0),
            (1, 0),
        ];
        let tmp = machine(&places, true);
        for cpu in 0..8 {
            let dir = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            fs::write(
                tmp.path().join(&dir).join("core_id"),
                format!("{}\n", cpu % 2),
            )
            .unwrap();
        }
        let each = |cpus: &[u32]| one_cpu_each(tmp.path(), cpus, Scope::Core);
        let cores = [(0, 0), (0, 1), (1, 2), (1, 3)];
        assert_eq!(each(&[0, 1, 2, 3, 4, 5, 6, 7]), cores);
        assert_eq!(each(&[0, 1, 2, 3]), cores);
        assert_eq!(each(&[4, 5]), [(0, 4), (0, 5)]);
    }

    #[test]
    fn masks_name_many_few_none_and_what_is_offline() {
        let tmp = machine(&[(0, 0); 16], true);
        let cpus = tmp.path().join("sys/devices/system/cpu");
        fs::write(cpus.join("online"), "1-15\n").unwrap();
        let each = |mask: Option<Vec<u32>>| {
            let cpus = readable(tmp.path(), mask);
            one_cpu_each(tmp.path(), &cpus, Scope::Package)
        };
        assert_eq!(each(Some((0..16).collect())), [(0, 1)]);
        assert_eq!(each(Some(vec![7])), [(0, 7)]);
        assert_eq!(each(Some(vec![9, 3, 3])), [(0, 3)]);
        // Nothing, and nothing that is online.
        for mask in [None, Some(vec![]), Some(vec![0])] {
            assert_eq!(each(mask), [(0, 1)]);
        }
        fs::remove_file(cpus.join("online")).unwrap();
        assert_eq!(readable(tmp.path(), None), [0]);
        assert_eq!(readable(tmp.path(), Some(vec![4, 5])), [4, 5]);
        assert!(!is_offline(tmp.path(), 3));
        fs::write(cpus.join("cpu3/online"), "0\n").unwrap();
        assert!(is_offline(tmp.path(), 3));
    }

    #[test]
    fn cpuinfo_stands_in_for_sysfs() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("proc")).unwrap();
        let text: String = [0, 0, 1, 1]
            .iter()
            .enumerate()
            .map(|(i, p)| format!("processor\t: {i}\nphysical id\t: {p}\n\n"))
            .collect();
        fs::write(tmp.path().join("proc/cpuinfo"), text).unwrap();
        let each = one_cpu_each(tmp.path(), &[0, 1, 2, 3], Scope::Die);
        assert_eq!(each, [(0, 0), (1, 2)]);
    }

    #[test]
    fn where_nothing_tells_all_cpus_are_one_package() {
        let tmp = tempfile::tempdir().unwrap();
        let cpus = tmp.path().join("sys/devices/system/cpu");
        fs::create_dir_all(&cpus).unwrap();
        fs::write(cpus.join("online"), "0-3\n").unwrap();
        let each = |cpus: &[u32]| one_cpu_each(tmp.path(), cpus, Scope::Package);
        assert_eq!(each(&[0, 1, 2, 3]), [(0, 0)]);
        assert_eq!(each(&[0, 2]), [(0, 0), (1, 2)]);
    }
}
