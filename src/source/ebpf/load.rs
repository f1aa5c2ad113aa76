//! Loading the probe into the kernel, pinning it there for everybody, and taking it out again.
//!
//! One process loads; all others open the pins read-only. A version of the probe has a directory of
//! its own, named by layout version and content, so two versions of this package do not meet. The
//! directory is filled under another name and then renamed: a loader that is killed half-way leaves
//! nothing that a reader takes for a probe, and the next loader removes it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use perf_event::Builder;
use perf_event::events::Hardware;

use super::btf;
use super::layout::{
    ABI, CGROUPS, FLAG_CYCLES, FLAG_FREQUENCY, FLAG_IDLE, FLAG_SIBLINGS, FLAG_THERMAL, Identity,
    MAGIC, MAX_CPUS, NONE, PROCESSES, SLOTS,
};
use super::object::{Failure, Prepared};
use super::sys::{self, Held};
use crate::clock;
use crate::source::procfs::parse_cpu_list;
use crate::source::{Unavailable, plain};

/// An ELF file is read in place, as words.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

/// The probe. `ebpf-probes/build.sh` makes it from the sources beside it.
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/ebpf-probes/lithowatt.bpf.o"
)));

#[cfg(test)]
pub(super) fn object_bytes() -> &'static [u8] {
    &OBJECT.0
}

/// SHA-256 of the probe, as the build wrote it beside it: hashing it would cost each process more
/// than opening the probe does.
pub static DIGEST: &[u8; 32] = &digest_of(include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/ebpf-probes/lithowatt.bpf.o.sha256"
)));

const fn digest_of(text: &[u8]) -> [u8; 32] {
    const fn digit(c: u8) -> u8 {
        match c {
            b'0'..=b'9' => c - b'0',
            b'a'..=b'f' => c - b'a' + 10,
            _ => panic!("no hexadecimal digit"),
        }
    }
    let mut out = [0; 32];
    let mut i = 0;
    while i < out.len() {
        out[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
        i += 1;
    }
    out
}

/// Where BPF objects are pinned, below a root.
const BPFFS: &str = "sys/fs/bpf";
/// Our directory in it.
const OURS: &str = "lithowatt";
/// f_type of a BPF file system (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// What readers need, frozen, and the mode it is pinned with: 0666 for what they map (see
/// [`sys::Access::Map`]). Everything else is held by the programs.
const READABLE: [(&str, u32); 11] = [
    ("identity", 0o666),
    ("control", 0o666),
    ("cpu_states", 0o666),
    ("cpu_powers", 0o666),
    ("slots", 0o666),
    ("slot_usage", 0o666),
    ("answers", 0o666),
    ("cgroup_usage", 0o666),
    ("processes", 0o666),
    ("process_index", 0o444),
    ("cgroups", 0o444),
];

/// A program, its tracepoints in the order of preference, and what it brings.
struct Program {
    name: &'static str,
    tracepoints: &'static [&'static str],
    /// Without it there is no probe.
    needed: bool,
    flag: u32,
}

const SWITCH: &str = "on_switch";

/// The switch comes last: what follows processes must be there before anything is charged.
static PROGRAMS: [Program; 8] = [
    Program {
        name: "on_fork",
        tracepoints: &["sched_process_fork"],
        needed: true,
        flag: 0,
    },
    Program {
        name: "on_exit",
        tracepoints: &["sched_process_exit"],
        needed: true,
        flag: 0,
    },
    Program {
        name: "on_rename",
        tracepoints: &["task_rename"],
        needed: true,
        flag: 0,
    },
    Program {
        name: "on_cgroup_rmdir",
        tracepoints: &["cgroup_rmdir"],
        needed: false,
        flag: 0,
    },
    Program {
        name: "on_frequency",
        tracepoints: &["cpu_frequency"],
        needed: false,
        flag: FLAG_FREQUENCY,
    },
    Program {
        name: "on_idle",
        tracepoints: &["cpu_idle"],
        needed: false,
        flag: FLAG_IDLE,
    },
    Program {
        name: "on_thermal",
        tracepoints: &["thermal_apic_entry", "thermal_zone_trip"],
        needed: false,
        flag: FLAG_THERMAL,
    },
    Program {
        name: SWITCH,
        tracepoints: &["sched_switch"],
        needed: true,
        flag: 0,
    },
];

/// Cells of each CPU's memory of who ran lately: `RECENT` of the probe.
const RECENT: u32 = 64;

/// The directory of this version's pins below `root`.
pub fn directory(root: &Path) -> PathBuf {
    let digest = &DIGEST[..6];
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    root.join(BPFFS).join(OURS).join(format!("v{ABI}-{hex}"))
}

/// Sizes of the tables.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Trees.
    pub slots: u32,
    /// Cgroups.
    pub cgroups: u32,
    /// Processes.
    pub processes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            slots: SLOTS,
            cgroups: CGROUPS,
            processes: PROCESSES,
        }
    }
}

/// A probe that this process has loaded. Without pins it goes when this does.
pub struct Loaded {
    maps: BTreeMap<String, Held>,
    links: Vec<(&'static str, Held)>,
    /// The links hold them; tests run them and look at their statistics.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests look at programs"))]
    pub(super) programs: Vec<(&'static str, Held)>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").finish_non_exhaustive()
    }
}

/// Members whose offsets the probe needs. The first two lie next to each other.
const TASK: btf::Wanted<'static> = (
    "task_struct",
    &[
        "pid",
        "tgid",
        "flags",
        "real_parent",
        "signal",
        "se",
        "__state",
        "state",
        "group_leader",
        "exit_state",
    ],
);

/// More than any kernel's type information, bytes.
const MOST_TYPES: u64 = 64 << 20;

/// f_type of sysfs (include/uapi/linux/magic.h).
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// The kernel's types: mapped where they are the kernel's own and it lets us (6.16 and later), else
/// read. What lies elsewhere below a root may be cut while it is looked at, which would end a
/// process that had mapped it.
fn type_information(path: &Path) -> io::Result<TypeInformation> {
    let (file, found) = plain::open(path)?;
    if !is_sysfs(&file) {
        return plain::read(path, MOST_TYPES).map(TypeInformation::Read);
    }
    let length = usize::try_from(found.len()).map_err(io::Error::other)?;
    // SAFETY: a fresh private mapping of a file of sysfs, which the kernel never changes nor cuts.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return plain::read(path, MOST_TYPES).map(TypeInformation::Read);
    }
    Ok(TypeInformation::Mapped(at, length))
}

fn is_sysfs(file: &fs::File) -> bool {
    // SAFETY: fstatfs fills the zeroed structure, for which all-zero is valid.
    unsafe {
        let mut stats: libc::statfs = std::mem::zeroed();
        libc::fstatfs(file.as_raw_fd(), &mut stats) == 0
            && stats.f_type as u64 & 0xffff_ffff == SYSFS_MAGIC
    }
}

enum TypeInformation {
    Mapped(*mut libc::c_void, usize),
    Read(Vec<u8>),
}

impl TypeInformation {
    fn bytes(&self) -> &[u8] {
        match self {
            // SAFETY: mapped with this length by `type_information`, until the value is dropped.
            Self::Mapped(at, length) => unsafe {
                std::slice::from_raw_parts(at.cast_const().cast(), *length)
            },
            Self::Read(bytes) => bytes,
        }
    }
}

impl Drop for TypeInformation {
    fn drop(&mut self) {
        if let Self::Mapped(at, length) = self {
            // SAFETY: nothing borrows from the mapping any more.
            unsafe { libc::munmap(*at, *length) };
        }
    }
}

/// Name and value of each offset that the probe wants to know.
fn offsets(root: &Path) -> Result<Vec<(&'static str, u32)>, Unavailable> {
    let path = root.join("sys/kernel/btf/vmlinux");
    let data = type_information(&path).map_err(|e| {
        Unavailable::absent(format!(
            "the kernel's type information {} cannot be read ({e})",
            path.display()
        ))
    })?;
    let wanted = [
        TASK,
        (
            "sched_entity",
            &["sum_exec_runtime", "prev_sum_exec_runtime"][..],
        ),
        ("signal_struct", &["live", "nr_threads"][..]),
        ("cgroup", &["kn"][..]),
        ("kernfs_node", &["id"][..]),
    ];
    let strange = |what: &str| {
        Unavailable::absent(format!(
            "this kernel's type information has no usable {what}"
        ))
    };
    let found = btf::offsets(data.bytes(), &wanted).ok_or_else(|| strange("BTF"))?;
    let task = &found[0];
    let need = |value: Option<u32>, what: &str| value.ok_or_else(|| strange(what));
    let pid = need(task[0], "task_struct.pid")?;
    let tgid = need(task[1], "task_struct.tgid")?;
    if tgid != pid + 4 {
        return Err(strange("task_struct: tgid does not follow pid"));
    }
    let entity = need(task[5], "task_struct.se")?;
    Ok(vec![
        ("off_pid", pid),
        ("off_tgid", tgid),
        ("off_flags", need(task[2], "task_struct.flags")?),
        ("off_real_parent", need(task[3], "task_struct.real_parent")?),
        ("off_signal", need(task[4], "task_struct.signal")?),
        (
            "off_group_leader",
            need(task[8], "task_struct.group_leader")?,
        ),
        ("off_exit_state", need(task[9], "task_struct.exit_state")?),
        // Renamed in 5.14.
        ("off_state", need(task[6].or(task[7]), "task_struct.state")?),
        ("off_ran", entity + need(found[1][0], "sum_exec_runtime")?),
        (
            "off_ran_when_picked",
            entity + need(found[1][1], "prev_sum_exec_runtime")?,
        ),
        ("off_signal_live", need(found[2][0], "signal_struct.live")?),
        (
            "off_signal_threads",
            need(found[2][1], "signal_struct.nr_threads")?,
        ),
        ("off_cgroup_kn", need(found[3][0], "cgroup.kn")?),
        ("off_kn_id", need(found[4][0], "kernfs_node.id")?),
    ])
}

/// The other hardware thread of each CPU's core.
fn siblings(root: &Path, cpus: u32) -> Vec<u32> {
    let other = |cpu: u32| {
        let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let list = plain::kernel_text(&root.join(path)).ok()?;
        parse_cpu_list(&list)
            .into_iter()
            .find(|sibling| *sibling != cpu && *sibling < cpus)
    };
    (0..cpus).map(|cpu| other(cpu).unwrap_or(NONE)).collect()
}

/// Counters of cycles and instructions of every CPU, or nothing where one is missing.
fn counters(cpus: &[u32]) -> Option<Vec<[perf_event::Counter; 2]>> {
    let open = |event: Hardware, cpu: u32| {
        let mut counter = Builder::new(event)
            .any_pid()
            .one_cpu(cpu as usize)
            .include_kernel()
            .build()
            .ok()?;
        counter.enable().ok()?;
        Some(counter)
    };
    cpus.iter()
        .map(|cpu| {
            Some([
                open(Hardware::CPU_CYCLES, *cpu)?,
                open(Hardware::INSTRUCTIONS, *cpu)?,
            ])
        })
        .collect()
}

/// Why the kernel refused, in one line.
fn refused(step: &str, failure: impl Into<Failure>) -> Unavailable {
    let why = match failure.into() {
        Failure::Kernel(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            return Unavailable::denied(
                format!(
                    "the kernel does not let this process {step}: CAP_BPF and CAP_PERFMON are needed"
                ),
                as_root!("doctor --load"),
            );
        }
        Failure::Kernel(e) => e.to_string(),
        Failure::Verifier(said) => format!("the kernel's verifier says: {said}"),
        Failure::Object(why) => why,
    };
    let why: String = why.chars().take(200).collect();
    let hint = what_it_takes(
        &fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(),
        &fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default(),
    );
    Unavailable::absent(format!("cannot {step}: {why}{hint}"))
}

/// What the probe needs that a kernel of this release and mode of lockdown has not: the atomic
/// operations of 5.12, and reading kernel memory.
fn what_it_takes(release: &str, lockdown: &str) -> &'static str {
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().ok());
    if let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next())
        && (major, minor) < (5, 12)
    {
        return " (Linux 5.12 or later is needed)";
    }
    if lockdown.contains("[confidentiality]") {
        return " (this kernel is locked down)";
    }
    ""
}

/// CPUs in a list of sysfs, e.g. `possible`.
fn cpus_in(root: &Path, list: &str) -> Vec<u32> {
    let path = root.join("sys/devices/system/cpu").join(list);
    plain::kernel_text(&path).map_or_else(|_| Vec::new(), |text| parse_cpu_list(&text))
}

/// Loads and attaches the probe for `root`'s kernel, which is this one's.
///
/// # Errors
/// Why it cannot be: no privilege, no BTF, an old kernel, a kernel that is locked down.
pub fn load(root: &Path, sizes: Sizes) -> Result<Loaded, Unavailable> {
    let failed = |failure: Failure| refused("load kernel probes", failure);
    let io = |e: io::Error| failed(e.into());
    let cpus = cpus_in(root, "possible")
        .last()
        .map(|last| last + 1)
        .filter(|n| (1..=MAX_CPUS).contains(n))
        .ok_or_else(|| {
            Unavailable::absent(format!("the probe was made for 1 to {MAX_CPUS} CPUs"))
        })?;
    let mut globals = offsets(root)?;
    let siblings = siblings(root, cpus);
    let has_siblings = siblings.iter().any(|sibling| *sibling != NONE);
    let online = cpus_in(root, "online");
    let counters = counters(&online).filter(|all| !all.is_empty());
    globals.extend([
        ("cpus", cpus),
        ("most_processes", sizes.processes),
        ("most_slots", sizes.slots),
        ("most_cgroups", sizes.cgroups),
        ("has_cycles", u32::from(counters.is_some())),
        ("has_siblings", u32::from(has_siblings)),
        // Of the processors with a BPF compiler only x86 keeps stores in order by itself.
        (
            "weak_stores",
            u32::from(!cfg!(any(target_arch = "x86", target_arch = "x86_64"))),
        ),
    ]);
    let entries = [
        ("cpu_states", cpus),
        ("cpu_powers", cpus),
        ("slice_starts", cpus),
        ("siblings", cpus),
        ("cycles", cpus),
        ("instructions", cpus),
        ("recent", cpus * RECENT),
        ("slots", sizes.slots),
        ("free_slots", sizes.slots),
        ("slot_usage", sizes.slots * cpus),
        ("cgroups", sizes.cgroups),
        ("free_cgroups", sizes.cgroups),
        ("cgroup_usage", sizes.cgroups * cpus),
        ("processes", sizes.processes),
        ("process_index", sizes.processes),
        ("free_processes", sizes.processes),
    ];
    let prepared = Prepared::new(&OBJECT.0, &globals, &entries).map_err(failed)?;
    let map = |name: &str| prepared.map(name).map_err(failed);
    for (cpu, sibling) in (0u32..).zip(&siblings).filter(|_| has_siblings) {
        sys::update(map("siblings")?, &cpu, sibling).map_err(io)?;
    }
    for (cpu, pair) in online.iter().zip(counters.iter().flatten()) {
        for (name, counter) in ["cycles", "instructions"].iter().zip(pair) {
            sys::update(map(name)?, cpu, &counter.as_raw_fd()).map_err(io)?;
        }
    }

    let mut flags = 0;
    if counters.is_some() {
        flags |= FLAG_CYCLES;
    }
    if has_siblings {
        flags |= FLAG_SIBLINGS;
    }
    let (mut links, mut programs) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        // The kernel takes as long to check the switch as to check all others.
        let mut ahead = std::thread::Builder::new()
            .spawn_scoped(scope, || prepared.load(SWITCH))
            .ok();
        for program in &PROGRAMS {
            let loaded = ahead
                .take_if(|_| program.name == SWITCH)
                .and_then(|loading| loading.join().ok())
                .unwrap_or_else(|| prepared.load(program.name));
            match loaded.and_then(|loaded| attach(loaded, program)) {
                Ok((loaded, link)) => {
                    programs.push((program.name, Held::new(loaded).map_err(io)?));
                    links.push((program.name, Held::new(link).map_err(io)?));
                    flags |= program.flag;
                }
                Err(e) if program.needed => return Err(failed(e)),
                Err(_) => {}
            }
        }
        Ok(())
    })?;
    let identity = Identity {
        magic: MAGIC,
        abi: ABI,
        cpus,
        slots: sizes.slots,
        cgroups: sizes.cgroups,
        processes: sizes.processes,
        flags,
        loaded_at: clock::kernel_monotonic_ns(),
        object: *DIGEST,
    };
    sys::update(map("identity")?, &0u32, &identity).map_err(io)?;
    for (name, _) in READABLE {
        sys::freeze(map(name)?).map_err(io)?;
    }
    // What runs is seen from its next switch on: have this thread's be now. Other CPUs have theirs
    // within milliseconds, for the kernel's own work if for nothing else.
    std::thread::sleep(Duration::from_micros(1));
    let held = |(name, map)| Ok((name, Held::new(map)?));
    let maps: io::Result<_> = prepared.into_maps().into_iter().map(held).collect();
    Ok(Loaded {
        maps: maps.map_err(io)?,
        links,
        programs,
    })
}

fn attach(loaded: OwnedFd, program: &Program) -> Result<(OwnedFd, OwnedFd), Failure> {
    let mut last = Failure::Object(format!("{} has no tracepoint", program.name));
    for tracepoint in program.tracepoints {
        match sys::attach(loaded.as_fd(), tracepoint) {
            Ok(link) => return Ok((loaded, link)),
            Err(e) => last = e.into(),
        }
    }
    Err(last)
}

impl Loaded {
    /// A descriptor of one of the maps.
    pub fn map(&self, name: &str) -> Result<OwnedFd, Unavailable> {
        self.maps
            .get(name)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
            .and_then(|map| map.get()?.try_clone_to_owned())
            .map_err(|e| Unavailable::absent(format!("map {name}: {e}")))
    }

    /// No event reaches a program any more.
    #[cfg(test)]
    pub(super) fn detach(&mut self, program: &str) {
        self.links.retain(|(name, _)| *name != program);
    }

    #[cfg(test)]
    pub(super) fn program(&self, name: &str) -> std::os::fd::BorrowedFd<'_> {
        let mut all = self.programs.iter();
        all.find(|(of, _)| *of == name).unwrap().1.as_fd()
    }

    /// Pins everything below `root`, for all processes and beyond this one's end. If another
    /// process was faster its pins stand and these go.
    ///
    /// # Errors
    /// No BPF file system, or it may not be written.
    pub fn pin(self, root: &Path) -> Result<PathBuf, Unavailable> {
        let target = directory(root);
        let ours = parent_directory(root)?;
        sweep(&ours);
        let staging = ours.join(format!(
            "{STAGING}{}-{}",
            std::process::id(),
            clock::kernel_monotonic_ns()
        ));
        let result = self.pin_into(&staging).and_then(|()| {
            fs::rename(&staging, &target).or_else(|e| {
                // Somebody else's probe stands there already, whole.
                remove(&staging);
                if target.is_dir() { Ok(()) } else { Err(e) }
            })
        });
        result.map_err(|e| {
            remove(&staging);
            refused("pin kernel probes", e)
        })?;
        Ok(target)
    }

    fn pin_into(self, staging: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o755).create(staging)?;
        // The mask of the process must not close the directory to readers.
        fs::set_permissions(staging, fs::Permissions::from_mode(0o755))?;
        for (name, mode) in READABLE {
            let path = staging.join(name);
            let map = self.maps.get(name).ok_or(io::ErrorKind::NotFound)?;
            sys::pin(map.as_fd(), &path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        for (name, link) in self.links {
            sys::pin(link.as_fd(), &staging.join(format!("link_{name}")))?;
        }
        Ok(())
    }
}

/// Whether `path` is on a BPF file system; `None` where it is not there at all.
fn on_bpffs(path: &Path) -> Option<bool> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: statfs fills the zeroed structure, for which all-zero is valid; `path` ends in NUL.
    unsafe {
        let mut stats: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &mut stats) == 0)
            .then_some(stats.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
    }
}

/// The reason that there is no BPF file system, and how to get one.
pub fn require_bpffs(root: &Path) -> Result<PathBuf, Unavailable> {
    let bpffs = root.join(BPFFS);
    if on_bpffs(&bpffs) == Some(true) {
        return Ok(bpffs);
    }
    Err(
        Unavailable::absent(format!("no BPF file system at {}", bpffs.display()))
            .with_fix(format!("sudo mount -t bpf bpf {}", bpffs.display())),
    )
}

/// Our directory, made if need be.
fn parent_directory(root: &Path) -> Result<PathBuf, Unavailable> {
    let ours = require_bpffs(root)?.join(OURS);
    let made = match fs::DirBuilder::new().mode(0o755).create(&ours) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    made.and_then(|()| require_trusted(&ours))
        .and_then(|()| fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)))
        .map_err(|e| refused("pin kernel probes", e))?;
    Ok(ours)
}

/// Refuses a directory that somebody else made or may write to: in a BPF file system with its usual
/// mode anybody may make one, and could then put other maps where ours are expected.
///
/// In a user namespace root's own look like nobody's, as those of any user outside it do. There is
/// no telling them apart, so there they are refused.
pub(super) fn require_trusted(directory: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(directory)?;
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let shown = directory.display();
    if !is_trusted(found.uid()) {
        return refuse(format!("{shown} belongs to user {}", found.uid()));
    }
    if !found.is_dir() || found.mode() & 0o022 != 0 {
        return refuse(format!(
            "{shown} is no directory that its owner alone may write to"
        ));
    }
    Ok(())
}

/// The same of a pin, which readers may map for writing as far as its mode goes: it is frozen.
pub(super) fn require_trusted_pin(path: &Path) -> io::Result<()> {
    let uid = fs::symlink_metadata(path)?.uid();
    if is_trusted(uid) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} belongs to user {uid}", path.display()),
    ))
}

fn is_trusted(uid: u32) -> bool {
    // SAFETY: geteuid has no preconditions.
    uid == 0 || uid == unsafe { libc::geteuid() }
}

/// Name of a directory that is being filled. (A BPF file system takes no name with a dot.)
const STAGING: &str = "loading-";

/// Loading takes milliseconds: what is older than this was left by a loader that was killed, ns.
const LEFT_NS: u64 = 10_000_000_000;

/// Removes what loaders left that were killed before they were ready.
fn sweep(ours: &Path) {
    let now = clock::kernel_monotonic_ns();
    for entry in fs::read_dir(ours).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let made = name
            .to_str()
            .and_then(|n| n.strip_prefix(STAGING)?.split_once('-'))
            .and_then(|(_, made)| made.parse::<u64>().ok());
        if made.is_some_and(|made| now.saturating_sub(made) > LEFT_NS) {
            remove(&entry.path());
        }
    }
}

/// Unlinks a directory of pins. What cannot be removed stays.
fn remove(directory: &Path) -> usize {
    let mut removed = 0;
    // Links first: nothing may go on counting into maps that nobody finds.
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort_by_key(|path| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        (!name.starts_with("link_"), path.clone())
    });
    for path in paths {
        removed += usize::from(fs::remove_file(&path).is_ok());
    }
    let _ = fs::remove_dir(directory);
    removed
}

/// Takes out every version's probe below `root`; the directories that were removed. Processes that
/// have a probe open keep its maps until they end, but nothing counts into them any more.
///
/// # Errors
/// What may not be removed.
pub fn unload(root: &Path) -> Result<Vec<PathBuf>, Unavailable> {
    let ours = root.join(BPFFS).join(OURS);
    let mut gone = Vec::new();
    let entries = match fs::read_dir(&ours) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(gone),
        Err(e) => return Err(refused("look at the pinned probes", e)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        remove(&path);
        if path.exists() {
            return Err(Unavailable::denied(
                format!("{} cannot be removed", path.display()),
                as_root!("doctor --unload"),
            ));
        }
        gone.push(path);
    }
    let _ = fs::remove_dir(&ours);
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_information_that_is_not_the_kernel_s_own_is_not_mapped() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("vmlinux");
        fs::write(&path, [7; 5000]).unwrap();
        let types = type_information(&path).unwrap();
        assert!(matches!(&types, TypeInformation::Read(bytes) if bytes.len() == 5000));
        // Cut meanwhile, it is still whole here.
        fs::write(&path, "").unwrap();
        assert!(types.bytes().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_refusal_says_what_it_takes() {
        let old = refused(
            "load",
            Failure::Verifier("on_fork: unknown opcode db".into()),
        );
        assert!(
            old.reason
                .starts_with("cannot load: the kernel's verifier says: on_fork: ")
        );
        assert!(!old.denied && old.fix.is_none());
        assert!(what_it_takes("5.10.0-30-amd64", "").contains("5.12"));
        assert!(what_it_takes("4.14.355-275.amzn2", "").contains("5.12"));
        assert_eq!(
            what_it_takes("5.12.0", "[none] integrity confidentiality"),
            ""
        );
        assert!(what_it_takes("6.8.0-1", "none [confidentiality]").contains("locked down"));
        assert_eq!(what_it_takes("", ""), "");
        let denied = io::Error::from_raw_os_error(libc::EPERM);
        assert!(refused("load", denied).denied);
    }
}
