//! NVIDIA's GPUs by NVML, the library that comes with their driver: what each used since the driver
//! was loaded, what it draws, and which processes kept it busy.
//!
//! The library is opened with dlopen, and only where the driver is loaded. Its calls take up to some
//! milliseconds and may block, so nothing here is called on a thread of the function that is metered
//! ([`crate::sampler`]'s thread for GPUs does it). It is never closed again: a driver that is opened
//! and closed in turn was seen to fail. A forked process begins anew with `nvmlInit_v2`, as NVML's
//! state is not its own, and where the fork came in the middle of a call it is not used at all.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::Unavailable;
use super::gpu::{Busy, Device, Shown, Use};
use crate::clock;

/// The name under which every driver package installs it.
const LIBRARY: &CStr = c"libnvidia-ml.so.1";

/// What is there where a driver is loaded: on Linux, in a container, and in WSL 2.
const DRIVER: [&str; 3] = ["dev/nvidiactl", "proc/driver/nvidia", "dev/dxg"];

/// More devices and processes than any machine has.
const MOST_DEVICES: u32 = 256;
const MOST_PROCESSES: usize = 4096;

/// An answer that is bound to be text ends within so many bytes (`NVML_DEVICE_NAME_V2_BUFFER_SIZE`,
/// `NVML_DEVICE_UUID_V2_BUFFER_SIZE`).
const TEXT: usize = 96;

/// A counter changes about every 100 ms ("approximately every 100 ms", ml.energy, 2025; 20 to 100 ms,
/// Yang et al., SC 2024), s.
const UPDATE_SECONDS: f64 = 0.1;

/// A sample of processes is not older than that, ns.
const RECENT_NS: u64 = 10_000_000_000;

type Code = c_uint;
type Handle = *mut c_void;

const SUCCESS: Code = 0;
const NOT_FOUND: Code = 6;
const INSUFFICIENT_SIZE: Code = 7;

/// `nvmlProcessUtilizationSample_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    pid: c_uint,
    /// µs.
    time_stamp: u64,
    sm: c_uint,
    memory: c_uint,
    encoder: c_uint,
    decoder: c_uint,
}

/// `nvmlProcessInfo_t` of the calls that end in `_v2` and `_v3`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Process {
    pid: c_uint,
    memory: u64,
    instance: c_uint,
    compute_instance: c_uint,
}

/// `nvmlUtilization_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    gpu: c_uint,
    memory: c_uint,
}

type Plain = unsafe extern "C" fn() -> Code;
type Count = unsafe extern "C" fn(*mut c_uint) -> Code;
type ByIndex = unsafe extern "C" fn(c_uint, *mut Handle) -> Code;
type Text = unsafe extern "C" fn(Handle, *mut c_char, c_uint) -> Code;
type Whole = unsafe extern "C" fn(Handle, *mut u64) -> Code;
type Small = unsafe extern "C" fn(Handle, *mut c_uint) -> Code;
type Two = unsafe extern "C" fn(Handle, *mut c_uint, *mut c_uint) -> Code;
type GetRates = unsafe extern "C" fn(Handle, *mut Rates) -> Code;
type Samples = unsafe extern "C" fn(Handle, *mut Sample, *mut c_uint, u64) -> Code;
type Processes = unsafe extern "C" fn(Handle, *mut c_uint, *mut Process) -> Code;

/// The library's functions. Those that an old driver may lack are optional.
#[derive(Debug, Clone, Copy)]
struct Functions {
    init: Plain,
    count: Count,
    by_index: ByIndex,
    name: Option<Text>,
    uuid: Option<Text>,
    energy: Option<Whole>,
    power: Option<Small>,
    limit: Option<Small>,
    mig: Option<Two>,
    rates: Option<GetRates>,
    samples: Option<Samples>,
    compute: Option<Processes>,
}

/// Whether the library could be opened in this process or in the one that forked it.
static LIBRARY_STATE: AtomicU8 = AtomicU8::new(UNTRIED);
/// Whether the driver's files are below `/`.
static DRIVER_STATE: AtomicU8 = AtomicU8::new(UNTRIED);
const UNTRIED: u8 = 0;
const MISSING: u8 = 1;
const OPENED: u8 = 2;

/// A thread is within a call. It stays true in a process that was forked meanwhile: locks of the
/// library may be held there by a thread that does not exist.
static CALLING: AtomicBool = AtomicBool::new(false);

/// Whether NVIDIA's driver is loaded, as far as `root` shows. A few file names are looked up; of the
/// machine's own root once, in a process and those that are forked from it.
pub fn has_driver(root: &Path) -> bool {
    if LIBRARY_STATE.load(Ordering::Relaxed) == MISSING {
        return false;
    }
    let look = || DRIVER.iter().any(|name| root.join(name).exists());
    if root != Path::new("/") {
        return look();
    }
    match DRIVER_STATE.load(Ordering::Relaxed) {
        UNTRIED => {
            let there = look();
            let state = if there { OPENED } else { MISSING };
            DRIVER_STATE.store(state, Ordering::Relaxed);
            there
        }
        state => state == OPENED,
    }
}

/// Why there is nothing to be read below a root where [`has_driver`] finds none.
pub fn no_driver() -> Unavailable {
    if LIBRARY_STATE.load(Ordering::Relaxed) == MISSING {
        return no_library();
    }
    Unavailable::absent("no NVIDIA driver is loaded")
}

fn no_library() -> Unavailable {
    Unavailable::absent(
        "NVIDIA's driver is loaded, and its library libnvidia-ml.so.1 is not found: install the \
         driver's libraries (in a container: set NVIDIA_DRIVER_CAPABILITIES=utility)",
    )
}

/// What a call came to, in the words of `nvmlErrorString`.
fn words(code: Code) -> String {
    let known = match code {
        1 => "NVML was not initialised",
        2 => "the driver does not accept the call",
        3 => "the device does not support it",
        4 => "permission was denied",
        6 => "nothing was found",
        9 => "the driver is not loaded",
        10 => "the driver did not answer in time",
        12 => "the library is too old for it",
        15 => "the GPU fell off the bus or was reset",
        17 => "the operating system refused it",
        18 => "library and driver are of different versions: reboot after an update",
        20 => "the driver had no memory for it",
        _ => return format!("NVML's error {code}"),
    };
    known.to_owned()
}

/// One device, and when its processes were last asked for, µs by the driver's clock.
#[derive(Debug)]
struct Known {
    device: Device,
    handle: Handle,
    last_seen: u64,
    /// It has the counter; not known before it was first read.
    counts: Option<bool>,
}

/// The opened library. It stays on the thread that opened it.
#[derive(Debug)]
pub struct Nvml {
    functions: Functions,
    known: Vec<Known>,
}

impl Nvml {
    /// Opens the library and initialises it. This may take a second where nobody else has the driver
    /// open.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open() -> Result<Self, Unavailable> {
        if CALLING.swap(true, Ordering::AcqRel) {
            // Nobody in this process is: its thread for GPUs is the only one that ever calls.
            return Err(Unavailable::absent(
                "this process was forked while its parent was asking NVML, whose locks may be held \
                 for ever now",
            ));
        }
        let opened = Self::open_functions().and_then(|functions| {
            // SAFETY: the symbol is nvmlInit_v2, which takes nothing and may be called repeatedly.
            match unsafe { (functions.init)() } {
                SUCCESS => Ok(functions),
                code => Err(Unavailable::passing(format!(
                    "NVML cannot be used: {}",
                    words(code)
                ))),
            }
        });
        let nvml = opened.map(|functions| Self {
            functions,
            known: Vec::new(),
        });
        CALLING.store(false, Ordering::Release);
        nvml
    }

    fn open_functions() -> Result<Functions, Unavailable> {
        if LIBRARY_STATE.load(Ordering::Relaxed) == MISSING {
            return Err(no_library());
        }
        // SAFETY: the name is a C string. What is loaded is the driver's library, found as every
        // library of this process is; the handle is never closed.
        let handle = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            LIBRARY_STATE.store(MISSING, Ordering::Relaxed);
            return Err(no_library());
        }
        LIBRARY_STATE.store(OPENED, Ordering::Relaxed);
        Functions::of(handle).ok_or_else(|| {
            Unavailable::absent(
                "libnvidia-ml.so.1 lacks functions that every driver since 2013 has",
            )
        })
    }

    /// The devices that are there now. They keep their place in [`look`](Self::look) until this is
    /// called again.
    ///
    /// # Errors
    /// What NVML said.
    pub fn devices(&mut self) -> Result<Vec<Device>, String> {
        let functions = self.functions;
        calling(|| {
            let mut count = 0;
            // SAFETY: the pointer is to a number that outlives the call.
            let code = unsafe { (functions.count)(&mut count) };
            if code != SUCCESS {
                return Err(words(code));
            }
            let mut known = Vec::new();
            for index in 0..count.min(MOST_DEVICES) {
                let mut handle = std::ptr::null_mut();
                // SAFETY: as above, to a handle.
                if unsafe { (functions.by_index)(index, &mut handle) } != SUCCESS {
                    continue;
                }
                let device = functions.describe(index, handle);
                let before = self.known.iter().find(|k| k.device.uuid == device.uuid);
                known.push(Known {
                    handle,
                    last_seen: before.map_or(0, |k| k.last_seen),
                    counts: before.and_then(|k| k.counts),
                    device,
                });
            }
            self.known = known;
            Ok(self.known.iter().map(|k| k.device.clone()).collect())
        })
    }

    /// What the device at `place` of [`devices`](Self::devices) shows.
    ///
    /// # Errors
    /// Why its energy could not be read.
    pub fn look(&mut self, place: usize) -> Result<Shown, String> {
        let functions = self.functions;
        let Some(known) = self.known.get_mut(place) else {
            return Err("it is gone".into());
        };
        calling(|| functions.look(known))
    }
}

/// Runs `f`, and says so meanwhile.
fn calling<T>(f: impl FnOnce() -> T) -> T {
    CALLING.store(true, Ordering::Release);
    let result = f();
    CALLING.store(false, Ordering::Release);
    result
}

impl Functions {
    fn of(library: *mut c_void) -> Option<Self> {
        Some(Self {
            init: symbol(library, c"nvmlInit_v2")?,
            count: symbol(library, c"nvmlDeviceGetCount_v2")?,
            by_index: symbol(library, c"nvmlDeviceGetHandleByIndex_v2")?,
            name: symbol(library, c"nvmlDeviceGetName"),
            uuid: symbol(library, c"nvmlDeviceGetUUID"),
            energy: symbol(library, c"nvmlDeviceGetTotalEnergyConsumption"),
            power: symbol(library, c"nvmlDeviceGetPowerUsage"),
            limit: symbol(library, c"nvmlDeviceGetEnforcedPowerLimit"),
            mig: symbol(library, c"nvmlDeviceGetMigMode"),
            rates: symbol(library, c"nvmlDeviceGetUtilizationRates"),
            samples: symbol(library, c"nvmlDeviceGetProcessUtilization"),
            compute: symbol(library, c"nvmlDeviceGetComputeRunningProcesses_v3")
                .or_else(|| symbol(library, c"nvmlDeviceGetComputeRunningProcesses_v2")),
        })
    }

    fn describe(&self, index: u32, handle: Handle) -> Device {
        let text = |get: Option<Text>| {
            let mut buffer = [0u8; TEXT];
            // SAFETY: the buffer has the length that is told, and one byte less is offered, so that
            // it ends in a zero whatever is written.
            let code = unsafe { get?(handle, buffer.as_mut_ptr().cast(), (TEXT - 1) as c_uint) };
            let text = CStr::from_bytes_until_nul(&buffer).ok()?.to_string_lossy();
            (code == SUCCESS && !text.is_empty()).then(|| text.into_owned())
        };
        let (mut milliwatts, mut now, mut pending) = (0, 0, 0);
        // SAFETY: pointers to numbers that outlive the calls.
        let limited = self
            .limit
            .is_some_and(|get| unsafe { get(handle, &mut milliwatts) } == SUCCESS);
        // SAFETY: the same.
        let told = self
            .mig
            .is_some_and(|get| unsafe { get(handle, &mut now, &mut pending) } == SUCCESS);
        Device {
            index,
            name: text(self.name).unwrap_or_else(|| "GPU".into()),
            uuid: text(self.uuid).unwrap_or_else(|| format!("number {index}")),
            limit_watts: (limited && milliwatts > 0).then(|| f64::from(milliwatts) * 1e-3),
            divided: told && now == 1,
            update_seconds: UPDATE_SECONDS,
        }
    }

    fn look(&self, known: &mut Known) -> Result<Shown, String> {
        let handle = known.handle;
        let millijoules = match (self.energy, known.counts) {
            (Some(get), None | Some(true)) => {
                let mut millijoules = 0;
                // SAFETY: the pointer is to a number that outlives the call.
                match unsafe { get(handle, &mut millijoules) } {
                    SUCCESS => {
                        known.counts = Some(true);
                        Some(millijoules)
                    }
                    code if known.counts == Some(true) => return Err(words(code)),
                    _ => None,
                }
            }
            _ => None,
        };
        let mut watts = None;
        if millijoules.is_none() {
            let mut milliwatts = 0;
            let Some(get) = self.power else {
                return Err("the library has no counter of energy and none of power".into());
            };
            // SAFETY: the same.
            match unsafe { get(handle, &mut milliwatts) } {
                SUCCESS => watts = Some(f64::from(milliwatts) * 1e-3),
                code => return Err(words(code)),
            }
            known.counts = Some(false);
        }
        let mut rates = Rates::default();
        // SAFETY: the pointer is to a structure of NVML's layout that outlives the call.
        let rated = self
            .rates
            .is_some_and(|get| unsafe { get(handle, &mut rates) } == SUCCESS);
        let busy_percent = rated.then(|| f64::from(rates.gpu.min(100)));
        Ok(Shown {
            busy_percent,
            ..Shown::of(millijoules, watts, self.busy(known, busy_percent))
        })
    }

    fn busy(&self, known: &mut Known, busy_percent: Option<f64>) -> Busy {
        if known.device.divided {
            return Busy::Unknown(
                "it is divided by MIG, for which NVML does not say how busy a process keeps it"
                    .into(),
            );
        }
        if let Some(get) = self.samples {
            let mut count: c_uint = 0;
            // SAFETY: without a buffer only the number of samples is written.
            let code = unsafe {
                get(
                    known.handle,
                    std::ptr::null_mut(),
                    &mut count,
                    known.last_seen,
                )
            };
            let nobody = || match busy_percent {
                Some(percent) if percent > 0.0 => Busy::NoNews,
                _ => Busy::Nobody,
            };
            if matches!(code, NOT_FOUND | SUCCESS) {
                return nobody();
            }
            if code == INSUFFICIENT_SIZE {
                // A process may have come since.
                let room = (count as usize + 8).min(MOST_PROCESSES);
                let mut samples = vec![Sample::default(); room];
                let mut count = room as c_uint;
                // SAFETY: the buffer has room for so many samples of NVML's layout.
                let code = unsafe {
                    get(
                        known.handle,
                        samples.as_mut_ptr(),
                        &mut count,
                        known.last_seen,
                    )
                };
                samples.truncate(count as usize);
                match code {
                    SUCCESS => {
                        let seen = samples.iter().map(|sample| sample.time_stamp);
                        known.last_seen = seen.fold(known.last_seen, u64::max);
                        // Some drivers fill unused places with zeros.
                        let real = samples.iter().filter(|s| s.pid > 0 && s.time_stamp > 0);
                        let uses: Vec<Use> = real.filter_map(use_of).collect();
                        if uses.iter().all(|one| one.percent == 0.0) {
                            return nobody();
                        }
                        return Busy::Processes(uses, on_our_clock(known.last_seen));
                    }
                    NOT_FOUND | INSUFFICIENT_SIZE => return nobody(),
                    _ => {}
                }
            }
        }
        self.open_on(known.handle, busy_percent)
    }

    /// The processes that have it open for computing.
    fn open_on(&self, handle: Handle, busy_percent: Option<f64>) -> Busy {
        let Some(get) = self.compute else {
            return Busy::Unknown("NVML does not say which processes use it".into());
        };
        let mut processes = [Process::default(); 64];
        let mut count = processes.len() as c_uint;
        // SAFETY: the buffer has room for so many entries of NVML's layout.
        match unsafe { get(handle, &mut count, processes.as_mut_ptr()) } {
            SUCCESS => {
                let there = processes.iter().take(count as usize);
                let pids = there.filter_map(|p| i32::try_from(p.pid).ok());
                Busy::Open(pids.collect(), busy_percent)
            }
            INSUFFICIENT_SIZE => Busy::Unknown("more than 64 processes use it".into()),
            code => Busy::Unknown(format!("its processes are not told: {}", words(code))),
        }
    }
}

/// A process and the percent of time that it kept the GPU busy: kernels, or a video engine.
fn use_of(sample: &Sample) -> Option<Use> {
    let most = sample.sm.max(sample.encoder).max(sample.decoder).min(100);
    Some(Use {
        pids: vec![i32::try_from(sample.pid).ok()?],
        percent: f64::from(most),
    })
}

/// A time of the driver's, µs, on `CLOCK_MONOTONIC`, ns. nvml.h calls it a CPU timestamp and does not
/// say of which clock; it is never of the future, and never long ago.
fn on_our_clock(micros: u64) -> Option<u64> {
    let (told, now) = (micros.saturating_mul(1_000), clock::monotonic_ns());
    [clock::realtime_ns(), now]
        .into_iter()
        .filter_map(|clock_ns| clock_ns.checked_sub(told))
        .find(|age_ns| *age_ns < RECENT_NS)
        .map(|age_ns| now.saturating_sub(age_ns))
}

/// A function of the library by its name.
fn symbol<F: Copy>(library: *mut c_void, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the library is open and the name a C string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    if address.is_null() {
        return None;
    }
    // SAFETY: F is one of the types above, a function pointer of the signature that nvml.h gives the
    // name, and as wide as an address.
    Some(unsafe { std::mem::transmute_copy(&address) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_nvml_s_layout() {
        assert_eq!(size_of::<Sample>(), 32);
        assert_eq!(std::mem::offset_of!(Sample, sm), 16);
        assert_eq!(size_of::<Process>(), 24);
        assert_eq!(std::mem::offset_of!(Process, instance), 16);
        assert_eq!(size_of::<Rates>(), 8);
    }

    #[test]
    fn a_driver_is_known_by_its_files() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_driver(root.path()));
        std::fs::create_dir_all(root.path().join("proc/driver/nvidia")).unwrap();
        assert!(has_driver(root.path()));
    }

    #[test]
    fn the_driver_s_clock_is_found_out() {
        let now = clock::monotonic_ns();
        for clock_ns in [clock::realtime_ns(), now] {
            let found = on_our_clock((clock_ns - 500_000_000) / 1_000).unwrap();
            assert!(found.abs_diff(now - 500_000_000) < 400_000_000);
        }
        assert_eq!(on_our_clock(now / 1_000 + 5_000_000), None);
    }

    #[test]
    fn video_engines_count_as_use() {
        let sample = Sample {
            pid: 7,
            sm: 3,
            decoder: 90,
            ..Sample::default()
        };
        let used = use_of(&sample).unwrap();
        assert_eq!((used.pids, used.percent), (vec![7], 90.0));
        let beyond = Sample {
            pid: u32::MAX,
            ..sample
        };
        assert_eq!(use_of(&beyond), None);
    }
}
