//! Idle power of a counter, from what it showed while the machine nearly rested.
//!
//! A machine never rests wholly: at 3 % busy it may take a tenth more than at rest, and all who ran
//! would be charged that much too little. So what the load of that moment cost is taken off, by what
//! load was seen to cost on this machine.

use std::iter::zip;

use serde::{Deserialize, Serialize};

use crate::source::Zone;

/// Idle power is learned while less of the machine than this is busy.
const AT_REST: f64 = 0.05;

/// At more than this part of a machine busy it shows what load costs.
const LOADED: f64 = 0.2;

/// What was seen under load counts half after so many more seconds of it.
const HALF_LIFE_S: f64 = 60.0;

/// Windows at rest agree if one shows at least this part of the other's power.
const AGREE: f64 = 0.7;

/// A window at rest shows about the same power as another with up to this part more of it.
const ALIKE: f64 = 0.1;

/// What a load of less than [`AT_REST`] costs is at most this part of what is shown: one busy thread wakes all
/// sockets. Two E5-2650 v4 show 27 to 32 W at rest and 64 to 68 W with one of 48 CPUs busy (Alt et al.,
/// ICPE 2024), two EPYC 7502 77 W and 114 to 132 W with four of 128 (Schöne et al., CLUSTER 2021).
const MOST_COST: f64 = 0.6;

/// Nothing is learned of a stretch at whose end a counter stood still for more than one part in so many
/// of it: it showed less than was drawn.
pub const STOOD_PART: u64 = 10;

/// Idle power drifts by about this part (temperature, devices).
const DRIFT: f64 = 0.03;

/// What another process was told is off by this part at most: what it is less sure of it does not tell.
pub const LEAST_TOLD: f64 = 0.9;

/// Idle power of one counter, W, with its 95 % band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdleSeen {
    /// The best guess.
    pub watts: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end: a machine does not rest at more than the least that was seen.
    pub high: f64,
}

/// What a counter showed at rest and under load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct IdleLearner {
    /// The window with the least power.
    least: Option<Shown>,
    /// The one with the least power of all others.
    second: Option<Shown>,
    /// The one of those with about the least power in which least ran.
    quiet: Option<Shown>,
    loaded: Loaded,
    told: Option<f64>,
    /// The machine had so many CPUs when this was seen.
    cpus: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Shown {
    watts: f64,
    /// Busy part of the machine.
    busy: f64,
    /// The busy part may have been so much more or less: idle time is printed in steps.
    unsure: f64,
}

impl Shown {
    /// Busy at most.
    fn most_busy(&self) -> f64 {
        self.busy + self.unsure
    }

    /// Whether it shows as much power as `least`, or little more.
    fn is_like(&self, least: &Self) -> bool {
        (least.watts..=(1.0 + ALIKE) * least.watts).contains(&self.watts)
    }
}

/// Sums over windows under load, weighted by their lengths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Loaded {
    seconds: f64,
    joules: f64,
    busy_seconds: f64,
}

impl IdleLearner {
    /// Takes in a window of `seconds` in which the machine was `busy` (0..1), give or take `unsure`,
    /// and the counter showed `watts`.
    pub fn see(&mut self, seconds: f64, busy: f64, unsure: f64, watts: f64) {
        if !(seconds > 0.0 && watts > 0.0) || busy.is_nan() || unsure.is_nan() {
            return;
        }
        let busy = busy.clamp(0.0, 1.0);
        if busy < AT_REST {
            let shown = Shown {
                watts,
                busy,
                unsure,
            };
            let (low, high) = match self.least {
                Some(least) if least.watts <= watts => (least, Some(shown)),
                least => (shown, least),
            };
            self.least = Some(low);
            self.second = match (self.second, high) {
                (Some(second), Some(high)) if high.watts < second.watts => Some(high),
                (second, high) => second.or(high),
            };
            let Some(least) = self.believed() else { return };
            let mut quiet = self.quiet.filter(|quiet| quiet.is_like(&least));
            for shown in [least, shown] {
                let quieter = quiet.is_none_or(|quiet| shown.most_busy() < quiet.most_busy());
                if quieter && shown.is_like(&least) {
                    quiet = Some(shown);
                }
            }
            self.quiet = quiet;
        } else if busy >= LOADED {
            let old = 0.5_f64.powf(seconds / HALF_LIFE_S);
            let sums = &mut self.loaded;
            sums.seconds = sums.seconds * old + seconds;
            sums.joules = sums.joules * old + watts * seconds;
            sums.busy_seconds = sums.busy_seconds * old + busy * seconds;
        }
    }

    /// The machine has so many CPUs now. What was seen with another number of them does not apply
    /// to it:
    /// a busy part is one of all CPUs, and those that are gone take nothing at rest.
    pub fn of_cpus(&mut self, cpus: u32) {
        if self.cpus != cpus {
            *self = Self {
                told: self.told,
                cpus,
                ..Self::default()
            };
        }
    }

    /// What another process, the node agent, found out: it counts where nothing was seen here.
    pub fn set(&mut self, watts: Option<f64>) {
        self.told = watts.or(self.told);
    }

    /// Forgets all: the counter began anew, maybe as another one.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The window at rest that counts: the one with the least power, unless no other comes near it.
    /// A counter that stood still for a while shows less than the machine used, once.
    fn believed(&self) -> Option<Shown> {
        match (self.least, self.second) {
            (Some(least), Some(second)) if least.watts < AGREE * second.watts => Some(second),
            (least, _) => least,
        }
    }

    /// Whether a window at rest was seen here.
    pub fn seen_here(&self) -> bool {
        self.least.is_some()
    }

    /// Idle power, W; `None` before anything was seen. `active` is the power model's watts above
    /// idle of this counter at a busy part (0..1), with the load on all CPUs alike and on as few as
    /// can have it: the form of the curve, and its height where no load was seen.
    pub fn idle(&self, active: impl Fn(f64) -> [f64; 2]) -> Option<IdleSeen> {
        let Some(least) = self.believed() else {
            return self.told.map(|watts| IdleSeen {
                watts,
                low: LEAST_TOLD * watts,
                high: (1.0 + DRIFT) * watts,
            });
        };
        // About the same power was shown with less load: what ran beside the least power cost no more than that does.
        let quiet = self.quiet.filter(|quiet| quiet.is_like(&least));
        let quiet = quiet.unwrap_or(least);
        let within = |watts: f64| watts.clamp(0.0, MOST_COST * least.watts);
        let cost = |busy: f64| {
            let (a, b) = self.cost(least.watts, busy, &active);
            (within(a), within(b))
        };
        let (some, most) = cost(quiet.busy);
        let surely = cost((quiet.busy - quiet.unsure).max(0.0)).0;
        let at_most = cost(quiet.most_busy()).1;
        Some(IdleSeen {
            watts: least.watts - 0.5 * (some + most),
            low: least.watts - at_most - DRIFT * least.watts,
            high: least.watts - 0.5 * surely + DRIFT * least.watts,
        })
    }

    /// The least and the most that a load of `busy` (0..1) costs above idle power, W, where the
    /// counter showed `watts` in all.
    fn cost(&self, watts: f64, busy: f64, active: impl Fn(f64) -> [f64; 2]) -> (f64, f64) {
        let modelled = active(busy).map(|watts| watts.max(0.0));
        if self.loaded.seconds <= 0.0 {
            return (0.0, modelled[0].max(modelled[1]));
        }
        let rise = (self.loaded.joules / self.loaded.seconds - watts).max(0.0);
        let loaded = self.loaded.busy_seconds / self.loaded.seconds;
        let straight = rise * busy / (loaded - busy).max(f64::MIN_POSITIVE);
        // The first core that wakes wakes what all share, so the curve begins steeply; how steeply
        // differs, and goes by on how many CPUs the load was.
        let curved = zip(active(loaded), modelled).map(|(all, part)| {
            if all > part {
                rise * part / (all - part)
            } else {
                straight
            }
        });
        curved.fold((straight, straight), |(least, most), watts| {
            (least.min(watts), most.max(watts))
        })
    }
}

/// Gives each of `idle_learners`, which belong to `zones`, the `watts` of the zones in `theirs`.
pub fn set_all(
    idle_learners: &mut [IdleLearner],
    zones: &[Zone],
    theirs: &[Zone],
    watts: &[Option<f64>],
) {
    for (learner, zone) in zip(idle_learners, zones) {
        if let Some(at) = theirs.iter().position(|z| z == zone) {
            learner.set(watts.get(at).copied().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 W at rest, 80 W at full load, in a straight line.
    fn straight(busy: f64) -> f64 {
        60.0 * busy
    }

    /// The same on however many CPUs.
    fn anywhere(busy: f64) -> [f64; 2] {
        [straight(busy); 2]
    }

    #[test]
    fn what_load_cost_at_rest_is_taken_off() {
        let mut learner = IdleLearner::default();
        assert_eq!(learner.idle(anywhere), None);
        learner.see(1.0, 0.03, 0.0, 20.0 + straight(0.03));
        learner.see(5.0, 0.5, 0.0, 20.0 + straight(0.5));
        let idle = learner.idle(anywhere).expect("was seen");
        assert!((idle.watts - 20.0).abs() < 1e-9, "{idle:?}");
        assert!(idle.low < 20.0 && idle.high > 20.0);
    }

    #[test]
    fn the_machine_says_how_high_the_curve_is_and_the_model_its_form() {
        let mut learner = IdleLearner::default();
        // Four times as steep at first; the model thinks of half the watts.
        let real = |busy: f64| 60.0 * (0.7 * busy + 0.3 * (busy / 0.1).min(1.0));
        learner.see(1.0, 0.03, 0.0, 20.0 + real(0.03));
        learner.see(5.0, 0.6, 0.0, 20.0 + real(0.6));
        let idle = learner
            .idle(|busy| [0.5 * real(busy); 2])
            .expect("was seen");
        assert!(idle.low < 20.0 && 20.0 < idle.high, "{idle:?}");
        assert!((idle.watts - 20.0).abs() < 0.5 * real(0.03), "{idle:?}");
    }

    #[test]
    fn before_any_load_was_seen_the_band_reaches_to_the_models_rise() {
        let mut learner = IdleLearner::default();
        learner.see(1.0, 0.03, 0.0, 21.8);
        let idle = learner.idle(anywhere).expect("was seen");
        assert!(idle.low < 20.0 && (20.0..21.8).contains(&idle.watts) && idle.high > 21.8);
        // However absurd the model.
        let idle = learner.idle(|_| [1e9; 2]).expect("was seen");
        assert!(idle.low > 0.0 && idle.watts >= 0.7 * 21.8);
    }

    #[test]
    fn one_busy_thread_of_a_server_is_no_rest() {
        // Two E5-2650 v4 as measured (Alt et al., ICPE 2024), by their model: awake with one thread of 48.
        let model = |busy: f64| {
            let awake = 1.0 - (1.0 - busy).powi(8);
            [36.0 * awake + 90.0 * busy, 36.0 + 90.0 * busy]
        };
        let mut learner = IdleLearner::default();
        learner.see(3.0, 1.0 / 48.0, 0.0, 65.0);
        for load in [None, Some((0.5, 130.0)), Some((0.25, 100.0))] {
            if let Some((busy, watts)) = load {
                learner.see(600.0, busy, 0.0, watts);
            }
            let idle = learner.idle(model).expect("was seen");
            assert!(idle.low < 28.0 && 32.0 < idle.high, "{load:?} {idle:?}");
            assert!(idle.watts < 50.0, "{load:?} {idle:?}");
        }
    }

    /// What idle power of two E5-2650 v4 is taken for, 30 W, of whose 48 CPUs 0.1 to 0.5 are busy in each window of
    /// 0.1 s. So much does a busy CPU cost, W.
    fn never_at_rest(a_cpu_w: f64) -> IdleSeen {
        let model = |busy: f64| {
            let awake = 1.0 - (1.0 - busy).powi(8);
            let few = (48.0 * busy).min(1.0);
            [36.0 * awake + 90.0 * busy, 36.0 * few + 90.0 * busy]
        };
        let step = 0.01 / (48.0 * 0.1);
        let mut learner = IdleLearner::default();
        for turn in 0..200_u32 {
            // Evenly over each range, in orders that have nothing to do with each other.
            let part = |prime: u32, from: u32| f64::from((turn * prime + from) % 200) / 200.0;
            let cpus = 0.1 + 0.4 * part(73, 20);
            // A counter is off by up to an update at each end.
            let off = 0.02 * (part(131, 150) - 0.5);
            let printed = (cpus / 48.0 / step + part(37, 60)).floor() * step;
            let watts = (30.0 + a_cpu_w * cpus) * (1.0 + off);
            learner.see(0.1, printed, step, watts);
        }
        learner.idle(model).expect("was seen")
    }

    #[test]
    fn the_quietest_window_says_what_the_least_power_holds() {
        // A program that keeps both sockets awake, timers on all CPUs as the model has them, and hardly anything.
        for a_cpu_w in [38.0, 8.0, 0.0] {
            let idle = never_at_rest(a_cpu_w);
            assert!(idle.low < 30.0 && 30.0 < idle.high, "{a_cpu_w}: {idle:?}");
            // By the window with the least power it was 22 W, and 11 at least.
            assert!(idle.low > 21.0, "{a_cpu_w}: {idle:?}");
            assert!(
                (idle.watts / 30.0 - 1.0).abs() < 0.08,
                "{a_cpu_w}: {idle:?}"
            );
        }
    }

    #[test]
    fn a_quiet_window_with_another_power_says_nothing() {
        let of = |windows: &[(f64, f64)]| {
            let mut learner = IdleLearner::default();
            for (busy, watts) in windows {
                learner.see(1.0, *busy, 0.0, *watts);
            }
            learner.idle(anywhere).expect("was seen")
        };
        let alone = of(&[(0.03, 20.0)]);
        // What others than the CPUs drew there is not known.
        assert_eq!(of(&[(0.0, 25.0), (0.03, 20.0)]), alone);
        assert_eq!(of(&[(0.03, 20.0), (0.0, 25.0)]), alone);
        // Nor is it in one in which the counter stood.
        assert_eq!(of(&[(0.03, 20.0), (0.0, 3.0)]), alone);
        assert_eq!(of(&[(0.0, 20.5), (0.03, 20.0)]).watts, 20.0);
    }

    #[test]
    fn what_was_seen_of_other_cpus_does_not_count() {
        let mut learner = IdleLearner::default();
        learner.of_cpus(2);
        learner.see(1.0, 0.24, 0.0, 21.0);
        learner.of_cpus(16);
        learner.see(1.0, 0.03, 0.0, 21.8);
        let idle = learner.idle(anywhere).expect("was seen");
        assert!(idle.low < 20.0, "{idle:?}");
        learner.of_cpus(16);
        assert_eq!(learner.idle(anywhere), Some(idle));
    }

    #[test]
    fn the_band_knows_how_coarsely_idle_time_is_printed() {
        // 2 % busy of which 1 % was not printed.
        let mut learner = IdleLearner::default();
        learner.see(1.0, 0.01, 0.01, 20.0 + straight(0.02));
        let idle = learner.idle(anywhere).expect("was seen");
        assert!(idle.low < 20.0 && 20.0 < idle.high, "{idle:?}");
        let mut exact = IdleLearner::default();
        exact.see(1.0, 0.01, 0.0, 20.0 + straight(0.02));
        let exact = exact.idle(anywhere).expect("was seen");
        assert!(idle.low < exact.low && (idle.watts - exact.watts).abs() < 1e-9);
    }

    #[test]
    fn a_window_in_which_the_counter_stood_is_not_idle_power() {
        let mut learner = IdleLearner::default();
        for watts in [20.2, 3.0, 20.0, 20.4] {
            learner.see(1.0, 0.0, 0.0, watts);
        }
        let idle = learner.idle(anywhere).expect("was seen");
        assert!((19.0..20.5).contains(&idle.watts), "{idle:?}");
        // Two that agree are the machine: it rests deeper since.
        learner.see(1.0, 0.0, 0.0, 3.1);
        assert!(learner.idle(anywhere).expect("was seen").watts < 4.0);
    }

    #[test]
    fn the_least_window_counts_and_senseless_ones_do_not() {
        let mut learner = IdleLearner::default();
        learner.see(1.0, 0.04, 0.0, 25.0);
        learner.see(1.0, 0.0, 0.0, 20.0);
        learner.see(1.0, 0.0, 0.0, 22.0);
        for (seconds, busy, watts) in [
            (0.0, 0.0, 1.0),
            (1.0, f64::NAN, 1.0),
            (1.0, 0.0, 0.0),
            (1.0, 0.0, -3.0),
            (1.0, 0.1, 1.0),
        ] {
            learner.see(seconds, busy, 0.0, watts);
        }
        assert_eq!(learner.idle(anywhere).map(|i| i.watts), Some(20.0));
        learner.forget();
        assert_eq!(learner.idle(anywhere), None);
    }

    #[test]
    fn what_others_saw_counts_until_it_was_seen_here() {
        let mut learner = IdleLearner::default();
        learner.set(Some(30.0));
        learner.set(None);
        assert_eq!(learner.idle(anywhere).map(|i| i.watts), Some(30.0));
        learner.set(Some(29.0));
        assert_eq!(learner.idle(anywhere).map(|i| i.watts), Some(29.0));
        learner.see(1.0, 0.0, 0.0, 20.0);
        assert_eq!(learner.idle(anywhere).map(|i| i.watts), Some(20.0));
    }
}
