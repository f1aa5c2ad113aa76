//! The curve that a load ladder gave for this machine: what `lithowatt calibrate` stores and
//! `PowerModel::calibrated` uses.

use serde::Serialize;

use crate::json::{from_json, word_from_json};

/// What measured the watts of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasuredBy {
    /// powercap.
    Rapl,
    /// perf's power PMU.
    Perf,
    /// A file of an external meter.
    MeterFile,
}

word_from_json!(MeasuredBy: Rapl, Perf, MeterFile);

/// Power of this machine against load, as fitted to a load ladder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fitted {
    /// When, seconds since the epoch.
    pub date: f64,
    /// What measured the watts.
    pub method: MeasuredBy,
    /// Version of lithowatt that did it.
    pub lithowatt: String,
    /// CPUs of the machine: with another number it is another machine.
    pub logical_cpus: u32,
    /// Idle power, W: of the packages, or of the whole machine by an external meter.
    pub idle_w: f64,
    /// What an awake uncore adds, W.
    pub wake_w: f64,
    /// What the cores add at full load, W.
    pub core_w: f64,
    /// Cores of one socket.
    pub cores_per_socket: f64,
    /// Clock at no load as a part of the clock at full load.
    pub low_clock: f64,
    /// What the second thread of a core adds, as a part of what the first one takes; `None`: the
    /// shipped shape's, as before it was fitted.
    pub second_thread: Option<f64>,
    /// Clock with all CPUs busy, MHz, where it could be read.
    pub full_mhz: Option<f64>,
    /// Root mean square of what the fit leaves, %.
    pub residual_percent: f64,
    /// Factor by which the truth may lie above or below, for 95 % of cases.
    pub band: f64,
    /// Memory, where it has a counter of its own.
    pub memory: Option<FittedMemory>,
    /// What was measured.
    pub points: Vec<Step>,
}

from_json!(Fitted {
    date,
    method,
    lithowatt,
    logical_cpus,
    idle_w,
    wake_w,
    core_w,
    cores_per_socket,
    low_clock,
    second_thread,
    full_mhz,
    residual_percent,
    band,
    memory,
    points
});

/// Memory's power as measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FittedMemory {
    /// At rest, W.
    pub idle_w: f64,
    /// What full load of the CPUs adds, W.
    pub active_w: f64,
    /// How much memory that is, GiB.
    pub gib: f64,
}

from_json!(FittedMemory {
    idle_w,
    active_w,
    gib
});

/// One step of a load ladder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// CPUs that we kept busy.
    pub cpus: u32,
    /// The part of the time in which we did, 0..1.
    pub duty: f64,
    /// Load of the machine as measured, ours and others', %.
    pub load_percent: f64,
    /// Length, s.
    pub seconds: f64,
    /// Power of what the curve is about, W.
    pub watts: f64,
    /// Power of memory, W, where it has a counter of its own.
    pub dram_watts: Option<f64>,
    /// Mean clock of all CPUs, MHz, where it could be read.
    pub mhz: Option<f64>,
    /// Fitted minus measured power, %.
    pub residual_percent: f64,
}

from_json!(Step {
    cpus,
    duty,
    load_percent,
    seconds,
    watts,
    dram_watts,
    mhz,
    residual_percent
});

/// A ladder has no more steps than that.
const MOST_STEPS: usize = 1000;

impl Fitted {
    /// Whether the watts are those of the whole machine, memory and board included.
    pub fn whole_machine(&self) -> bool {
        self.method == MeasuredBy::MeterFile
    }

    /// Hardware threads that a core runs, with the machine's CPUs on so many sockets.
    pub(super) fn threads_per_core(&self, sockets: u32) -> f64 {
        let cores = self.cores_per_socket * f64::from(sockets.max(1));
        (f64::from(self.logical_cpus) / cores.max(1.0))
            .round()
            .clamp(1.0, 8.0)
    }

    /// Where the curve is from, in words.
    pub fn describe(&self) -> String {
        let by = match self.method {
            MeasuredBy::Rapl => "rapl",
            MeasuredBy::Perf => "perf",
            MeasuredBy::MeterFile => {
                "meter-file (an external meter: wall power of the whole machine, memory and board \
                 included)"
            }
        };
        format!(
            "calibrated on {} by {by}: {:.1} W idle, {:.1} W full, residual {:.1} %",
            day(self.date),
            self.idle_w,
            self.idle_w + self.wake_w + self.core_w,
            self.residual_percent
        )
    }

    /// The first value that no ladder gives, by name.
    pub(crate) fn wrong(&self) -> Option<String> {
        let watts = |w: f64| (0.0..=1e6).contains(&w);
        let optional = |o: Option<f64>| o.is_none_or(|x| x.is_finite() && x > 0.0);
        let checks = [
            ("date", self.date.is_finite()),
            ("lithowatt", self.lithowatt.len() <= 64),
            ("logical_cpus", (1..=8192).contains(&self.logical_cpus)),
            ("idle_w", watts(self.idle_w)),
            ("wake_w", watts(self.wake_w)),
            ("core_w", watts(self.core_w)),
            (
                "cores_per_socket",
                (1.0..=8192.0).contains(&self.cores_per_socket),
            ),
            ("low_clock", (0.1..=1.0).contains(&self.low_clock)),
            (
                "second_thread",
                self.second_thread.is_none_or(|s| (0.0..=2.0).contains(&s)),
            ),
            ("full_mhz", optional(self.full_mhz)),
            ("residual_percent", watts(self.residual_percent)),
            ("band", (1.0..=100.0).contains(&self.band)),
            (
                "memory",
                self.memory
                    .is_none_or(|m| watts(m.idle_w) && watts(m.active_w) && watts(m.gib)),
            ),
            ("points", self.points.len() <= MOST_STEPS),
            (
                "points",
                self.points.iter().all(|p| {
                    watts(p.watts)
                        && (0.0..=100.0).contains(&p.load_percent)
                        && (0.0..=1.0).contains(&p.duty)
                        && p.dram_watts.is_none_or(watts)
                        && optional(p.mhz)
                        && p.seconds.is_finite()
                        && p.residual_percent.is_finite()
                }),
            ),
        ];
        let (name, _) = checks.into_iter().find(|(_, good)| !good)?;
        Some(format!("curve.{name}"))
    }
}

/// The day (UTC) of a time since the epoch, `YYYY-MM-DD`.
fn day(seconds: f64) -> String {
    // Howard Hinnant's civil_from_days: years begin in March, so that the leap day is the last.
    let days = (seconds / 86_400.0).floor() as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400, (month + 2) % 12 + 1);
    let year = year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        for (seconds, name) in [
            (0.0, "1970-01-01"),
            (951_782_400.0, "2000-02-29"),
            (1_798_761_599.0, "2026-12-31"),
            (-1.0, "1969-12-31"),
        ] {
            assert_eq!(day(seconds), name);
        }
    }
}
