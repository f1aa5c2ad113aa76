//! The GPUs of the machine: a thread that asks NVML while windows run, another that reads the kernel's
//! sensors of cards, each where there is something to ask, and what each window gets of it.
//!
//! NVML's calls take up to some milliseconds and may block, so a window never waits for one: its first
//! edge wakes the thread, and at its last edge what was read so far is carried on at the last power,
//! with a band for it. The thread asks every 100 ms, and less often where that would take more than a
//! twentieth of its time. It exists only where NVIDIA's driver is loaded or a card has sensors, from the first
//! window on that is sampled.
//!
//! A forked child has no such thread, and NVML's state is not its own: it begins anew.

mod account;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use account::{Gpu, Owner, Sum};
pub use account::{GpuSeen, GpusSeen};

use super::subject::Subject;
use crate::clock;
use crate::counter::At;
use crate::memory;
use crate::source::gpu::{Busy, Device, Shown, is_nested};
use crate::source::hwmon::{Cards, has_cards};
use crate::source::nvml::{Nvml, has_driver, no_driver};
use crate::source::procfs::PidStat;
use crate::source::{Method, Methods, Unavailable};
use crate::thread;

/// Between two looks at least, ns: counters change about that often.
const LOOK_NS: u64 = 100_000_000;

/// A look may take one part in so many of the time.
const LOOK_PART: u64 = 20;

/// Devices are looked for anew so often, ns, …
const DEVICES_NS: u64 = 5_000_000_000;
/// … and where one failed, ns.
const DEVICES_AGAIN_NS: u64 = 1_000_000_000;

/// A diagnosis waits so long for its first answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Where NVML could not be used it is tried again after this, ns.
const AGAIN_NS: u64 = 5_000_000_000;

/// A thread that reads cards ends where nobody meters for so long.
const LINGER: Duration = Duration::from_secs(2);

/// The driver's library was seen to need more than a small stack.
const STACK_BYTES: usize = 1 << 20;

/// Processes of which it is remembered who they are.
const MOST_KIN: usize = 4096;

/// Ancestors of a process that are looked at.
const MOST_ANCESTORS: usize = 64;

/// Why power that is shown as 0 is no value.
const NO_WATTS: &str = "it shows a power of 0 W, and a GPU that is on takes more";

/// What a diagnosis says where it may not.
const HERE_FEW: &str = "this process is in a PID namespace of its own; where none is named, share the \
                        host's (hostPID, --pid=host)";

/// Why a method that was left out gives nothing.
const NOT_ASKED: &str = "not asked for";

/// Whose use of GPUs a window counts.
#[derive(Debug, Clone)]
enum Whose {
    /// Processes and their descendants.
    Trees(Vec<i32>),
    /// Processes alone.
    Processes(Vec<i32>),
    /// Everything below this control group's directory.
    Group(PathBuf),
    /// It cannot be told, and why.
    Untold(&'static str),
}

impl Whose {
    fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Process { pid, children } => {
                Self::processes(vec![pid.unwrap_or_else(clock::getpid)], *children)
            }
            Subject::Processes { pids, children } => Self::processes(pids.clone(), *children),
            Subject::Thread(_) | Subject::Task(_) => {
                Self::Untold("the use of GPUs is told of processes, not of a thread or a coroutine")
            }
            Subject::Cgroup(groups) => match groups.alone() {
                Some(group) => Self::Group(group.path().to_owned()),
                None => Self::Untold("the use of GPUs is told of one cgroup, not of several"),
            },
        }
    }
}

impl Whose {
    fn processes(pids: Vec<i32>, children: bool) -> Self {
        match children {
            true => Self::Trees(pids),
            false => Self::Processes(pids),
        }
    }
}

/// Who a process that uses a GPU is.
#[derive(Debug, Default)]
struct Kin {
    /// When it began, ticks.
    began: u64,
    /// Itself and every ancestor it was seen to have: it is handed on when its parent ends.
    line: Vec<i32>,
    /// Its control groups, as /proc has them.
    groups: String,
}

#[derive(Debug)]
struct Window {
    id: u64,
    begin_ns: u64,
    whose: Whose,
    /// One per GPU.
    sums: Vec<Sum>,
}

struct Belonging<'w> {
    whose: &'w Whose,
    kin: &'w HashMap<i32, Kin>,
    nested: bool,
}

impl Owner for Belonging<'_> {
    fn owns(&self, pid: i32) -> bool {
        let kin = self.kin.get(&pid);
        match self.whose {
            Whose::Trees(roots) => roots
                .iter()
                .any(|root| pid == *root || kin.is_some_and(|kin| kin.line.contains(root))),
            Whose::Processes(pids) => pids.contains(&pid),
            Whose::Group(path) => kin.is_some_and(|kin| is_in_group(&kin.groups, path)),
            Whose::Untold(_) => false,
        }
    }

    fn sees_few(&self) -> bool {
        self.nested
    }
}

/// Whether a process with these lines of /proc/PID/cgroup is in the group with this directory, or below
/// it.
fn is_in_group(lines: &str, directory: &Path) -> bool {
    let mut parts = directory.components();
    // What comes after the mount: …/sys/fs/cgroup/.
    for part in parts.by_ref() {
        if part.as_os_str() == "cgroup" {
            break;
        }
    }
    let unified = parts.as_path().to_owned();
    // Of version 1 there is a mount per controller.
    parts.next();
    let by_controller = parts.as_path();
    lines.lines().any(|line| {
        let mut fields = line.splitn(3, ':');
        let number = fields.next();
        let Some(path) = fields.nth(1) else {
            return false;
        };
        let path = Path::new(path.trim_start_matches('/'));
        let group = if number == Some("0") {
            &unified
        } else {
            by_controller
        };
        !group.as_os_str().is_empty() && path.starts_with(group)
    })
}

#[derive(Debug, Default)]
struct Shared {
    /// The thread is there.
    runs: bool,
    /// NVML was asked at least once.
    asked: bool,
    /// Why NVML cannot be used, and since when, ns.
    failed: Option<(String, u64)>,
    gpus: Vec<Gpu>,
    windows: Vec<Window>,
    next_id: u64,
    /// A window has begun since the last look.
    hurry: bool,
}

/// Who tells of GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Teller {
    Nvml,
    /// The kernel, by hwmon below this root.
    Cards(PathBuf),
}

impl Teller {
    fn method(&self) -> Method {
        match self {
            Self::Nvml => Method::Nvml,
            Self::Cards(_) => Method::Hwmon,
        }
    }

    /// The one of a method below `root`, or why there is nothing to be asked. A window of a machine
    /// without GPUs copies no path for it.
    fn find(method: Method, root: &Path) -> Result<Self, String> {
        match method {
            Method::Nvml if has_driver(root) => Ok(Self::Nvml),
            Method::Nvml => Err(no_driver().reason),
            _ if has_cards(root) => Ok(Self::Cards(root.to_owned())),
            _ => Err("hwmon shows no GPU".into()),
        }
    }
}

/// The same, opened by the thread that asks.
enum Asked {
    Nvml(Nvml),
    Cards(Box<Cards>),
}

impl Asked {
    fn open(teller: &Teller) -> Result<Self, Unavailable> {
        match teller {
            Teller::Nvml => Nvml::open().map(Self::Nvml),
            Teller::Cards(root) => Ok(Self::Cards(Box::new(Cards::below(root)))),
        }
    }

    fn devices(&mut self) -> Result<Vec<Device>, String> {
        match self {
            Self::Nvml(nvml) => nvml.devices(),
            Self::Cards(cards) => Ok(cards.devices()),
        }
    }

    /// Finds out who used the devices, where that is found apart from them, and returns how long it
    /// took, ns.
    fn find_users(&mut self) -> u64 {
        let Self::Cards(cards) = self else { return 0 };
        let from_ns = clock::monotonic_ns();
        cards.find_users();
        clock::monotonic_ns().saturating_sub(from_ns)
    }

    fn look(&mut self, place: usize) -> Result<Shown, String> {
        let shown = match self {
            Self::Nvml(nvml) => nvml.look(place)?,
            Self::Cards(cards) => cards.look(place)?,
        };
        match shown.watts {
            Some(watts) if watts <= 0.0 => Err(NO_WATTS.into()),
            _ => Ok(shown),
        }
    }
}

/// What a process knows of its machine's GPUs by one that tells of them.
#[derive(Debug)]
struct Watch {
    pid: i32,
    teller: Teller,
    shared: Mutex<Shared>,
    wake: Condvar,
    /// The thread's id, 0 before it runs.
    tid: AtomicI32,
    /// CPU time of the thread when it was last looked at, ns.
    cpu_ns: AtomicU64,
    /// CPU time of those of its threads that have ended, ns.
    ended_cpu_ns: AtomicU64,
}

/// Those of a process.
#[derive(Debug)]
struct Watches {
    pid: i32,
    list: Mutex<Vec<&'static Watch>>,
}

static WATCHES: AtomicPtr<Watches> = AtomicPtr::new(std::ptr::null_mut());

/// This process's, if there are any.
fn existing() -> Option<&'static Watches> {
    // SAFETY: the pointer is null or came from Box::into_raw below and is never freed.
    let watches: Option<&'static Watches> = unsafe { WATCHES.load(Ordering::Acquire).as_ref() };
    // Those from before a fork may be locked for ever.
    watches.filter(|watches| watches.pid == clock::getpid())
}

fn watches() -> &'static Watches {
    loop {
        if let Some(watches) = existing() {
            return watches;
        }
        let before = WATCHES.load(Ordering::Acquire);
        let fresh = Box::into_raw(Box::new(Watches {
            pid: clock::getpid(),
            list: Mutex::default(),
        }));
        if WATCHES
            .compare_exchange(before, fresh, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // SAFETY: `fresh` was made above and never shared, as the exchange failed.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

fn watch(teller: Teller) -> &'static Watch {
    let mut list = watches().list();
    if let Some(watch) = list.iter().find(|watch| watch.teller == teller) {
        return watch;
    }
    // Never freed, as a thread of it may be within a call for ever: there is one for each root.
    let watch: &'static Watch = Box::leak(Box::new(Watch {
        pid: clock::getpid(),
        teller,
        shared: Mutex::default(),
        wake: Condvar::new(),
        tid: AtomicI32::new(0),
        cpu_ns: AtomicU64::new(0),
        ended_cpu_ns: AtomicU64::new(0),
    }));
    list.push(watch);
    watch
}

impl Watches {
    fn list(&self) -> MutexGuard<'_, Vec<&'static Watch>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// CPU time of the threads that ask for GPUs, ns: in this process, and not the function's.
pub(super) fn thread_cpu_ns() -> u64 {
    let Some(watches) = existing() else { return 0 };
    watches
        .list()
        .iter()
        .map(|watch| watch.thread_cpu_ns())
        .sum()
}

/// A window that is followed by one that tells of GPUs; it is let go when this is dropped.
#[derive(Debug)]
struct Part {
    watch: &'static Watch,
    id: u64,
}

/// A window that is followed.
#[derive(Debug)]
pub(super) struct Following(Vec<Part>);

/// Follows the GPUs for a window that begins at `begin_ns`.
///
/// # Errors
/// Why there is nothing to follow.
pub(super) fn follow(
    root: &Path,
    methods: Methods,
    sampled: bool,
    subject: &Subject,
    begin_ns: u64,
) -> Result<Following, String> {
    let mut parts = Vec::new();
    let mut missing = None;
    for method in [Method::Nvml, Method::Hwmon] {
        let followed = match methods.has(method) {
            true => Teller::find(method, root)
                .and_then(|teller| follow_one(teller, sampled, subject, begin_ns)),
            false => Err(NOT_ASKED.to_owned()),
        };
        match followed {
            Ok(part) => parts.push(part),
            // Why NVML has none is told, unless nobody wanted to know.
            Err(why) => missing = missing.filter(|first| first != NOT_ASKED).or(Some(why)),
        }
    }
    match (parts.is_empty(), missing) {
        (true, Some(why)) => Err(why),
        _ => Ok(Following(parts)),
    }
}

fn follow_one(
    teller: Teller,
    sampled: bool,
    subject: &Subject,
    begin_ns: u64,
) -> Result<Part, String> {
    if !sampled {
        return Err(
            "GPUs are read by a thread beside the function, and interval=None has none".into(),
        );
    }
    let watch = watch(teller);
    let mut shared = watch.lock();
    if let Some((why, since_ns)) = &shared.failed {
        if begin_ns.saturating_sub(*since_ns) < AGAIN_NS {
            return Err(why.clone());
        }
        shared.failed = None;
    }
    if !shared.runs {
        shared.runs = memory::allows_thread()
            && thread::spawn_with(c"lithowatt-gpu", STACK_BYTES, Box::new(|| watch.run()))
                .is_some();
        if !shared.runs {
            return Err("the system did not let us have a thread to read GPUs with".into());
        }
    }
    shared.next_id += 1;
    let id = shared.next_id;
    let sums = shared
        .gpus
        .iter()
        .map(|gpu| Sum::after(gpu.resets()))
        .collect();
    shared.windows.push(Window {
        id,
        begin_ns,
        whose: Whose::of(subject),
        sums,
    });
    shared.hurry = true;
    watch.wake.notify_one();
    Ok(Part { watch, id })
}

/// The names of the GPUs, and what NVML tells of a function's part of each, for a diagnosis: it waits until
/// NVML has answered, some seconds at most.
///
/// # Errors
/// Why there are none.
pub(super) fn names(root: &Path) -> Result<Vec<(String, String)>, Unavailable> {
    if !has_driver(root) {
        return Err(no_driver());
    }
    let ourselves = Subject::Process {
        pid: None,
        children: false,
    };
    let now = clock::monotonic_ns();
    let followed = follow_one(Teller::Nvml, true, &ourselves, now);
    let following = followed.map_err(Unavailable::absent)?;
    let mut shared = following.watch.lock();
    let until = Instant::now() + ANSWER;
    while !(shared.asked
        && shared
            .gpus
            .iter()
            .all(|gpu| !gpu.present || gpu.was_asked()))
        && shared.failed.is_none()
        && Instant::now() < until
    {
        drop(shared);
        std::thread::sleep(Duration::from_millis(10));
        shared = following.watch.lock();
    }
    match &shared.failed {
        Some((why, _)) => return Err(Unavailable::absent(why.clone())),
        None if !shared.asked => return Err(Unavailable::passing("NVML did not answer in time")),
        None => {}
    }
    let nested = is_nested(Path::new("/proc")).unwrap_or(true);
    let part = |gpu: &Gpu| match &gpu.untold {
        Some(why) => why.clone(),
        None if nested => {
            format!("a function's part is told where NVML names its processes: {HERE_FEW}")
        }
        None => "a function's part is told by how busy NVML says that processes keep it".into(),
    };
    let there = shared.gpus.iter().filter(|gpu| gpu.present);
    let names: Vec<_> = there.map(|gpu| (gpu.name(), part(gpu))).collect();
    drop(shared);
    match names.is_empty() {
        true => Err(Unavailable::absent("NVML shows no GPU")),
        false => Ok(names),
    }
}

impl Following {
    /// What the GPUs did up to `end_ns`. It waits for no device.
    ///
    /// # Errors
    /// Why nothing is known.
    pub(super) fn read(&self, end_ns: u64) -> Result<GpusSeen, String> {
        let mut seen = GpusSeen::default();
        for part in &self.0 {
            seen.gpus.extend(part.read(end_ns)?.gpus);
        }
        Ok(seen)
    }
}

impl Part {
    fn read(&self, end_ns: u64) -> Result<GpusSeen, String> {
        if self.watch.pid != clock::getpid() {
            return Err("the window began before this process was forked".into());
        }
        let shared = self.watch.lock();
        if let Some((why, _)) = &shared.failed {
            return Err(why.clone());
        }
        let window = shared.windows.iter().find(|window| window.id == self.id);
        let Some(window) = window.filter(|_| shared.asked) else {
            return Err(format!(
                "{} had not answered when the window ended",
                self.watch.words()
            ));
        };
        let mut gpus: Vec<GpuSeen> = std::iter::zip(&shared.gpus, &window.sums)
            // A device that went before the window began is none of it.
            .filter(|(gpu, sum)| gpu.present || sum.is_seen())
            .map(|(gpu, sum)| sum.close(window.begin_ns, end_ns, gpu))
            .collect();
        if gpus.is_empty() {
            return Err(format!("{} shows no GPU", self.watch.words()));
        }
        if let Whose::Untold(why) = window.whose {
            for gpu in &mut gpus {
                gpu.attributed = Err(why.into());
            }
        }
        Ok(GpusSeen { gpus })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a fork the lock may be held by a thread that does not exist here.
        if self.watch.pid == clock::getpid() {
            self.watch
                .lock()
                .windows
                .retain(|window| window.id != self.id);
        }
    }
}

/// What one device was asked, when, and what it said.
struct Look {
    place: usize,
    at: At,
    shown: Result<Shown, String>,
}

impl Watch {
    fn words(&self) -> &'static str {
        self.teller.method().title()
    }

    /// CPU time of its thread, ns.
    fn thread_cpu_ns(&self) -> u64 {
        let tid = self.tid.load(Ordering::Acquire);
        if tid != 0
            && let Some(now) = clock::thread_cpu_ns(tid)
        {
            let ended = self.ended_cpu_ns.load(Ordering::Acquire);
            self.cpu_ns
                .store(ended.saturating_add(now), Ordering::Release);
        }
        self.cpu_ns.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        self.tid.store(clock::gettid(), Ordering::Release);
        // A panic here must not leave windows waiting.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.ask()));
        let why = match ended {
            // Nobody meters: it is begun anew where somebody does.
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => super::BROKEN.into(),
        };
        let mut shared = self.lock();
        self.ends(&mut shared);
        shared.failed = Some((why, clock::monotonic_ns()));
    }

    /// The thread is about to end: another may begin once the lock is free.
    fn ends(&self, shared: &mut Shared) {
        let spent_ns = self.thread_cpu_ns();
        self.tid.store(0, Ordering::Release);
        self.ended_cpu_ns.store(spent_ns, Ordering::Release);
        shared.runs = false;
    }

    /// Asks as long as windows run, and waits for the next one then.
    fn ask(&self) -> Result<(), String> {
        let nested = is_nested(Path::new("/proc")).unwrap_or(true);
        let mut asked = Asked::open(&self.teller).map_err(|why| why.reason)?;
        let mut kin = HashMap::new();
        let mut places: Vec<usize> = Vec::new();
        let mut due_ns = 0;
        loop {
            let from_ns = clock::monotonic_ns();
            if from_ns >= due_ns {
                places = self.enumerate(&mut asked)?;
                due_ns = from_ns + DEVICES_NS;
            }
            // That has a limit of its own.
            let users_ns = asked.find_users();
            let asleep_ns = clock::asleep_ns();
            let mut looks = Vec::with_capacity(places.len());
            for (device, place) in places.iter().enumerate() {
                let began_ns = clock::monotonic_ns();
                let shown = asked.look(device);
                if shown.is_err() {
                    due_ns = due_ns.min(from_ns + DEVICES_AGAIN_NS);
                }
                looks.push(Look {
                    place: *place,
                    at: At::between(began_ns, clock::monotonic_ns(), asleep_ns),
                    shown,
                });
            }
            find_kin(&looks, &mut kin);
            let took_ns = clock::monotonic_ns().saturating_sub(from_ns + users_ns);
            let pause_ns = LOOK_NS.max(LOOK_PART * took_ns);
            let mut shared = self.lock();
            shared.take(&looks, &kin, nested);
            shared.hurry = false;
            if !self.wait(shared, Duration::from_nanos(pause_ns)) {
                return Ok(());
            }
        }
    }

    /// Waits for the next look: until it is due, or a window begins. False where the thread is to end:
    /// it costs little to begin anew where nothing has to be initialised.
    fn wait(&self, mut shared: MutexGuard<'_, Shared>, pause: Duration) -> bool {
        let stays = self.teller == Teller::Nvml;
        loop {
            if shared.hurry {
                return true;
            }
            let idle = shared.windows.is_empty();
            if idle && stays {
                shared = self
                    .wake
                    .wait(shared)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (held, waited) = self
                .wake
                .wait_timeout(shared, if idle { LINGER } else { pause })
                .unwrap_or_else(PoisonError::into_inner);
            shared = held;
            if waited.timed_out() && !shared.hurry {
                if shared.windows.is_empty() && !stays && idle {
                    self.ends(&mut shared);
                    return false;
                }
                return true;
            }
        }
    }

    /// Looks for devices; returns where each of NVML's is among `gpus`.
    fn enumerate(&self, asked: &mut Asked) -> Result<Vec<usize>, String> {
        let found = asked.devices();
        let mut shared = self.lock();
        let devices = match found {
            Ok(devices) => devices,
            // Once it has answered, it may again.
            Err(why) if shared.asked => {
                for gpu in &mut shared.gpus {
                    gpu.fault = Some(why.clone());
                }
                return Ok(Vec::new());
            }
            Err(why) => return Err(why),
        };
        let first = !std::mem::replace(&mut shared.asked, true);
        for gpu in &mut shared.gpus {
            gpu.present = devices.iter().any(|device| device.uuid == gpu.device.uuid);
        }
        let mut places = Vec::with_capacity(devices.len());
        for device in devices {
            let mut known = shared.gpus.iter();
            match known.position(|gpu| gpu.device.uuid == device.uuid) {
                Some(place) => {
                    shared.gpus[place].device = device;
                    places.push(place);
                }
                None => {
                    places.push(shared.gpus.len());
                    shared
                        .gpus
                        .push(Gpu::new(self.teller.method(), device, !first));
                }
            }
        }
        Ok(places)
    }
}

impl Shared {
    fn take(&mut self, looks: &[Look], kin: &HashMap<i32, Kin>, nested: bool) {
        let count = self.gpus.len();
        for window in &mut self.windows {
            window.sums.resize_with(count, Sum::default);
        }
        for look in looks {
            let gpu = &mut self.gpus[look.place];
            let shown = match &look.shown {
                Ok(shown) => shown,
                Err(why) => {
                    gpu.fault = Some(why.clone());
                    continue;
                }
            };
            let stretch = gpu.take(look.at, shown);
            for window in &mut self.windows {
                let owner = Belonging {
                    whose: &window.whose,
                    kin,
                    nested,
                };
                window.sums[look.place].take(
                    window.begin_ns,
                    look.at.t_ns,
                    stretch,
                    gpu,
                    shown,
                    &owner,
                );
            }
        }
    }
}

/// Finds out who the processes are that use GPUs.
fn find_kin(looks: &[Look], kin: &mut HashMap<i32, Kin>) {
    let shown = looks.iter().filter_map(|look| look.shown.as_ref().ok());
    let mut pids: Vec<i32> = Vec::new();
    for shown in shown {
        match &shown.busy {
            Busy::Processes(uses, _) => pids.extend(uses.iter().flat_map(|one| &one.pids)),
            Busy::Open(open, _) => pids.extend(open),
            Busy::Nobody | Busy::NoNews | Busy::Later | Busy::Unknown(_) => {}
        }
        // Of those it is enough to be known once: there may be hundreds.
        let unreadable = shown.unreadable.iter().copied();
        pids.extend(unreadable.filter(|pid| !kin.contains_key(pid)));
    }
    pids.sort_unstable();
    pids.dedup();
    if kin.len() > MOST_KIN {
        kin.retain(|pid, _| pids.contains(pid));
    }
    for pid in pids {
        let mut line = vec![pid];
        let mut began = 0;
        while let Some(last) = line.last().copied().filter(|last| *last > 1)
            && line.len() < MOST_ANCESTORS
            && let Some(stat) = PidStat::read(last)
        {
            if last == pid {
                began = stat.start_ticks;
            }
            line.push(stat.ppid);
        }
        if began == 0 {
            // It has ended: what was known of it holds for what it did before.
            continue;
        }
        let known = kin.entry(pid).or_default();
        if known.began != began {
            *known = Kin {
                began,
                ..Kin::default()
            };
        }
        line.retain(|pid| !known.line.contains(pid));
        known.line.extend(line);
        if let Ok(groups) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) {
            known.groups = groups;
        }
    }
}
