//! The table of keys: name, unit, meaning, and when the value is `None`.
//!
//! A value can be written only under a [`Key`], and each `Key` has a row here. The reference
//! (docs/reference/stats.md) and `lithowatt explain` are made of these rows.

/// What a number is in, or what a value is that is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Joules.
    J,
    /// Watts.
    W,
    /// Seconds.
    S,
    /// Nanoseconds, whole.
    Ns,
    /// 1,048,576 bytes.
    MiB,
    /// AWS' MB, whole.
    MB,
    /// 0 to 100.
    Percent,
    /// Megahertz.
    MHz,
    /// Degrees Celsius.
    Celsius,
    /// Cycles of a CPU, whole.
    Cycles,
    /// Instructions, whole.
    Instructions,
    /// How many, whole.
    Count,
    /// A number without a unit.
    Number,
    /// One part of another, 1 = all of it.
    Ratio,
    /// A text.
    Text,
    /// True or false.
    Boolean,
    /// A list of texts.
    Texts,
    /// A dict.
    Dict,
}

impl Unit {
    /// As the reference writes it; `None` where a value has no unit.
    pub fn symbol(self) -> Option<&'static str> {
        match self {
            Self::J => Some("J"),
            Self::W => Some("W"),
            Self::S => Some("s"),
            Self::Ns => Some("ns"),
            Self::MiB => Some("MiB"),
            Self::MB => Some("MB"),
            Self::Percent => Some("%"),
            Self::MHz => Some("MHz"),
            Self::Celsius => Some("°C"),
            Self::Cycles => Some("cycles"),
            Self::Instructions => Some("instructions"),
            Self::Count | Self::Number | Self::Ratio => Some("1"),
            Self::Text | Self::Boolean | Self::Texts | Self::Dict => None,
        }
    }

    /// The type of the value in Python.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Text => "str",
            Self::Boolean => "bool",
            Self::Texts => "list[str]",
            Self::Dict => "dict",
            Self::Ns | Self::MB | Self::Cycles | Self::Instructions | Self::Count => "int",
            _ => "float",
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The plain name.
    pub name: &'static str,
    /// What the value is in.
    pub unit: Unit,
    /// What it is.
    pub meaning: &'static str,
    /// When it is `None`; empty for a value that is always there.
    pub absent: &'static str,
    /// Title of the part of the reference that it stands in.
    pub group: &'static str,
    /// It is in the stats of a call, and not only in a reading's flat dict.
    pub in_stats: bool,
}

macro_rules! keys {
    ($($group:literal $in_stats:ident {
        $($key:ident $name:literal $unit:ident $meaning:literal, $absent:literal;)*
    })*) => {
        /// A key of the flat dict, by the plain name of its row.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the rows have the meanings")]
        pub enum Key {
            $($($key,)*)*
        }

        impl Key {
            /// Every key, in the order of the table.
            pub const ALL: &'static [Self] = &[$($(Self::$key,)*)*];
        }

        /// A row per key, in the order of [`Key::ALL`].
        static ROWS: &[Row] = &[$($(Row {
            name: $name,
            unit: Unit::$unit,
            meaning: $meaning,
            absent: $absent,
            group: $group,
            in_stats: keys!(@ $in_stats),
        },)*)*];
    };
    (@ stats) => { true };
    (@ flat) => { false };
}

impl Key {
    /// Its row of the table.
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The key with that plain name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.row().name == name)
    }
}

/// Keys of the phases that the user marked: one each per phase, with `<name>` replaced.
pub static PHASE_ROWS: [Row; 3] = [
    Row {
        name: "energy_phase_<name>",
        unit: Unit::J,
        meaning: "energy of the phase `<name>`, by the headline's definition and method",
        absent: "there is no headline, or the phase's part of it is unknown",
        group: PHASES,
        in_stats: false,
    },
    Row {
        name: "phase_duration_<name>",
        unit: Unit::S,
        meaning: "time in the phase, all its entries summed",
        absent: "",
        group: PHASES,
        in_stats: false,
    },
    Row {
        name: "phase_cpu_time_<name>",
        unit: Unit::S,
        meaning: "CPU time of the function in the phase",
        absent: "the CPU time of what is metered is unknown",
        group: PHASES,
        in_stats: false,
    },
];

const PHASES: &str = "The phases, in `Reading.flat()` only";

keys! {
    "Energy of the function" stats {
        EnergyConsumption "energy_consumption" J
            "the headline: the best estimate of this function's energy, by `energy_definition`",
            "there is no counter and no model: `energy_source` has the reason";
        EnergyLow "energy_low" J "lower end of the 95 % band of `energy_consumption`", "there is no headline";
        EnergyHigh "energy_high" J "upper end of the 95 % band of `energy_consumption`", "there is no headline";
        EnergyQuality "energy_quality" Text
            "how the headline was obtained: `measured` (a counter, the machine was ours), `attributed` (a counter × our share), `modelled` (no counter)",
            "there is no headline";
        EnergyMethod "energy_method" Text
            "how the headline was made, such as `rapl+cputime` or `model:amd-epyc`", "there is no headline";
        EnergySource "energy_source" Text
            "quality and method of the headline, or `unavailable:` and the reason", "";
        EnergyMethodUsed "energy_method_used" Text
            "which methods were available: four places, `perf, rapl, ebpf, psutil`, in this order, with `null` for each that was not. FlexExecutor reads it",
            "";
        EnergyDuration "energy_duration" S
            "length of the window, on the monotonic clock", "nothing was metered";
        EnergyScope "energy_scope" Text "what was metered: `process`, `thread`, `task` or `cgroup`", "";
        EnergyCpuTime "energy_cpu_time" S
            "CPU time of the function", "no CPU clock of the function can be read";
        EnergyMarginal "energy_marginal" J
            "this function's energy above idle", "there is no headline";
        EnergyAmortised "energy_amortised" J
            "this function's energy above idle, with its share of the idle energy", "there is no headline";
        EnergyDefinition "energy_definition" Text
            "what the headline holds: `marginal` or `amortised`. The same for every window of a platform",
            "there is no headline";
        EnergyMachine "energy_machine" J
            "all that the machine (or the sandbox) used in the window: idle + marginal + others",
            "there is no headline";
        EnergyIdle "energy_idle" J
            "what the machine would have used in the window doing nothing", "there is no headline";
        EnergyOthers "energy_others" J
            "what everybody else used above idle", "there is no headline";
        EnergyIdleSource "energy_idle_source" Text
            "where idle power comes from: `learned`, `calibrated`, `configured` or `modelled`; `host` where a host keeps it out of its guest's part, `unknown` where it is in none, as by `tdp_based`",
            "there is no headline";
        EnergyWatts "energy_watts" W
            "mean power: headline ÷ duration", "there is no headline, or no time passed";
        EnergyPhaseRead "energy_phase_read" J
            "energy of the phase `read`, by the headline's definition",
            "the phase was not entered, or there is no headline";
        EnergyPhaseCompute "energy_phase_compute" J
            "energy of the phase `compute`", "the phase was not entered, or there is no headline";
        EnergyPhaseWrite "energy_phase_write" J
            "energy of the phase `write`", "the phase was not entered, or there is no headline";
        EnergyValidated "energy_validated" Boolean
            "RAPL and perf agree within 15 %", "there are no two counters to compare";
        EnergyDiscrepancy "energy_discrepancy" Ratio
            "how much RAPL and perf differ at most, relative to the larger: 0.1 = 10 %",
            "there are no two counters to compare";
        EnergyWarnings "energy_warnings" Texts
            "what a careful reader should know of this window; empty where there is nothing", "";
        AvgCpuUsage "avg_cpu_usage" Percent
            "mean use of the CPUs that this function may use (all, or a quota, a cpuset or the affinity): CPU time ÷ (duration × CPUs)",
            "the CPU time is unknown, or no time passed";
    }
    "Counters of the whole machine" stats {
        RaplEnergyPackage "rapl_energy_package" J
            "all processor packages by powercap", "powercap gives none: `rapl_source` has the reason";
        RaplEnergyCore "rapl_energy_core" J
            "all cores by powercap; inside the packages", "the processor has no such counter, or it was not read: `rapl_source`";
        RaplEnergyUncore "rapl_energy_uncore" J
            "uncore by powercap, mostly integrated graphics; inside the packages",
            "the processor has no such counter, or it was not read: `rapl_source`";
        RaplEnergyDram "rapl_energy_dram" J
            "memory by powercap; outside the packages", "the processor has no such counter, or it was not read: `rapl_source`";
        RaplEnergyPsys "rapl_energy_psys" J
            "the platform by powercap: it holds the packages and is never added",
            "the processor has no such counter, or it was not read: `rapl_source`";
        RaplEnergyTotal "rapl_energy_total" J
            "packages + DRAM by powercap", "powercap gives none: `rapl_source` has the reason";
        RaplAvailable "rapl_available" Boolean "powercap gave joules", "";
        RaplSource "rapl_source" Text
            "the powercap zones that were read, or `unavailable:` and the reason", "";
        PerfEnergyPackage "perf_energy_package" J
            "all processor packages by perf's power PMU", "perf gives none: `perf_source` has the reason";
        PerfEnergyCore "perf_energy_core" J
            "all cores by perf's power PMU; inside the packages", "the processor has no such counter, or it was not read: `perf_source`";
        PerfEnergyDram "perf_energy_dram" J
            "memory by perf's power PMU; outside the packages", "the processor has no such counter, or it was not read: `perf_source`";
        PerfEnergyPsys "perf_energy_psys" J
            "the platform by perf's power PMU: it holds the packages and is never added", "the processor has no such counter, or it was not read: `perf_source`";
        PerfEnergyTotal "perf_energy_total" J
            "packages + DRAM by perf's power PMU", "perf gives none: `perf_source` has the reason";
        PerfAvailable "perf_available" Boolean "perf's power PMU gave joules", "";
        PerfSource "perf_source" Text
            "the events of perf's power PMU that were read, or `unavailable:` and the reason", "";
        HwmonEnergyPackage "hwmon_energy_package" J
            "all processor packages by sensors of hwmon, where RAPL and perf count none", "hwmon gives none: `hwmon_source` has the reason";
        HwmonEnergyDram "hwmon_energy_dram" J
            "memory by sensors of hwmon; outside the packages", "the machine has no such sensor, or it was not read: `hwmon_source`";
        HwmonEnergyTotal "hwmon_energy_total" J
            "packages + DRAM by sensors of hwmon", "hwmon gives none: `hwmon_source` has the reason";
        HwmonAvailable "hwmon_available" Boolean "sensors of hwmon gave joules", "";
        HwmonSource "hwmon_source" Text
            "the channels of hwmon that were read, or `unavailable:` and the reason", "";
        MachineScope "machine_scope" Boolean
            "always true: `rapl_energy_*`, `perf_energy_*` and `hwmon_energy_*` are the whole machine's", "";
        GuestEnergy "guest_energy" J
            "this virtual machine's part of its host's energy, as the host states it",
            "no host hands it on: `guest_source` has the reason";
        GuestAvailable "guest_available" Boolean "the host gave joules", "";
        GuestSource "guest_source" Text
            "the host's files that were read, or `unavailable:` and the reason", "";
        EnergyZones "energy_zones" Dict
            "each counter of packages, memory and GPUs by itself, J: a dict by method of dicts by the counter's name. Domains with one counter are left out: their key has it",
            "no domain has several counters";
    }
    "GPUs" stats {
        GpuEnergy "gpu_energy" J
            "all GPUs of the machine that this process sees, whole boards; outside of every other energy here",
            "no GPU was read: `gpu_source` has the reason";
        GpuEnergyAttributed "gpu_energy_attributed" J
            "the function's part of `gpu_energy`, above the GPUs' power at rest, by how busy its processes kept them",
            "it cannot be told: `gpu_attributed_source` has the reason";
        GpuEnergyUnattributed "gpu_energy_unattributed" J
            "the rest of `gpu_energy`: power at rest and other processes",
            "`gpu_energy_attributed` is `None`";
        GpuAvailable "gpu_available" Boolean "there are joules of GPUs", "";
        GpuSource "gpu_source" Text
            "the GPUs that were read and how, or `unavailable:` and the reason", "";
        GpuAttributedSource "gpu_attributed_source" Text
            "how the function's part was found, or `unavailable:` and the reason", "";
    }
    "Counters of the function's own processes" stats {
        PerfCycles "perf_cycles" Cycles
            "CPU cycles of the function's processes", "perf does not count it: `perf_hardware_source` has the reason";
        PerfInstructions "perf_instructions" Instructions
            "instructions of the function's processes", "perf does not count it: `perf_hardware_source` has the reason";
        PerfTaskClock "perf_task_clock" S
            "on-CPU time of the function's processes by perf", "perf cannot count these processes";
        PerfHardwareSource "perf_hardware_source" Text
            "where cycles and instructions are from, or `unavailable:` and the reason", "";
        EbpfEnergyPackage "ebpf_energy_package" J
            "the function's part of the packages, shared by what the kernel probes saw, by the headline's definition",
            "the probes gave none: `ebpf_source` has the reason";
        EbpfEnergyCore "ebpf_energy_core" J "the function's part of the cores, shared in the same way", "the probes gave none: `ebpf_source` has the reason";
        EbpfEnergyTotal "ebpf_energy_total" J "the function's part of packages + DRAM, shared in the same way", "the probes gave none: `ebpf_source` has the reason";
        EbpfCpuTime "ebpf_cpu_time" S
            "on-CPU time of the function by the probes", "the window is of a thread or a coroutine, or the probes gave none: `ebpf_source` has the reason";
        EbpfCpuCycles "ebpf_cpu_cycles" Cycles
            "cycles of the function by the probes", "no PMU counts cycles here, or the window is of a thread or a coroutine, or the probes gave none: `ebpf_source` has the reason";
        EbpfEnergyFromCycles "ebpf_energy_from_cycles" J
            "the function's cycles × the power model's joules per cycle at full load and top clock",
            "there are no cycles, or the processor's clock is unknown: `ebpf_source` has the reason";
        EbpfFreqChanges "ebpf_freq_changes" Count
            "changes of frequency on the machine", "none was ever reported, as where the processor or its host changes clocks by itself; or the probes gave none: `ebpf_source` has the reason";
        EbpfIdleTransitions "ebpf_idle_transitions" Count
            "times that a CPU of the machine went to an idle state", "the probes gave none: `ebpf_source` has the reason";
        EbpfIdleTime "ebpf_idle_time" S
            "time in idle states, all CPUs of the machine added", "the probes gave none: `ebpf_source` has the reason";
        EbpfThermalEvents "ebpf_thermal_events" Count
            "thermal interrupts or trips on the machine", "a virtual machine gets none; or the probes gave none: `ebpf_source` has the reason";
        EbpfAvailable "ebpf_available" Boolean "the kernel probes were loaded", "";
        EbpfSource "ebpf_source" Text
            "what the kernel probes gave and what is missing, or `unavailable:` and the reason", "";
    }
    "The power model" stats {
        TdpEnergy "tdp_energy" J
            "the function's energy by the model, whatever the headline is, by the headline's definition",
            "the model was not asked for, or the CPU time is unknown: `tdp_source`";
        TdpWatts "tdp_watts" W
            "thermal design power of the processor", "no TDP of the processor is known, or nothing was metered";
        TdpAvailable "tdp_available" Boolean "the model gave joules", "";
        TdpSource "tdp_source" Text
            "which model, which share of the machine, where the TDP is from; or `unavailable:` and the reason",
            "";
    }
    "Machine and processes, as psutil counts" stats {
        PsutilCpuPercent "psutil_cpu_percent" Percent
            "mean use of all CPUs in the window", "no clock tick (10 ms) passed; or `psutil` is not among the methods";
        PsutilMemoryPercent "psutil_memory_percent" Percent
            "memory of the machine in use at the end", "`/proc/meminfo` cannot be read; or `psutil` is not among the methods";
        PsutilMemoryUsedMb "psutil_memory_used_mb" MiB
            "memory of the machine in use at the end", "`/proc/meminfo` cannot be read; or `psutil` is not among the methods";
        PsutilLoad1m "psutil_load_1m" Number
            "load average of a minute, at the end", "`/proc/loadavg` cannot be read; or `psutil` is not among the methods";
        PsutilDiskIoReadMb "psutil_disk_io_read_mb" MiB
            "read from whole disks of the machine in the window", "`/proc/diskstats` cannot be read; or `psutil` is not among the methods";
        PsutilDiskIoWriteMb "psutil_disk_io_write_mb" MiB
            "written to whole disks of the machine in the window", "`/proc/diskstats` cannot be read; or `psutil` is not among the methods";
        PsutilNetworkSentMb "psutil_network_sent_mb" MiB
            "sent in the window over all interfaces of the network namespace, loopback too",
            "`/proc/net/dev` cannot be read; or `psutil` is not among the methods";
        PsutilNetworkRecvMb "psutil_network_recv_mb" MiB
            "received in the window over all interfaces of the network namespace", "`/proc/net/dev` cannot be read; or `psutil` is not among the methods";
        PsutilProcessCpuPercent "psutil_process_cpu_percent" Percent
            "CPU time of the function ÷ duration: above 100 with several threads",
            "the CPU time is unknown, or the window is shorter than 1 ms; or `psutil` is not among the methods";
        PsutilProcessMemoryMb "psutil_process_memory_mb" MiB
            "resident memory of the function's process and its descendants at the end", "the processes are gone; or `psutil` is not among the methods";
        PsutilProcessMemoryPeakMb "psutil_process_memory_peak_mb" MiB
            "largest resident memory of the function's process and its descendants seen in the window", "the processes are gone; or `psutil` is not among the methods";
        PsutilCpuFreqCurrent "psutil_cpu_freq_current" MHz
            "mean frequency of the CPUs at the end", "there is no cpufreq, as in most virtual machines; or `psutil` is not among the methods";
        PsutilCpuTempCelsius "psutil_cpu_temp_celsius" Celsius
            "temperature of the processor at the end", "there is no sensor; or `psutil` is not among the methods";
        PsutilAvailable "psutil_available" Boolean "there are values of this group", "";
        PsutilSource "psutil_source" Text
            "`measured: /proc` with what is missing and why, or `unavailable:` and the reason", "";
    }
    "The processor" stats {
        ProcessorName "processor_name" Text "the processor's name, `unknown` where nothing shows it", "";
        ProcessorBrand "processor_brand" Text "the processor's maker, `unknown` where nothing shows it", "";
        ProcessorArchitecture "processor_architecture" Text "instruction set, such as `x86_64` or `aarch64`", "";
        ProcessorCores "processor_cores" Count
            "physical cores of the machine", "the system does not show them";
        ProcessorThreads "processor_threads" Count "hardware threads that are online", "";
        ProcessorFrequency "processor_frequency" MHz
            "highest frequency of the processor, else its base frequency", "the system shows neither";
        ProcessorInfo "processor_info" Dict
            "the processor: `architecture`, `vendor`, `sockets`, `base_mhz`, `max_mhz`, `hypervisor`", "";
    }
    "Where it ran" stats {
        AwsInstanceType "aws_instance_type" Text
            "EC2's instance type, or `lambda`", "neither is known";
        AwsIsLambda "aws_is_lambda" Boolean "the function ran on AWS Lambda", "";
        AwsMemorySize "aws_memory_size" MB
            "memory of the AWS Lambda function", "it is not on AWS Lambda";
        ContainerRuntime "container_runtime" Text
            "what made the container, such as `docker` or `containerd`", "outside of a container";
        K8sPod "k8s_pod" Text "the pod's name", "outside of Kubernetes";
        K8sNode "k8s_node" Text
            "the node's name", "the pod's manifest does not pass it on";
        EnergySchema "energy_schema" Count
            "version of this table; it counts up when a key changes its meaning", "";
    }
    "The window, in `Reading.flat()` only" flat {
        Label "label" Text "the name given to the meter", "none was given";
        Running "running" Boolean "the meter had not stopped when this was read", "";
        Samples "samples" Count "samples that the background thread took within the window", "";
        Interval "interval" S "time between two samples", "only the window's edges were read";
        WindowStart "window_start" Ns "start of the window on `CLOCK_MONOTONIC`", "nothing was metered";
        WindowEnd "window_end" Ns "end of the window on `CLOCK_MONOTONIC`", "nothing was metered";
        AllottedCpus "allotted_cpus" Number
            "CPUs that this function may use, by quota, cpuset and affinity", "";
        EnergyShare "energy_share" Ratio
            "this function's part of the energy above idle", "there is no headline";
        EnergyShareLow "energy_share_low" Ratio "lower end of the 95 % band of `energy_share`", "there is no headline";
        EnergyShareHigh "energy_share_high" Ratio "upper end of the 95 % band of `energy_share`", "there is no headline";
        EnergyMachineLow "energy_machine_low" J
            "lower end of the 95 % band of `energy_machine`", "there is no headline";
        EnergyMachineHigh "energy_machine_high" J "upper end of the 95 % band of `energy_machine`", "there is no headline";
        EnergyIdleLow "energy_idle_low" J
            "lower end of the 95 % band of `energy_idle`", "there is no headline";
        EnergyIdleHigh "energy_idle_high" J "upper end of the 95 % band of `energy_idle`", "there is no headline";
        TdpEnergyLow "tdp_energy_low" J
            "lower end of the 95 % band of `tdp_energy`", "`tdp_energy` is `None`";
        TdpEnergyHigh "tdp_energy_high" J "upper end of the 95 % band of `tdp_energy`", "`tdp_energy` is `None`";
        GpuEnergyLow "gpu_energy_low" J
            "lower end of the 95 % band of `gpu_energy`", "`gpu_energy` is `None`";
        GpuEnergyHigh "gpu_energy_high" J
            "upper end of the 95 % band of `gpu_energy`", "`gpu_energy` is `None`";
        GpuEnergyAttributedLow "gpu_energy_attributed_low" J
            "lower end of the 95 % band of `gpu_energy_attributed`", "`gpu_energy_attributed` is `None`";
        GpuEnergyAttributedHigh "gpu_energy_attributed_high" J
            "upper end of the 95 % band of `gpu_energy_attributed`", "`gpu_energy_attributed` is `None`";
        StealTime "steal_time" S
            "CPU time that the hypervisor took from the machine, all CPUs added",
            "`psutil` is not among the methods, or `/proc/stat` cannot be read";
        SandboxCpuTime "sandbox_cpu_time" S
            "CPU time of everything in the cgroup that limits this process",
            "no cgroup limits it, or its account cannot be read";
        SandboxThrottledPeriods "sandbox_throttled_periods" Count
            "periods in which the quota of the cgroup that limits this process was used up", "no cgroup limits it";
        SandboxThrottledTime "sandbox_throttled_time" S
            "time that run queues of that cgroup waited for the next period, all CPUs added",
            "no cgroup limits it";
        EbpfInstructions "ebpf_instructions" Instructions
            "instructions of the function by the probes", "no PMU counts them here, or the window is of a thread or a coroutine, or the probes gave none: `ebpf_source` has the reason";
        EbpfLostSlices "ebpf_lost_slices" Count
            "slices of on-CPU time whose beginning the probes missed, machine",
            "the probes saw nothing";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once_and_an_identifier() {
        let mut names: Vec<_> = Key::ALL.iter().map(|key| key.row().name).collect();
        for name in &names {
            assert!(
                name.bytes()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'),
                "{name}"
            );
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_key_has_its_own_row() {
        for key in Key::ALL {
            assert_eq!(Key::named(key.row().name), Some(*key));
            assert!(!key.row().meaning.is_empty());
        }
        assert_eq!(Key::named("job_energy_low"), None);
    }
}
