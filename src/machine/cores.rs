//! How many sockets and cores does this machine have?
//!
//! Where there are few CPUs each of them is asked. Where there are many, that would be some
//! thousand files, which is tens of milliseconds in the first window of a process: there the lists
//! of a package's CPUs and of a core's say it, in a few files for each package.

use std::collections::BTreeSet;
use std::path::Path;

use crate::source::plain;
use crate::source::procfs::{MOST_CPUS_ASKED, count, cpu_list};

/// Where CPUs are, below the root.
const CPUS: &str = "sys/devices/system/cpu";

/// Sockets and cores of the `online` CPUs below `root`; `None` where the firmware does not say.
pub fn sockets_and_cores(root: &Path, online: &[u32]) -> Option<(u32, u32)> {
    let cpus = root.join(CPUS);
    let of_many = || by_lists(&cpus, online);
    let many = online.len() > MOST_CPUS_ASKED;
    many.then(of_many)
        .flatten()
        .or_else(|| one_by_one(&cpus, online))
}

fn text(path: &Path) -> Option<String> {
    plain::kernel_text(path).ok()
}

fn list(topology: &Path, names: [&str; 2]) -> Option<Vec<u32>> {
    let mut texts = names.iter().filter_map(|name| text(&topology.join(name)));
    cpu_list(&texts.next()?).filter(|cpus| !cpus.is_empty())
}

/// A number of a CPU's topology; −1 means that the firmware does not say.
fn number(topology: &Path, name: &str) -> Option<u32> {
    text(&topology.join(name))?.trim().parse().ok()
}

/// By the numbers of each CPU.
fn one_by_one(cpus: &Path, online: &[u32]) -> Option<(u32, u32)> {
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    for cpu in online {
        let topology = cpus.join(format!("cpu{cpu}/topology"));
        let package = number(&topology, "physical_package_id")?;
        sockets.insert(package);
        cores.insert((
            package,
            number(&topology, "die_id").unwrap_or(0),
            number(&topology, "cluster_id").unwrap_or(0),
            number(&topology, "core_id")?,
        ));
    }
    Some((count(sockets.len())?, count(cores.len())?))
}

/// By the lists of CPUs that are in one package and in one core.
fn by_lists(cpus: &Path, online: &[u32]) -> Option<(u32, u32)> {
    // The second names are those of kernels before 5.3.
    let package_of = |cpu: u32| {
        let topology = cpus.join(format!("cpu{cpu}/topology"));
        number(&topology, "physical_package_id")?;
        list(&topology, ["package_cpus_list", "core_siblings_list"])
    };
    let core_of = |cpu: u32| {
        let topology = cpus.join(format!("cpu{cpu}/topology"));
        list(&topology, ["core_cpus_list", "thread_siblings_list"])
    };
    let single = text(&cpus.join("smt/active")).is_some_and(|text| text.trim() == "0");
    let present = text(&cpus.join("present")).and_then(|text| cpu_list(&text));
    let complete = present.is_some_and(|present| present == online);
    let mut seen = BTreeSet::new();
    let (mut sockets, mut cores) = (0, 0);
    for cpu in online {
        if seen.contains(cpu) {
            continue;
        }
        let members = package_of(*cpu).filter(|members| members.contains(cpu))?;
        sockets += 1;
        cores += match uniform_threads(&members, single, complete, &core_of) {
            Some(threads) => members.len() / threads,
            None => cores_among(&members, &core_of)?,
        };
        seen.extend(members);
    }
    Some((count(sockets)?, count(cores)?))
}

/// Threads of each core of a package, by its first, middle and last CPU; `None` where cores may
/// differ: some are of another kind, or some of their threads are offline.
fn uniform_threads(
    members: &[u32],
    single: bool,
    complete: bool,
    core_of: &impl Fn(u32) -> Option<Vec<u32>>,
) -> Option<usize> {
    if single {
        return Some(1);
    }
    let (first, last) = (members.first()?, members.last()?);
    let threads = core_of(*first)?.len();
    let alike = [members[members.len() / 2], *last]
        .into_iter()
        .all(|cpu| core_of(cpu).is_some_and(|core| core.len() == threads));
    (complete && alike && members.len().is_multiple_of(threads)).then_some(threads)
}

/// Cores of a package, each asked once.
fn cores_among(members: &[u32], core_of: &impl Fn(u32) -> Option<Vec<u32>>) -> Option<usize> {
    let mut seen = BTreeSet::new();
    let mut cores = 0;
    for cpu in members {
        if !seen.contains(cpu) {
            seen.extend(core_of(*cpu)?);
            seen.insert(*cpu);
            cores += 1;
        }
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn listed(cpus: &[u32]) -> String {
        let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
        cpus.join(",") + "\n"
    }

    /// CPUs by (package, core), as sysfs shows those that are online.
    fn machine(places: &[(u32, u32)], offline: &[u32], lists: bool) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let cpus = root.path().join(CPUS);
        let alike = |same: &dyn Fn(&(u32, u32)) -> bool| -> Vec<u32> {
            let all = (0..).zip(places);
            let online = all.filter(|(cpu, place)| !offline.contains(cpu) && same(place));
            online.map(|(cpu, _)| cpu).collect()
        };
        for (cpu, place) in (0u32..).zip(places) {
            let topology = cpus.join(format!("cpu{cpu}/topology"));
            if offline.contains(&cpu) {
                continue;
            }
            fs::create_dir_all(&topology).unwrap();
            let write = |name: &str, text: String| fs::write(topology.join(name), text).unwrap();
            write("physical_package_id", format!("{}\n", place.0));
            write("core_id", format!("{}\n", place.1));
            if lists {
                write("package_cpus_list", listed(&alike(&|p| p.0 == place.0)));
                write("core_cpus_list", listed(&alike(&|p| p == place)));
            }
        }
        let all: Vec<u32> = (0..).zip(places).map(|(cpu, _)| cpu).collect();
        fs::write(cpus.join("present"), listed(&all)).unwrap();
        root
    }

    fn online(places: &[(u32, u32)], offline: &[u32]) -> Vec<u32> {
        let all = (0..).zip(places).map(|(cpu, _)| cpu);
        all.filter(|cpu| !offline.contains(cpu)).collect()
    }

    /// Two packages of so many cores with two threads each, as Linux numbers them.
    fn two_packages(cores: u32) -> Vec<(u32, u32)> {
        let all = (0..2).flat_map(|package| (0..cores).map(move |core| (package, core)));
        let all: Vec<_> = all.collect();
        [all.clone(), all].concat()
    }

    #[test]
    fn lists_say_the_same_as_each_cpu() {
        let pairs = two_packages(40);
        // Two second threads that are offline leave their cores in place; a whole core does not.
        let hybrid: Vec<_> = (0..96)
            .map(|cpu| (0, if cpu < 64 { cpu / 2 } else { cpu }))
            .collect();
        for (places, offline, expected) in [
            (&pairs, vec![], (2, 80)),
            (&pairs, vec![81, 85], (2, 80)),
            (&pairs, vec![3, 83], (2, 79)),
            (&hybrid, vec![], (1, 64)),
        ] {
            let on = online(places, &offline);
            assert!(on.len() > MOST_CPUS_ASKED);
            for lists in [true, false] {
                let root = machine(places, &offline, lists);
                let found = sockets_and_cores(root.path(), &on);
                assert_eq!(found, Some(expected), "{offline:?}, lists {lists}");
            }
        }
    }

    #[test]
    fn a_large_machine_is_known_by_few_of_its_cpus() {
        let places = two_packages(256);
        let root = machine(&places, &[], true);
        let kept = [0, 255, 256, 511, 512, 767, 768, 1023];
        for cpu in (0..1024).filter(|cpu| !kept.contains(cpu)) {
            fs::remove_dir_all(root.path().join(CPUS).join(format!("cpu{cpu}"))).unwrap();
        }
        // The middle ones of each package, too, are among those that were kept.
        let found = sockets_and_cores(root.path(), &online(&places, &[]));
        assert_eq!(found, Some((2, 512)));
    }

    #[test]
    fn firmware_that_is_silent_is_not_believed() {
        for cores in [2, 16] {
            let places = two_packages(cores);
            let root = machine(&places, &[], true);
            let first = root
                .path()
                .join(CPUS)
                .join("cpu0/topology/physical_package_id");
            fs::write(first, "-1\n").unwrap();
            assert_eq!(sockets_and_cores(root.path(), &online(&places, &[])), None);
        }
    }
}
