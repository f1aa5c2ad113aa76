//! Carries one call's window from the process that runs its function to the worker it was forked
//! from.
//!
//! The worker makes an anonymous shared mapping before that fork, so that the function's process
//! needs no file, no name and no cleaning up, and whatever it has committed is there however it
//! dies.

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock;
use crate::error::Error;
use crate::source::ring::layout::checksum;

/// Bytes of the mapping. A full set of stats is about 6 kB of JSON; pages that are never written
/// take no memory.
pub const CAPACITY: usize = 64 * 1024;

const EMPTY: u32 = 0;
const STARTED: u32 = 1;
const COMMITTED: u32 = 2;

/// Of the header, words of 32 bits: state, number of the call, process id, length of the payload.
/// Then come 64 bits of checksum, and the payload.
const STATE: usize = 0;
const SEQUENCE: usize = 1;
const PID: usize = 2;
const LENGTH: usize = 3;
const CHECKSUM_AT: usize = 16;
const PAYLOAD_AT: usize = 24;

/// The number of the last call of this process or of the one that it was forked from.
static SEQUENCES: AtomicU32 = AtomicU32::new(0);

/// Mappings of calls that are over, for the next ones, and the process that they are of: to make one
/// anew and to give it back takes as long as all else that is done with it.
static SPARE: Mutex<(u32, Vec<Memory>)> = Mutex::new((0, Vec::new()));

const MOST_SPARE: usize = 2;

/// A shared anonymous mapping.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process and not to a thread; its header is only reached through
// atomics, and its payload by the one process that writes it, then by the one that was told so.
unsafe impl Send for Memory {}
// SAFETY: as above; two threads of a process that write at once spoil the payload, which its
// checksum shows.
unsafe impl Sync for Memory {}

impl Memory {
    fn map(len: usize) -> Result<Self, Error> {
        // SAFETY: a fresh anonymous mapping; no pointer of ours goes in.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::Memory);
        }
        let start = NonNull::new(start.cast()).ok_or(Error::Memory)?;
        Ok(Self { start, len })
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the header is within every mapping (see `Channel::new`), whose pages are aligned
        // for it, and an AtomicU32 has the size of a word.
        unsafe { &*self.start.as_ptr().cast::<AtomicU32>().add(index) }
    }

    fn checksum(&self) -> &AtomicU64 {
        // SAFETY: as in `word`; 16 bytes behind a page's start it is aligned.
        unsafe { &*self.start.as_ptr().add(CHECKSUM_AT).cast::<AtomicU64>() }
    }

    /// The state comes last: a process that is killed half-way has committed nothing.
    fn set(&self, state: u32, sequence: u32, pid: u32) {
        self.word(SEQUENCE).store(sequence, Ordering::Relaxed);
        self.word(PID).store(pid, Ordering::Relaxed);
        self.word(STATE).store(state, Ordering::Release);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn sum(payload: &[u8]) -> u64 {
    let words = payload.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    checksum(&words.collect::<Vec<_>>())
}

/// A mailbox for one payload, written by the forked child, read by its parent.
///
/// ```
/// use lithowatt::channel::{CAPACITY, Channel};
/// let channel = Channel::new(CAPACITY)?;
/// assert_eq!(channel.read(), None);
/// assert!(channel.write(b"joules"));
/// assert_eq!(channel.read().as_deref(), Some(&b"joules"[..]));
/// # Ok::<(), lithowatt::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Channel {
    /// `None` only while it is dropped.
    memory: Option<Memory>,
    /// Parent and child agree on the number because the child is a fork.
    sequence: u32,
    maker: u32,
}

impl Channel {
    /// An empty one that takes payloads up to `capacity` bytes, the header's 24 included.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] where no mapping is to be had.
    pub fn new(capacity: usize) -> Result<Self, Error> {
        let maker = std::process::id();
        let mut memory = None;
        // Nobody is waited for: a fork may have come while another thread had it.
        if let Ok(mut spare) = SPARE.try_lock() {
            let (of, kept) = &mut *spare;
            if *of != maker {
                // A parent's: it may use them again, too.
                kept.clear();
            } else if capacity == CAPACITY {
                memory = kept.pop();
            }
        }
        let memory = match memory {
            Some(memory) => memory,
            None => Memory::map(capacity.max(PAYLOAD_AT))?,
        };
        Ok(Self {
            memory: Some(memory),
            sequence: SEQUENCES.fetch_add(1, Ordering::Relaxed).wrapping_add(1),
            maker,
        })
    }

    /// Records that the function has begun, in this process.
    pub fn mark_started(&self) {
        if let Some(memory) = &self.memory {
            memory.set(STARTED, self.sequence, std::process::id());
        }
    }

    /// Commits a payload; false where it does not fit, and nothing is changed then.
    pub fn write(&self, payload: &[u8]) -> bool {
        let Some(memory) = &self.memory else {
            return false;
        };
        let Ok(length) = u32::try_from(payload.len()) else {
            return false;
        };
        if payload.len() > memory.len - PAYLOAD_AT {
            return false;
        }
        // SAFETY: the payload's place is within the mapping, by the comparison above, and does not
        // overlap with what the caller has.
        unsafe {
            let place = memory.start.as_ptr().add(PAYLOAD_AT);
            place.copy_from_nonoverlapping(payload.as_ptr(), payload.len());
        }
        memory.word(LENGTH).store(length, Ordering::Relaxed);
        memory.checksum().store(sum(payload), Ordering::Relaxed);
        memory.set(COMMITTED, self.sequence, std::process::id());
        true
    }

    /// Process id of the function that began, `None` if none did.
    pub fn started_by(&self) -> Option<u32> {
        let memory = self.memory.as_ref()?;
        let state = memory.word(STATE).load(Ordering::Acquire);
        let sequence = memory.word(SEQUENCE).load(Ordering::Relaxed);
        (state != EMPTY && sequence == self.sequence)
            .then(|| memory.word(PID).load(Ordering::Relaxed))
    }

    /// The committed payload, `None` where there is none or it is damaged.
    pub fn read(&self) -> Option<Vec<u8>> {
        let memory = self.memory.as_ref()?;
        let state = memory.word(STATE).load(Ordering::Acquire);
        if state != COMMITTED || memory.word(SEQUENCE).load(Ordering::Relaxed) != self.sequence {
            return None;
        }
        let length = usize::try_from(memory.word(LENGTH).load(Ordering::Relaxed)).ok()?;
        if length > memory.len - PAYLOAD_AT {
            return None;
        }
        let mut payload = vec![0; length];
        // SAFETY: the payload's place is within the mapping, by the comparison above, and `payload`
        // has as many bytes of its own. A child that still writes spoils no more than the bytes,
        // which the checksum shows.
        unsafe {
            let place = memory.start.as_ptr().add(PAYLOAD_AT);
            payload.as_mut_ptr().copy_from_nonoverlapping(place, length);
        }
        (sum(&payload) == memory.checksum().load(Ordering::Relaxed)).then_some(payload)
    }

    /// Whether nobody writes any more: the process that did is gone, and was waited for.
    fn is_idle(&self) -> bool {
        let writer = self.started_by().and_then(|pid| i32::try_from(pid).ok());
        writer.is_some_and(|pid| clock::process_cpu_ns(pid).is_none())
    }
}

impl Drop for Channel {
    /// Gives the mapping back (a child that is still alive keeps its own).
    fn drop(&mut self) {
        let here = std::process::id();
        let of_use = self.maker == here && self.is_idle();
        let Some(memory) = self.memory.take() else {
            return;
        };
        if !of_use || memory.len != CAPACITY {
            return;
        }
        if let Ok(mut spare) = SPARE.try_lock() {
            let (of, kept) = &mut *spare;
            if *of != here {
                kept.clear();
                *of = here;
            }
            if kept.len() < MOST_SPARE {
                memory.set(EMPTY, 0, 0);
                kept.push(memory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_where_nothing_was_committed() {
        let channel = Channel::new(CAPACITY).unwrap();
        assert_eq!((channel.read(), channel.started_by()), (None, None));
        channel.mark_started();
        assert_eq!(channel.read(), None);
        assert_eq!(channel.started_by(), Some(std::process::id()));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let channel = Channel::new(4096).unwrap();
        assert!(!channel.write(&[b'x'; 4096 - PAYLOAD_AT + 1]));
        assert_eq!((channel.read(), channel.started_by()), (None, None));
        let most = [b'x'; 4096 - PAYLOAD_AT];
        assert!(channel.write(&most));
        assert_eq!(channel.read().as_deref(), Some(&most[..]));
    }

    #[test]
    fn damaged_values_are_not_read() {
        for at in [0, 4, 12, 16, 20, 23, 24, 30] {
            let channel = Channel::new(CAPACITY).unwrap();
            assert!(channel.write(b"some joules"));
            let memory = channel.memory.as_ref().unwrap();
            // SAFETY: within the mapping; nobody else has this channel.
            unsafe { *memory.start.as_ptr().add(at) ^= 0x40 };
            assert_eq!(channel.read(), None, "byte {at}");
        }
    }

    #[test]
    fn a_length_beyond_the_mapping_is_not_read() {
        let channel = Channel::new(CAPACITY).unwrap();
        assert!(channel.write(b"some joules"));
        let memory = channel.memory.as_ref().unwrap();
        memory.word(LENGTH).store(u32::MAX, Ordering::Relaxed);
        assert_eq!(channel.read(), None);
    }

    #[test]
    fn the_payload_of_another_call_is_not_read() {
        let channel = Channel::new(CAPACITY).unwrap();
        assert!(channel.write(b"some joules"));
        let memory = channel.memory.as_ref().unwrap();
        memory
            .word(SEQUENCE)
            .store(channel.sequence.wrapping_add(1), Ordering::Relaxed);
        assert_eq!((channel.read(), channel.started_by()), (None, None));
    }
}
