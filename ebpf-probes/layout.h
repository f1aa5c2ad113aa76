/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the probe and its readers agree on. src/source/ebpf/layout.rs says the same in Rust; a test
 * compares sizes and offsets through the object's BTF. All times are CLOCK_MONOTONIC, ns.
 *
 * Everything named *_map in comments is pinned: 0444 where readers need it, 0600 where not.
 */
#pragma once

/* No slot, no cgroup index. */
#define NONE 0xffffffffU

/* Trees inside trees: a function in a task in a worker in a command. */
#define DEPTH 4

/* How far up a process's ancestors are looked at. */
#define ANCESTORS 8

/* Who runs on a CPU, and what ran on it so far. One writer, the CPU itself; `seq` is odd while it
 * writes. */
struct cpu_state {
	u64 seq;
	u32 tgid; /* 0: idle */
	u32 slot;
	u64 since;
	u32 epoch; /* of `slot` */
	u32 cgroup;
	u64 busy_ns; /* by the scheduler's clock */
	u64 busy_wall_ns; /* from switch to switch */
	u64 shared_ns; /* part of it in which the sibling thread of the core was busy */
	u64 cycles;
	u64 instructions;
	u64 scaled; /* kHz x ns / 1024 */
	u64 scaled_ns; /* of which the frequency was known: what `scaled` covers */
	u64 slices;
	u64 lost; /* slices that began unseen */
	u64 untracked_ns; /* of processes for which there was no room */
};

/* What a tree, or a cgroup, used on one CPU. */
struct usage {
	u64 ns;
	u64 shared_ns;
	u64 cycles;
	u64 instructions;
	u64 scaled;
	u64 scaled_ns;
	u64 slices;
	u64 owner; /* of a cgroup: generation of its place */
};

/* A metered tree of processes. */
struct slot {
	u64 created;
	u32 root; /* tgid */
	u32 parent; /* the tree around it, or NONE */
	u32 generation; /* of this place */
	u32 members; /* processes and inner trees */
	u32 depth;
	u32 lost; /* descendants that could not be followed */
	u64 ended; /* when the last member went, or 0 */
	u64 early_ns; /* cut off slices that began before it was made */
	u64 reserved[2];
};

enum answer_status {
	ANSWER_OK = 1,
	ANSWER_FULL = 2, /* all slots are in use */
	ANSWER_DEEP = 3, /* more than DEPTH trees inside each other */
	ANSWER_UNKNOWN = 4, /* no such process was seen */
	ANSWER_REFUSED = 5, /* not root, and the process is no descendant of the caller */
};

/* What became of a request, found by its nonce. */
struct answer {
	u64 nonce;
	u32 slot;
	u32 generation;
	u32 status;
	u32 tgid;
	u64 reserved;
};

/* A process. */
struct process {
	u64 ns;
	u64 shared_ns;
	u64 cycles;
	u64 instructions;
	u64 scaled;
	u64 scaled_ns;
	u64 cgroup_id;
	u32 cgroup; /* index that belongs to cgroup_id */
	u32 parent; /* tgid of its creator */
	u32 slot; /* the innermost tree it is in */
	u32 root; /* the tree whose root it is, or NONE */
	u32 epoch; /* of `slot` */
	u32 ending; /* threads between their exit and their last switch */
	u32 tgid; /* 0: this place is free */
	u32 born; /* 2^26 ns, times two; the last bit says that its fork was seen */
};

/* The index under which a cgroup's usage is found. */
struct cgroup_place {
	u32 index;
	u32 generation;
};

#define IDLE_STATES 12

/* Frequency and idle states of a CPU. */
struct cpu_power {
	u64 khz; /* 0: no change was seen yet */
	u64 changed_at;
	u64 integral; /* kHz x ns / 1024 up to changed_at */
	u64 changes;
	u64 idle_since; /* 0: not in an idle state */
	u64 idle_state;
	u64 idle_transitions;
	u64 idle_ns[IDLE_STATES];
	u64 reserved[5];
};

/* One element. */
struct control {
	u32 epoch; /* counts trees that came, so that old answers are known to be old */
	u32 trees; /* in use */
	u64 process_overflow; /* processes for which there was no room */
	u64 cgroup_overflow;
	u64 slot_overflow;
	u64 thermal_events;
	u64 exits; /* processes taken out */
	u64 forks; /* processes put in */
	u32 processes; /* places that were ever used; so are the next two */
	u32 slots;
	u32 cgroups;
	u32 cgroup_generation;
};

/* One element, written once by the loader: what was loaded, and how large. */
struct identity {
	u64 magic;
	u32 abi;
	u32 cpus;
	u32 slots;
	u32 cgroups;
	u32 processes;
	u32 flags;
	u64 loaded_at;
	u8 object[32]; /* SHA-256 */
};
