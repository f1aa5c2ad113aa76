//! Cycles, instructions and task clock of a process tree.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use perf_event::Builder;
use perf_event::events::{Hardware, Software};

use super::owned::OwnCounter;
use super::{TREE_FIX, refusal};
use crate::source::Unavailable;
use crate::source::kept::StandardStreams;

/// Counters of a tree take at most this part of the descriptors that are free: they are the
/// function's, and each thread takes one, or three with a PMU.
const FREE_PART: u64 = 8;

/// … and not more than this, for each costs the kernel memory and every switch a little time.
const MOST: u64 = 1024;

/// Sums over a process tree since its counters were opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeCount {
    /// On-CPU time in ns.
    pub task_clock_ns: Option<u64>,
    /// CPU cycles.
    pub cycles: Option<u64>,
    /// Instructions retired.
    pub instructions: Option<u64>,
}

impl TreeCount {
    fn with(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        let both = |a: Option<u64>, b: Option<u64>| Some(f(a?, b?));
        Self {
            task_clock_ns: both(self.task_clock_ns, other.task_clock_ns),
            cycles: both(self.cycles, other.cycles),
            instructions: both(self.instructions, other.instructions),
        }
    }
}

/// The counters of one process tree.
#[derive(Debug)]
pub struct TreeCounters {
    tids: Vec<i32>,
    task_clock: Vec<OwnCounter>,
    cycles: Vec<OwnCounter>,
    instructions: Vec<OwnCounter>,
    /// What others had counted in whose place these were opened, less what these had by then.
    before: Option<TreeCount>,
    /// Somebody closed one of the descriptors.
    lost: bool,
    /// Why there are no hardware counters, if there are none.
    pub hardware: Option<Unavailable>,
}

impl TreeCounters {
    /// Opens one group for each of `tids`, inherited by what they start later.
    ///
    /// # Errors
    /// [`Unavailable`] where not even the software clock may be opened, or where that would take
    /// too many descriptors.
    pub fn open(tids: &[i32]) -> Result<Self, Unavailable> {
        let free = free_descriptors();
        let most = (free / FREE_PART).min(MOST);
        let threads = tids.len() as u64;
        let too_many = |each: u64| {
            Unavailable::passing(format!(
                "{threads} threads take {} descriptors, and counters of the process tree get {most} \
                 of the {free} that are free",
                threads * each
            ))
        };
        if threads > most {
            return Err(too_many(1));
        }
        let _spared = StandardStreams::spared();
        let mut tree = Self {
            tids: tids.to_vec(),
            task_clock: Vec::new(),
            cycles: Vec::new(),
            instructions: Vec::new(),
            before: None,
            lost: false,
            hardware: (3 * threads > most).then(|| too_many(3)),
        };
        for &tid in tids {
            let build = |builder: &mut Builder<'_>, leader: Option<&mut OwnCounter>| {
                builder
                    .observe_pid(tid)
                    .any_cpu()
                    .inherit(true)
                    .enabled(true);
                match leader {
                    Some(leader) => builder.build_with_group(&mut **leader),
                    None => builder.build(),
                }
                .map(OwnCounter::new)
            };
            let mut leader = None;
            if tree.hardware.is_none() {
                match build(&mut Builder::new(Hardware::CPU_CYCLES), None) {
                    Ok(mut cycles) => {
                        match build(&mut Builder::new(Hardware::INSTRUCTIONS), Some(&mut cycles)) {
                            Ok(counter) => tree.instructions.push(counter),
                            Err(e) => {
                                tree.hardware = Some(refusal(&e, "instructions", TREE_FIX));
                            }
                        }
                        leader = Some(cycles);
                    }
                    Err(e) => tree.hardware = Some(refusal(&e, "cycles", TREE_FIX)),
                }
            }
            match build(&mut Builder::new(Software::TASK_CLOCK), leader.as_mut()) {
                Ok(counter) => tree.task_clock.push(counter),
                // A thread may end between being listed and being opened.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                Err(e) => return Err(refusal(&e, "task-clock", TREE_FIX)),
            }
            tree.cycles.extend(leader);
        }
        if tree.task_clock.is_empty() {
            return Err(Unavailable::absent("no thread of the process is left"));
        }
        if tree.hardware.is_some() {
            // Some threads counted and some not would be a wrong number, not a partial one.
            tree.cycles.clear();
            tree.instructions.clear();
        }
        Ok(tree)
    }

    /// Whether half of the threads that they were opened for have ended: their descriptors are of
    /// no use any more, but to whoever else has none.
    pub fn are_half_ended(&self) -> bool {
        let ended = |tid: &&i32| !Path::new("/proc").join(tid.to_string()).exists();
        self.tids.len() > 1 && 2 * self.tids.iter().filter(ended).count() >= self.tids.len()
    }

    /// Takes the place of counters of the same tree, and counts on from what they had.
    pub fn succeed(&mut self, mut others: Self) {
        let then = others.read();
        self.before = Some(then.with(self.read(), u64::saturating_sub));
    }

    /// Whether somebody closed one of the descriptors: then they count no more.
    pub fn are_lost(&self) -> bool {
        self.lost
    }

    /// Reads the sums.
    pub fn read(&mut self) -> TreeCount {
        let now = TreeCount {
            task_clock_ns: sum(&mut self.task_clock, &mut self.lost),
            cycles: sum(&mut self.cycles, &mut self.lost),
            instructions: sum(&mut self.instructions, &mut self.lost),
        };
        match self.before {
            Some(before) => before.with(now, u64::saturating_add),
            None => now,
        }
    }
}

fn sum(counters: &mut [OwnCounter], lost: &mut bool) -> Option<u64> {
    if counters.is_empty() {
        return None;
    }
    let mut total = 0u64;
    for counter in counters {
        if *lost || !counter.is_ours() {
            *lost = true;
            return None;
        }
        let read = counter.read_count_and_time().ok()?;
        // Where counters take turns on the hardware, the count stands for the part that ran.
        total += if read.time_running > 0 && read.time_running < read.time_enabled {
            (u128::from(read.count) * u128::from(read.time_enabled) / u128::from(read.time_running))
                as u64
        } else {
            read.count
        };
    }
    Some(total)
}

/// Descriptors that this process may still open.
fn free_descriptors() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes the structure, which outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    let ours = Path::new("/proc/self/fd");
    // Linux 6.2 and later say how many there are without listing them.
    let used = match fs::metadata(ours).map(|found| found.len()) {
        Ok(told) if told > 0 => told,
        _ => fs::read_dir(ours).map_or(limit.rlim_cur, |all| all.count() as u64),
    };
    limit.rlim_cur.saturating_sub(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use std::os::fd::{AsRawFd, FromRawFd};

    fn own_tid() -> i32 {
        crate::clock::gettid()
    }

    fn spin() -> u64 {
        let mut x = 1u64;
        for i in 0..3_000_000u64 {
            x = std::hint::black_box(x.wrapping_mul(i | 1));
        }
        x
    }

    /// Counters of this thread, or `None` where perf may not be opened.
    fn opened() -> Option<TreeCounters> {
        match TreeCounters::open(&[own_tid()]) {
            Ok(tree) => Some(tree),
            Err(why) => {
                eprintln!("skipped: {why}");
                None
            }
        }
    }

    #[test]
    fn own_task_clock_counts_where_perf_may_be_opened() {
        let Some(mut tree) = opened() else { return };
        let before = tree.read().task_clock_ns.unwrap();
        let x = spin();
        assert!(tree.read().task_clock_ns.unwrap() > before, "{x}");
    }

    #[test]
    fn successors_count_on() {
        let Some(mut tree) = opened() else { return };
        spin();
        let counted = tree.read().task_clock_ns.unwrap();
        let Some(mut next) = opened() else { return };
        next.succeed(tree);
        assert!(next.read().task_clock_ns.unwrap() >= counted);
    }

    #[test]
    fn a_descriptor_that_became_another_file_is_neither_read_nor_closed() {
        let Some(mut tree) = opened() else { return };
        let fd = tree.task_clock[0].as_raw_fd();
        let mut theirs = tempfile::tempfile().unwrap();
        theirs.write_all(b"theirs").unwrap();
        // SAFETY: both are open descriptors of this test.
        assert_eq!(unsafe { libc::dup2(theirs.as_raw_fd(), fd) }, fd);
        assert_eq!(tree.read(), TreeCount::default());
        assert!(tree.are_lost());
        drop(tree);
        assert_eq!(theirs.stream_position().unwrap(), 6);
        // SAFETY: the descriptor is this test's, put there above.
        let still_theirs = unsafe { std::fs::File::from_raw_fd(fd) };
        assert_eq!(still_theirs.metadata().unwrap().len(), 6);
    }

    #[test]
    fn more_threads_than_descriptors_can_be_spared_for_are_not_counted() {
        let free = free_descriptors();
        assert!(free > 0);
        let tids = vec![own_tid(); (free / FREE_PART).min(MOST) as usize + 1];
        let why = TreeCounters::open(&tids).unwrap_err();
        assert!(why.reason.contains("descriptors"), "{why}");
        assert!(why.passing);
    }
}
