//! The few bpf(2) calls that loading and reading take, and arrays of the kernel mapped for reading.
//!
//! Numbers and layouts are the kernel's stable interface: include/uapi/linux/bpf.h.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::Plain;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_MAP_FREEZE: libc::c_long = 22;

const BPF_F_RDONLY: u32 = 1 << 3;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// Longest name of a map or program, with its NUL.
const NAME: usize = 16;

#[repr(C)]
struct NewMap {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
    numa_node: u32,
    name: [u8; NAME],
}

/// `attr` of the commands on one element.
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct NewProgram {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME],
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct Tracepoint {
    name: u64,
    program: u32,
    pad: u32,
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a live structure of the size that is passed, without padding, and what it
    // points to lives in the callers' frames.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    match i32::try_from(result) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: only called with what the kernel has just made for us (close-on-exec, as all
    // descriptors of bpf are).
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// What names may hold to the kernel, cut to what it takes.
fn short(name: &str) -> [u8; NAME] {
    let mut out = [0; NAME];
    for (to, from) in out[..NAME - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    out
}

/// A map to be made.
#[derive(Debug, Clone, Copy)]
pub struct MapShape {
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Elements.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// Makes a map.
pub fn create_map(name: &str, shape: MapShape) -> io::Result<OwnedFd> {
    let mut attr = NewMap {
        kind: shape.kind,
        key_size: shape.key_size,
        value_size: shape.value_size,
        max_entries: shape.max_entries,
        flags: shape.flags,
        inner: 0,
        numa_node: 0,
        name: short(name),
    };
    bpf(BPF_MAP_CREATE, &mut attr).map(owned)
}

/// `attr` of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

/// The kernel's description of an object: the beginning of `bpf_map_info`, of which `bpf_prog_info`
/// and
/// `bpf_link_info` share the first two members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
struct Described {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// How much of [`Described`] every kind of object has.
const COMMON: u32 = 8;

fn describe(fd: BorrowedFd<'_>, length: u32) -> io::Result<Described> {
    let mut info = Described::default();
    let mut attr = Info {
        fd: fd.as_raw_fd() as u32,
        length: length.min(size_of::<Described>() as u32),
        info: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// The descriptor of a map, a program or a link, used and closed only while it is that object.
///
/// All of them share one inode with other things of the kernel's, so the kernel's number of the
/// object shows.
#[derive(Debug)]
pub struct Held {
    fd: ManuallyDrop<OwnedFd>,
    told: Described,
}

impl Held {
    /// Takes a descriptor that was just made.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let told = describe(fd.as_fd(), COMMON)?;
        Ok(Self {
            fd: ManuallyDrop::new(fd),
            told,
        })
    }

    /// Takes a map that was opened by its name, if it has the shape that is expected. Whoever may
    /// make maps could have put another there, and the kernel copies as much as the map's values
    /// have.
    pub fn map(fd: OwnedFd, expected: Layout) -> io::Result<Self> {
        let told = describe(fd.as_fd(), u32::MAX)?;
        let found = Layout {
            kind: told.kind,
            key_size: told.key_size,
            value_size: told.value_size,
            max_entries: told.max_entries,
        };
        if found != expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a map of another layout: {found:?}, expected {expected:?}"),
            ));
        }
        Ok(Self {
            fd: ManuallyDrop::new(fd),
            told,
        })
    }

    fn is_ours(&self) -> bool {
        describe(self.fd.as_fd(), COMMON)
            .is_ok_and(|now| (now.kind, now.id) == (self.told.kind, self.told.id))
    }

    /// The descriptor, if it is still that object.
    ///
    /// # Errors
    /// Somebody closed it.
    pub fn get(&self) -> io::Result<BorrowedFd<'_>> {
        if self.is_ours() {
            return Ok(self.fd.as_fd());
        }
        Err(io::Error::other("the descriptor was closed by the process"))
    }
}

/// For those who have just made it.
impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: nobody uses it after this.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

/// What the map of a name must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// `BPF_MAP_TYPE_*`.
    kind: u32,
    /// Bytes.
    key_size: u32,
    /// Bytes.
    value_size: u32,
    /// Elements.
    max_entries: u32,
}

impl Layout {
    /// An array of `entries` values.
    pub fn array<V>(entries: u32) -> Self {
        Self {
            kind: 2,
            key_size: 4,
            value_size: size_of::<V>() as u32,
            max_entries: entries,
        }
    }

    /// A hash table of at most `entries` values.
    pub fn hash<K, V>(entries: u32) -> Self {
        Self {
            kind: 1,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries: entries,
        }
    }
}

/// Makes a map read-only for user space, for good. What programs may not write either, the verifier
/// takes for constants.
pub fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_MAP_FREEZE, &mut (map.as_raw_fd() as u32)).map(|_| ())
}

/// Loads a raw tracepoint program of 8-byte instructions. The verifier explains a refusal in `log`,
/// which costs it time.
pub fn load_program<I>(
    name: &str,
    code: &[I],
    license: &CStr,
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    const { assert!(size_of::<I>() == 8) };
    let length = |n: usize| u32::try_from(n).map_err(io::Error::other);
    let (log_level, log_size, log) = match log {
        Some(log) => (1, length(log.len())?, log.as_mut_ptr() as u64),
        None => (0, 0, 0),
    };
    let mut attr = NewProgram {
        kind: BPF_PROG_TYPE_RAW_TRACEPOINT,
        instructions: length(code.len())?,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level,
        log_size,
        log,
        kernel_version: 0,
        flags: 0,
        name: short(name),
    };
    bpf(BPF_PROG_LOAD, &mut attr).map(owned)
}

/// Runs a program at each event of a tracepoint, until the descriptor and its pins are gone.
pub fn attach(program: BorrowedFd<'_>, tracepoint: &str) -> io::Result<OwnedFd> {
    let name = CString::new(tracepoint)?;
    let mut attr = Tracepoint {
        name: name.as_ptr() as u64,
        program: program.as_raw_fd() as u32,
        pad: 0,
    };
    bpf(BPF_RAW_TRACEPOINT_OPEN, &mut attr).map(owned)
}

/// Gives a map or a link a name in a BPF file system.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Object {
        path: path.as_ptr() as u64,
        fd: fd.as_raw_fd() as u32,
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(|_| ())
}

/// How a pinned map is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To look elements up.
    Lookup,
    /// To map it. The kernel maps none that is open for reading only, so such maps are frozen: to
    /// write them from user space is refused to everybody.
    Map,
}

/// Opens a pinned map.
pub fn open_pinned(path: &Path, access: Access) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Object {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: if access == Access::Lookup {
            BPF_F_RDONLY
        } else {
            0
        },
    };
    bpf(BPF_OBJ_GET, &mut attr).map(owned)
}

/// One element of a map, or `None` where there is none under this key.
///
/// # Errors
/// The map's keys or values are not of these sizes, or the kernel refuses.
pub fn lookup<K: Copy, V: Copy + Default>(map: &Held, key: &K) -> io::Result<Option<V>> {
    // The kernel copies as much as the size of a value.
    if (map.told.key_size, map.told.value_size) != (size_of::<K>() as u32, size_of::<V>() as u32) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut value = V::default();
    let mut attr = Element {
        map: map.get()?.as_raw_fd() as u32,
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(&mut value) as u64,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Ok(_) => Ok(Some(value)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sets one element of a map. Used by the loader.
pub fn update<K: Copy, V: Copy>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attr = Element {
        map: map.as_raw_fd() as u32,
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(|_| ())
}

/// Sets one element of a map with 4-byte keys to `value`, which has the size that the map wants.
pub fn update_bytes(
    map: BorrowedFd<'_>,
    key: &u32,
    value: &[u8],
    value_size: u32,
) -> io::Result<()> {
    if value.len() != value_size as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut attr = Element {
        map: map.as_raw_fd() as u32,
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(|_| ())
}

/// An array map, mapped for reading.
#[derive(Debug)]
pub struct Mapped<T> {
    at: *const T,
    length: usize,
    base: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: the memory is shared with the kernel, which writes it; it is only read here, by atomic
// loads, and stays mapped for as long as the value lives.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T: Plain> Mapped<T> {
    /// Maps `length` elements from `first`.
    pub fn new(map: BorrowedFd<'_>, first: u32, length: u32) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let (first, length) = (first as usize, length as usize);
        let start = first.checked_mul(size_of::<T>()).ok_or_else(invalid)?;
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
            .map_err(|_| invalid())?
            .max(1);
        let skipped = start % page;
        let bytes = length
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.checked_add(skipped))
            .filter(|bytes| *bytes > skipped)
            .ok_or_else(invalid)?;
        let offset = libc::off_t::try_from(start - skipped).map_err(|_| invalid())?;
        // SAFETY: a fresh mapping at an address of the kernel's choice; the kernel refuses what lies
        // beyond the map.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                offset,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: `skipped` is less than a page, and at least that much is mapped.
            at: unsafe { base.byte_add(skipped) }.cast_const().cast(),
            length,
            base,
            bytes,
        })
    }

    /// Element `index`, word by word: each is whole, but they need not belong together.
    pub fn get(&self, index: usize) -> T {
        let mut out = T::default();
        if index >= self.length {
            return out;
        }
        let words = size_of::<T>() / 8;
        // SAFETY: the element lies within the mapping, 8-byte aligned as array maps are, and is
        // read as words that are atomics for both sides; `out` is as large and any bits are valid.
        unsafe {
            let from = self.at.add(index).cast::<AtomicU64>();
            let to = (&raw mut out).cast::<u64>();
            for i in 0..words {
                to.add(i)
                    .write_unaligned((*from.add(i)).load(Ordering::Relaxed));
            }
        }
        out
    }

    /// The first word of element `index`.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.length, "element {index} of {}", self.length);
        // SAFETY: within the mapping, aligned, and only ever accessed atomically.
        unsafe { &*self.at.add(index).cast::<AtomicU64>() }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, and nothing borrows from it any more.
        unsafe { libc::munmap(self.base, self.bytes) };
    }
}

/// Calls for tests alone.
#[cfg(test)]
pub mod testing {
    use super::*;

    const BPF_PROG_TEST_RUN: libc::c_long = 10;
    const BPF_ENABLE_STATS: libc::c_long = 32;
    const BPF_STATS_RUN_TIME: u32 = 0;
    const BPF_F_TEST_RUN_ON_CPU: u32 = 1;

    #[derive(Default)]
    #[repr(C)]
    struct Run {
        program: u32,
        returned: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        context_size_in: u32,
        context_size_out: u32,
        context_in: u64,
        context_out: u64,
        flags: u32,
        cpu: u32,
    }

    /// Runs a program once on a CPU as if its tracepoint had fired with `args`.
    pub fn run(program: BorrowedFd<'_>, args: &[u64], cpu: u32) -> io::Result<()> {
        let mut attr = Run {
            program: program.as_raw_fd() as u32,
            context_size_in: size_of_val(args) as u32,
            context_in: args.as_ptr() as u64,
            flags: BPF_F_TEST_RUN_ON_CPU,
            cpu,
            ..Run::default()
        };
        bpf(BPF_PROG_TEST_RUN, &mut attr).map(|_| ())
    }

    /// Has the kernel keep run statistics of all programs while the descriptor lives.
    pub fn statistics() -> io::Result<OwnedFd> {
        bpf(BPF_ENABLE_STATS, &mut { BPF_STATS_RUN_TIME }).map(owned)
    }

    /// Numbers of all maps of this name with so many elements.
    pub fn maps_named(name: &str, entries: u32) -> std::collections::BTreeSet<u32> {
        const BPF_MAP_GET_NEXT_ID: libc::c_long = 12;
        const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
        let mut found = std::collections::BTreeSet::new();
        let mut id = 0;
        loop {
            // start_id, next_id, open_flags.
            let mut next = [id, 0, 0];
            if bpf(BPF_MAP_GET_NEXT_ID, &mut next).is_err() {
                return found;
            }
            id = next[1];
            let Ok(fd) = bpf(BPF_MAP_GET_FD_BY_ID, &mut [id, 0, 0]).map(owned) else {
                continue;
            };
            // bpf_map_info: type, id, key_size, value_size, max_entries, map_flags, name.
            let mut info = [0u32; 10];
            let mut attr = Info {
                fd: fd.as_raw_fd() as u32,
                length: size_of_val(&info) as u32,
                info: info.as_mut_ptr() as u64,
            };
            if bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).is_err() || info[4] != entries {
                continue;
            }
            let text: Vec<u8> = info[6..].iter().flat_map(|w| w.to_ne_bytes()).collect();
            if text.starts_with(name.as_bytes()) && text[name.len()] == 0 {
                found.insert(id);
            }
        }
    }

    /// Time (ns) and number of a program's runs, and how many instructions the verifier walked.
    pub fn runs(program: BorrowedFd<'_>) -> io::Result<(u64, u64, u32)> {
        /// bpf_prog_info: run_time_ns, run_cnt, recursion_misses, verified_insns.
        const RUN_TIME: usize = 192;
        let mut info = [0u64; 29];
        let mut attr = Info {
            fd: program.as_raw_fd() as u32,
            length: size_of_val(&info) as u32,
            info: info.as_mut_ptr() as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
        let at = RUN_TIME / 8;
        Ok((info[at], info[at + 1], info[at + 3] as u32))
    }
}
