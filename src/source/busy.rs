//! On how many CPUs the machine's load runs, and at what clock: the power model takes both for what it would else
//! guess.
//!
//! `/proc/stat` says in ticks which CPUs had work, cpufreq how fast a CPU runs now. The clock of a CPU without work
//! is of no use (the kernel makes it up), so only a CPU that had work before and after its clock was read counts.
//! Reading a clock may interrupt the CPU, and kernels before 5.18 may wait 10 ms for it, so few are read, by the
//! sampler's thread alone and without its lock.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::kept::Kept;
use super::plain;
use super::procfs::{FUSE, MOST_CPUS_ASKED, cpu_list, is_a_clock, positive};

/// Fewer ticks (10 ms) in all than this say nothing of where the load runs.
const LEAST_TICKS: u64 = 4;

/// Of the work of those CPUs that are asked, at least this part must be of CPUs whose clock is known.
const LEAST_READ: f64 = 0.5;

/// Threads that a core has at most (POWER8 to POWER10).
pub const MOST_THREADS: f64 = 8.0;

/// A clock of busy CPUs, MHz.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// The slowest that was seen.
    pub low: f64,
    /// Their mean, by how busy they were.
    pub mhz: f64,
    /// The fastest that was seen.
    pub high: f64,
}

impl Clock {
    /// One that is known.
    pub fn exactly(mhz: f64) -> Self {
        Self {
            low: mhz,
            mhz,
            high: mhz,
        }
    }
}

/// What the CPUs did between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BusyCpus {
    /// The part of the CPUs on which the load ran, 0..1; `None` where there was too little of it to tell.
    pub spread: Option<f64>,
    /// How many of the threads of a core had work, of cores that had any, from 1; `None` where too little of it or
    /// of the cores was seen.
    pub threads: Option<f64>,
    /// Clock of those that had work, where that is known.
    pub clock: Option<Clock>,
}

impl BusyCpus {
    /// Nothing is known but on what part of the CPUs the load runs, 0..1.
    pub fn on(spread: f64) -> Self {
        Self {
            spread: Some(spread),
            ..Self::default()
        }
    }
}

/// What the CPUs did in one stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stretch {
    /// From this moment, ns on `CLOCK_MONOTONIC` …
    pub from_ns: u64,
    /// … to this one.
    pub to_ns: u64,
    /// What they did.
    pub seen: BusyCpus,
}

/// Where to look.
#[derive(Debug)]
pub struct Looker {
    cpus: PathBuf,
    stat: Kept,
    text: Vec<u8>,
    /// Ticks of work of each CPU when last looked at.
    ticks: HashMap<u32, u64>,
    /// Clocks that were read then, MHz.
    clocks: HashMap<u32, f64>,
    /// One CPU of the core of each CPU that had work so far, the same for all of a core; `None` where it is not
    /// said.
    cores: HashMap<u32, Option<u32>>,
}

impl Looker {
    /// Opens what there is below `root`; `None` where it is not said which CPUs have work, or where somebody else
    /// than the kernel says it and numbers CPUs in another way (lxcfs).
    pub fn open(root: &Path) -> Option<Self> {
        let path = root.join("proc/stat");
        if plain::file_system(&path) == Some(FUSE) {
            return None;
        }
        let mut looker = Self {
            cpus: root.join("sys/devices/system/cpu"),
            stat: Kept::open(&path).ok()?,
            text: Vec::new(),
            ticks: HashMap::new(),
            clocks: HashMap::new(),
            cores: HashMap::new(),
        };
        looker.read_ticks().filter(|ticks| !ticks.is_empty())?;
        Some(looker)
    }

    /// What was seen before does not count any more.
    pub fn forget(&mut self) {
        self.ticks.clear();
        self.clocks.clear();
    }

    /// What the CPUs did since the look before; `None` at the first one.
    pub fn look(&mut self) -> Option<BusyCpus> {
        let ticks = self.read_ticks().unwrap_or_default();
        let mut worked: Vec<(u32, u64)> = ticks
            .iter()
            .filter_map(|(cpu, now)| Some((*cpu, now.saturating_sub(*self.ticks.get(cpu)?))))
            .collect();
        let first = self.ticks.is_empty() || ticks.is_empty();
        let spread = spread(worked.iter().map(|(_, ticks)| *ticks));
        worked.retain(|(_, ticks)| *ticks > 0);
        self.find_cores(&worked);
        let threads = spread.and_then(|_| threads(&worked, &self.cores));
        // Where more CPUs work than are asked, the same are asked again.
        let most = worked.iter().map(|(_, ticks)| *ticks).max().unwrap_or(0);
        worked.sort_unstable_by_key(|(cpu, ticks)| {
            let known = self.clocks.contains_key(cpu);
            Reverse((*ticks >= most - ticks, known, *ticks))
        });
        worked.truncate(MOST_CPUS_ASKED);
        let asked = worked.iter();
        let clocks: HashMap<u32, f64> = asked
            .filter_map(|(cpu, _)| Some((*cpu, self.read_clock(*cpu)?)))
            .collect();
        let clock = mean(&worked, &self.clocks, &clocks);
        (self.ticks, self.clocks) = (ticks, clocks);
        (!first).then_some(BusyCpus {
            spread,
            threads,
            clock,
        })
    }

    fn read_ticks(&mut self) -> Option<HashMap<u32, u64>> {
        self.stat.read_whole(&mut self.text).ok().map(ticks_of)
    }

    /// Asks for the cores of CPUs that had work, of few of them at a time.
    fn find_cores(&mut self, worked: &[(u32, u64)]) {
        let mut asked = 0;
        for (cpu, _) in worked {
            if self.cores.contains_key(cpu) {
                continue;
            }
            if asked == MOST_CPUS_ASKED {
                break;
            }
            asked += 1;
            let topology = self.cpus.join(format!("cpu{cpu}/topology"));
            // The second is the name before Linux 5.3.
            let siblings = ["core_cpus_list", "thread_siblings_list"]
                .iter()
                .find_map(|file| cpu_list(&plain::kernel_text(&topology.join(file)).ok()?))
                .filter(|siblings| siblings.contains(cpu));
            let Some(siblings) = siblings else {
                self.cores.insert(*cpu, None);
                continue;
            };
            // A list that was read before was shorter where some of them were offline.
            let known = siblings.iter().find_map(|cpu| *self.cores.get(cpu)?);
            for sibling in siblings {
                self.cores.entry(sibling).or_insert(known.or(Some(*cpu)));
            }
        }
    }

    fn read_clock(&self, cpu: u32) -> Option<f64> {
        let folder = self.cpus.join(format!("cpu{cpu}/cpufreq"));
        // The first is a mean that the processor counted, where the kernel has it (6.15 and later).
        ["cpuinfo_avg_freq", "scaling_cur_freq"]
            .iter()
            .filter_map(|file| plain::kernel_text(&folder.join(file)).ok())
            .filter_map(|khz| Some(positive(khz.trim())? / 1000.0))
            .find(|mhz| is_a_clock(*mhz))
    }
}

/// Ticks in which each CPU had work (user, nice, system, irq, softirq), of the text of /proc/stat.
fn ticks_of(text: &str) -> HashMap<u32, u64> {
    let mut found = HashMap::new();
    for line in text.lines().skip(1) {
        let Some((number, rest)) = line
            .strip_prefix("cpu")
            .and_then(|line| line.split_once(' '))
        else {
            // What follows is of no CPU, and long.
            break;
        };
        let fields: Vec<u64> = rest
            .split_ascii_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        if let ([user, nice, system, _idle, _iowait, irq, softirq, ..], Ok(cpu)) =
            (&fields[..], number.parse())
        {
            let work = [nice, system, irq, softirq].into_iter();
            found.insert(
                cpu,
                work.fold(*user, |sum, ticks| sum.saturating_add(*ticks)),
            );
        }
    }
    found
}

/// Pairs of two of so many ticks, each counted twice.
fn pairs(ticks: u64) -> f64 {
    ticks as f64 * ticks.saturating_sub(1) as f64
}

/// The part of the CPUs on which the load ran, by the ticks of each.
///
/// If each of `s` CPUs has the same chance of a tick, two ticks are of the same CPU once in `s` times: so many
/// CPUs are taken (Simpson's index). It is the same for ten ticks of one CPU and for a thousand, and a few ticks
/// here and there do not look like a few busy CPUs.
fn spread(ticks: impl Iterator<Item = u64> + Clone) -> Option<f64> {
    let all = ticks.clone().fold(0, u64::saturating_add);
    let cpus = ticks.clone().count().max(1) as f64;
    let alike: f64 = ticks.map(pairs).sum();
    (all >= LEAST_TICKS).then(|| (pairs(all) / alike / cpus).clamp(1.0 / cpus, 1.0))
}

/// How many threads of a core had work: so many times as often are two ticks of the same core as of the same CPU.
/// `None` where the core of a CPU that had work is not known.
fn threads(worked: &[(u32, u64)], cores: &HashMap<u32, Option<u32>>) -> Option<f64> {
    let mut of_cores: HashMap<u32, u64> = HashMap::new();
    for (cpu, ticks) in worked {
        let sum = of_cores.entry((*cores.get(cpu)?)?).or_default();
        *sum = sum.saturating_add(*ticks);
    }
    let alike = |ticks: &mut dyn Iterator<Item = u64>| ticks.map(pairs).sum::<f64>();
    let of_cpus = alike(&mut worked.iter().map(|(_, ticks)| *ticks));
    let threads = alike(&mut of_cores.into_values()) / of_cpus;
    threads
        .is_finite()
        .then(|| threads.clamp(1.0, MOST_THREADS))
}

/// Clock of the CPUs that `worked` so many ticks, by what they showed before and, for how far it may be off, after.
fn mean(
    worked: &[(u32, u64)],
    before: &HashMap<u32, f64>,
    after: &HashMap<u32, f64>,
) -> Option<Clock> {
    let all: f64 = worked.iter().map(|(_, ticks)| *ticks as f64).sum();
    let (mut sum, mut known) = (0.0, 0.0);
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for (cpu, ticks) in worked {
        let Some(mhz) = before.get(cpu) else { continue };
        let weight = *ticks as f64;
        sum += weight * mhz;
        known += weight;
        for mhz in [Some(mhz), after.get(cpu)].into_iter().flatten() {
            (low, high) = (low.min(*mhz), high.max(*mhz));
        }
    }
    (known > 0.0 && known >= LEAST_READ * all).then(|| Clock {
        low,
        mhz: sum / known,
        high,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A machine whose CPUs have had so many ticks of work and run at so many MHz.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn show(&self, ticks: &[u64], mhz: &[(u32, f64)]) {
            let mut text = "cpu  1 1 1 1 1 1 1 0 0 0\n".to_owned();
            for (cpu, ticks) in ticks.iter().enumerate() {
                text += &format!("cpu{cpu} {ticks} 0 0 999 5 0 0 7 0 0\n");
            }
            text += "intr 5 0 0\nctxt 7\n";
            fs::create_dir_all(self.0.path().join("proc")).unwrap();
            fs::write(self.0.path().join("proc/stat"), text).unwrap();
            for (cpu, mhz) in mhz {
                let folder = self
                    .0
                    .path()
                    .join(format!("sys/devices/system/cpu/cpu{cpu}/cpufreq"));
                fs::create_dir_all(&folder).unwrap();
                let khz = format!("{:.0}\n", mhz * 1000.0);
                fs::write(folder.join("scaling_cur_freq"), khz).unwrap();
            }
        }
    }

    #[test]
    fn the_clock_is_that_of_cpus_that_went_on_working() {
        let machine = Machine::new();
        machine.show(&[0, 0, 0, 0], &[(0, 800.0), (1, 3000.0), (2, 3200.0)]);
        let mut looker = Looker::open(machine.0.path()).unwrap();
        assert_eq!(looker.look(), None);
        machine.show(&[0, 10, 10, 0], &[]);
        // Nobody knows yet whether those that were read go on.
        let seen = looker.look().unwrap();
        assert_eq!(seen.clock, None);
        assert!((seen.spread.unwrap() - 0.5).abs() < 0.1, "{seen:?}");
        // CPU 2 has rested since: the kernel shows something else than what it ran at.
        machine.show(&[0, 20, 10, 0], &[(1, 3100.0), (2, 800.0)]);
        let seen = looker.look().unwrap();
        let clock = Clock {
            low: 3000.0,
            mhz: 3000.0,
            high: 3100.0,
        };
        assert_eq!(seen.clock, Some(clock));
        assert_eq!(seen.spread, Some(0.25));
        // A thread that moves about has no clock.
        machine.show(&[10, 20, 10, 0], &[]);
        assert_eq!(looker.look().unwrap().clock, None);
    }

    #[test]
    fn a_clock_that_cannot_be_is_none() {
        let machine = Machine::new();
        for mhz in [9e9, 1.0, 4_294_967.295, -1.0, f64::NAN, f64::INFINITY] {
            machine.show(&[0], &[(0, mhz)]);
            let mut looker = Looker::open(machine.0.path()).unwrap();
            looker.look();
            machine.show(&[10], &[]);
            looker.look();
            machine.show(&[20], &[]);
            assert_eq!(looker.look().unwrap().clock, None, "{mhz}");
            // One that can be counts in its place.
            let folder = machine.0.path().join("sys/devices/system/cpu/cpu0/cpufreq");
            fs::write(folder.join("cpuinfo_avg_freq"), "4294967295000\n").unwrap();
            machine.show(&[30], &[(0, 3000.0)]);
            looker.look();
            machine.show(&[40], &[]);
            assert_eq!(looker.look().unwrap().clock, Some(Clock::exactly(3000.0)));
            fs::remove_file(folder.join("cpuinfo_avg_freq")).unwrap();
        }
    }

    #[test]
    fn ticks_that_cannot_be_stop_nothing() {
        let machine = Machine::new();
        machine.show(&[0; 4], &[(0, 3000.0)]);
        let mut looker = Looker::open(machine.0.path()).unwrap();
        looker.look();
        for ticks in [u64::MAX, 0, u64::MAX - 1] {
            machine.show(&[ticks; 4], &[]);
            let seen = looker.look().unwrap();
            assert!(seen.spread.is_none_or(|part| (0.25..=1.0).contains(&part)));
        }
    }

    #[test]
    fn a_few_ticks_here_and_there_are_no_few_busy_cpus() {
        let of = |ticks: &[u64]| spread(ticks.iter().copied());
        let mut ticks = vec![0; 48];
        assert_eq!(of(&ticks), None);
        ticks[7] = 100;
        assert_eq!(of(&ticks), Some(1.0 / 48.0));
        ticks[7] = 0;
        ticks[..10].fill(1);
        assert_eq!(of(&ticks), Some(1.0));
        assert_eq!(of(&[20; 48]), Some(1.0));
        let half: Vec<u64> = (0..48).map(|cpu| if cpu < 24 { 50 } else { 0 }).collect();
        assert!((of(&half).unwrap() - 0.5).abs() < 0.02);
    }

    #[test]
    fn threads_of_one_core_are_told_from_cores() {
        let machine = Machine::new();
        let siblings = |file: &str| {
            for cpu in 0..48 {
                let folder = machine
                    .0
                    .path()
                    .join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
                fs::create_dir_all(&folder).unwrap();
                let list = format!("{},{}\n", cpu % 24, cpu % 24 + 24);
                fs::write(folder.join(file), list).unwrap();
            }
        };
        let threads = |busy: &dyn Fn(u64) -> u64| {
            let mut looker = Looker::open(machine.0.path()).unwrap();
            let mut found = None;
            // Few CPUs are asked at a time.
            for turn in 0..5 {
                let ticks: Vec<u64> = (0..48).map(|cpu| turn * busy(cpu)).collect();
                machine.show(&ticks, &[]);
                found = looker.look();
            }
            found.unwrap().threads
        };
        machine.show(&[0; 48], &[]);
        assert_eq!(threads(&|_| 10), None);
        for file in ["thread_siblings_list", "core_cpus_list"] {
            siblings(file);
            let near = |found: Option<f64>, truth: f64| (found.unwrap() - truth).abs() < 0.02;
            assert!(near(threads(&|cpu| 100 * u64::from(cpu < 24)), 1.0));
            assert!(near(threads(&|cpu| 100 * u64::from(cpu % 24 < 12)), 2.0));
            assert!(near(threads(&|_| 100), 2.0));
            assert!(near(threads(&|cpu| 100 * u64::from(cpu == 30)), 1.0));
            // Twelve cores with both threads, and twelve with one.
            assert!(near(threads(&|cpu| 100 * u64::from(cpu < 36)), 5.0 / 3.0));
            // Next to nothing is of no use.
            assert_eq!(threads(&|cpu| u64::from(cpu == 0)), None);
            assert!(threads(&|cpu| 2 * u64::from(cpu % 24 == 0)).unwrap() <= MOST_THREADS);
            siblings("another");
        }
    }

    #[test]
    fn a_thread_that_comes_online_later_is_of_its_core() {
        let machine = Machine::new();
        let folder = |cpu: u32| {
            let cpus = machine.0.path().join("sys/devices/system/cpu");
            let folder = cpus.join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&folder).unwrap();
            folder.join("core_cpus_list")
        };
        fs::write(folder(1), "1\n").unwrap();
        machine.show(&[0, 0], &[]);
        let mut looker = Looker::open(machine.0.path()).unwrap();
        looker.look();
        machine.show(&[0, 100], &[]);
        assert_eq!(looker.look().unwrap().threads, Some(1.0));
        for cpu in 0..2 {
            fs::write(folder(cpu), "0-1\n").unwrap();
        }
        machine.show(&[100, 200], &[]);
        assert!(looker.look().unwrap().threads.unwrap() > 1.9);
    }

    #[test]
    fn a_list_without_the_cpu_itself_is_no_core() {
        let machine = Machine::new();
        let folder = machine
            .0
            .path()
            .join("sys/devices/system/cpu/cpu0/topology");
        fs::create_dir_all(&folder).unwrap();
        for list in ["1", "", "x", "0-99999999999"] {
            fs::write(folder.join("core_cpus_list"), list).unwrap();
            machine.show(&[0; 4], &[]);
            let mut looker = Looker::open(machine.0.path()).unwrap();
            looker.look();
            machine.show(&[100, 0, 0, 0], &[]);
            assert_eq!(looker.look().unwrap().threads, None, "{list}");
        }
    }

    #[test]
    fn a_busy_machine_is_asked_for_few_clocks() {
        let machine = Machine::new();
        let clocks: Vec<(u32, f64)> = (0..64).map(|cpu| (cpu, 2000.0)).collect();
        machine.show(&[0; 64], &clocks);
        let mut looker = Looker::open(machine.0.path()).unwrap();
        looker.look();
        for turn in 1..5 {
            let ticks: Vec<u64> = (0..64).map(|cpu| turn * (10 + (cpu * turn) % 3)).collect();
            machine.show(&ticks, &[]);
            let seen = looker.look().unwrap();
            assert_eq!(looker.clocks.len(), MOST_CPUS_ASKED);
            let known = seen.clock.map(|clock| clock.mhz);
            assert_eq!(known, (turn > 1).then_some(2000.0), "{turn}");
        }
    }

    #[test]
    fn hostile_texts_are_no_cpus() {
        for text in ["", "cpu\ncpu", "cpu 1\ncpux 1 2 3 4 5 6 7", "a\ncpu0 1 2"] {
            assert!(ticks_of(text).is_empty(), "{text}");
        }
        let machine = Machine::new();
        assert!(Looker::open(machine.0.path()).is_none());
        machine.show(&[], &[]);
        assert!(Looker::open(machine.0.path()).is_none());
    }
}
