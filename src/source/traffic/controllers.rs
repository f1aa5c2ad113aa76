//! Bytes by the memory controllers' own counters, the `uncore_imc` PMUs of Intel's processors and
//! whichever of AMD's (`amd_umc`) show events by these names.
//!
//! What an event is, and how many bytes one of its counts is, comes from the machine's own
//! `events/NAME`, `.scale` and `.unit`. A PMU is one controller of each package: its `cpumask` names one
//! CPU of each. They are system-wide, as the power PMU, so they want CAP_PERFMON or
//! `perf_event_paranoid` ≤ 0.
//!
//! Where controllers have counters that always run (`uncore_imc_free_running`, and those of client dies)
//! these are taken: they cost nobody anything. The others are few, and shared with whoever profiles the
//! machine, so they are taken only where `perf` was asked for by its name.

use std::fs;
use std::io;
use std::path::Path;

use perf_event::ReadFormat;
use perf_event::events::Dynamic;

use super::Look;
use crate::source::kept::StandardStreams;
use crate::source::perf::{self, OwnCounter, POWER_FIX};
use crate::source::{Unavailable, topology};

/// PMUs of memory controllers begin so.
const DEVICES: [&str; 2] = ["uncore_imc", "amd_umc"];

/// … and those of which the counters always run.
const ALWAYS: &str = "free_running";

/// Events that together are all of a controller's traffic, by the beginnings of their names: counters that
/// always run on servers and on client dies, those of older client dies, and servers' commands to the
/// modules. On some servers a controller's two halves have an event each (`cas_count_read_sch0`).
const EVENTS: [(&[&str], bool); 4] = [
    (&["data_read", "data_write"], true),
    (&["read", "write"], true),
    (&["data_reads", "data_writes"], true),
    (&["cas_count_read", "cas_count_write"], false),
];

/// More controllers than any machine has.
const MOST_COUNTERS: usize = 512;

/// Counts that are shown in parts of this many bytes.
const MIB: f64 = 1_048_576.0;

/// What a counter showed.
#[derive(Debug, Clone, Copy)]
struct Shown {
    count: u64,
    /// For how long it was open, and for how long of that it counted, ns.
    enabled_ns: u64,
    running_ns: u64,
}

/// One event of one controller.
#[derive(Debug)]
struct Counted {
    counter: OwnCounter,
    /// Bytes of a count.
    bytes: f64,
    last: Option<Shown>,
}

/// All controllers of the machine.
#[derive(Debug)]
pub struct Controllers {
    counters: Vec<Counted>,
    devices: usize,
    always: bool,
}

/// A controller's PMU and those of its events that are read.
type Chosen = (std::path::PathBuf, Vec<String>);

impl Controllers {
    /// Opens them below `root`; those that are shared with others only where they are `asked_for`.
    pub(super) fn open(root: &Path, asked_for: bool) -> Result<Self, Unavailable> {
        let devices = root.join("sys/bus/event_source/devices");
        let (chosen, always) = choose(&devices);
        if chosen.is_empty() {
            return Err(Unavailable::absent(
                "no memory controller has a PMU with events that count its traffic",
            ));
        }
        if !always && !asked_for {
            return Err(Unavailable::absent(
                "the memory controllers' counters are shared with whoever profiles the machine, so \
                 they are read where \"perf\" is named in methods",
            ));
        }
        let _spared = StandardStreams::spared();
        let mut counters = Vec::new();
        for (device, events) in &chosen {
            for cpu in topology::readable(root, perf::mask(device)) {
                for event in events {
                    if counters.len() == MOST_COUNTERS {
                        return Err(Unavailable::absent(format!(
                            "the memory controllers have more than {MOST_COUNTERS} counters"
                        )));
                    }
                    counters.push(open_event(device, event, cpu)?);
                }
            }
        }
        if counters.is_empty() {
            return Err(Unavailable::absent(
                "no CPU is online that a memory controller is read on",
            ));
        }
        Ok(Self {
            counters,
            devices: chosen.len(),
            always,
        })
    }

    pub(super) fn describe(&self) -> String {
        let kind = match self.always {
            true => ", always counting",
            false => ", where \"perf\" is named in methods",
        };
        format!(
            "{} counters of {} memory controllers' PMUs{kind}",
            self.counters.len(),
            self.devices
        )
    }

    /// Whether its counters are others' as well.
    pub(super) fn always(&self) -> bool {
        self.always
    }

    pub(super) fn forget(&mut self) {
        for counted in &mut self.counters {
            counted.last = None;
        }
    }

    pub(super) fn look(&mut self) -> Look {
        let mut bytes = 0.0;
        let mut first = false;
        let mut lost = None;
        // Each is read in any case, so that all begin the next stretch together.
        for counted in &mut self.counters {
            match counted.advance() {
                Ok(Some(more)) => bytes += more,
                Ok(None) => first = true,
                Err(why) => lost = Some(why),
            }
        }
        match lost {
            Some(why) => Look::Lost(why),
            None if first => Look::First,
            None => Look::Bytes(bytes as u64),
        }
    }
}

impl Counted {
    /// Bytes since the last look; `None` where there was none.
    fn advance(&mut self) -> Result<Option<f64>, String> {
        let then = self.last.take();
        if !self.counter.is_ours() {
            return Err("somebody closed a memory controller's counter".into());
        }
        let data = self.counter.read_full();
        let data = data.map_err(|e| format!("a memory controller's counter: {e}"))?;
        let ns = |time: Option<std::time::Duration>| {
            time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        let now = Shown {
            count: data.count(),
            enabled_ns: ns(data.time_enabled()),
            running_ns: ns(data.time_running()),
        };
        self.last = Some(now);
        let Some(then) = then else {
            return Ok(None);
        };
        scaled(then, now).map(|counts| Some(counts * self.bytes))
    }
}

/// Counts between two looks. Where others had the counter for a part of that time, it is taken to have counted
/// as much then.
fn scaled(then: Shown, now: Shown) -> Result<f64, String> {
    let counts = now.count.checked_sub(then.count);
    let counts = counts.ok_or("a memory controller's counter went back")?;
    let enabled_ns = now.enabled_ns.saturating_sub(then.enabled_ns);
    let running_ns = now.running_ns.saturating_sub(then.running_ns);
    if enabled_ns == 0 {
        return Err("a memory controller's CPU went offline".into());
    }
    if running_ns == 0 {
        return Err("others had a memory controller's counters all the time".into());
    }
    Ok(counts as f64 * enabled_ns.max(running_ns) as f64 / running_ns as f64)
}

/// The PMUs to read with their events, and whether these always run.
fn choose(devices: &Path) -> (Vec<Chosen>, bool) {
    let names = fs::read_dir(devices).into_iter().flatten();
    let mut names: Vec<String> = names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| DEVICES.iter().any(|begin| name.starts_with(begin)))
        .collect();
    names.sort();
    for (kinds, always) in EVENTS {
        // A server's controllers have both: PMUs that always count, and others.
        for free in [true, false] {
            let of = names.iter().filter(|name| name.contains(ALWAYS) == free);
            let chosen: Vec<Chosen> = of
                .map(|name| devices.join(name))
                .filter_map(|device| {
                    let events = events(&device, kinds)?;
                    Some((device, events))
                })
                .collect();
            if !chosen.is_empty() {
                return (chosen, always);
            }
        }
    }
    (Vec::new(), false)
}

/// The events of a PMU that are of these `kinds`; `None` unless it has some of each.
fn events(device: &Path, kinds: &[&str]) -> Option<Vec<String>> {
    let names = fs::read_dir(device.join("events")).ok()?;
    let names: Vec<String> = names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.contains('.'))
        .collect();
    let mut found = Vec::new();
    for kind in kinds {
        let halves = format!("{kind}_sch");
        let mut its: Vec<String> = names
            .iter()
            .filter(|name| *name == kind || name.starts_with(&halves))
            .cloned()
            .collect();
        // The whole, where it is there beside its halves.
        if its.iter().any(|name| name == kind) {
            its.retain(|name| name == kind);
        }
        if its.is_empty() {
            return None;
        }
        its.sort();
        found.extend(its);
    }
    Some(found)
}

fn open_event(device: &Path, event: &str, cpu: u32) -> Result<Counted, Unavailable> {
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    let what = format!("{name}/{event}/");
    let broken = |e: &dyn std::fmt::Display| Unavailable::absent(format!("{what}: {e}"));
    let mut dynamic = Dynamic::builder(device).map_err(|e| broken(&e))?;
    dynamic.event(event).map_err(|e| broken(&e))?;
    let unit = dynamic.unit().map_err(|e| broken(&e))?;
    let scale = dynamic.scale().map_err(|e| broken(&e))?;
    let bytes = match (unit.as_deref(), scale) {
        (Some("MiB"), Some(scale)) if scale.is_finite() && scale > 0.0 => scale * MIB,
        (Some("Bytes"), Some(scale)) if scale.is_finite() && scale > 0.0 => scale,
        (unit, _) => {
            return Err(broken(&format!(
                "its unit is {:?}, expected \"MiB\" with a scale",
                unit.unwrap_or("missing")
            )));
        }
    };
    let built = dynamic.build().map_err(|e| broken(&e))?;
    let times = ReadFormat::TOTAL_TIME_ENABLED | ReadFormat::TOTAL_TIME_RUNNING;
    let counter = perf::of_the_machine(built, cpu, times).build();
    let counter = counter.map_err(|e: io::Error| perf::refusal(&e, &what, POWER_FIX))?;
    Ok(Counted {
        counter: OwnCounter::new(counter),
        bytes,
        last: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pmu(root: &Path, name: &str, mask: &str, events: &[&str], scale: &str) {
        perf::counting_pmu(root, name, mask, events, ("MiB", scale));
    }

    fn chosen(root: &Path) -> (Vec<(String, Vec<String>)>, bool) {
        let (chosen, always) = choose(&root.join("sys/bus/event_source/devices"));
        let named = chosen.into_iter().map(|(device, events)| {
            let name = device.file_name().unwrap().to_string_lossy().into_owned();
            (name, events)
        });
        (named.collect(), always)
    }

    fn names(events: &[&str]) -> Vec<String> {
        events.iter().map(|event| (*event).to_owned()).collect()
    }

    #[test]
    fn counters_that_always_run_come_before_those_that_are_shared() {
        // Ice Lake servers: both, the first with persistent memory's events beside them.
        let root = tempfile::tempdir().unwrap();
        let cas = ["cas_count_read", "cas_count_write", "clockticks"];
        pmu(
            root.path(),
            "uncore_imc_0",
            "0,28\n",
            &cas,
            "6.103515625e-5",
        );
        pmu(root.path(), "uncore_cha_0", "0\n", &["read", "write"], "1");
        let (devices, always) = chosen(root.path());
        let of_cas = names(&["cas_count_read", "cas_count_write"]);
        assert_eq!(devices, [("uncore_imc_0".to_owned(), of_cas)]);
        assert!(!always);
        let free = ["read", "write", "ddrt_read", "ddrt_write", "dclk"];
        pmu(
            root.path(),
            "uncore_imc_free_running_0",
            "0,28\n",
            &free,
            "3.814697266e-6",
        );
        let (devices, always) = chosen(root.path());
        let of_free = names(&["read", "write"]);
        assert_eq!(devices, [("uncore_imc_free_running_0".to_owned(), of_free)]);
        assert!(always);
    }

    #[test]
    fn each_generation_names_its_events() {
        for (name, events, expected, always) in [
            // Client dies before and since Tiger Lake.
            (
                "uncore_imc",
                &["data_reads", "data_writes", "gt_requests"][..],
                &["data_reads", "data_writes"][..],
                true,
            ),
            (
                "uncore_imc_free_running_1",
                &["data_total", "data_read", "data_write"],
                &["data_read", "data_write"],
                true,
            ),
            // Granite Rapids.
            (
                "uncore_imc_3",
                &[
                    "cas_count_read_sch0",
                    "cas_count_read_sch1",
                    "cas_count_write_sch0",
                    "cas_count_write_sch1",
                ],
                &[
                    "cas_count_read_sch0",
                    "cas_count_read_sch1",
                    "cas_count_write_sch0",
                    "cas_count_write_sch1",
                ],
                false,
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            pmu(root.path(), name, "0\n", events, "6.103515625e-5");
            let of = (name.to_owned(), names(expected));
            assert_eq!(chosen(root.path()), (vec![of], always));
        }
        // Half of the traffic is none, and other PMUs are no memory controllers.
        let root = tempfile::tempdir().unwrap();
        pmu(root.path(), "uncore_imc_0", "0\n", &["cas_count_read"], "1");
        pmu(root.path(), "amd_df", "0\n", &["read", "write"], "1");
        assert!(chosen(root.path()).0.is_empty());
    }

    #[test]
    fn each_controller_is_read_once_and_counts_in_bytes() {
        let root = tempfile::tempdir().unwrap();
        for name in ["uncore_imc_free_running_0", "uncore_imc_free_running_1"] {
            pmu(
                root.path(),
                name,
                "0\n",
                &["data_read", "data_write"],
                "1e-6",
            );
        }
        let cpu = root.path().join("sys/devices/system/cpu");
        fs::create_dir_all(&cpu).unwrap();
        fs::write(cpu.join("online"), "0\n").unwrap();
        let mut controllers = match Controllers::open(root.path(), false) {
            Err(why) if why.denied => return,
            opened => opened.unwrap(),
        };
        assert_eq!(
            controllers.describe(),
            "4 counters of 2 memory controllers' PMUs, always counting"
        );
        assert_eq!(controllers.look(), Look::First);
        let Look::Bytes(bytes) = controllers.look() else {
            panic!("it was looked at before");
        };
        assert!(bytes > 0);
        controllers.forget();
        assert_eq!(controllers.look(), Look::First);
    }

    #[test]
    fn shared_counters_are_left_to_others_unless_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let cas = ["cas_count_read", "cas_count_write"];
        pmu(root.path(), "uncore_imc_0", "0\n", &cas, "1");
        let why = Controllers::open(root.path(), false).unwrap_err();
        assert!(why.reason.contains("\"perf\" is named"));
        let unit = root
            .path()
            .join("sys/bus/event_source/devices/uncore_imc_0/events");
        fs::write(unit.join("cas_count_write.unit"), "Joules\n").unwrap();
        let why = Controllers::open(root.path(), true).unwrap_err();
        assert!(
            why.denied || why.reason.contains("its unit is \"Joules\""),
            "{why}"
        );
    }

    #[test]
    fn time_that_others_had_a_counter_is_made_up_for() {
        let at = |count, enabled_ns, running_ns| Shown {
            count,
            enabled_ns,
            running_ns,
        };
        assert_eq!(scaled(at(5, 100, 100), at(15, 200, 200)), Ok(10.0));
        assert_eq!(scaled(at(5, 100, 100), at(15, 200, 125)), Ok(40.0));
        for (now, why) in [
            (at(4, 200, 200), "went back"),
            (at(9, 200, 100), "others had"),
            (at(9, 100, 100), "went offline"),
        ] {
            let said = scaled(at(5, 100, 100), now).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
