//! Memory for a process that was forked to run one function.
//!
//! In a fork each page that is written first has to be copied, and the blocks that an allocator has
//! free lie all over the heap: sixty small allocations are as many page faults, more time than all
//! that the meter does. So in a forked child blocks are cut one after the other from a stretch of
//! zeroed data, until that is used up.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much there is, bytes: a window and its stats take about half of it.
const BYTES: usize = 128 * 1024;

/// Nothing is cut while it is closed. Zero, so that the whole static is zeros: with one other byte
/// the file of the extension would hold all of it, and the reserve beside it, 1.8 MB.
const CLOSED: usize = 0;

/// Where the first block begins: the first cache line stays free, because 0 is `CLOSED`.
const FIRST: usize = 64;

/// Blocks are aligned as those of the system's allocator, whatever was asked for: libraries count on it.
/// perf-event-data 0.1.8 cannot read a counter's bytes from elsewhere.
const ALIGN: usize = 16;

/// Aligned to a page, as the largest of what is asked for in practice.
#[repr(C, align(4096))]
struct Room(UnsafeCell<[u8; BYTES]>);

/// Blocks that lie one after the other. A block that goes back is used again only if it is the last
/// one.
pub struct Nursery {
    room: Room,
    /// Where the next block begins.
    next: AtomicUsize,
}

// SAFETY: a block belongs to the one who moved `next` over it, by an atomic operation, after which comes
// what the one before wrote to it.
unsafe impl Sync for Nursery {}

impl Default for Nursery {
    fn default() -> Self {
        Self::new()
    }
}

impl Nursery {
    /// One that gives nothing before it is opened.
    pub const fn new() -> Self {
        Self {
            room: Room(UnsafeCell::new([0; BYTES])),
            next: AtomicUsize::new(CLOSED),
        }
    }

    /// Has blocks cut from it from now on. In the child of a process in which it is open it goes on
    /// where it was: the blocks are the child's, too.
    pub fn open(&self) {
        let _ = self
            .next
            .compare_exchange(CLOSED, FIRST, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn start(&self) -> *mut u8 {
        self.room.0.get().cast()
    }

    /// Whether a block lies in it.
    pub fn holds(&self, at: *const u8) -> bool {
        (at as usize).wrapping_sub(self.start() as usize) < BYTES
    }

    /// A block for `layout`, or null. What is in it is undefined.
    pub fn take(&self, layout: Layout) -> *mut u8 {
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            if next == CLOSED || layout.align() > 4096 {
                return std::ptr::null_mut();
            }
            let from = next.next_multiple_of(layout.align().max(ALIGN));
            let Some(to) = from.checked_add(layout.size()).filter(|to| *to <= BYTES) else {
                return std::ptr::null_mut();
            };
            match self
                .next
                .compare_exchange_weak(next, to, Ordering::Acquire, Ordering::Relaxed)
            {
                // SAFETY: `from` is not above BYTES.
                Ok(_) => return unsafe { self.start().add(from) },
                Err(now) => next = now,
            }
        }
    }

    /// Takes a block of `size` bytes back.
    pub fn give_back(&self, at: *const u8, size: usize) {
        let from = at as usize - self.start() as usize;
        let _ = self
            .next
            .compare_exchange(from + size, from, Ordering::Release, Ordering::Relaxed);
    }

    /// Makes the last block larger or smaller; false where it is not the last or there is no room.
    pub fn resize(&self, at: *const u8, size: usize, to: usize) -> bool {
        let from = at as usize - self.start() as usize;
        let Some(end) = from.checked_add(to).filter(|end| *end <= BYTES) else {
            return false;
        };
        self.next
            .compare_exchange(from + size, end, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
            || to <= size
    }
}

impl std::fmt::Debug for Nursery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nursery")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_is_zeros() {
        assert_eq!(Nursery::new().next.into_inner(), 0);
    }

    #[test]
    fn bytes_are_aligned_as_the_systems_are() {
        let nursery = Box::new(Nursery::new());
        nursery.open();
        for size in [1, 24, 3, 16, 7] {
            let at = nursery.take(Layout::from_size_align(size, 1).unwrap());
            assert_eq!(at as usize % ALIGN, 0);
            nursery.take(Layout::from_size_align(1, 1).unwrap());
        }
    }
}
