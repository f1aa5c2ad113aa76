//! Memory where the system has none left: the meter goes on, and the function gets its error.
//!
//! Rust ends the process when an allocation fails, Python raises `MemoryError`. A function that
//! reaches its limit (`ulimit -v`, a job scheduler, `setrlimit`) must get that error whether it is
//! metered or not. So the extension module allocates from the system and, where that refuses, from
//! a [`Reserve`] in the module's own zeroed data: it costs address space when the module is loaded
//! and no page before it is used. What needs more than a part of it asks [`is_short`] first and
//! does without.
//!
//! The reserve takes no lock: a fork may happen in the middle of anything.
//!
//! A forked child has a [`Nursery`] before the system's allocator.

mod nursery;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use nursery::Nursery;

/// Blocks of one size.
#[derive(Debug, Clone, Copy)]
struct Class {
    /// Bytes of one block, a power of two.
    size: usize,
    /// How many there are.
    blocks: usize,
    /// Where they begin in the reserve.
    start: usize,
    /// Where their bits begin, in words.
    words: usize,
}

/// Sizes and numbers of blocks: the names and small values of a reading, its lists, texts of /proc,
/// and the samples of a timeline.
const SHAPE: [(usize, usize); 4] = [(64, 2048), (512, 512), (8192, 32), (LARGEST, 16)];

/// Bytes of the largest block: no single allocation of the meter's own is larger without asking
/// [`is_short_of`] before.
pub const LARGEST: usize = 65_536;

const CLASSES: [Class; SHAPE.len()] = {
    let mut classes = [Class {
        size: 0,
        blocks: 0,
        start: 0,
        words: 0,
    }; SHAPE.len()];
    let (mut i, mut start, mut words) = (0, 0, 0);
    while i < SHAPE.len() {
        let (size, blocks) = SHAPE[i];
        assert!(size.is_power_of_two());
        classes[i] = Class {
            size,
            blocks,
            start,
            words,
        };
        start += size * blocks;
        words += blocks.div_ceil(64);
        i += 1;
    }
    classes
};

const LAST: Class = CLASSES[SHAPE.len() - 1];
const BYTES: usize = LAST.start + LAST.size * LAST.blocks;
const WORDS: usize = LAST.words + LAST.blocks.div_ceil(64);

/// What a start, a stop or a reading may need at most, as blocks of each class: a third of them.
#[cfg(any(feature = "python", test))]
const NEEDED: [usize; SHAPE.len()] = [680, 170, 10, 5];

impl Class {
    /// Its words, with the bits in each that stand for no block.
    fn words<'w>(&self, all: &'w [AtomicU64]) -> impl Iterator<Item = (&'w AtomicU64, u64)> {
        let blocks = self.blocks;
        let words = &all[self.words..self.words + blocks.div_ceil(64)];
        words.iter().enumerate().map(move |(i, word)| {
            let left = blocks - 64 * i;
            (word, if left < 64 { u64::MAX << left } else { 0 })
        })
    }
}

/// Aligned as the largest of what is asked for in practice: a page.
#[repr(C, align(4096))]
struct Room(UnsafeCell<[u8; BYTES]>);

/// Blocks of fixed sizes; which of them are taken, in one bit each.
pub struct Reserve {
    room: Room,
    taken: [AtomicU64; WORDS],
    /// Blocks that are taken, so that a reserve that nobody uses costs one comparison.
    in_use: AtomicUsize,
}

// SAFETY: a block belongs to the one who set its bit, by an atomic operation, until it is cleared.
unsafe impl Sync for Reserve {}

impl Default for Reserve {
    fn default() -> Self {
        Self::new()
    }
}

impl Reserve {
    /// A reserve of which nothing is taken.
    pub const fn new() -> Self {
        Self {
            room: Room(UnsafeCell::new([0; BYTES])),
            taken: [const { AtomicU64::new(0) }; WORDS],
            in_use: AtomicUsize::new(0),
        }
    }

    fn start(&self) -> *mut u8 {
        self.room.0.get().cast()
    }

    /// Whether a block lies in it.
    fn holds(&self, at: *const u8) -> bool {
        (at as usize).wrapping_sub(self.start() as usize) < BYTES
    }

    /// A block for `layout`, or null.
    fn take(&self, layout: Layout) -> *mut u8 {
        let wanted = layout.size().max(layout.align());
        for class in CLASSES.iter().filter(|class| class.size >= wanted) {
            for (i, (word, absent)) in class.words(&self.taken).enumerate() {
                let mut seen = word.load(Ordering::Relaxed);
                while seen | absent != u64::MAX {
                    let bit = seen.trailing_ones() as usize;
                    match word.compare_exchange_weak(
                        seen,
                        seen | 1 << bit,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => {
                            self.in_use.fetch_add(1, Ordering::Relaxed);
                            let at = class.start + class.size * (64 * i + bit);
                            // SAFETY: `at` is below BYTES, by the place of its class's blocks.
                            return unsafe { self.start().add(at) };
                        }
                        Err(now) => seen = now,
                    }
                }
            }
        }
        std::ptr::null_mut()
    }

    /// The class and the number in it of a block that [`Reserve::holds`].
    fn place(&self, at: *const u8) -> (Class, usize) {
        let offset = at as usize - self.start() as usize;
        let class = *CLASSES
            .iter()
            .rfind(|class| class.start <= offset)
            .unwrap_or(&LAST);
        (class, (offset - class.start) / class.size)
    }

    /// Gives a block back that [`Reserve::take`] returned.
    fn give_back(&self, at: *const u8) {
        let (class, block) = self.place(at);
        let word = &self.taken[class.words + block / 64];
        word.fetch_and(!(1 << (block % 64)), Ordering::Release);
        self.in_use.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether it has as many free blocks of each class as a window and its reading may take.
    #[cfg(any(feature = "python", test))]
    fn has_room(&self) -> bool {
        if self.in_use.load(Ordering::Relaxed) == 0 {
            return true;
        }
        CLASSES.iter().zip(NEEDED).all(|(class, needed)| {
            let free: u32 = class
                .words(&self.taken)
                .map(|(word, absent)| (word.load(Ordering::Relaxed) | absent).count_zeros())
                .sum();
            free as usize >= needed
        })
    }
}

impl std::fmt::Debug for Reserve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserve")
            .field("in_use", &self.in_use)
            .finish_non_exhaustive()
    }
}

/// The system's allocator with a reserve behind it, and before it in a forked child a nursery.
#[derive(Debug)]
pub struct Backed<A> {
    nursery: Nursery,
    first: A,
    reserve: Reserve,
}

impl<A> Backed<A> {
    /// `first` with a reserve that is not used yet.
    pub const fn new(first: A) -> Self {
        Self {
            nursery: Nursery::new(),
            first,
            reserve: Reserve::new(),
        }
    }
}

// SAFETY: every block is of the nursery, of `first` or of the reserve and goes back where it came from,
// distinguished by its address; a block of the nursery is as large and as aligned as was asked for, one
// of the reserve at least so.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Backed<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let young = self.nursery.take(layout);
        if !young.is_null() {
            return young;
        }
        // SAFETY: the caller's promise is passed on.
        let at = unsafe { self.first.alloc(layout) };
        if at.is_null() {
            return self.reserve.take(layout);
        }
        at
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let young = self.nursery.take(layout);
        if !young.is_null() {
            // SAFETY: a block of this size, which is nobody else's.
            unsafe { young.write_bytes(0, layout.size()) };
            return young;
        }
        // SAFETY: the caller's promise is passed on.
        let at = unsafe { self.first.alloc_zeroed(layout) };
        if !at.is_null() {
            return at;
        }
        let at = self.reserve.take(layout);
        if !at.is_null() {
            // SAFETY: a block of the reserve of at least this size, which is nobody else's.
            unsafe { at.write_bytes(0, layout.size()) };
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if self.nursery.holds(at) {
            self.nursery.give_back(at, layout.size());
        } else if self.reserve.holds(at) {
            self.reserve.give_back(at);
        } else {
            // SAFETY: it is not the reserve's, so it is `first`'s.
            unsafe { self.first.dealloc(at, layout) };
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let ours = self.reserve.holds(at);
        if self.nursery.holds(at) {
            if self.nursery.resize(at, layout.size(), size) {
                return at;
            }
        } else if !ours {
            // SAFETY: it is not the reserve's, so it is `first`'s.
            let moved = unsafe { self.first.realloc(at, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        } else if size <= self.reserve.place(at).0.size {
            return at;
        }
        // SAFETY: the caller promises a size that is a layout's with this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the new block is apart from the old one, and both hold what is copied; the old
        // one is given back once.
        unsafe {
            let to = self.alloc(wanted);
            if !to.is_null() {
                to.copy_from_nonoverlapping(at, layout.size().min(size));
                self.dealloc(at, layout);
            }
            to
        }
    }
}

/// The extension module's allocator. Programs that use the crate have their own.
#[cfg(feature = "python")]
#[global_allocator]
static ALLOCATOR: Backed<System> = Backed::new(System);

/// This process was forked, and what it allocates first is to lie together.
pub fn in_forked_child() {
    #[cfg(feature = "python")]
    ALLOCATOR.nursery.open();
}

/// Why something was not done, for readings.
pub const SHORT: &str = "no memory was free: the process has reached its limit";

/// Whether so little memory is left that work must not be begun: the reserve has been used, and the
/// system has none either.
///
/// Costs one comparison while the reserve was not needed.
pub fn is_short() -> bool {
    #[cfg(feature = "python")]
    return !ALLOCATOR.reserve.has_room() && !system_has(BYTES / 3);
    #[cfg(not(feature = "python"))]
    false
}

/// The same before work that allocates `bytes` at once.
pub fn is_short_of(bytes: usize) -> bool {
    is_short() || (bytes > LARGEST && !system_has(bytes.saturating_mul(2)))
}

/// What the first thread of a program that allocates takes of the address space beside its stack:
/// glibc gives it a heap of its own, bytes.
const THREAD_BYTES: u64 = 66 << 20;

/// A thread may take this part of the address space that is left.
const THREAD_PART: u64 = 8;

/// Whether the process may have one more thread without feeling it: address space may be limited
/// (`ulimit -v`), and the function needs it.
pub fn allows_thread() -> bool {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: getrlimit writes the structure, which outlives the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    if !known || limit.rlim_cur == libc::RLIM_INFINITY {
        return true;
    }
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok());
    // SAFETY: sysconf has no preconditions.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let used = pages.map_or(0, |pages| pages.saturating_mul(page));
    let left = limit.rlim_cur.saturating_sub(used);
    left / THREAD_PART >= THREAD_BYTES && system_has(1 << 20)
}

/// Whether the system has `bytes` more. Asked before what cannot fail softly: a thread's start.
pub fn system_has(bytes: usize) -> bool {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), 16) else {
        return false;
    };
    // SAFETY: the layout is not empty; the block goes back as it came, untouched.
    unsafe {
        let at = std::hint::black_box(System.alloc(layout));
        if at.is_null() {
            return false;
        }
        System.dealloc(at, layout);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An allocator that has nothing.
    struct Empty;

    // SAFETY: it hands nothing out.
    unsafe impl GlobalAlloc for Empty {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            std::ptr::null_mut()
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {
            unreachable!("nothing was handed out");
        }
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    /// On the heap: it is too large for a test's stack.
    fn backed() -> Box<Backed<Empty>> {
        // SAFETY: all-zero is a valid value of atomics and bytes, and `Empty` has none.
        unsafe { Box::<Backed<Empty>>::new_zeroed().assume_init() }
    }

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        let memory = backed();
        let mut blocks = Vec::new();
        let sizes = [1, 64, 65, 500, 4000, 8192, 9000, 65536];
        for round in 0..40u8 {
            for size in sizes {
                let wanted = layout(size, if round % 2 == 0 { 8 } else { 64 });
                // SAFETY: the layout is not empty, and the block has its size.
                let at = unsafe { memory.alloc(wanted) };
                if at.is_null() {
                    continue;
                }
                assert_eq!(at as usize % wanted.align(), 0);
                // SAFETY: as above.
                unsafe { at.write_bytes(round, size) };
                blocks.push((at, wanted, round));
            }
        }
        assert!(blocks.len() > 200, "{}", blocks.len());
        for (at, wanted, round) in &blocks {
            // SAFETY: written above, with this length.
            let bytes = unsafe { std::slice::from_raw_parts(*at, wanted.size()) };
            assert!(bytes.iter().all(|byte| byte == round));
        }
        assert!(!memory.reserve.has_room());
        for (at, wanted, _) in blocks {
            // SAFETY: each goes back once, as it came.
            unsafe { memory.dealloc(at, wanted) };
        }
        assert!(memory.reserve.has_room());
        assert!(
            memory
                .reserve
                .taken
                .iter()
                .all(|word| word.load(Ordering::Relaxed) == 0)
        );
    }

    #[test]
    fn a_block_grows_with_what_is_in_it() {
        let memory = backed();
        // SAFETY: every block is used with the size that it was last given.
        unsafe {
            let mut at = memory.alloc_zeroed(layout(40, 8));
            at.write(7);
            let mut size = 40;
            for next in [60, 64, 100, 8000, 60_000] {
                at = memory.realloc(at, layout(size, 8), next);
                assert_eq!((at.read(), at.add(39).read()), (7, 0));
                size = next;
            }
            assert!(memory.realloc(at, layout(size, 8), 1 << 20).is_null());
            memory.dealloc(at, layout(size, 8));
        }
        assert_eq!(memory.reserve.in_use.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let memory = backed();
        // SAFETY: layouts that are not empty.
        unsafe {
            assert!(memory.alloc(layout(65_537, 8)).is_null());
            let taken: Vec<_> = std::iter::repeat_with(|| memory.alloc(layout(60_000, 8)))
                .take_while(|at| !at.is_null())
                .collect();
            assert_eq!(taken.len(), LAST.blocks);
            assert!(!memory.reserve.has_room());
            for at in taken {
                memory.dealloc(at, layout(60_000, 8));
            }
        }
    }

    #[test]
    fn a_forked_child_takes_blocks_that_lie_together() {
        let memory = backed();
        // SAFETY: layouts that are not empty; each block is used with the size it was last given.
        unsafe {
            let before = memory.alloc(layout(40, 8));
            assert!(memory.reserve.holds(before) && !memory.nursery.holds(before));
            memory.nursery.open();
            let first = memory.alloc(layout(40, 8));
            let second = memory.alloc(layout(100, 64));
            assert_eq!(second as usize, (first as usize + 40).next_multiple_of(64));
            second.write_bytes(7, 100);
            // The last block grows where it is, another is moved.
            assert_eq!(memory.realloc(second, layout(100, 64), 5000), second);
            let moved = memory.realloc(first, layout(40, 8), 48);
            assert_eq!(moved as usize, second as usize + 5008);
            assert_eq!(second.add(99).read(), 7);
            assert_eq!(memory.realloc(second, layout(5000, 64), 60), second);
            // The last goes back, and what comes in its place is as it was asked for.
            memory.dealloc(moved, layout(48, 8));
            memory.nursery.open();
            let zeroed = memory.alloc_zeroed(layout(48, 8));
            assert_eq!((zeroed, zeroed.add(47).read()), (moved, 0));
            // What it has no room for comes from behind it.
            let large = memory.alloc(layout(60_000, 8));
            let larger = memory.alloc(layout(60_000, 8));
            let largest = memory.alloc(layout(60_000, 8));
            assert!(memory.nursery.holds(large) && memory.nursery.holds(larger));
            assert!(memory.reserve.holds(largest));
            for (at, size) in [(largest, 60_000), (before, 40)] {
                memory.dealloc(at, layout(size, 8));
            }
            assert_eq!(memory.reserve.in_use.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn threads_share_it() {
        let memory = backed();
        std::thread::scope(|scope| {
            for mark in 0..4u8 {
                let memory = &memory;
                scope.spawn(move || {
                    for _ in 0..2000 {
                        // SAFETY: the block is this thread's until it is given back.
                        unsafe {
                            let at = memory.alloc(layout(200, 8));
                            at.write_bytes(mark, 200);
                            assert!(
                                std::slice::from_raw_parts(at, 200)
                                    .iter()
                                    .all(|b| *b == mark)
                            );
                            memory.dealloc(at, layout(200, 8));
                        }
                    }
                });
            }
        });
        assert_eq!(memory.reserve.in_use.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_system_is_asked_without_being_used() {
        assert!(system_has(1 << 16));
        assert!(!system_has(usize::MAX / 4));
    }
}
