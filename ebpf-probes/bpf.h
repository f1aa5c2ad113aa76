/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The few declarations a probe needs, so that building it takes clang and nothing else: no libbpf,
 * no kernel headers. Helper numbers are the kernel's stable ABI (include/uapi/linux/bpf.h).
 */
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERF_EVENT_ARRAY = 4,
	BPF_MAP_TYPE_QUEUE = 22,
};

enum { BPF_ANY = 0, BPF_NOEXIST = 1 };

#define BPF_F_MMAPABLE (1U << 10)
#define BPF_F_PRESERVE_ELEMS (1U << 11)
#define BPF_F_CURRENT_CPU 0xffffffffULL

struct perf_value {
	u64 counter;
	u64 enabled;
	u64 running;
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value,
					 u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static u64 (*const bpf_get_current_uid_gid)(void) = (void *)15;
static u64 (*const bpf_get_current_task)(void) = (void *)35;
static long (*const bpf_perf_event_read_value)(void *map, u64 flags, struct perf_value *value,
					       u32 size) = (void *)55;
static u64 (*const bpf_get_current_cgroup_id)(void) = (void *)80;
static long (*const bpf_map_push_elem)(void *map, const void *value, u64 flags) = (void *)87;
static long (*const bpf_map_pop_elem)(void *map, void *value) = (void *)88;
static long (*const bpf_probe_read_kernel)(void *dst, u32 size, const void *from) = (void *)113;

struct raw_tracepoint {
	u64 args[0];
};
