// SPDX-License-Identifier: GPL-2.0-only
/*
 * Energy registers of known power for Linux's own RAPL drivers.
 *
 * The drivers intel_rapl_msr (powercap) and rapl (perf) find and read what they take for a
 * processor's model-specific registers. This module answers these reads, so that everything above
 * a register is the kernel's own code, unmodified: detection, units, packages and dies, hot-plug,
 * permissions, wraps.
 *
 * Linux takes only modules under a licence compatible with the GPL. This file is a fixture of a
 * test; nothing of it is part of what the project distributes as a package.
 */
#include <asm/ibt.h>
#include <asm/processor.h>
#include <linux/intel_rapl.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/linkage.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/timekeeping.h>

/* Power of each die's registers in mW; dies beyond the list have its last one's. 0: no such register. */
static uint pkg_mw[16] = { 50000 }, dram_mw[16];
static uint core_mw, uncore_mw, psys_mw;
static int pkg_mw_count = 1, dram_mw_count = 1;
module_param_array(pkg_mw, uint, &pkg_mw_count, 0644);
module_param_array(dram_mw, uint, &dram_mw_count, 0644);
module_param(core_mw, uint, 0644);
module_param(uncore_mw, uint, 0644);
module_param(psys_mw, uint, 0644);

/* A count is 2^-unit_shift J; of memory 2^-dram_unit_shift J, which no register states. */
static uint unit_shift = 14, dram_unit_shift = 14;
module_param(unit_shift, uint, 0444);
module_param(dram_unit_shift, uint, 0444);

/* A register changes once in so many us. */
static uint update_us = 1000;
module_param(update_us, uint, 0644);

/* Added to every register, in counts: shortly below 2^32 it wraps soon. */
static ulong ahead;
module_param(ahead, ulong, 0644);

/* How often a register of energy was read through either driver. */
static atomic_t reads = ATOMIC_INIT(0);
static int reads_get(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%d\n", atomic_read(&reads));
}
static const struct kernel_param_ops reads_ops = { .get = reads_get };
module_param_cb(reads, &reads_ops, NULL, 0444);

/* Numbers of the registers: Intel SDM volume 4; AMD PPR, MSRC001_0299 to 029B. */
enum {
	INTEL_UNIT = 0x606, INTEL_PKG = 0x611, INTEL_DRAM = 0x619,
	INTEL_CORE = 0x639, INTEL_UNCORE = 0x641, INTEL_PSYS = 0x64d,
	AMD_UNIT = 0xc0010299, AMD_CORE = 0xc001029a, AMD_PKG = 0xc001029b,
};

static uint of_die(const uint *list, int count, uint cpu)
{
	uint die = cpu_data(cpu).topo.logical_die_id;

	return count ? list[min_t(uint, die, count - 1)] : 0;
}

/* The counts, of 2^-shift J, of a register of so many mW since boot. It is never 0, which would mean "absent". */
static u64 counts(uint mw, uint shift)
{
	u64 us = div_u64(ktime_get_boottime_ns(), NSEC_PER_USEC);

	if (!mw)
		return 0;
	atomic_inc(&reads);
	if (update_us)
		us -= us % update_us;
	/* mW times us is nJ. */
	return (u32)(mul_u64_u64_div_u64(mw * us, 1ULL << shift, NSEC_PER_SEC) + ahead + 1);
}

/* What a register holds on a CPU; false for a register that is none of RAPL's. */
static bool simulated(u32 reg, uint cpu, u64 *value)
{
	switch (reg) {
	case INTEL_UNIT:
	case AMD_UNIT:
		/* Times in 2^-10 s, energy, power in 2^-3 W. */
		*value = 10 << 16 | unit_shift << 8 | 3;
		return true;
	case INTEL_PKG:
	case AMD_PKG:
		*value = counts(of_die(pkg_mw, pkg_mw_count, cpu), unit_shift);
		return true;
	case INTEL_DRAM:
		*value = counts(of_die(dram_mw, dram_mw_count, cpu), dram_unit_shift);
		return true;
	case INTEL_CORE:
	case AMD_CORE:
		*value = counts(core_mw, unit_shift);
		return true;
	case INTEL_UNCORE:
		*value = counts(uncore_mw, unit_shift);
		return true;
	case INTEL_PSYS:
		*value = counts(psys_mw, unit_shift);
		return true;
	default:
		return false;
	}
}

/* Where a function goes on that was answered at its first instruction: back to its caller. */
asmlinkage void simulated_return(void);
asm(".pushsection .text\n"
    ".global simulated_return\n"
    ".type simulated_return, @function\n"
    "simulated_return:\n\t" ASM_ENDBR ASM_RET
    ".size simulated_return, . - simulated_return\n"
    ".popsection");

/* powercap: int rapl_msr_read_raw(int cpu, struct reg_action *action, ...) */
static int at_read_raw(struct kprobe *probe, struct pt_regs *regs)
{
	struct reg_action *action = (struct reg_action *)regs->si;
	u64 value = 0;

	/* Limits of power and the rest: 0, as if the firmware had left them out. */
	simulated(action->reg.msr, regs->di, &value);
	action->value = value & action->mask;
	regs->ax = 0;
	regs->ip = (unsigned long)simulated_return;
	return 1;
}

/* An rdmsr: the register's number in ecx, its value to edx:eax. */
static int at_rdmsr(struct kprobe *probe, struct pt_regs *regs)
{
	u64 value;

	if (!simulated(regs->cx, raw_smp_processor_id(), &value))
		return 0;
	regs->ax = lower_32_bits(value);
	regs->dx = upper_32_bits(value);
	regs->ip = (unsigned long)probe->addr + 2;
	return 1;
}

/* That it is there keeps the kernel from turning a probe into a jump, which cannot move ip. */
static void after(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe read_raw = { .symbol_name = "rapl_msr_read_raw", .pre_handler = at_read_raw, .post_handler = after };
static bool read_raw_placed;
static struct kprobe in_perf[16], in_kernel[8];
static uint in_perf_placed, in_kernel_placed;

/* Probes every rdmsr (0f 32) in a stretch of code; the kernel refuses bytes within an instruction. */
static uint probe_rdmsr(const u8 *code, size_t size, struct kprobe *probes, uint placed, uint most)
{
	size_t at;

	for (at = 0; at + 1 < size && placed < most; at++) {
		struct kprobe *probe = &probes[placed];

		if (code[at] != 0x0f || code[at + 1] != 0x32)
			continue;
		memset(probe, 0, sizeof(*probe));
		probe->addr = (kprobe_opcode_t *)(code + at);
		probe->pre_handler = at_rdmsr;
		probe->post_handler = after;
		if (!register_kprobe(probe))
			placed++;
	}
	return placed;
}

/* The same in a function of the kernel itself. */
static uint probe_function(const char *name, struct kprobe *probes, uint placed, uint most)
{
	struct kprobe entry = { .symbol_name = name };
	char symbol[KSYM_SYMBOL_LEN];
	unsigned long start, end;
	size_t length = strlen(name);

	if (register_kprobe(&entry))
		return placed;
	start = (unsigned long)entry.addr;
	unregister_kprobe(&entry);
	for (end = start; end < start + 1024; end++) {
		sprint_symbol_no_offset(symbol, end);
		if (strncmp(symbol, name, length) || (symbol[length] && symbol[length] != ' '))
			break;
	}
	return probe_rdmsr((const u8 *)start, end - start, probes, placed, most);
}

static void coming(struct module *module)
{
	if (!strcmp(module->name, "intel_rapl_msr")) {
		int error;

		read_raw.addr = NULL;
		read_raw.flags = 0;
		error = register_kprobe(&read_raw);
		read_raw_placed = !error;
		pr_info("simulated_registers: powercap's reads: %s (%d)\n", error ? "not answered" : "answered", error);
	} else if (!strcmp(module->name, "rapl")) {
		for_class_mod_mem_type(type, text)
			in_perf_placed = probe_rdmsr(module->mem[type].base, module->mem[type].size,
						     in_perf, in_perf_placed, ARRAY_SIZE(in_perf));
		pr_info("simulated_registers: perf's reads: %u places\n", in_perf_placed);
	}
}

static void going(struct module *module)
{
	if (!strcmp(module->name, "intel_rapl_msr") && read_raw_placed) {
		unregister_kprobe(&read_raw);
		read_raw_placed = false;
	} else if (!strcmp(module->name, "rapl")) {
		while (in_perf_placed)
			unregister_kprobe(&in_perf[--in_perf_placed]);
	}
}

/* Before a driver's own start, which reads registers, and after its end. */
static int watch(struct notifier_block *block, unsigned long state, void *module)
{
	if (state == MODULE_STATE_COMING)
		coming(module);
	else if (state == MODULE_STATE_GOING)
		going(module);
	return NOTIFY_OK;
}

static struct notifier_block watcher = { .notifier_call = watch };

static int __init simulated_registers_init(void)
{
	/* What the perf driver detects its registers with, and, where the kernel reads out of line, that. */
	static const char *const functions[] = { "perf_msr_probe", "native_read_msr", "native_read_msr_safe" };
	uint i;

	for (i = 0; i < ARRAY_SIZE(functions); i++)
		in_kernel_placed = probe_function(functions[i], in_kernel, in_kernel_placed, ARRAY_SIZE(in_kernel));
	pr_info("simulated_registers: the kernel's reads: %u places\n", in_kernel_placed);
	return register_module_notifier(&watcher);
}

static void __exit simulated_registers_exit(void)
{
	unregister_module_notifier(&watcher);
	while (in_kernel_placed)
		unregister_kprobe(&in_kernel[--in_kernel_placed]);
	/* The drivers are unloaded before; what is left of their probes is not. */
	if (read_raw_placed)
		unregister_kprobe(&read_raw);
	while (in_perf_placed)
		unregister_kprobe(&in_perf[--in_perf_placed]);
}

module_init(simulated_registers_init);
module_exit(simulated_registers_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("energy registers of known power below Linux's own RAPL drivers");
