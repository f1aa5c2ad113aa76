/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * On-CPU time of every process, of metered trees of processes and of cgroups, seen at the
 * scheduler's own switches.
 *
 * Time is taken from the kernel's account of each task (sum_exec_runtime), not from the clock at
 * the switch: the account begins when the task is woken or picked, up to microseconds before the
 * switch is traced, so differences of clock readings are low for tasks that sleep often. The
 * account is also what rusage and cpu.stat add up, so the sums agree with them to the nanosecond.
 *
 * Nothing is copied to user space on an event: readers map the arrays.
 */
#include "bpf.h"
#include "layout.h"

/* Set by the loader, constant for the verifier: what is off costs nothing. Offsets in bytes. */
volatile const u32 off_pid = 0;
volatile const u32 off_tgid = 0;
volatile const u32 off_flags = 0;
volatile const u32 off_state = 0;
volatile const u32 off_ran = 0;
volatile const u32 off_ran_when_picked = 0;
volatile const u32 off_real_parent = 0;
volatile const u32 off_signal = 0;
volatile const u32 off_group_leader = 0;
volatile const u32 off_exit_state = 0;
volatile const u32 off_signal_live = 0;
volatile const u32 off_signal_threads = 0;
volatile const u32 off_cgroup_kn = 0;
volatile const u32 off_kn_id = 0;
volatile const u32 cpus = 1;
volatile const u32 most_processes = 1;
volatile const u32 most_slots = 1;
volatile const u32 most_cgroups = 1;
volatile const u32 has_cycles = 0;
volatile const u32 has_siblings = 0;
/* The processor may reorder stores, so readers need them ordered. */
volatile const u32 weak_stores = 0;

/* Processes of a tree that may be made at the same moment on other CPUs. */
#define JOIN_TRIES 4

#define TASK_DEAD 0x80 /* include/linux/sched.h */
#define PF_EXITING 0x4

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_state);
} cpu_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_power);
} cpu_powers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct slot);
} slots SEC(".maps");

/* [slot][cpu] */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct usage);
} slot_usage SEC(".maps");

/* [cgroup index][cpu] */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct usage);
} cgroup_usage SEC(".maps");

#define ANSWERS 256

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ANSWERS);
	__type(key, u32);
	__type(value, struct answer);
} answers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct identity);
} identity SEC(".maps");

/* By index. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct process);
} processes SEC(".maps");

/* The index of each tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} process_index SEC(".maps");

/* Indices that were given back. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, u32);
} free_processes SEC(".maps");

/* Who ran on a CPU lately, by the last bits of the tgid: looking up an array element is a few
 * instructions, looking up a hash is a call. */
#define RECENT 64

struct recent {
	u32 tgid;
	u32 index;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct recent);
} recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u64);
	__type(value, struct cgroup_place);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, u32);
} free_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, u32);
} free_cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(map_flags, BPF_F_PRESERVE_ELEMS);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} cycles SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(map_flags, BPF_F_PRESERVE_ELEMS);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} instructions SEC(".maps");

/* The other hardware thread of each CPU's core, or NONE. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} siblings SEC(".maps");

/* What was read when the slice began. Kernel addresses are in it: never for readers. */
struct slice_start {
	u64 task;
	u64 ran;
	u64 cycles;
	u64 instructions;
	u64 sibling_busy;
	u64 integral;
	u64 idle; /* the CPU's idle task */
	u32 index; /* of its process, or NONE */
	u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct slice_start);
} slice_starts SEC(".maps");

static __always_inline u64 read64(u64 address)
{
	u64 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 read32(u64 address)
{
	u32 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline void advance(struct cpu_state *state)
{
	if (weak_stores) {
		/* With its result used this is a full barrier on both sides. */
		if (__sync_fetch_and_add(&state->seq, 1) == ~0ULL)
			state->lost += 1;
	} else {
		*(volatile u64 *)&state->seq += 1;
		asm volatile("" ::: "memory");
	}
}

static __always_inline struct control *get_control(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&control, &zero);
}

static __always_inline struct usage *cell(void *map, u32 row, u32 cpu)
{
	u32 key = row * cpus + cpu;
	return bpf_map_lookup_elem(map, &key);
}

/* What one slice used. */
struct slice {
	u64 ns;
	u64 shared_ns;
	u64 cycles;
	u64 instructions;
	u64 scaled;
	u64 scaled_ns;
};

static __always_inline void add(struct usage *to, const struct slice *what)
{
	to->ns += what->ns;
	if (has_siblings)
		to->shared_ns += what->shared_ns;
	if (has_cycles) {
		to->cycles += what->cycles;
		to->instructions += what->instructions;
	}
	to->scaled += what->scaled;
	to->scaled_ns += what->scaled_ns;
	to->slices += 1;
}

static __always_inline struct process *process_at(u32 index)
{
	return bpf_map_lookup_elem(&processes, &index);
}

static __always_inline u32 born(u32 seen)
{
	return (bpf_ktime_get_ns() >> 26) << 1 | seen;
}

static __always_inline u32 index_of(u32 tgid)
{
	u32 *index = bpf_map_lookup_elem(&process_index, &tgid);
	return index ? *index : NONE;
}

static __always_inline struct process *process_of(u32 tgid)
{
	/* NONE is beyond the array. */
	return process_at(index_of(tgid));
}

/* Who made a process, unless it has gone and its number is another's, which came later. */
static __always_inline struct process *creator_of(const struct process *process)
{
	struct process *creator = process_of(process->parent);
	if (creator && creator->born & 1 && creator->born >> 1 > process->born >> 1)
		return 0;
	return creator;
}

/* The next place that was never used. */
static __always_inline u32 next_of(u32 *used, u32 most)
{
	if (*used >= most)
		return NONE;
	u32 index = __sync_fetch_and_add(used, 1);
	return index < most ? index : NONE;
}

/* A place for a process: one that was given back, if any, for readers walk all that were used. */
static __always_inline u32 process_place(struct control *control)
{
	u32 index;
	if (!bpf_map_pop_elem(&free_processes, &index))
		return index;
	return next_of(&control->processes, most_processes);
}

/* A place for a tree or cgroup: the one that was given back longest ago, and only if all were used,
 * for readers may still want what the last one in it used. */
static __always_inline u32 fresh_place(void *given_back, u32 *used, u32 most)
{
	u32 index = next_of(used, most);
	if (index == NONE && bpf_map_pop_elem(given_back, &index))
		return NONE;
	return index;
}

/* Puts a process in. NONE where there is no room, or another CPU was first. */
static __always_inline u32 enter(const struct process *fresh, struct control *control)
{
	u32 tgid = fresh->tgid;
	u32 index = process_place(control);
	struct process *place = process_at(index);
	if (!place) {
		__sync_fetch_and_add(&control->process_overflow, 1);
		return NONE;
	}
	*place = *fresh;
	if (bpf_map_update_elem(&process_index, &tgid, &index, BPF_NOEXIST)) {
		place->tgid = 0;
		bpf_map_push_elem(&free_processes, &index, BPF_ANY);
		return NONE;
	}
	__sync_fetch_and_add(&control->forks, 1);
	return index;
}

/* Puts in a process that was there before the probe, and its ancestors, so that later trees find
 * their members. `task` is any thread of it. */
static __attribute__((noinline)) int discover(u64 task, u32 tgid)
{
	struct control *control = get_control();
	if (!control)
		return 0;
	for (int i = 0; i < ANCESTORS; i++) {
		u64 parent = read64(task + off_real_parent);
		struct process fresh = {
			.slot = NONE,
			.root = NONE,
			.cgroup = NONE,
			.tgid = tgid,
			.parent = parent ? read32(parent + off_tgid) : 0,
			.born = born(0),
		};
		if (index_of(tgid) != NONE || enter(&fresh, control) == NONE || !fresh.parent)
			return 0;
		tgid = fresh.parent;
		task = parent;
	}
	return 0;
}

static __always_inline struct slot *slot_at(u32 index)
{
	return bpf_map_lookup_elem(&slots, &index);
}

/* Makes something a member of a tree. Not of one that has ended meanwhile: its place may be another's
 * by now. Zero: it is no member. */
static __always_inline int join(u32 index)
{
	struct slot *slot = slot_at(index);
	if (!slot)
		return 0;
	u32 members = slot->members;
	for (int i = 0; i < JOIN_TRIES; i++) {
		if (!members)
			return 0;
		u32 found = __sync_val_compare_and_swap(&slot->members, members, members + 1);
		if (found == members)
			return 1;
		members = found;
	}
	return 0;
}

/* Gives up one member of a tree. A tree without members is free, and is one member less of the
 * tree around it. */
static __always_inline void leave(u32 index, struct control *control)
{
	for (int i = 0; i <= DEPTH; i++) {
		struct slot *slot = slot_at(index);
		if (!slot)
			return;
		if (__sync_fetch_and_add(&slot->members, -1) != 1)
			return;
		slot->ended = bpf_ktime_get_ns();
		__sync_fetch_and_add(&control->trees, -1);
		u32 parent = slot->parent;
		bpf_map_push_elem(&free_slots, &index, BPF_ANY);
		index = parent;
	}
}

/* Puts a tree into one that came later and whose root is an ancestor of its own. */
static __attribute__((noinline)) int enclose(u32 index, u32 outer)
{
	struct control *control = get_control();
	struct slot *slot = slot_at(index);
	if (!control || !slot || index == outer)
		return 0;
	u32 old = slot->parent;
	if (old == outer || !join(outer))
		return 0;
	u32 left = outer;
	if (__sync_val_compare_and_swap(&slot->parent, old, outer) == old)
		left = old;
	if (left != NONE)
		leave(left, control);
	return 0;
}

/* Finds the trees of a process anew: a tree has come since they were found. */
static __attribute__((noinline)) u32 resolve(u32 index, u32 epoch)
{
	struct control *control = get_control();
	struct process *process = process_at(index);
	if (!process || !control)
		return NONE;
	u32 found = NONE, inner = NONE;
	struct process *ancestor = process, *owner = 0;
	/* Its end is in the condition: with a break, clang lets the loop end without a jump to its
	 * beginning, which Linux before 6.7 refuses ("back-edge"). */
	for (int i = 0; i < ANCESTORS && ancestor; i++) {
		u32 root = ancestor->root;
		if (root != NONE) {
			if (inner == NONE) {
				found = root;
				owner = ancestor;
			} else {
				enclose(inner, root);
			}
			inner = root;
		}
		ancestor = creator_of(ancestor);
	}
	u32 old = process->slot;
	/* Where an ancestor has gone, what was inherited at the fork stands. Another thread of the
	 * process may do the same on another CPU: only one may move it. */
	if (found != NONE && found != old && join(found)) {
		u32 left = found;
		if (owner && owner->root == found &&
		    __sync_val_compare_and_swap(&process->slot, old, found) == old)
			left = old;
		if (left != NONE)
			leave(left, control);
	}
	process->epoch = epoch;
	return process->slot;
}

/* what x of / all, for up to 78 hours of ns and without overflow. */
static __attribute__((noinline)) u64 proportion(u64 what, u64 of, u64 all)
{
	if (all >> 32) {
		all >>= 16;
		of >>= 16;
	}
	if (!all)
		return 0;
	return what / all * of + what % all * of / all;
}

/* Charges a slice to the tree and to all around it. */
static __always_inline void charge_trees(u32 index, u32 cpu, u64 now, const struct slice *what)
{
	for (int i = 0; i < DEPTH; i++) {
		if (index == NONE)
			return;
		struct slot *slot = slot_at(index);
		struct usage *to = cell(&slot_usage, index, cpu);
		if (!slot || !to)
			return;
		u64 age = now - slot->created;
		if (likely(what->ns <= age)) {
			add(to, what);
		} else {
			/* The slice began before the tree did. */
			u64 ratio = proportion(1 << 12, age, what->ns);
			struct slice part = {
				.ns = age,
				.shared_ns = what->shared_ns * ratio >> 12,
				.cycles = what->cycles * ratio >> 12,
				.instructions = what->instructions * ratio >> 12,
				.scaled = what->scaled * ratio >> 12,
				.scaled_ns = what->scaled_ns ? age : 0,
			};
			add(to, &part);
			__sync_fetch_and_add(&slot->early_ns, what->ns - age);
		}
		index = slot->parent;
	}
	/* A tree round more than DEPTH others misses what they use. */
	struct slot *missed = slot_at(index);
	if (unlikely(missed != 0))
		__sync_fetch_and_add(&missed->lost, 1);
}

/* The index of the current cgroup, which gets one if it has none. */
static __attribute__((noinline)) u32 place_of_cgroup(u64 id)
{
	struct cgroup_place *known = bpf_map_lookup_elem(&cgroups, &id);
	if (known)
		return known->index;
	struct control *control = get_control();
	struct cgroup_place place = {};
	if (!control)
		return NONE;
	place.index = fresh_place(&free_cgroups, &control->cgroups, most_cgroups);
	if (place.index == NONE) {
		__sync_fetch_and_add(&control->cgroup_overflow, 1);
		return NONE;
	}
	place.generation = __sync_fetch_and_add(&control->cgroup_generation, 1);
	/* Nothing runs in the cgroup that had this index before: it was removed. */
	for (u32 cpu = 0; cpu < cpus; cpu++) {
		struct usage *old = cell(&cgroup_usage, place.index, cpu);
		if (old)
			*old = (struct usage){ .owner = place.generation };
	}
	if (bpf_map_update_elem(&cgroups, &id, &place, BPF_NOEXIST)) {
		/* Another CPU was first, or there is no room. */
		bpf_map_push_elem(&free_cgroups, &place.index, BPF_ANY);
		known = bpf_map_lookup_elem(&cgroups, &id);
		return known ? known->index : NONE;
	}
	return place.index;
}

static __always_inline void charge_cgroup(struct process *process, u32 cpu,
					  const struct slice *what)
{
	u64 id = bpf_get_current_cgroup_id();
	if (unlikely(process->cgroup_id != id || process->cgroup == NONE)) {
		process->cgroup = place_of_cgroup(id);
		process->cgroup_id = id;
	}
	struct usage *to = cell(&cgroup_usage, process->cgroup, cpu);
	if (to)
		add(to, what);
}

/* How long a CPU has been busy up to `now`, ns. */
static __always_inline u64 busy_of(u32 cpu, u64 now)
{
	struct cpu_state *state = bpf_map_lookup_elem(&cpu_states, &cpu);
	if (!state)
		return 0;
	u64 busy = state->busy_wall_ns;
	u64 since = state->since;
	if (state->tgid && now > since)
		busy += now - since;
	return busy;
}

static __always_inline u64 sibling_busy(u32 cpu, u64 now)
{
	u32 *sibling = bpf_map_lookup_elem(&siblings, &cpu);
	if (!sibling || *sibling == NONE)
		return 0;
	return busy_of(*sibling, now);
}

static __always_inline u64 count(void *events)
{
	struct perf_value value = {};
	if (bpf_perf_event_read_value(events, BPF_F_CURRENT_CPU, &value, sizeof(value)))
		return 0;
	return value.counter;
}

/* kHz x ns / 1024. The product alone would overflow after an hour at one frequency. */
static __always_inline u64 khz_times(u64 ns, u64 khz)
{
	return (ns >> 10) * khz + (((ns & 1023) * khz) >> 10);
}

static __always_inline u64 integral_of(const struct cpu_power *power, u64 now)
{
	u64 at = power->changed_at, khz = power->khz;
	return power->integral + (now > at ? khz_times(now - at, khz) : 0);
}

/* Takes out a process that has run for the last time. */
static __always_inline void take_out(struct process *process, u32 index, struct control *control)
{
	u32 tgid = process->tgid;
	if (bpf_map_delete_elem(&process_index, &tgid))
		return;
	process->tgid = 0;
	/* A tree that is being made of it finds out by this, or by the tgid. */
	u32 slot = __sync_lock_test_and_set(&process->slot, NONE);
	bpf_map_push_elem(&free_processes, &index, BPF_ANY);
	__sync_fetch_and_add(&control->exits, 1);
	if (slot != NONE)
		leave(slot, control);
}

/* How long a thread that ends has run, where the switch to it was not traced: as its end moves it out
 * of its session's group (autogroup), the scheduler keeps that moment for where the slice began. So it
 * is all of `wall` but what the one before it had, whose slice was seen to begin. */
static __attribute__((noinline)) u64 at_its_end(const struct slice_start *start, u64 kept, u64 wall)
{
	if (!start)
		return kept;
	u64 before = read64(start->task + off_ran) - start->ran;
	/* It may have gone, and the memory be another's. */
	if (before > wall)
		return kept;
	return wall - before > kept ? wall - before : kept;
}

/* Whether a thread that is at its last switch was the last of its process to get there. The thread that
 * begins to end last need not be: another one may still be busy with the memory of the process. Each
 * of the others is counted until its last switch: by `live`, before its end begins; by `threads`,
 * which an unreaped leader stays in; from on_exit on by `ending`. */
static __attribute__((noinline)) int was_last(u64 task, struct process *process)
{
	if (!process || __sync_fetch_and_add(&process->ending, -1) != 1)
		return 0;
	u64 signal = read64(task + off_signal);
	if (read32(signal + off_signal_live))
		return 0;
	u32 others = read32(signal + off_signal_threads);
	return !others || (others == 1 && read32(read64(task + off_group_leader) + off_exit_state));
}

SEC("raw_tp/sched_switch")
int on_switch(struct raw_tracepoint *ctx)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct cpu_state *state = bpf_map_lookup_elem(&cpu_states, &cpu);
	struct slice_start *start = bpf_map_lookup_elem(&slice_starts, &cpu);
	struct cpu_power *power = bpf_map_lookup_elem(&cpu_powers, &cpu);
	struct control *control = get_control();
	if (!state || !start || !power || !control)
		return 0;
	u64 prev = ctx->args[1], next = ctx->args[2];
	u64 now = bpf_ktime_get_ns();
	u64 cycles_now = 0, instructions_now = 0, sibling_now = 0;
	u32 epoch = control->epoch;

	if (has_cycles) {
		cycles_now = count(&cycles);
		instructions_now = count(&instructions);
	}
	if (has_siblings)
		sibling_now = sibling_busy(cpu, now);

	advance(state);
	u32 tgid = state->tgid, index = start->index;
	if (unlikely(start->task != prev)) {
		tgid = bpf_get_current_pid_tgid() >> 32;
		index = index_of(tgid);
	}
	if (tgid && start->task) {
		u64 wall = now - state->since;
		u64 ran = read64(prev + off_ran);
		struct slice what = { .ns = ran - start->ran };
		if (unlikely(start->task != prev)) {
			/* The switch to it was not traced. The scheduler itself keeps where the slice
			 * began, for the fair class; since the last switch that was seen it can not
			 * have run longer than that. */
			state->lost += 1;
			what.ns = ran - read64(prev + off_ran_when_picked);
			if (read32(prev + off_flags) & PF_EXITING)
				what.ns = at_its_end(start, what.ns, wall);
			if (what.ns > wall)
				what.ns = wall;
			wall = what.ns;
		}
		if (has_siblings) {
			u64 shared = sibling_now - start->sibling_busy;
			what.shared_ns = shared < what.ns ? shared : what.ns;
		}
		/* Of a counter that fails, zero is read. */
		if (has_cycles && start->cycles && cycles_now >= start->cycles &&
		    instructions_now >= start->instructions) {
			what.cycles = cycles_now - start->cycles;
			what.instructions = instructions_now - start->instructions;
		}
		u64 khz = power->khz;
		if (unlikely(khz)) {
			what.scaled_ns = what.ns;
			if (likely(power->changed_at <= state->since))
				what.scaled = khz_times(what.ns, khz);
			else
				what.scaled = proportion(integral_of(power, now) -
								 start->integral, what.ns, wall);
		}

		state->busy_ns += what.ns;
		state->busy_wall_ns += wall;
		state->shared_ns += what.shared_ns;
		state->cycles += what.cycles;
		state->instructions += what.instructions;
		state->scaled += what.scaled;
		state->scaled_ns += what.scaled_ns;

		struct process *process = process_at(index);
		if (unlikely(!process || process->tgid != tgid)) {
			if (!(read32(prev + off_flags) & PF_EXITING))
				discover(prev, tgid);
			index = index_of(tgid);
			process = process_at(index);
		}
		if (likely(process)) {
			__sync_fetch_and_add(&process->ns, what.ns);
			if (has_siblings)
				__sync_fetch_and_add(&process->shared_ns, what.shared_ns);
			if (has_cycles) {
				__sync_fetch_and_add(&process->cycles, what.cycles);
				__sync_fetch_and_add(&process->instructions, what.instructions);
			}
			if (khz) {
				__sync_fetch_and_add(&process->scaled, what.scaled);
				__sync_fetch_and_add(&process->scaled_ns, what.scaled_ns);
			}
			u32 slot = process->slot;
			if (unlikely(process->epoch != epoch))
				slot = resolve(index, epoch);
			charge_trees(slot, cpu, now, &what);
			charge_cgroup(process, cpu, &what);
			if (unlikely(process->ending) && read32(prev + off_state) & TASK_DEAD &&
			    was_last(prev, process))
				take_out(process, index, control);
		} else {
			state->untracked_ns += what.ns;
		}
	} else if (start->task && start->task != prev) {
		state->lost += 1;
	}

	/* pid and tgid lie next to each other in every kernel; the loader checks. */
	u32 slot = NONE, cgroup = NONE;
	if (!tgid)
		start->idle = prev;
	tgid = 0;
	index = NONE;
	epoch -= 1;
	if (next != start->idle)
		tgid = read64(next + off_pid) >> 32;
	if (tgid) {
		start->ran = read64(next + off_ran);
		u32 key = cpu * RECENT + (tgid & (RECENT - 1));
		struct recent *known = bpf_map_lookup_elem(&recent, &key);
		if (known) {
			struct process *process = process_at(known->index);
			if (unlikely(known->tgid != tgid || !process || process->tgid != tgid)) {
				known->tgid = tgid;
				known->index = index_of(tgid);
				process = process_at(known->index);
			}
			if (likely(process)) {
				index = known->index;
				slot = process->slot;
				cgroup = process->cgroup;
				epoch = process->epoch;
			}
		}
	}
	start->index = index;
	start->task = next;
	start->cycles = cycles_now;
	start->instructions = instructions_now;
	start->sibling_busy = sibling_now;
	if (power->khz)
		start->integral = integral_of(power, now);
	state->tgid = tgid;
	state->slot = slot;
	state->cgroup = cgroup;
	state->epoch = epoch;
	state->since = now;
	state->slices += 1;
	advance(state);
	return 0;
}

/* Whether the caller may have a process followed. Trees inside each other are few: were everybody's
 * ancestors anybody's to follow, nobody's own tree would find a place. */
static __attribute__((noinline)) int may_follow(u32 asked)
{
	u32 caller = bpf_get_current_pid_tgid() >> 32;
	if (!(u32)bpf_get_current_uid_gid() || asked == caller)
		return 1;
	struct process *process = process_of(asked);
	for (int i = 0; i < ANCESTORS && process; i++) {
		if (process->parent == caller)
			return 1;
		process = creator_of(process);
	}
	return 0;
}

/* Whether the caller may have one more tree: the last quarter of the places is root's, so that
 * nobody can shut the services of a machine out. */
static __always_inline int may_take(const struct control *control)
{
	return !(u32)bpf_get_current_uid_gid() || control->trees < most_slots - most_slots / 4;
}

/* A request to follow a process, spoken by prctl(PR_SET_NAME): a name that no thread has, with a
 * nonce under which the answer is found and the process in the numbers of the first namespace (0:
 * the caller's own). It needs no right to write to a map, and the kernel knows the caller's tgid
 * where a container does not. */
#define NAME_LENGTH 16
#define NONCE_AT 3
#define PID_AT 10
#define NAME_END 15

SEC("raw_tp/task_rename")
int on_rename(struct raw_tracepoint *ctx)
{
	u8 name[NAME_LENGTH] = {};
	bpf_probe_read_kernel(name, sizeof(name), (void *)ctx->args[1]);
	if (likely(name[0] != 1 || name[1] != 'l' || name[2] != 'w'))
		return 0;
	u64 task = bpf_get_current_task();
	struct control *control = get_control();
	if (!control || ctx->args[0] != task)
		return 0;
	struct answer reply = { .slot = NONE, .status = ANSWER_UNKNOWN };
	u64 asked = 0;
	for (int i = NONCE_AT; i < PID_AT; i++)
		reply.nonce = reply.nonce << 8 | name[i];
	for (int i = PID_AT; i < NAME_END; i++)
		asked = asked << 7 | (name[i] & 0x7f);
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	if (asked) {
		tgid = asked;
	} else if (index_of(tgid) == NONE) {
		discover(task, tgid);
		reply.status = ANSWER_FULL;
	}
	u32 place = index_of(tgid);
	struct process *process = process_at(place);
	if (process && asked && !may_follow(asked)) {
		reply.status = ANSWER_REFUSED;
	} else if (process) {
		u32 index = process->root;
		if (index == NONE) {
			u32 parent = process->slot, depth = 0;
			if (process->epoch != control->epoch)
				parent = resolve(place, control->epoch);
			if (parent != NONE) {
				struct slot *around = slot_at(parent);
				if (around)
					depth = around->depth + 1;
			}
			if (depth >= DEPTH) {
				reply.status = ANSWER_DEEP;
			} else if (!may_take(control) ||
				   (index = fresh_place(&free_slots, &control->slots, most_slots)) == NONE) {
				index = NONE;
				reply.status = ANSWER_FULL;
				__sync_fetch_and_add(&control->slot_overflow, 1);
			} else {
				struct slot *slot = slot_at(index);
				if (!slot)
					return 0;
				slot->created = bpf_ktime_get_ns();
				slot->root = tgid;
				slot->parent = NONE;
				slot->depth = depth;
				slot->members = 1;
				slot->lost = 0;
				slot->ended = 0;
				slot->early_ns = 0;
				slot->generation += 1;
				u32 first = __sync_val_compare_and_swap(&process->root, NONE, index);
				if (first != NONE) {
					/* Another thread of it asked at the same time. */
					bpf_map_push_elem(&free_slots, &index, BPF_ANY);
					index = first;
				} else {
					/* The root was a member of the tree around, whichever that is
					 * by now; from here its tree is. */
					slot->parent = __sync_lock_test_and_set(&process->slot, index);
					__sync_fetch_and_add(&control->trees, 1);
					process->epoch = __sync_fetch_and_add(&control->epoch, 1) + 1;
					if (process->tgid != tgid) {
						/* It ended meanwhile. */
						if (__sync_val_compare_and_swap(&process->slot, index,
										NONE) == index)
							leave(index, control);
						index = NONE;
					}
				}
			}
		}
		if (index != NONE) {
			struct slot *slot = slot_at(index);
			reply.slot = index;
			reply.generation = slot ? slot->generation : 0;
			reply.status = ANSWER_OK;
			/* What runs here goes on under the new tree. */
			u32 cpu = bpf_get_smp_processor_id();
			struct cpu_state *state = bpf_map_lookup_elem(&cpu_states, &cpu);
			if (state && state->tgid == tgid) {
				state->slot = index;
				state->epoch = process->epoch;
			}
		}
	}
	reply.tgid = tgid;
	u32 key = reply.nonce & (ANSWERS - 1);
	bpf_map_update_elem(&answers, &key, &reply, BPF_ANY);
	return 0;
}

SEC("raw_tp/sched_process_fork")
int on_fork(struct raw_tracepoint *ctx)
{
	u64 parent = ctx->args[0], child = ctx->args[1];
	u64 ids = read64(child + off_pid);
	u32 pid = ids, tgid = ids >> 32;
	struct control *control = get_control();
	if (!control || pid != tgid)
		return 0; /* a thread */
	u32 creator = bpf_get_current_pid_tgid() >> 32;
	struct process fresh = {
		.slot = NONE, .root = NONE, .cgroup = NONE, .tgid = tgid, .parent = creator,
		.born = born(1),
	};
	u32 index = index_of(creator);
	if (index == NONE && creator) {
		discover(parent, creator);
		index = index_of(creator);
	}
	struct process *process = process_at(index);
	if (process) {
		u32 epoch = process->epoch;
		fresh.slot = process->slot;
		if (epoch != control->epoch) {
			epoch = control->epoch;
			fresh.slot = resolve(index, epoch);
		}
		/* Where the creator was moved meanwhile, the first switch finds out. */
		if (join(fresh.slot))
			fresh.epoch = epoch;
		else
			fresh.slot = NONE;
	}
	/* A number that is used again, whose end was not seen. */
	index = index_of(tgid);
	process = process_at(index);
	if (process)
		take_out(process, index, control);
	if (enter(&fresh, control) == NONE) {
		index = fresh.slot;
		for (int i = 0; i < DEPTH && index != NONE; i++) {
			struct slot *slot = slot_at(index);
			if (!slot)
				break;
			__sync_fetch_and_add(&slot->lost, 1);
			index = slot->parent;
		}
		if (fresh.slot != NONE)
			leave(fresh.slot, control);
	}
	return 0;
}

/* A thread ends. What it does from here to its last switch is still charged: at the last switch of the
 * process's last thread the entry is taken out. */
SEC("raw_tp/sched_process_exit")
int on_exit(struct raw_tracepoint *ctx)
{
	struct process *process = process_of(bpf_get_current_pid_tgid() >> 32);
	if (process)
		__sync_fetch_and_add(&process->ending, 1);
	return 0;
}

SEC("raw_tp/cgroup_rmdir")
int on_cgroup_rmdir(struct raw_tracepoint *ctx)
{
	u64 id = read64(read64(ctx->args[0] + off_cgroup_kn) + off_kn_id);
	struct cgroup_place *known = bpf_map_lookup_elem(&cgroups, &id);
	if (!known)
		return 0;
	struct cgroup_place place = *known;
	if (!bpf_map_delete_elem(&cgroups, &id))
		bpf_map_push_elem(&free_cgroups, &place.index, BPF_ANY);
	return 0;
}

SEC("raw_tp/cpu_frequency")
int on_frequency(struct raw_tracepoint *ctx)
{
	u32 khz = ctx->args[0], cpu = ctx->args[1];
	struct cpu_power *power = bpf_map_lookup_elem(&cpu_powers, &cpu);
	if (!power)
		return 0;
	u64 now = bpf_ktime_get_ns();
	power->integral = integral_of(power, now);
	power->changed_at = now;
	power->khz = khz;
	power->changes += 1;
	return 0;
}

#define IDLE_LEFT 0xffffffffU

SEC("raw_tp/cpu_idle")
int on_idle(struct raw_tracepoint *ctx)
{
	u32 state = ctx->args[0], cpu = ctx->args[1];
	struct cpu_power *power = bpf_map_lookup_elem(&cpu_powers, &cpu);
	if (!power)
		return 0;
	u64 now = bpf_ktime_get_ns();
	if (state == IDLE_LEFT) {
		u64 since = power->idle_since;
		u64 at = power->idle_state;
		if (since && now > since) {
			if (at >= IDLE_STATES)
				at = IDLE_STATES - 1;
			power->idle_ns[at] += now - since;
		}
		power->idle_since = 0;
	} else {
		power->idle_state = state;
		power->idle_since = now;
		power->idle_transitions += 1;
	}
	return 0;
}

/* Attached to thermal_apic_entry where there is one (an interrupt each time a core or package
 * begins or ends to throttle), else to thermal_zone_trip. */
SEC("raw_tp/thermal")
int on_thermal(struct raw_tracepoint *ctx)
{
	struct control *control = get_control();
	if (control)
		__sync_fetch_and_add(&control->thermal_events, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
