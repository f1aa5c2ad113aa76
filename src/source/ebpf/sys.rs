//! The few bpf(2) calls that readers need and aya has no read-only form of.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::Plain;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_F_RDONLY: u32 = 1 << 3;

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
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a live structure of the size that is passed, and what it points to lives
    // in the callers' frames.
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

/// Opens a pinned map for reading.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Object {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: BPF_F_RDONLY,
    };
    let fd = bpf(BPF_OBJ_GET, &mut attr)?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec, as all of bpf's).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One element of a map, or `None` where there is none under this key.
pub fn lookup<K: Copy, V: Copy + Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::default();
    let mut attr = Element {
        map: map.as_raw_fd() as u32,
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
