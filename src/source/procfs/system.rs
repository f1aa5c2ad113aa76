//! The machine's metrics as psutil defines them: disks, network, memory, load, frequency, temperature.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{MOST_CPUS_ASKED, StatLine, cpu_list, is_a_clock};
use crate::source::kept::Kept;

/// Bytes moved, summed over devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InOut {
    /// Read from disks, or received.
    pub input: u64,
    /// Written to disks, or sent.
    pub output: u64,
}

/// Sums /proc/diskstats over whole disks, as `psutil.disk_io_counters()` does; sectors are 512 B.
/// `None` where no disk is to be seen.
pub fn disk_bytes(text: &str, is_disk: &mut dyn FnMut(&str) -> bool) -> Option<InOut> {
    let mut sum = InOut::default();
    let mut seen = false;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(name) = fields.nth(2) else { continue };
        if !is_disk(name) {
            continue;
        }
        let read = fields.nth(2).and_then(|f| f.parse::<u64>().ok());
        let written = fields.nth(3).and_then(|f| f.parse::<u64>().ok());
        if let (Some(read), Some(written)) = (read, written) {
            seen = true;
            sum.input = sum.input.saturating_add(read.saturating_mul(512));
            sum.output = sum.output.saturating_add(written.saturating_mul(512));
        }
    }
    seen.then_some(sum)
}

/// Sums /proc/net/dev over all interfaces, loopback too, as `psutil.net_io_counters()` does;
/// `None` where there is no interface.
pub fn net_bytes(text: &str) -> Option<InOut> {
    let mut sum = InOut::default();
    let mut seen = false;
    for line in text.lines().skip(2) {
        let Some((_, counters)) = line.rsplit_once(':') else {
            continue;
        };
        let mut fields = counters.split_ascii_whitespace();
        let received = fields.next().and_then(|f| f.parse::<u64>().ok());
        let sent = fields.nth(7).and_then(|f| f.parse::<u64>().ok());
        if let (Some(received), Some(sent)) = (received, sent) {
            seen = true;
            sum.input = sum.input.saturating_add(received);
            sum.output = sum.output.saturating_add(sent);
        }
    }
    seen.then_some(sum)
}

/// No machine has more memory: physical addresses of x86_64 and arm64 have 52 bits at most.
const MOST_BYTES: u64 = 1 << 52;

/// A kernel of 64 bits has no more tasks (`PID_MAX_LIMIT` of linux/threads.h), so no load is higher.
const MOST_TASKS: f64 = 4_194_304.0;

/// Temperatures that a processor may have and run, °C: silicon works from about -60 to below 200.
const CELSIUS: std::ops::RangeInclusive<f64> = -100.0..=200.0;

/// Machine memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// MemTotal.
    pub total: u64,
    /// MemAvailable.
    pub available: u64,
}

impl Memory {
    /// Parses /proc/meminfo.
    pub fn parse(text: &str) -> Option<Self> {
        let available = Self::bytes(text, "MemAvailable").or_else(|| Self::bytes(text, "MemFree"));
        Some(Self {
            total: Self::total_in(text)?,
            available: available?,
        })
    }

    /// MemTotal of the text of /proc/meminfo; `None` where it has none that a machine can have.
    pub fn total_in(text: &str) -> Option<u64> {
        Self::bytes(text, "MemTotal").filter(|total| (1..=MOST_BYTES).contains(total))
    }

    fn bytes(text: &str, name: &str) -> Option<u64> {
        let number = text
            .lines()
            .find_map(|line| line.strip_prefix(name))?
            .trim_start_matches(':')
            .trim()
            .strip_suffix("kB")?;
        number.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// `psutil.virtual_memory().percent`, 0..100.
    pub fn percent(self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        100.0 * self.used() as f64 / self.total as f64
    }

    /// Total less available, bytes: `psutil.virtual_memory().used` since psutil 7.
    pub fn used(self) -> u64 {
        self.total.saturating_sub(self.available)
    }
}

/// What changes over a window: read at both of its ends.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct SystemEdge {
    /// The machine's CPU line.
    pub stat: Option<StatLine>,
    /// Disk bytes since boot.
    pub disk: Option<InOut>,
    /// Network bytes since boot.
    pub net: Option<InOut>,
}

/// What is a state rather than a flow: read at the end of a window.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct SystemState {
    /// Machine memory.
    pub memory: Option<Memory>,
    /// Load average over one minute.
    pub load_1m: Option<f64>,
    /// Mean CPU frequency, MHz.
    pub frequency_mhz: Option<f64>,
    /// CPU temperature, degrees Celsius.
    pub temperature_celsius: Option<f64>,
}

/// Kept descriptors of the machine's metrics.
#[derive(Debug)]
pub struct System {
    disk: Option<Kept>,
    net: Option<Kept>,
    meminfo: Option<Kept>,
    loadavg: Option<Kept>,
    frequency: Vec<Kept>,
    /// Where there is no cpufreq: mean `cpu MHz` of /proc/cpuinfo, as psutil falls back to; of the
    /// CPUs at its start where it is long.
    fixed_mhz: Option<f64>,
    temperature: Option<Kept>,
    block: PathBuf,
    disks: HashMap<String, bool>,
    /// What is read goes here, and the room stays.
    text: Vec<u8>,
}

/// Sensor drivers that show a processor's temperature.
const CPU_SENSORS: [&str; 5] = [
    "coretemp",
    "k10temp",
    "zenpower",
    "cpu_thermal",
    "soc_thermal",
];

/// Reading a policy's frequency may interrupt a CPU, so a few stand for all.
const FREQUENCY_POLICIES: usize = 4;

impl System {
    /// Opens what there is below `root`.
    pub fn open(root: &Path) -> Self {
        let proc = |name: &str| Kept::open(&root.join("proc").join(name)).ok();
        let frequency = open_frequencies(root);
        let fixed_mhz = if frequency.is_empty() {
            mean_mhz(&super::cpuinfo::start(root).0)
        } else {
            None
        };
        Self {
            fixed_mhz,
            frequency,
            disk: proc("diskstats"),
            net: proc("net/dev"),
            meminfo: proc("meminfo"),
            loadavg: proc("loadavg"),
            temperature: open_temperature(root),
            block: root.join("sys/block"),
            disks: HashMap::new(),
            text: Vec::new(),
        }
    }

    /// Reads the flows, with `stat` as the machine's CPU line.
    pub fn edge(&mut self, stat: Option<StatLine>) -> SystemEdge {
        let (block, disks, buffer) = (&self.block, &mut self.disks, &mut self.text);
        let mut is_disk = |name: &str| {
            if let Some(known) = disks.get(name) {
                return *known;
            }
            // sysfs writes a slash in a device name as an exclamation mark.
            let known = block.join(name.replace('/', "!")).exists();
            disks.insert(name.to_owned(), known);
            known
        };
        let disk = self
            .disk
            .as_ref()
            .and_then(|kept| kept.read_whole(buffer).ok())
            .and_then(|text| disk_bytes(text, &mut is_disk));
        let net = self
            .net
            .as_ref()
            .and_then(|kept| kept.read_whole(buffer).ok())
            .and_then(net_bytes);
        SystemEdge { stat, disk, net }
    }

    /// Reads the states.
    pub fn state(&mut self) -> SystemState {
        let buffer = &mut self.text;
        let memory = self
            .meminfo
            .as_ref()
            .and_then(|kept| kept.read_whole(buffer).ok())
            .and_then(Memory::parse);
        let load_1m = self
            .loadavg
            .as_ref()
            .and_then(|kept| kept.read_whole(buffer).ok())
            .and_then(|text| text.split_ascii_whitespace().next()?.parse().ok())
            .filter(|load| (0.0..=MOST_TASKS).contains(load));
        let mut number = |kept: &Kept| -> Option<f64> {
            kept.read_whole(buffer).ok()?.trim().parse::<f64>().ok()
        };
        let mut khz: Vec<f64> = self.frequency.iter().filter_map(&mut number).collect();
        khz.retain(|khz| is_a_clock(*khz / 1000.0));
        let temperature_celsius = self
            .temperature
            .as_ref()
            .and_then(&mut number)
            .map(|millidegrees| millidegrees / 1000.0)
            .filter(|celsius| CELSIUS.contains(celsius));
        SystemState {
            memory,
            load_1m,
            frequency_mhz: (!khz.is_empty())
                .then(|| khz.iter().sum::<f64>() / khz.len() as f64 / 1000.0)
                .or(self.fixed_mhz),
            temperature_celsius,
        }
    }
}

/// Mean of the `cpu MHz` lines of /proc/cpuinfo.
fn mean_mhz(cpuinfo: &str) -> Option<f64> {
    let mhz: Vec<f64> = cpuinfo
        .lines()
        .filter_map(|line| {
            line.strip_prefix("cpu MHz")?
                .split_once(':')?
                .1
                .trim()
                .parse()
                .ok()
        })
        .filter(|mhz: &f64| is_a_clock(*mhz))
        .collect();
    (!mhz.is_empty()).then(|| mhz.iter().sum::<f64>() / mhz.len() as f64)
}

fn sorted_entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn open_frequencies(root: &Path) -> Vec<Kept> {
    let cpus = root.join("sys/devices/system/cpu");
    let online = crate::source::plain::kernel_text(&cpus.join("online")).ok();
    let online = online.and_then(|text| cpu_list(&text)).unwrap_or_default();
    let files: Vec<_> = if online.len() > MOST_CPUS_ASKED {
        // To look which of them there are takes a call for each.
        let all = online.iter();
        all.map(|cpu| cpus.join(format!("cpu{cpu}/cpufreq/scaling_cur_freq")))
            .collect()
    } else {
        sorted_entries(&cpus.join("cpufreq"))
            .into_iter()
            .map(|policy| policy.join("scaling_cur_freq"))
            .filter(|file| file.exists())
            .collect()
    };
    let step = files.len().div_ceil(FREQUENCY_POLICIES).max(1);
    files
        .iter()
        .step_by(step)
        .filter_map(|file| Kept::open(file).ok())
        .collect()
}

fn open_temperature(root: &Path) -> Option<Kept> {
    for sensor in sorted_entries(&root.join("sys/class/hwmon")) {
        let name = crate::source::plain::kernel_text(&sensor.join("name")).unwrap_or_default();
        if CPU_SENSORS.contains(&name.trim())
            && let Ok(kept) = Kept::open(&sensor.join("temp1_input"))
        {
            return Some(kept);
        }
    }
    for zone in sorted_entries(&root.join("sys/class/thermal")) {
        let kind = crate::source::plain::kernel_text(&zone.join("type")).unwrap_or_default();
        if kind.contains("cpu") || kind.contains("x86_pkg_temp") || kind.contains("soc") {
            return Kept::open(&zone.join("temp")).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_summed_without_partitions() {
        let text =
            " 254 0 vda 10 0 100 5 20 0 200 6 0 0 0\n 254 1 vda1 9 0 90 5 20 0 200 6 0 0 0\n";
        let sum = disk_bytes(text, &mut |name| name == "vda");
        assert_eq!(
            sum,
            Some(InOut {
                input: 51_200,
                output: 102_400
            })
        );
        assert_eq!(disk_bytes("garbage", &mut |_| true), None);
    }

    #[test]
    fn interfaces_are_summed_with_loopback() {
        let text = "Inter-|   Receive |\n face |bytes\n    lo: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n\
                    eth0:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(
            net_bytes(text),
            Some(InOut {
                input: 101,
                output: 202
            })
        );
    }

    #[test]
    fn memory_is_total_less_available() {
        let text = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  250 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!(memory.percent(), 75.0);
        assert!(Memory::parse("MemTotal: much kB").is_none());
        for (text, total) in [
            ("MemTotal: 1000 kB\n", Some(1_024_000)),
            ("MemTotal: 0 kB\nMemFree: 0 kB\n", None),
            ("MemTotal: 18014398509481983 kB\n", None),
            ("MemTotal: 1000\n", None),
            ("", None),
        ] {
            assert_eq!(Memory::total_in(text), total, "{text}");
        }
    }

    #[test]
    fn every_disk_and_interface_of_a_large_node_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let mut net = "Inter-|   Receive |\n face |bytes\n".to_owned();
        let mut disks = String::new();
        for n in 0..700 {
            net += &format!(" veth{n:08x}: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n");
            disks += &format!(" 253 {n} dm-{n} 1 0 2 0 1 0 4 0 0 0 0\n");
            std::fs::create_dir_all(root.path().join(format!("sys/block/dm-{n}"))).unwrap();
        }
        // An interface may be called anything but a slash and blanks.
        let mut net = net.into_bytes();
        net.extend(b" caf\xe9: 5 0 0 0 0 0 0 0 7 0 0 0 0 0 0 0\n");
        std::fs::create_dir_all(root.path().join("proc/net")).unwrap();
        std::fs::write(root.path().join("proc/net/dev"), net).unwrap();
        std::fs::write(root.path().join("proc/diskstats"), disks).unwrap();
        let edge = System::open(root.path()).edge(None);
        let net = InOut {
            input: 700_005,
            output: 1_400_007,
        };
        let disk = InOut {
            input: 700 * 2 * 512,
            output: 700 * 4 * 512,
        };
        assert_eq!((edge.net, edge.disk), (Some(net), Some(disk)));
    }
}
