//! Kernel probes: on-CPU time, cycles and frequency of exactly a function's process tree or cgroup,
//! as the scheduler ran it.
//!
//! The probe lives in `ebpf-probes/`. It is loaded once on a machine and pinned; every meter after
//! that opens the pins read-only and maps them, so an edge of a window costs no system call. What
//! runs at that moment is in the maps, too, so nothing has to be flushed.

use std::fs;
use std::io;
#[cfg(test)]
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::source::Unavailable;

mod btf;
pub mod layout;
mod load;
mod object;
mod sys;

pub use load::{DIGEST, Sizes, directory, load, unload};

use layout::{
    ABI, ANSWER_DEEP, ANSWER_FULL, ANSWER_OK, ANSWER_REFUSED, ANSWERS, Answer, CgroupPlace,
    Control, CpuPower, CpuState, FLAG_CYCLES, FLAG_FREQUENCY, FLAG_IDLE, FLAG_SIBLINGS,
    FLAG_THERMAL, Identity, MAGIC, MAX_CPUS, NONE, Process, Slot, Usage,
};
use sys::{Access, Held, Layout, Mapped};

/// Readings of a CPU that is writing are tried this often. A write takes 100 ns.
const TRIES: u32 = 1000;

/// Frequency stands for energy where it was known for this part of the time.
const SCALED_ENOUGH: f64 = 0.98;

/// A tree lies in at most so many others: `DEPTH` of the probe.
const DEPTH: u32 = 4;

/// Ancestors that are looked at to find a process's tree: `ANCESTORS` of the probe.
const ANCESTORS: u32 = 8;

/// What something used, up to the moment of reading.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Used {
    /// On-CPU time, ns.
    pub ns: u64,
    /// Part of it in which the sibling thread of the core was busy, ns; 0 without siblings.
    pub shared_ns: u64,
    /// Cycles; `None` where no PMU counts them.
    pub cycles: Option<u64>,
    /// Instructions.
    pub instructions: Option<u64>,
    /// Cycles that frequency × time comes to, of the time at a known frequency.
    pub scaled: f64,
    /// That time, ns.
    pub scaled_ns: u64,
}

/// What the CPUs of the machine did, up to the moment of reading.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// All that ran.
    pub busy: Used,
    /// Frequency changes seen.
    pub frequency_changes: u64,
    /// Times a CPU went into an idle state.
    pub idle_transitions: u64,
    /// Time in idle states, all CPUs, ns.
    pub idle_ns: u64,
    /// Thermal events seen.
    pub thermal_events: u64,
    /// Slices that began unseen, so that nobody was charged for them.
    pub lost: u64,
    /// Busy time of processes that the probe had no room for, ns.
    pub untracked_ns: u64,
}

impl Used {
    /// What was used since `then`.
    pub fn since(&self, then: &Self) -> Self {
        let minus = |a: u64, b: u64| a.saturating_sub(b);
        let both = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| minus(a, b));
        Self {
            ns: minus(self.ns, then.ns),
            shared_ns: minus(self.shared_ns, then.shared_ns),
            cycles: both(self.cycles, then.cycles),
            instructions: both(self.instructions, then.instructions),
            scaled: (self.scaled - then.scaled).max(0.0),
            scaled_ns: minus(self.scaled_ns, then.scaled_ns),
        }
    }

    /// Cycles that frequency × time comes to; `None` where the frequency was unknown for a part of
    /// the time that matters.
    pub fn frequency_cycles(&self) -> Option<f64> {
        let (known, all) = (self.scaled_ns as f64, self.ns as f64);
        (known > 0.0 && known >= SCALED_ENOUGH * all).then(|| self.scaled * all / known)
    }
}

impl Machine {
    /// What happened since `then`.
    pub fn since(&self, then: &Self) -> Self {
        Self {
            busy: self.busy.since(&then.busy),
            frequency_changes: self
                .frequency_changes
                .saturating_sub(then.frequency_changes),
            idle_transitions: self.idle_transitions.saturating_sub(then.idle_transitions),
            idle_ns: self.idle_ns.saturating_sub(then.idle_ns),
            thermal_events: self.thermal_events.saturating_sub(then.thermal_events),
            lost: self.lost.saturating_sub(then.lost),
            untracked_ns: self.untracked_ns.saturating_sub(then.untracked_ns),
        }
    }
}

/// A sum in the making.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    usage: Usage,
    /// Of slices that still run, ns.
    open_ns: u64,
    /// What slices that began before a tree was made had run by then, ns: it is in nothing else here.
    early_ns: u64,
}

impl Sum {
    fn add(&mut self, cell: &Usage) {
        self.usage.ns += cell.ns;
        self.usage.shared_ns += cell.shared_ns;
        self.usage.cycles += cell.cycles;
        self.usage.instructions += cell.instructions;
        self.usage.scaled += cell.scaled;
        self.usage.scaled_ns += cell.scaled_ns;
    }

    /// With the slices that still run, which go on as all before them on average.
    fn used(&self, flags: u32) -> Used {
        let u = &self.usage;
        let extended = |part: u64| {
            let ratio = if u.ns > 0 {
                part as f64 / u.ns as f64
            } else {
                0.0
            };
            part + (self.open_ns as f64 * ratio) as u64
        };
        let counted = flags & FLAG_CYCLES != 0;
        Used {
            ns: u.ns + self.open_ns,
            shared_ns: extended(u.shared_ns),
            cycles: counted.then(|| extended(u.cycles)),
            instructions: counted.then(|| extended(u.instructions)),
            // kHz x ns / 1024 to cycles.
            scaled: extended(u.scaled) as f64 * 1024.0 * 1e-6,
            scaled_ns: extended(u.scaled_ns),
        }
    }
}

/// A process tree that is followed.
#[derive(Debug)]
pub struct Followed {
    /// By which probe.
    loaded_at: u64,
    slot: u32,
    generation: u32,
    root: u32,
    cells: Mapped<Usage>,
    /// The root's own entry, where it was found.
    entry: Option<Mapped<Process>>,
    last: Mutex<Last>,
}

/// What was read of a tree last.
#[derive(Debug, Default)]
struct Last {
    /// Time does not run backwards from it.
    used: Used,
    /// What the probe had counted when it was first read, and that with slices as wholes, ns.
    base: Option<(Used, i64)>,
    /// CPU clock of the root minus what the probe saw of it, ns, when first and when last compared.
    ahead: Option<(i64, i64)>,
}

/// A cgroup whose use is read.
#[derive(Debug)]
pub struct Grouped {
    /// By which probe.
    loaded_at: u64,
    id: u64,
    row: Mutex<Option<(CgroupPlace, Mapped<Usage>)>>,
    /// Where it is, to see that no cgroup is made inside it.
    directory: Option<PathBuf>,
    divided: AtomicBool,
}

/// An open probe.
#[derive(Debug)]
pub struct Probes {
    identity: Identity,
    control: Mapped<Control>,
    states: Mapped<CpuState>,
    powers: Mapped<CpuPower>,
    slots: Mapped<Slot>,
    answers: Mapped<Answer>,
    slot_usage: Held,
    cgroup_usage: Held,
    processes: Held,
    process_index: Held,
    cgroups: Held,
    /// This process's clock less the kernel's, ns.
    offset_ns: AtomicI64,
    /// Directory of the pins and its inode: another one is another probe.
    pins: Option<(PathBuf, u64)>,
    /// Where the probe goes when this process ends.
    _own: Option<load::Loaded>,
}

/// What to do where no probe is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Do without.
    Leave,
    /// Load one and pin it, or keep it for this process where it cannot be pinned.
    Load,
}

impl Probes {
    /// Opens the probe that is pinned below `root`.
    ///
    /// # Errors
    /// Why there is none, and the command that loads it.
    pub fn open(root: &Path, absent: Absent) -> Result<Self, Unavailable> {
        let directory = directory(root);
        match Self::open_pinned(&directory) {
            Ok(probes) => return Ok(probes),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Unavailable::denied(
                    format!("{} may not be opened by this user", directory.display()),
                    format!("sudo chmod o+x {}", root.join("sys/fs/bpf").display()),
                ));
            }
            // Pins of another layout under our name: not to be read, and not to be replaced.
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(Unavailable::absent(format!(
                    "{} holds something else: {e}",
                    directory.display()
                ))
                .with_fix(as_root!("doctor --unload")));
            }
            Err(_) => {}
        }
        if absent == Absent::Load {
            if load::require_bpffs(root).is_err() {
                // Without pins it serves this process alone.
                return Self::of(load(root, Sizes::default())?);
            }
            let directory = load(root, Sizes::default())?.pin(root)?;
            return Self::open_pinned(&directory).map_err(|e| {
                Unavailable::absent(format!("the probe was pinned and cannot be opened: {e}"))
            });
        }
        let missing = match load::require_bpffs(root) {
            Err(why) => why,
            Ok(_) => Unavailable::absent("kernel probes are not loaded on this machine")
                .with_fix(as_root!("doctor --load")),
        };
        Err(missing)
    }

    /// [`Probes::open`], once for a process and all that it forks: mappings are inherited, and
    /// opening takes a forked worker 80 µs.
    ///
    /// # Errors
    /// As [`Probes::open`].
    pub fn shared(root: &Path, absent: Absent) -> Result<Arc<Self>, Unavailable> {
        static OPENED: Mutex<Vec<(PathBuf, Arc<Probes>)>> = Mutex::new(Vec::new());
        // A fork may have caught it locked: then there is nothing to share.
        let mut opened = OPENED.try_lock().ok();
        if let Some(all) = &mut opened {
            all.retain(|(_, probes)| probes.is_alive());
            if let Some((_, probes)) = all.iter().find(|(of, _)| of == root) {
                // A process that was forked may have been put into a time namespace.
                let offset = clock::kernel_offset_ns();
                probes.offset_ns.store(offset, Ordering::Relaxed);
                return Ok(Arc::clone(probes));
            }
        }
        let probes = Arc::new(Self::open(root, absent)?);
        if let Some(all) = &mut opened {
            all.push((root.to_owned(), Arc::clone(&probes)));
        }
        Ok(probes)
    }

    /// Opens a probe that this process has loaded and keeps.
    ///
    /// # Errors
    /// Maps that cannot be mapped.
    pub fn of(loaded: load::Loaded) -> Result<Self, Unavailable> {
        let open = |name: &str| loaded.map(name).map_err(|why| io::Error::other(why.reason));
        let mut probes = Self::from_maps(&open)
            .map_err(|e| Unavailable::absent(format!("the probe cannot be read: {e}")))?;
        probes._own = Some(loaded);
        Ok(probes)
    }

    fn open_pinned(directory: &Path) -> io::Result<Self> {
        let inode = fs::metadata(directory)?.ino();
        load::require_trusted(directory)?;
        directory.parent().map_or(Ok(()), load::require_trusted)?;
        let mut probes = Self::from_maps(&|name| {
            let access = match name {
                "process_index" | "cgroups" => Access::Lookup,
                _ => Access::Map,
            };
            let path = directory.join(name);
            load::require_trusted_pin(&path)?;
            sys::open_pinned(&path, access)
        })?;
        probes.pins = Some((directory.to_owned(), inode));
        Ok(probes)
    }

    /// Whether the probe still counts: it may have been unloaded, and its maps go on saying what
    /// they showed last.
    pub fn is_alive(&self) -> bool {
        match &self.pins {
            Some((directory, inode)) => {
                fs::metadata(directory).is_ok_and(|found| found.ino() == *inode)
            }
            None => true,
        }
    }

    /// Now on the kernel's clock, on which the probe's times are, ns.
    fn now_ns(&self) -> u64 {
        clock::kernel_ns(self.offset_ns.load(Ordering::Relaxed))
    }

    fn from_maps(open: &dyn Fn(&str) -> io::Result<OwnedFd>) -> io::Result<Self> {
        let map = |name: &str, layout: Layout| Held::map(open(name)?, layout);
        let named = map("identity", Layout::array::<Identity>(1))?;
        let identity: Mapped<Identity> = Mapped::new(named.get()?, 0, 1)?;
        let identity = identity.get(0);
        let ours = identity.magic == MAGIC
            && identity.abi == ABI
            && identity.object == *DIGEST
            && (1..=MAX_CPUS).contains(&identity.cpus);
        if !ours {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is of another version",
            ));
        }
        let cpus = identity.cpus;
        let cells = |rows: u32| {
            rows.checked_mul(cpus)
                .map(Layout::array::<Usage>)
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        Ok(Self {
            control: mapped(&map, "control", 1)?,
            states: mapped(&map, "cpu_states", cpus)?,
            powers: mapped(&map, "cpu_powers", cpus)?,
            slots: mapped(&map, "slots", identity.slots)?,
            answers: mapped(&map, "answers", ANSWERS)?,
            slot_usage: map("slot_usage", cells(identity.slots)?)?,
            cgroup_usage: map("cgroup_usage", cells(identity.cgroups)?)?,
            processes: map("processes", Layout::array::<Process>(identity.processes))?,
            process_index: map(
                "process_index",
                Layout::hash::<u32, u32>(identity.processes),
            )?,
            cgroups: map(
                "cgroups",
                Layout::hash::<u64, CgroupPlace>(identity.cgroups),
            )?,
            offset_ns: AtomicI64::new(clock::kernel_offset_ns()),
            identity,
            pins: None,
            _own: None,
        })
    }

    /// What it sees, in words.
    pub fn gives(&self) -> Vec<String> {
        let flags = self.identity.flags;
        [
            (true, "on-CPU time"),
            (flags & FLAG_CYCLES != 0, "cycles and instructions"),
            (flags & FLAG_FREQUENCY != 0, "frequency changes"),
            (flags & FLAG_IDLE != 0, "idle states"),
            (flags & FLAG_THERMAL != 0, "thermal events"),
        ]
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, name)| name.to_owned())
        .collect()
    }

    /// Whether it sees what `flag` stands for.
    pub fn sees(&self, flag: u32) -> bool {
        self.identity.flags & flag != 0
    }

    /// Whether cores have two hardware threads.
    pub fn has_siblings(&self) -> bool {
        self.sees(FLAG_SIBLINGS)
    }

    /// What was loaded.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The probe's own counts.
    pub fn control(&self) -> Control {
        self.control.get(0)
    }

    /// A CPU's state together with what `also` reads, both of the same moment.
    fn at_rest<T>(&self, cpu: usize, also: impl Fn() -> T) -> (CpuState, T) {
        let seq = self.states.word(cpu);
        for _ in 0..TRIES {
            let before = seq.load(Ordering::Acquire);
            if before & 1 == 0 {
                let state = self.states.get(cpu);
                let other = also();
                fence(Ordering::Acquire);
                if seq.load(Ordering::Relaxed) == before {
                    return (state, other);
                }
            }
            std::hint::spin_loop();
        }
        // A CPU that was halted by its hypervisor in the middle of a write: off by one slice.
        (self.states.get(cpu), also())
    }

    /// The tree that a slot lies in `depth` levels further out contains `wanted`.
    fn lies_in(&self, slot: u32, wanted: u32) -> bool {
        let mut at = slot;
        for _ in 0..=DEPTH {
            if at == wanted {
                return true;
            }
            if at == NONE || at >= self.identity.slots {
                return false;
            }
            at = self.slots.get(at as usize).parent;
        }
        false
    }

    /// A process by its tgid.
    fn process(&self, tgid: u32) -> Option<Process> {
        let index = sys::lookup::<u32, u32>(&self.process_index, &tgid).ok()??;
        let process = sys::lookup::<u32, Process>(&self.processes, &index).ok()??;
        (process.tgid == tgid).then_some(process)
    }

    /// Whether the process that runs on a CPU belongs to the tree, though the probe has not yet
    /// looked since a tree came.
    fn descends(&self, tgid: u32, wanted: u32) -> bool {
        let mut at = tgid;
        let mut made = u32::MAX;
        for _ in 0..ANCESTORS {
            let Some(process) = self.process(at) else {
                return false;
            };
            // The creator has gone, and its number is another's, which came later.
            if process.born & 1 != 0 && process.born >> 1 > made {
                return false;
            }
            made = process.born >> 1;
            if process.root != NONE && self.lies_in(process.root, wanted) {
                return true;
            }
            at = process.parent;
        }
        false
    }

    /// Has the kernel follow a process and all that it starts from now on, and what it has started
    /// before. `None` is this process. The same process may be followed any number of times.
    ///
    /// # Errors
    /// There is no room, or no such process.
    pub fn follow(&self, pid: Option<u32>) -> Result<Followed, Unavailable> {
        if pid.is_some() && !in_first_pid_namespace() {
            return Err(Unavailable::absent(
                "kernel probes: in a container processes have other numbers than the kernel's own",
            ));
        }
        let answer = self.ask(pid)?;
        let refuse = |why: &str| Unavailable::absent(format!("kernel probes: {why}"));
        match answer.status {
            ANSWER_OK => {}
            ANSWER_FULL => {
                return Err(refuse(&format!(
                    "all {} places for metered process trees, or all {} for processes, are taken",
                    self.identity.slots, self.identity.processes
                )));
            }
            ANSWER_DEEP => {
                return Err(refuse(&format!(
                    "more than {DEPTH} metered process trees inside each other"
                )));
            }
            ANSWER_REFUSED => {
                return Err(refuse(
                    "who is not root may have only itself and its descendants followed",
                ));
            }
            _ => return Err(refuse("the process was not seen")),
        }
        if answer.slot >= self.identity.slots {
            return Err(refuse("it answered with a place that is none"));
        }
        let first = answer.slot * self.identity.cpus;
        let cells = self
            .slot_usage
            .get()
            .and_then(|map| Mapped::new(map, first, self.identity.cpus))
            .map_err(|e| refuse(&e.to_string()))?;
        let followed = Followed {
            loaded_at: self.identity.loaded_at,
            slot: answer.slot,
            generation: answer.generation,
            root: answer.tgid,
            cells,
            entry: self.entry_of(answer.tgid),
            last: Mutex::default(),
        };
        // What was counted before is of others who follow it, or of a tree that had its place.
        self.used(&followed, || match pid {
            None => Some(clock::own_process_cpu_ns()),
            Some(pid) => clock::process_cpu_ns(i32::try_from(pid).ok()?),
        });
        Ok(followed)
    }

    fn entry_of(&self, tgid: u32) -> Option<Mapped<Process>> {
        let index = sys::lookup::<u32, u32>(&self.process_index, &tgid).ok()??;
        if index >= self.identity.processes {
            return None;
        }
        Mapped::new(self.processes.get().ok()?, index, 1).ok()
    }

    fn ask(&self, pid: Option<u32>) -> Result<Answer, Unavailable> {
        // Another request may fall on the same cell of the table of answers.
        for _ in 0..4 {
            let nonce = speak(pid).map_err(|e| {
                Unavailable::absent(format!("kernel probes: the request was refused: {e}"))
            })?;
            let answer = self.answers.get((nonce % u64::from(ANSWERS)) as usize);
            if answer.nonce == nonce {
                return Ok(answer);
            }
        }
        Err(Unavailable::absent(
            "kernel probes did not answer: they were unloaded",
        ))
    }

    /// What a tree used since [`Probes::follow`], those that have died included; `None` where some of it
    /// could not be followed. `clock` reads the CPU clock of the tree's root, ns, where there is one.
    ///
    /// The clock is exact at any moment. The probe knows of a slice that still runs when it began,
    /// if the switch to it was traced, and not what the hypervisor took from it.
    pub fn used(&self, tree: &Followed, clock: impl Fn() -> Option<u64>) -> Option<Used> {
        if tree.loaded_at != self.identity.loaded_at {
            return None;
        }
        let slot = self.slots.get(tree.slot as usize);
        let mut last = tree.last.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.generation != tree.generation {
            // It ended, and its place is another's: what it used since the last look is gone.
            return None;
        }
        if slot.lost > 0 {
            return None;
        }
        let epoch = self.control().epoch;
        let entry = || tree.entry.as_ref().map(|entry| entry.get(0));
        let charged = |root: Option<Process>| root.map(|root| root.ns);
        // A slice of the root that ends meanwhile must not be in both its sum and what runs.
        let mut tries = TRIES;
        let (sum, root, root_open_ns) = loop {
            let before = charged(entry());
            let (sum, root_open_ns) = self.sum_of(tree, &slot, epoch);
            let root = entry();
            tries -= 1;
            if charged(root) == before || tries == 0 {
                break (sum, root, root_open_ns);
            }
        };
        let so_far = sum.used(self.identity.flags);
        // A slice that began before the tree was made is compared as a whole: of one that is cut where the
        // tree begins, nobody knows from which part the hypervisor took what it did.
        let whole_ns = so_far.ns.saturating_add(sum.early_ns) as i64;
        let (base, base_ns) = *last.base.get_or_insert((so_far, whole_ns));
        let mut used = so_far.since(&base);
        if let Some(root) = root.filter(|root| root.tgid == tree.root)
            && let Some(clock) = clock()
        {
            let ahead = clock as i64 - (root.ns + root_open_ns) as i64;
            let (first, _) = last.ahead.unwrap_or((ahead, ahead));
            last.ahead = Some((first, ahead));
        }
        let by_probe = used.ns;
        let ahead = last.ahead.map_or(0, |(first, now)| now - first);
        let since_ns = whole_ns.saturating_sub(base_ns).saturating_add(ahead);
        used.ns = u64::try_from(since_ns).unwrap_or(0);
        // A slice in the making may turn out shorter than the clock showed: time was stolen.
        used.ns = used.ns.max(last.used.ns);
        if by_probe > 0 {
            let scale = used.ns as f64 / by_probe as f64;
            let scaled = |part: u64| (part as f64 * scale) as u64;
            used.shared_ns = scaled(used.shared_ns);
            used.cycles = used.cycles.map(scaled);
            used.instructions = used.instructions.map(scaled);
            used.scaled *= scale;
            used.scaled_ns = scaled(used.scaled_ns);
        }
        last.used = used;
        Some(used)
    }

    /// The cells of a tree with what runs in it, and how long its root runs, ns.
    fn sum_of(&self, tree: &Followed, slot: &Slot, epoch: u32) -> (Sum, u64) {
        let now = self.now_ns();
        let (mut sum, mut root_open_ns) = (Sum::default(), 0);
        for cpu in 0..self.identity.cpus as usize {
            let (state, cell) = self.at_rest(cpu, || tree.cells.get(cpu));
            sum.add(&cell);
            if state.tgid == 0 {
                continue;
            }
            let is_root = state.tgid == tree.root;
            let inside = is_root
                || if state.epoch == epoch {
                    self.lies_in(state.slot, tree.slot)
                } else {
                    self.descends(state.tgid, tree.slot)
                };
            if inside {
                let whole = now.saturating_sub(state.since);
                let within = whole.min(now.saturating_sub(slot.created));
                sum.open_ns += within;
                sum.early_ns += whole - within;
            }
            if is_root {
                root_open_ns += now.saturating_sub(state.since);
            }
        }
        sum.early_ns += self.slots.get(tree.slot as usize).early_ns;
        (sum, root_open_ns)
    }

    /// Opens a cgroup (version 2) by its directory.
    ///
    /// # Errors
    /// It is none of version 2: the kernel shows the probe no other.
    pub fn cgroup(&self, directory: &Path) -> Result<Grouped, Unavailable> {
        let refuse = |why: String| {
            Unavailable::absent(format!("kernel probes: {}: {why}", directory.display()))
        };
        let kind = directory.join("cgroup.controllers");
        if !kind.exists() && !directory.join("cgroup.type").exists() {
            return Err(refuse("no cgroup of version 2".into()));
        }
        // A cgroup's use is that of the cgroups inside it, too, and the probe keeps each apart.
        let inner = fs::read_dir(directory)
            .map_err(|e| refuse(e.to_string()))?
            .flatten()
            .any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        if inner {
            return Err(refuse("there are cgroups inside it".into()));
        }
        let id = fs::metadata(directory)
            .map_err(|e| refuse(e.to_string()))?
            .ino();
        Ok(Grouped {
            loaded_at: self.identity.loaded_at,
            id,
            row: Mutex::new(None),
            directory: Some(directory.to_owned()),
            divided: AtomicBool::new(false),
        })
    }

    /// What the processes of a cgroup used since it was first seen.
    pub fn used_by_cgroup(&self, group: &Grouped) -> Option<Used> {
        if group.loaded_at != self.identity.loaded_at {
            return None;
        }
        // A directory's links are two and one from each inside it.
        if let Some(directory) = &group.directory
            && fs::metadata(directory).is_ok_and(|found| found.nlink() > 2)
        {
            group.divided.store(true, Ordering::Relaxed);
        }
        if group.divided.load(Ordering::Relaxed) {
            return None;
        }
        let place: Option<CgroupPlace> = sys::lookup(&self.cgroups, &group.id).ok()?;
        let mut row = group.row.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = place
            && row.as_ref().is_none_or(|(known, _)| *known != place)
        {
            let cpus = self.identity.cpus;
            if place.index >= self.identity.cgroups {
                return None;
            }
            let map = self.cgroup_usage.get().ok()?;
            let cells = Mapped::new(map, place.index * cpus, cpus).ok()?;
            *row = Some((place, cells));
        }
        let Some((place, cells)) = &*row else {
            // Nothing ran in it yet, or there was no room for it.
            return (self.control().cgroup_overflow == 0).then(Used::default);
        };
        let now = self.now_ns();
        let mut sum = Sum::default();
        for cpu in 0..self.identity.cpus as usize {
            let (state, cell) = self.at_rest(cpu, || cells.get(cpu));
            if cell.owner != u64::from(place.generation) {
                // It was removed, and its place is another's.
                return None;
            }
            sum.add(&cell);
            if state.tgid != 0 && state.cgroup == place.index {
                sum.open_ns += now.saturating_sub(state.since);
            }
        }
        Some(sum.used(self.identity.flags))
    }

    /// What the processes of a cgroup, by its id, used since it was first seen, the dead included
    /// and cgroups inside it not.
    pub fn used_by_cgroup_id(&self, id: u64) -> Option<Used> {
        self.used_by_cgroup(&Grouped {
            loaded_at: self.identity.loaded_at,
            id,
            row: Mutex::new(None),
            directory: None,
            divided: AtomicBool::new(false),
        })
    }

    /// What all CPUs did.
    pub fn machine(&self) -> Machine {
        let control = self.control();
        let now = self.now_ns();
        let mut machine = Machine {
            thermal_events: control.thermal_events,
            ..Machine::default()
        };
        let mut sum = Sum::default();
        for cpu in 0..self.identity.cpus as usize {
            let (state, power) = self.at_rest(cpu, || self.powers.get(cpu));
            sum.add(&Usage {
                ns: state.busy_ns,
                shared_ns: state.shared_ns,
                cycles: state.cycles,
                instructions: state.instructions,
                scaled: state.scaled,
                scaled_ns: state.scaled_ns,
                ..Usage::default()
            });
            if state.tgid != 0 {
                sum.open_ns += now.saturating_sub(state.since);
            }
            machine.lost += state.lost;
            machine.untracked_ns += state.untracked_ns;
            machine.frequency_changes += power.changes;
            machine.idle_transitions += power.idle_transitions;
            machine.idle_ns += power.idle_ns.iter().sum::<u64>();
            if power.idle_since != 0 {
                machine.idle_ns += now.saturating_sub(power.idle_since);
            }
        }
        machine.busy = sum.used(self.identity.flags);
        machine
    }

    /// Every process that was seen and lives, with what it used, slices that still run included.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn processes(&self) -> Result<Vec<(Process, Used)>, Unavailable> {
        let used = self.control().processes.min(self.identity.processes);
        let table: Mapped<Process> = self
            .processes
            .get()
            .and_then(|map| Mapped::new(map, 0, used.max(1)))
            .map_err(|e| Unavailable::absent(format!("kernel probes: {e}")))?;
        let now = self.now_ns();
        let mut open = Vec::new();
        for cpu in 0..self.identity.cpus as usize {
            let (state, ()) = self.at_rest(cpu, || ());
            if state.tgid != 0 {
                open.push((state.tgid, now.saturating_sub(state.since)));
            }
        }
        let with_used = |process: Process| {
            let running = open.iter().filter(|(tgid, _)| *tgid == process.tgid);
            let mut sum = Sum {
                open_ns: running.map(|(_, ns)| ns).sum(),
                ..Sum::default()
            };
            sum.add(&Usage {
                ns: process.ns,
                shared_ns: process.shared_ns,
                cycles: process.cycles,
                instructions: process.instructions,
                scaled: process.scaled,
                scaled_ns: process.scaled_ns,
                ..Usage::default()
            });
            (process, sum.used(self.identity.flags))
        };
        Ok((0..used as usize)
            .map(|i| table.get(i))
            .filter(|process| process.tgid != 0)
            .map(with_used)
            .collect())
    }
}

/// An array that is mapped as a whole. The mapping stays when the descriptor goes.
fn mapped<T: layout::Plain>(
    map: &dyn Fn(&str, Layout) -> io::Result<Held>,
    name: &str,
    entries: u32,
) -> io::Result<Mapped<T>> {
    Mapped::new(map(name, Layout::array::<T>(entries))?.get()?, 0, entries)
}

/// Whether process numbers here are the kernel's own (PROC_PID_INIT_INO of include/linux/proc_ns.h).
fn in_first_pid_namespace() -> bool {
    const FIRST: u64 = 0xeffffffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == FIRST)
}

/// Asks the probe to follow a process, in the one way that needs no right at all: see `on_rename`
/// in the probe. The name is the calling thread's for a microsecond.
fn speak(pid: Option<u32>) -> io::Result<u64> {
    const NAME: usize = 16;
    let mut random = [0u8; 7];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = [0u8; NAME];
    name[..3].copy_from_slice(b"\x01lw");
    let mut nonce = 0u64;
    for (to, byte) in name[3..10].iter_mut().zip(random) {
        // No byte may be zero: it would end the name.
        *to = byte | 0x80;
        nonce = nonce << 8 | u64::from(*to);
    }
    let mut pid = pid.unwrap_or(0);
    for to in name[10..15].iter_mut().rev() {
        *to = (pid & 0x7f) as u8 | 0x80;
        pid >>= 7;
    }
    let mut old = [0u8; NAME];
    // SAFETY: both buffers hold the 16 bytes that the kernel reads and writes.
    unsafe {
        if libc::prctl(libc::PR_GET_NAME, old.as_mut_ptr()) != 0
            || libc::prctl(libc::PR_SET_NAME, name.as_ptr()) != 0
        {
            return Err(io::Error::last_os_error());
        }
        libc::prctl(libc::PR_SET_NAME, old.as_ptr());
    }
    Ok(nonce)
}

#[cfg(test)]
mod tests;
