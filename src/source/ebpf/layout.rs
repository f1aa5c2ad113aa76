//! What the probe and its readers agree on: `ebpf-probes/layout.h` in Rust.
//!
//! Times are `CLOCK_MONOTONIC`, ns. A test compares every field with the object's own type
//! information.

/// Version of everything below.
pub const ABI: u32 = 2;

/// First word of [`Identity`].
pub const MAGIC: u64 = u64::from_be_bytes(*b"lithowat");

/// No slot, no cgroup index.
pub const NONE: u32 = u32::MAX;

/// Cells of the table of answers.
pub const ANSWERS: u32 = 256;

/// Idle states counted separately; deeper ones count as the last.
pub const IDLE_STATES: usize = 12;

/// Trees that may be followed at once.
pub const SLOTS: u32 = 512;

/// Cgroups that are kept.
pub const CGROUPS: u32 = 1024;

/// Processes that are kept.
pub const PROCESSES: u32 = 32_768;

/// Most CPUs that the probe was made for.
pub const MAX_CPUS: u32 = 1024;

/// A layout that may be read from memory that another writes.
///
/// # Safety
/// Every bit pattern is valid, and there is no padding.
pub unsafe trait Plain: Copy + Default {}

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Debug, Clone, Copy, PartialEq, Default)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $ty,)*
            }
            // SAFETY: only integers and arrays of them, laid out without padding (tested).
            unsafe impl Plain for $name {}
        )*
        /// Name, size and fields with their offsets of every structure, for comparison.
        #[cfg(test)]
        pub(super) fn structures() -> Vec<(String, usize, Vec<(&'static str, usize)>)> {
            vec![$((
                snake(stringify!($name)),
                size_of::<$name>(),
                vec![$((stringify!($field), std::mem::offset_of!($name, $field)),)*],
            ),)*]
        }
    };
}

#[cfg(test)]
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

plain! {
    /// Who runs on a CPU, and what ran on it so far.
    CpuState {
        /// Odd while the CPU writes.
        seq: u64,
        /// Process that runs; 0 is idle.
        tgid: u32,
        /// The tree it is in.
        slot: u32,
        /// Since when, ns.
        since: u64,
        /// Of `slot`.
        epoch: u32,
        /// Index of the cgroup it is in.
        cgroup: u32,
        /// Busy time by the scheduler's clock, ns.
        busy_ns: u64,
        /// Busy time from switch to switch, ns.
        busy_wall_ns: u64,
        /// Part of it in which the sibling thread of the core was busy, ns.
        shared_ns: u64,
        /// Cycles.
        cycles: u64,
        /// Instructions.
        instructions: u64,
        /// kHz × ns / 1024.
        scaled: u64,
        /// Busy time that `scaled` covers: the frequency was known, ns.
        scaled_ns: u64,
        /// Slices.
        slices: u64,
        /// Slices that began unseen.
        lost: u64,
        /// Busy time of processes for which there was no room, ns.
        untracked_ns: u64,
    }

    /// What a tree or a cgroup used on one CPU.
    Usage {
        /// On-CPU time, ns.
        ns: u64,
        /// Part of it in which the sibling thread of the core was busy, ns.
        shared_ns: u64,
        /// Cycles.
        cycles: u64,
        /// Instructions.
        instructions: u64,
        /// kHz × ns / 1024.
        scaled: u64,
        /// Part of `ns` that `scaled` covers: the frequency was known.
        scaled_ns: u64,
        /// Slices.
        slices: u64,
        /// Of a cgroup: generation of its place.
        owner: u64,
    }

    /// A metered tree of processes.
    Slot {
        /// When it was made, ns.
        created: u64,
        /// tgid of its root.
        root: u32,
        /// The tree around it.
        parent: u32,
        /// Counts the trees that had this place.
        generation: u32,
        /// Processes and inner trees in it.
        members: u32,
        /// Trees around it.
        depth: u32,
        /// Descendants that could not be followed.
        lost: u32,
        /// When its last member went, ns, or 0.
        ended: u64,
        /// Cut off slices that began before it was made, ns.
        early_ns: u64,
        /// Zero.
        reserved: [u64; 2],
    }

    /// What became of a request.
    Answer {
        /// Of the request.
        nonce: u64,
        /// Where the tree is counted.
        slot: u32,
        /// Of the slot.
        generation: u32,
        /// One of `ANSWER_*`.
        status: u32,
        /// The process, in the numbers of the first namespace.
        tgid: u32,
        /// Zero.
        reserved: u64,
    }

    /// A process.
    Process {
        /// On-CPU time since it was first seen, ns.
        ns: u64,
        /// Part of it in which the sibling thread of the core was busy, ns.
        shared_ns: u64,
        /// Cycles.
        cycles: u64,
        /// Instructions.
        instructions: u64,
        /// kHz × ns / 1024.
        scaled: u64,
        /// Part of `ns` that `scaled` covers: the frequency was known.
        scaled_ns: u64,
        /// The cgroup (v2) it last ran in.
        cgroup_id: u64,
        /// Index that belongs to it.
        cgroup: u32,
        /// tgid of its creator.
        parent: u32,
        /// The innermost tree it is in.
        slot: u32,
        /// The tree whose root it is.
        root: u32,
        /// Of `slot`.
        epoch: u32,
        /// Threads between their exit and their last switch.
        ending: u32,
        /// The process; 0 where this place is free.
        tgid: u32,
        /// When it was first seen, 2^26 ns, times two; the last bit is set if its fork was.
        born: u32,
    }

    /// The index under which a cgroup's usage is found.
    CgroupPlace {
        /// Row of the table.
        index: u32,
        /// Counts the cgroups that had this row.
        generation: u32,
    }

    /// Frequency and idle states of a CPU.
    CpuPower {
        /// Frequency, kHz; 0 where no change was seen yet.
        khz: u64,
        /// When it changed, ns.
        changed_at: u64,
        /// kHz × ns / 1024 up to then.
        integral: u64,
        /// Changes seen.
        changes: u64,
        /// When the CPU went into an idle state, ns, or 0.
        idle_since: u64,
        /// Which.
        idle_state: u64,
        /// Times it went into one.
        idle_transitions: u64,
        /// Time in each, ns.
        idle_ns: [u64; IDLE_STATES],
        /// Zero.
        reserved: [u64; 5],
    }

    /// What concerns all CPUs.
    Control {
        /// Counts the trees that came.
        epoch: u32,
        /// Trees in use.
        trees: u32,
        /// Processes for which there was no room.
        process_overflow: u64,
        /// Cgroups for which there was no room.
        cgroup_overflow: u64,
        /// Trees for which there was no room.
        slot_overflow: u64,
        /// Thermal events.
        thermal_events: u64,
        /// Processes taken out.
        exits: u64,
        /// Processes put in.
        forks: u64,
        /// Places for processes that were ever used.
        processes: u32,
        /// Places for trees that were ever used.
        slots: u32,
        /// Places for cgroups that were ever used.
        cgroups: u32,
        /// Counts the cgroups that came.
        cgroup_generation: u32,
    }

    /// What was loaded, and how large.
    Identity {
        /// [`MAGIC`].
        magic: u64,
        /// [`ABI`].
        abi: u32,
        /// Rows of the tables by CPU.
        cpus: u32,
        /// Trees.
        slots: u32,
        /// Cgroups.
        cgroups: u32,
        /// Processes.
        processes: u32,
        /// `FLAG_*`.
        flags: u32,
        /// When, ns.
        loaded_at: u64,
        /// SHA-256 of the object.
        object: [u8; 32],
    }
}

/// Cycles and instructions are counted.
pub const FLAG_CYCLES: u32 = 1;
/// Cores have two hardware threads.
pub const FLAG_SIBLINGS: u32 = 2;
/// Frequency changes are seen, if the processor reports them.
pub const FLAG_FREQUENCY: u32 = 4;
/// Idle states are seen.
pub const FLAG_IDLE: u32 = 8;
/// Thermal events are seen.
pub const FLAG_THERMAL: u32 = 16;

/// The tree is followed.
pub const ANSWER_OK: u32 = 1;
/// There is no room.
pub const ANSWER_FULL: u32 = 2;
/// Too many trees inside each other.
pub const ANSWER_DEEP: u32 = 3;
/// Not root, and the process is no descendant of the caller.
pub const ANSWER_REFUSED: u32 = 5;
/// No such process was seen.
pub const ANSWER_UNKNOWN: u32 = 4;
