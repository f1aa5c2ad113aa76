//! What GPUs used within a window, and what part of it is the function's: pure arithmetic on looks.
//!
//! A GPU's energy over a stretch is shared by how busy each process kept it, as a machine's is by CPU
//! time: `share = own / (own + others)`. The function is given `Σ share·E − P_rest · Σ share·t`: its
//! part of what lies above the GPU's power at rest. The rest of the energy is others' or nobody's.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::bands::{EDGE, Energy, Share};
use crate::counter::{At, Counter, STATED_WATTS, Step};
use crate::source::Method;
use crate::source::gpu::{Busy, Device, Shown, Use};

/// The sensors are off by 5 % (Yang et al., "Accurate and Convenient Energy Measurements for GPUs",
/// SC 2024, on 70 GPUs of 12 generations).
const SENSOR: f64 = 0.05;

/// … and power that is read now and then, instead of a counter, misses what happens in between: on A100
/// and H100 it is the mean of 25 ms out of every 100 (the same).
const SAMPLED: f64 = 0.1;

/// Power is the mean of the last second on GPUs since Ampere (nvml.h, `nvmlDeviceGetPowerUsage`), s.
const POWER_SECONDS: f64 = 1.0;

/// Power that was looked at longer ago than this is not known, s.
const OLD_SECONDS: f64 = 2.0 * POWER_SECONDS;

/// Samples of processes come every sixth of a second to every second (nvml.h,
/// `nvmlDeviceGetUtilizationRates`), s.
const NEWS_SECONDS: f64 = 1.0;

/// Energy of which NVML does not say for so long who used it is nobody's, s.
const NEWS_OVERDUE: f64 = 3.0;

/// How much more or less a busy second of one process may cost than another's. It only says that some
/// kernel was running: one may keep a single multiprocessor busy, another all of them.
const SPREAD: f64 = 3.0;

/// Percents are whole.
const PERCENT_STEP: f64 = 0.5;

/// Time without a value that a window tells of, s; a thread that is late misses less.
const UNREAD_NOTED: f64 = 1.0;

/// A counter of a GPU that is on moves within this time, s: ten updates of the slowest.
const STILL_SECONDS: f64 = 1.0;

/// Power at rest is learned from at least so long without any use: some updates of the counter, s.
const REST_SECONDS: f64 = 1.5;

/// … and looked at anew after so long, s.
const MOST_REST_SECONDS: f64 = 30.0;

/// … and from no stretch between two looks that are further apart, s.
const REST_GAP: f64 = 1.0;

/// Power at rest where it was not seen, as a part of the limit: nvidia-smi shows 0.05 (RTX 3090, 4090)
/// to 0.24 (L4) of it at rest, with 0.1 to 0.17 on T4, V100, A100 and H100.
const REST_PART: [f64; 3] = [0.03, 0.12, 0.3];

/// What a GPU did between two looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stretch {
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// J; `None` where it could not be read.
    pub(super) joules: Option<f64>,
}

/// A GPU as this process has seen it so far.
#[derive(Debug)]
pub(super) struct Gpu {
    /// Who tells of it.
    pub(super) method: Method,
    pub(super) device: Device,
    /// It was there at the last look.
    pub(super) present: bool,
    /// It came after others were there.
    pub(super) came_late: bool,
    /// Why the last look failed.
    pub(super) fault: Option<String>,
    /// What to say of functions' parts where it is not told how busy each process keeps it.
    pub(super) untold: Option<String>,
    counter: Counter,
    /// Its energy is integrated from power.
    sampled: bool,
    last_ns: Option<u64>,
    /// As it was last told, where it is integrated, W.
    told_watts: Option<f64>,
    /// Mean of the last stretch, W.
    watts: Option<f64>,
    /// The least mean of a stretch, W.
    least_watts: f64,
    /// The least mean while nobody used it, W.
    rest_watts: Option<f64>,
    /// J and s since somebody last used it.
    resting: (f64, f64),
    /// Stretches of which it is not known yet whether somebody did, oldest first.
    perhaps_resting: VecDeque<(u64, f64, f64)>,
    /// J and s of the stretch of which mean power is taken next.
    span: (f64, f64),
    /// When there last was a sample of processes, ns.
    news_ns: Option<u64>,
    /// Between the last two news, s.
    news_seconds: f64,
    resets: u32,
}

impl Gpu {
    pub(super) fn new(method: Method, device: Device, came_late: bool) -> Self {
        let mut counter = Counter::new(1e-3, None);
        // Boards go beyond their limit for moments, and a counter brings its energy in steps.
        counter.most_watts = match device.limit_watts {
            Some(watts) => 4.0 * watts + 500.0,
            None => STATED_WATTS,
        };
        Self {
            method,
            device,
            present: true,
            came_late,
            fault: None,
            untold: None,
            counter,
            sampled: false,
            last_ns: None,
            told_watts: None,
            watts: None,
            least_watts: f64::INFINITY,
            rest_watts: None,
            resting: (0.0, 0.0),
            perhaps_resting: VecDeque::new(),
            span: (0.0, 0.0),
            news_ns: None,
            news_seconds: NEWS_SECONDS,
            resets: 0,
        }
    }

    /// Its name in readings.
    pub(super) fn name(&self) -> String {
        format!("gpu-{} {}", self.device.index, self.device.name)
    }

    /// Takes what it showed at `at`. The stretch that ends there began at the look before it that was
    /// not refused; `None` where there was none.
    pub(super) fn take(&mut self, at: At, shown: &Shown) -> Option<Stretch> {
        self.fault = None;
        match &shown.busy {
            Busy::Unknown(why) => {
                self.untold = Some(format!("a function's part is not told: {why}"));
            }
            Busy::Open(..) => self.untold = Some(ONLY_OPEN.into()),
            Busy::Processes(..) | Busy::Nobody => self.untold = None,
            Busy::NoNews | Busy::Later => {}
        }
        // What is shown is the truth of half an update ago, in the mean.
        let as_of_ns = at
            .t_ns
            .saturating_sub((self.device.update_seconds * 0.5e9) as u64);
        let from_ns = self.last_ns.replace(as_of_ns);
        let told_before = std::mem::replace(&mut self.told_watts, shown.watts);
        self.sampled = shown.millijoules.is_none();
        let step = shown
            .millijoules
            .map(|millijoules| self.counter.advance(at, millijoules));
        let Some(from_ns) = from_ns.filter(|from| *from < as_of_ns) else {
            self.watts = self.watts.or(shown.watts);
            return None;
        };
        let seconds = (as_of_ns - from_ns) as f64 * 1e-9;
        let joules = match step {
            Some(step) if step.refused() => {
                self.resets += 1;
                None
            }
            Some(Step::First) => None,
            Some(step) => Some(self.counter.joules(step.units())),
            None => told_before
                .zip(shown.watts)
                .filter(|_| seconds <= OLD_SECONDS)
                .map(|(then, now)| 0.5 * (then + now) * seconds),
        };
        if let Some(joules) = joules {
            self.learn(as_of_ns, joules, seconds);
        }
        self.hear(at.t_ns, shown);
        Some(Stretch {
            from_ns,
            to_ns: as_of_ns,
            joules,
        })
    }

    fn learn(&mut self, to_ns: u64, joules: f64, seconds: f64) {
        if seconds > REST_GAP {
            self.span = (0.0, 0.0);
            self.perhaps_resting.clear();
            return;
        }
        self.perhaps_resting.push_back((to_ns, joules, seconds));
        add(&mut self.span, joules, seconds);
        if self.span.1 >= REST_SECONDS {
            let (joules, seconds) = std::mem::take(&mut self.span);
            let watts = joules / seconds;
            self.watts = Some(watts);
            self.least_watts = self.least_watts.min(watts);
        }
    }

    /// Learns power at rest from what is said of its use.
    fn hear(&mut self, t_ns: u64, shown: &Shown) {
        let busy = &shown.busy;
        let used = match busy {
            Busy::Later => return,
            Busy::Nobody => false,
            Busy::Open(_, percent) => percent.is_none_or(|percent| percent > 0.0),
            Busy::Processes(..) | Busy::Unknown(_) | Busy::NoNews => true,
        };
        if let Some(seconds) = shown.news_seconds {
            self.news_seconds = seconds;
        } else if let Busy::Processes(..) = busy
            && let Some(then_ns) = self.news_ns.replace(t_ns)
        {
            let seconds = t_ns.saturating_sub(then_ns) as f64 * 1e-9;
            self.news_seconds = seconds.clamp(0.1, NEWS_SECONDS);
        }
        if used {
            self.perhaps_resting.clear();
        } else {
            let known_ns = t_ns.saturating_sub((NEWS_SECONDS * 1e9) as u64);
            while let Some((_, joules, seconds)) = self
                .perhaps_resting
                .pop_front_if(|(to_ns, ..)| *to_ns <= known_ns)
            {
                add(&mut self.resting, joules, seconds);
            }
        }
        if used || self.resting.1 >= MOST_REST_SECONDS {
            self.rest_watts = self.rest();
            self.resting = (0.0, 0.0);
        }
    }

    /// The least mean power while nobody used it, W.
    fn rest(&self) -> Option<f64> {
        let (joules, seconds) = self.resting;
        let now = (seconds >= REST_SECONDS).then(|| joules / seconds);
        match (now, self.rest_watts) {
            (Some(now), Some(then)) => Some(now.min(then)),
            (now, then) => now.or(then),
        }
    }

    /// Power at rest with its band, W, and whether it was seen.
    fn rest_band(&self) -> (Energy, bool) {
        if let Some(watts) = self.rest() {
            // The stretch that it was seen in may begin and end between two updates.
            let off = SENSOR + EDGE * self.device.update_seconds / REST_SECONDS;
            let band = Energy {
                joules: watts,
                low: watts * (1.0 - off),
                high: watts * (1.0 + off),
            };
            return (band, true);
        }
        let least = self.least_watts;
        let [low, usual, high] = match self.device.limit_watts {
            Some(limit) => REST_PART.map(|part| (part * limit).min(least)),
            None if least.is_finite() => [0.0, least / 2.0, least],
            None => [0.0; 3],
        };
        let band = Energy {
            joules: usual,
            low,
            high,
        };
        (band, false)
    }

    /// Whether it was asked what it shows.
    pub(super) fn was_asked(&self) -> bool {
        self.last_ns.is_some() || self.fault.is_some()
    }

    /// Whether it has begun again, how often.
    pub(super) fn resets(&self) -> u32 {
        self.resets
    }
}

fn add(sum: &mut (f64, f64), joules: f64, seconds: f64) {
    sum.0 += joules;
    sum.1 += seconds;
}

/// What one GPU did in one window so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum {
    /// It was looked at within the window, or before it by a stretch that reaches into it.
    seen: bool,
    /// J and s that were read.
    known: (f64, f64),
    /// Time without a reading, s: it is given the mean power.
    unread: f64,
    /// Of the function: Σ share·J and Σ share·s.
    own: (f64, f64),
    /// How busy the function and everybody kept it, percent × s.
    own_busy: f64,
    busy: f64,
    /// Stretches of which it is not known yet who used them, oldest first.
    pending: VecDeque<(u64, f64, f64)>,
    last_share: Option<f64>,
    /// Others may have used it unseen, by how much is not known.
    unseen: bool,
    /// Why its use cannot be told.
    untold: Option<String>,
    /// How late it came, s.
    late: f64,
    resets: u32,
}

/// Whose use of the GPUs is a window's.
pub(super) trait Owner {
    /// Whether a process is the function's.
    fn owns(&self, pid: i32) -> bool;
    /// Processes outside of this process's PID namespace may use the GPUs unseen.
    fn sees_few(&self) -> bool;
}

impl Sum {
    /// The resets of the GPU that were before the window.
    pub(super) fn after(resets: u32) -> Self {
        Self {
            resets,
            ..Self::default()
        }
    }

    /// Whether it was looked at within the window.
    pub(super) fn is_seen(&self) -> bool {
        self.seen
    }

    /// Takes a look at `t_ns` of a window that began at `begin_ns`.
    pub(super) fn take(
        &mut self,
        begin_ns: u64,
        t_ns: u64,
        stretch: Option<Stretch>,
        gpu: &Gpu,
        shown: &Shown,
        owner: &impl Owner,
    ) {
        let first = !std::mem::replace(&mut self.seen, true);
        let Some(stretch) = stretch else {
            let from_ns = gpu.last_ns.unwrap_or(t_ns);
            let missing = from_ns.saturating_sub(begin_ns) as f64 * 1e-9;
            match (first, gpu.came_late) {
                (true, true) => self.late = missing,
                (true, false) => self.unread += missing,
                (false, _) => {}
            }
            return;
        };
        let whole = (stretch.to_ns - stretch.from_ns) as f64;
        let within = stretch.to_ns.saturating_sub(stretch.from_ns.max(begin_ns)) as f64;
        let seconds = within * 1e-9;
        match stretch.joules {
            Some(joules) => {
                let joules = joules * within / whole;
                add(&mut self.known, joules, seconds);
                self.pending.push_back((stretch.to_ns, joules, seconds));
            }
            None => self.unread += seconds,
        }
        self.hear(t_ns, shown, gpu, owner);
    }

    fn hear(&mut self, t_ns: u64, shown: &Shown, gpu: &Gpu, owner: &impl Owner) {
        // The period that the driver knows of ended up to a period ago.
        let known_ns = t_ns.saturating_sub((gpu.news_seconds * 1e9) as u64);
        if let Some(pid) = shown.unreadable.iter().find(|pid| owner.owns(**pid)) {
            self.untold = Some(format!(
                "/proc/{pid}/fd cannot be read, and that process is the function's"
            ));
        }
        match &shown.busy {
            Busy::Nobody => self.share(0.0, 0.0, known_ns),
            Busy::Processes(uses, until_ns) => {
                let (mut own, mut all) = (0.0, 0.0);
                for Use { pids, percent } in uses {
                    all += percent;
                    match pids.iter().filter(|pid| owner.owns(**pid)).count() {
                        0 => {}
                        owned if owned == pids.len() => own += percent,
                        _ => self.untold = Some(SHARED.into()),
                    }
                }
                if owner.sees_few() || shown.hidden {
                    all = shown.busy_percent.unwrap_or(0.0).max(all);
                }
                // NVML may know the function's processes by other numbers; /proc does not.
                if owner.sees_few() && gpu.method == Method::Nvml && all > 0.0 && own == 0.0 {
                    self.untold = Some(HIDDEN.into());
                }
                self.unseen |= shown.hidden && shown.busy_percent.is_none();
                self.share(own, all, until_ns.unwrap_or(t_ns));
            }
            Busy::Later => {}
            Busy::NoNews if self.waiting() <= NEWS_OVERDUE => {}
            Busy::NoNews => {
                self.untold = Some(match owner.sees_few() {
                    true => HIDDEN.into(),
                    false => "it is not told which processes keep it busy".into(),
                });
            }
            Busy::Open(pids, percent) => {
                let own = pids.iter().filter(|pid| owner.owns(**pid)).count();
                let percent = percent.unwrap_or(100.0);
                if percent == 0.0 || (own == 0 && !owner.sees_few()) {
                    self.share(0.0, percent, t_ns);
                } else if own == pids.len() && own > 0 {
                    self.share(percent, percent, t_ns);
                } else if own == 0 {
                    self.untold = Some(HIDDEN.into());
                } else {
                    self.untold = Some(
                        "other processes have it open, too, and it is not told how busy each keeps it"
                            .into(),
                    );
                }
            }
            Busy::Unknown(why) => self.untold = Some(why.clone()),
        }
    }

    /// Time of which it is not known yet who used it, s.
    fn waiting(&self) -> f64 {
        self.pending.iter().map(|(_, _, seconds)| seconds).sum()
    }

    /// Shares what was used up to `until_ns`.
    fn share(&mut self, own: f64, all: f64, until_ns: u64) {
        let share = if all > 0.0 { own / all } else { 0.0 };
        self.last_share = Some(share);
        while let Some((_, joules, seconds)) =
            self.pending.pop_front_if(|(to_ns, ..)| *to_ns <= until_ns)
        {
            add(&mut self.own, share * joules, share * seconds);
            self.own_busy += own * seconds;
            self.busy += all * seconds;
        }
    }

    /// What it came to at `end_ns`.
    pub(super) fn close(&self, begin_ns: u64, end_ns: u64, gpu: &Gpu) -> GpuSeen {
        let seconds = end_ns.saturating_sub(begin_ns) as f64 * 1e-9;
        let mut notes = Vec::new();
        let (joules, read) = self.known;
        let there = gpu.present && gpu.fault.is_none();
        let gone = gpu.fault.as_deref().unwrap_or("it is gone");
        let last_ns = gpu.last_ns.unwrap_or(begin_ns).clamp(begin_ns, end_ns);
        let tail = (end_ns - last_ns) as f64 * 1e-9;
        let old = begin_ns.saturating_sub(gpu.last_ns.unwrap_or(begin_ns)) as f64 * 1e-9;
        let stood = gpu.counter.stood_ns(last_ns) as f64 * 1e-9;
        if self.late > 0.0 {
            notes.push(format!(
                "{} came {:.1} s after the window began and is counted from then on",
                gpu.name(),
                self.late
            ));
        }
        if !there {
            notes.push(format!(
                "{} is counted up to {:.1} s of {seconds:.1} s: {}",
                gpu.name(),
                (last_ns - begin_ns) as f64 * 1e-9,
                gone
            ));
        }
        if gpu.resets > self.resets {
            notes.push(format!(
                "{}: its counter began again, and {:.1} s are given the mean power",
                gpu.name(),
                self.unread
            ));
        } else if self.unread > UNREAD_NOTED {
            notes.push(format!(
                "{} could not be read for {:.1} s, or slept: they are given its mean power",
                gpu.name(),
                self.unread
            ));
        }
        let unread = self.unread + if there { tail } else { 0.0 };
        let mean = if read > 0.0 && joules > 0.0 {
            Some(joules / read)
        } else {
            gpu.watts.or(gpu.told_watts)
        };
        let energy = match mean {
            _ if !self.seen && gpu.watts.is_none() && gpu.told_watts.is_none() => Err(gpu
                .fault
                .clone()
                .unwrap_or_else(|| "it was not read within the window".into())),
            // What it took before says nothing of a window in which it was not read.
            _ if !there && read <= 0.0 => Err(gone.to_owned()),
            _ if read <= 0.0 && old > OLD_SECONDS => {
                Err("the window ended before it was read".into())
            }
            // A GPU that is on takes some power, so a counter that shows none does not count.
            _ if read > 0.0 && joules <= 0.0 && !gpu.sampled => {
                Err("its counter stood still within the window".into())
            }
            _ if !gpu.sampled && there && stood > STILL_SECONDS => {
                Err(format!("its counter stood still for the last {stood:.1} s"))
            }
            None => Err("the window ended before it was read twice".into()),
            Some(watts) => {
                let best = joules + watts * unread;
                let off = if gpu.sampled {
                    SENSOR + SAMPLED
                } else {
                    SENSOR
                };
                let update = if gpu.sampled {
                    POWER_SECONDS
                } else {
                    gpu.device.update_seconds
                };
                let edge = EDGE * update.min(seconds) * watts;
                let limit = gpu.device.limit_watts.unwrap_or(3.0 * watts).max(watts);
                let unsure = (off * best).hypot(edge);
                Ok(Energy {
                    joules: best,
                    low: (best - unsure - watts * unread).max(0.0),
                    high: best + unsure + (limit - watts) * unread,
                })
            }
        };
        let attributed = match &energy {
            Ok(energy) => self.attributed(*energy, mean.unwrap_or(0.0), gpu),
            Err(why) => Err(why.clone()),
        };
        GpuSeen {
            method: gpu.method,
            index: gpu.device.index,
            name: gpu.name(),
            by_counter: !gpu.sampled,
            rest_seen: gpu.rest().is_some(),
            others_seen: !self.unseen,
            energy,
            attributed,
            notes,
        }
    }

    /// The function's part above the power at rest.
    fn attributed(&self, energy: Energy, watts: f64, gpu: &Gpu) -> Result<Energy, String> {
        if let Some(why) = &self.untold {
            return Err(why.clone());
        }
        let Some(last) = self.last_share else {
            return Err("nothing was told of its use within the window".into());
        };
        // What was used since the last news is taken to be used as before.
        let mut own = self.own;
        for (_, joules, seconds) in &self.pending {
            add(&mut own, last * joules, last * seconds);
        }
        // What was not read is shared as what was.
        let scale = match self.known.0 {
            joules if joules > 0.0 => energy.joules / joules,
            _ => 1.0,
        };
        let (joules, seconds) = (own.0 * scale, own.1 * scale);
        let (rest, _) = gpu.rest_band();
        let off = energy.joules.max(f64::MIN_POSITIVE);
        let (least, most) = (energy.low / off, energy.high / off);
        let edge = EDGE * gpu.news_seconds.min(self.known.1) * (watts - rest.low).max(0.0);
        let step = PERCENT_STEP * self.known.1;
        if self.own_busy <= 0.0 {
            let most = match gpu.method {
                Method::Nvml => step / self.busy.max(step) * energy.joules,
                // A process that came and went between two looks was not seen.
                _ => energy.joules,
            };
            return Ok(Energy {
                joules: 0.0,
                low: 0.0,
                high: most.min(edge.max(0.0)),
            });
        }
        let least = if self.unseen { 0.0 } else { least };
        let share = Share::of(self.own_busy / self.busy, self.busy, step, SPREAD);
        let part = |end: f64| end / share.value;
        Ok(Energy {
            joules: (joules - rest.joules * seconds).clamp(0.0, energy.joules),
            low: (joules * part(share.low) * least - rest.high * seconds - edge).max(0.0),
            high: (joules * part(share.high) * most - rest.low * seconds + edge)
                .clamp(0.0, energy.high),
        })
    }
}

/// What is told where no process is told how busy it keeps a GPU.
const ONLY_OPEN: &str = "a function's part is told only while no other process has it open: how busy each \
                         keeps it is not told";

/// Why a process in a PID namespace of its own is told nothing.
const HIDDEN: &str = "this process is in a PID namespace of its own, and none of its processes is \
                      named though somebody uses the GPU: share the host's (hostPID, --pid=host)";

/// Why the use by several processes at once has no owner.
const SHARED: &str = "a process of the function and another one share one open device, and it is not \
                      told which of them keeps it busy";

/// What one GPU came to in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuSeen {
    /// Who told of it.
    pub method: Method,
    /// As nvidia-smi numbers it.
    pub index: u32,
    /// Its name in readings.
    pub name: String,
    /// By its counter of energy; else by integrated power.
    pub by_counter: bool,
    /// Its power at rest was seen, and not only guessed from its limit.
    pub rest_seen: bool,
    /// Who else used it was seen, or how busy they kept it.
    pub others_seen: bool,
    /// All that it used, or why that is not known.
    pub energy: Result<Energy, String>,
    /// The function's part of it, or why that is not known.
    pub attributed: Result<Energy, String>,
    /// What a careful reader should know.
    pub notes: Vec<String>,
}

/// What the GPUs did in a window.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GpusSeen {
    /// Those that were there.
    pub gpus: Vec<GpuSeen>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const OWN: i32 = 7;

    struct One {
        nested: bool,
    }

    impl Owner for One {
        fn owns(&self, pid: i32) -> bool {
            pid == OWN
        }

        fn sees_few(&self) -> bool {
            self.nested
        }
    }

    fn device(limit_watts: Option<f64>) -> Device {
        Device {
            index: 0,
            name: "X".into(),
            uuid: "GPU-0".into(),
            limit_watts,
            divided: false,
            update_seconds: 0.1,
        }
    }

    fn shown(millijoules: u64, busy: Busy) -> Shown {
        Shown::of(Some(millijoules), None, busy)
    }

    /// Looks every 100 ms from 0 on at a GPU that draws so many W, and closes the window 2 s after
    /// it began at 1 s.
    fn window(watts: f64, nested: bool, busy: impl Fn(u64) -> Busy) -> GpuSeen {
        let mut gpu = Gpu::new(Method::Nvml, device(Some(300.0)), false);
        let mut sum = Sum::after(gpu.resets());
        let begin = 1000 * MS;
        for t in (100..=3000).step_by(100).map(|t: u64| t * MS) {
            let shown = shown((watts * t as f64 * 1e-6) as u64, busy(t));
            let stretch = gpu.take(At::exactly(t), &shown);
            if t > begin {
                sum.take(begin, t, stretch, &gpu, &shown, &One { nested });
            }
        }
        sum.close(begin, 3000 * MS, &gpu)
    }

    fn processes(uses: &[(i32, f64)], t: u64) -> Busy {
        let uses = uses.iter().map(|(pid, percent)| Use {
            pids: vec![*pid],
            percent: *percent,
        });
        Busy::Processes(uses.collect(), Some(t))
    }

    #[test]
    fn a_steady_gpu_is_counted_to_the_window_s_edges() {
        let seen = window(200.0, false, |_| Busy::Nobody);
        let energy = seen.energy.unwrap();
        assert!((energy.joules - 400.0).abs() < 1.0, "{energy:?}");
        assert!(energy.low < 380.0 && energy.high > 420.0 && energy.high < 450.0);
        let own = seen.attributed.unwrap();
        assert_eq!(own.joules, 0.0);
        assert!(own.high < 20.0);
        assert!(seen.rest_seen && seen.by_counter && seen.notes.is_empty());
    }

    #[test]
    fn who_is_alone_has_all_above_rest() {
        // Rest is guessed to be 12 % of the limit, 36 W.
        let seen = window(236.0, false, |t| processes(&[(OWN, 80.0)], t));
        let own = seen.attributed.unwrap();
        assert!((own.joules - 400.0).abs() < 2.0, "{own:?}");
        assert!(own.low > 200.0 && own.high < 600.0);
        assert!(!seen.rest_seen);
    }

    #[test]
    fn others_have_their_part_and_the_band_is_wide_then() {
        let seen = window(236.0, false, |t| processes(&[(OWN, 20.0), (8, 60.0)], t));
        let own = seen.attributed.unwrap();
        assert!((own.joules - 100.0).abs() < 2.0, "{own:?}");
        assert!(own.low < 50.0 && own.high > 200.0);
    }

    #[test]
    fn what_is_not_told_is_no_part() {
        for (nested, busy, why) in [
            (false, Busy::Unknown("MIG".into()), "MIG"),
            (
                false,
                Busy::Open(vec![OWN, 8], Some(50.0)),
                "other processes",
            ),
            (false, Busy::NoNews, "nothing was told"),
            (true, Busy::Open(vec![8], Some(50.0)), "PID namespace"),
        ] {
            let seen = window(100.0, nested, |_| busy.clone());
            assert!(seen.energy.is_ok());
            assert!(seen.attributed.unwrap_err().contains(why), "{why}");
        }
    }

    /// Two seconds of a card that draws 236 W, 200 W above what is guessed to be its rest.
    fn card(change: impl Fn(&mut Shown)) -> GpuSeen {
        let mut gpu = Gpu::new(Method::Hwmon, device(Some(300.0)), false);
        let mut sum = Sum::after(0);
        for t in (0..=3000).step_by(100).map(|t: u64| t * MS) {
            let uses = processes(&[(OWN, 80.0)], t);
            let mut shown = shown((236.0 * t as f64 * 1e-6) as u64, uses);
            shown.news_seconds = Some(0.5);
            change(&mut shown);
            let stretch = gpu.take(At::exactly(t), &shown);
            if t > 1000 * MS {
                let owner = One { nested: false };
                sum.take(1000 * MS, t, stretch, &gpu, &shown, &owner);
            }
        }
        sum.close(1000 * MS, 3000 * MS, &gpu)
    }

    #[test]
    fn where_others_are_hidden_the_part_is_the_most_that_it_can_be() {
        let alone = card(|_| {});
        let own = alone.attributed.unwrap();
        assert!(
            (own.joules - 400.0).abs() < 2.0 && own.low > 100.0,
            "{own:?}"
        );
        assert!(alone.others_seen);
        let hidden = card(|shown| shown.hidden = true);
        let own = hidden.attributed.unwrap();
        assert!(
            (own.joules - 400.0).abs() < 2.0 && own.low == 0.0,
            "{own:?}"
        );
        assert!(!hidden.others_seen);
        // Where the card says how busy it is, they have the rest of that.
        let known = card(|shown| (shown.hidden, shown.busy_percent) = (true, Some(100.0)));
        let own = known.attributed.unwrap();
        assert!((own.joules - 320.0).abs() < 4.0 && own.low > 0.0, "{own:?}");
        assert!(known.others_seen);
    }

    #[test]
    fn a_process_that_was_not_seen_may_have_had_what_a_look_misses() {
        let seen = card(|shown| shown.busy = processes(&[(8, 90.0)], u64::MAX));
        let own = seen.attributed.unwrap();
        // 200 to 227 W above rest, over the half second between two looks.
        assert!(
            own.joules == 0.0 && own.high > 0.78 * 0.5 * 200.0,
            "{own:?}"
        );
    }

    #[test]
    fn what_is_shared_or_cannot_be_read_is_no_part() {
        let shared = Use {
            pids: vec![OWN, 8],
            percent: 20.0,
        };
        let seen = card(|shown| shown.busy = Busy::Processes(vec![shared.clone()], None));
        assert!(
            seen.attributed
                .unwrap_err()
                .contains("share one open device")
        );
        let seen = card(|shown| shown.unreadable = vec![8, OWN]);
        let why = seen.attributed.unwrap_err();
        assert!(why.starts_with("/proc/7/fd cannot be read"), "{why}");
    }

    #[test]
    fn a_namespace_s_own_processes_share_with_those_it_does_not_show() {
        let mut gpu = Gpu::new(Method::Nvml, device(None), false);
        let mut sum = Sum::after(0);
        for t in (0..=2000).step_by(100).map(|t: u64| t * MS) {
            let shown = Shown {
                busy_percent: Some(80.0),
                ..shown(t / 10_000, processes(&[(OWN, 20.0)], t))
            };
            let stretch = gpu.take(At::exactly(t), &shown);
            sum.take(0, t, stretch, &gpu, &shown, &One { nested: true });
        }
        let seen = sum.close(0, 2000 * MS, &gpu);
        // A quarter of the use; rest is not known and not above 100 W, all that was ever seen.
        let own = seen.attributed.unwrap();
        assert!(own.joules <= 50.0 && own.high >= 50.0, "{own:?}");
    }

    #[test]
    fn a_window_between_two_looks_has_the_last_power() {
        let mut gpu = Gpu::new(Method::Nvml, device(Some(300.0)), false);
        for t in (100..=2000).step_by(100).map(|t: u64| t * MS) {
            gpu.take(At::exactly(t), &shown(t / 10_000, Busy::Nobody));
        }
        let seen = Sum::after(0).close(2010 * MS, 2030 * MS, &gpu);
        let energy = seen.energy.unwrap();
        assert!((energy.joules - 2.0).abs() < 0.2, "{energy:?}");
        assert!(energy.low < 0.5 && energy.high > 5.0);
        assert!(seen.attributed.is_err());
    }

    #[test]
    fn what_it_drew_long_ago_is_no_power_of_a_window() {
        let mut gpu = Gpu::new(Method::Nvml, device(Some(300.0)), false);
        for t in (100..=2000).step_by(100).map(|t: u64| t * MS) {
            gpu.take(At::exactly(t), &shown(t / 10_000, Busy::Nobody));
        }
        let seen = Sum::after(0).close(60_000 * MS, 60_020 * MS, &gpu);
        assert_eq!(
            seen.energy,
            Err("the window ended before it was read".into())
        );
    }

    #[test]
    fn a_gpu_that_was_read_once_has_no_energy() {
        let mut gpu = Gpu::new(Method::Nvml, device(None), false);
        let mut sum = Sum::after(0);
        let shown = shown(5_000, Busy::Nobody);
        let stretch = gpu.take(At::exactly(100 * MS), &shown);
        assert_eq!(stretch, None);
        sum.take(0, 100 * MS, stretch, &gpu, &shown, &One { nested: false });
        assert!(sum.close(0, 150 * MS, &gpu).energy.is_err());
    }

    #[test]
    fn rest_is_what_nobody_s_use_leaves() {
        let mut gpu = Gpu::new(Method::Nvml, device(Some(300.0)), false);
        let mut counted = 0;
        for step in 0..100u64 {
            let busy = step >= 40;
            // Who used it is told a second late.
            counted += if busy { 30_000 } else { 4_000 };
            let said = match step {
                0..50 => Busy::Nobody,
                _ => processes(&[(8, 90.0)], step * 100 * MS),
            };
            gpu.take(At::exactly((step + 1) * 100 * MS), &shown(counted, said));
        }
        let watts = gpu.rest().unwrap();
        assert!((watts - 40.0).abs() < 0.5, "{watts}");
    }
}
