//! The energy between two times, of readings that come now and then.

use std::fmt;

use crate::bands::{EDGE, Energy, rss};

/// A moment at which a change happened, uniform within an interval, is off from the interval's middle
/// by at most this part of it in 95 % of cases.
const UNIFORM: f64 = 0.475;

/// Two independent readings of a value that fluctuates with deviation σ differ by √2·σ, and 1.96·σ hold
/// 95 %: this times their difference.
const UNSEEN: f64 = 1.96 / std::f64::consts::SQRT_2;

/// The mean rate of a count that changed less often than this is itself not well known.
const FEW: usize = 5;

/// How a meter answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensor {
    /// It shows joules that only rise, instead of watts.
    pub counts: bool,
    /// A new value comes at most this often, s.
    pub update: f64,
    /// What it shows is, in the mean, the truth of this long ago, s.
    pub delay: f64,
    /// A value in watts is the mean of this long, s; 0 for one of a moment.
    pub averaged: f64,
    /// How far all its values may be off together, as a part of them.
    pub relative: f64,
    /// Its values are multiples of this, W or J.
    pub step: f64,
    /// Nothing is known of power between two readings that are further apart than this, s.
    pub gap: f64,
}

/// What a meter showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// When, s on the clock of the window.
    pub at: f64,
    /// W, or J where it counts.
    pub value: f64,
}

/// Why there is no energy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unknown {
    /// It was not read.
    Nothing,
    /// The window begins so long before the first reading, s.
    Begins(f64),
    /// The window ends so long after the last reading, s.
    Ends(f64),
    /// There are no readings for so long, beginning at so many seconds of the window.
    Gap(f64, f64),
    /// It began to count anew at so many seconds of the window.
    Reset(f64),
    /// It was read once, and a count alone is no energy.
    Once,
    /// The window is so long, and a new value comes only so often, s.
    Short(f64, f64),
    /// It counts in steps, of which the window has one at most.
    Still,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "it was not read within the window"),
            Self::Begins(s) => write!(
                f,
                "the window begins {s:.1} s before the first reading, and power was not known then"
            ),
            Self::Ends(s) => write!(
                f,
                "the window ends {s:.1} s after the last reading, and power is not known then"
            ),
            Self::Gap(at, s) => write!(
                f,
                "there are no readings for {s:.1} s, from {at:.1} s of the window on"
            ),
            Self::Reset(at) => write!(f, "it began to count anew at {at:.1} s of the window"),
            Self::Short(length, update) => write!(
                f,
                "the window of {length:.1} s is shorter than the {update:.1} s after which it has a \
                 new value"
            ),
            Self::Still => write!(
                f,
                "its count changed once at most within the window, which is too short for its steps"
            ),
            Self::Once => write!(
                f,
                "it was read once, and energy is what lies between two readings"
            ),
        }
    }
}

/// The energy from `from` to `to` (s), J, with its 95 % band, of readings in the order of their times.
///
/// Power goes in a straight line from reading to reading. The band holds what may have happened in
/// between, an update at each edge of the window, the meter's steps, and the error that all its readings
/// share. In a simulation of steady, stepping and bursting loads (updates of 1 to 15 s, windows of 5 to
/// 120 s) it holds 97 % of truths and more, but for windows of one to eight updates: 91 % and more.
///
/// ```
/// use lithowatt::reference::{Sensor, Told, energy};
/// let sensor = Sensor { counts: false, update: 1.0, delay: 0.0, averaged: 1.0, relative: 0.01,
///     step: 0.0, gap: 10.0 };
/// let told: Vec<Told> = (0..=10).map(|t| Told { at: f64::from(t), value: 20.0 }).collect();
/// let found = energy(&sensor, &told, 2.0, 7.0).unwrap();
/// assert!((found.joules - 100.0).abs() < 1e-9);
/// // What was shown at the edges may be a second old.
/// assert!(found.high - 100.0 > 15.0 && found.high - 100.0 < 16.0);
/// ```
///
/// # Errors
/// [`Unknown`]: the readings do not cover the window.
pub fn energy(sensor: &Sensor, told: &[Told], from: f64, to: f64) -> Result<Energy, Unknown> {
    let told: Vec<Told> = told
        .iter()
        .map(|told| Told {
            at: told.at - sensor.delay,
            ..*told
        })
        .collect();
    let (Some(first), Some(last)) = (told.first(), told.last()) else {
        return Err(Unknown::Nothing);
    };
    // Readings that only lie beside the window say nothing of it.
    if first.at - from > sensor.gap || first.at >= to + sensor.gap {
        return Err(Unknown::Begins(first.at - from));
    }
    if to - last.at > sensor.gap {
        return Err(Unknown::Ends(to - last.at));
    }
    if to - from < sensor.update {
        return Err(Unknown::Short(to - from, sensor.update));
    }
    if sensor.counts {
        counted(sensor, &told, from, to)
    } else {
        integrated(sensor, &told, from, to)
    }
}

/// Readings in pairs that have a part in the window.
fn intervals(told: &[Told], from: f64, to: f64) -> impl Iterator<Item = (Told, Told)> {
    told.windows(2)
        .map(|pair| (pair[0], pair[1]))
        .filter(move |(then, now)| now.at > from && then.at < to)
}

fn integrated(sensor: &Sensor, told: &[Told], from: f64, to: f64) -> Result<Energy, Unknown> {
    let (first, last) = (told[0], told[told.len() - 1]);
    let mut joules = 0.0;
    let mut doubts = Vec::new();
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for (then, now) in intervals(told, from, to) {
        let seconds = now.at - then.at;
        if seconds > sensor.gap {
            return Err(Unknown::Gap((then.at - from).max(0.0), seconds));
        }
        let change = now.value - then.value;
        let slope = if seconds > 0.0 { change / seconds } else { 0.0 };
        let at = |t: f64| then.value + slope * (t - then.at);
        let (begin, end) = (then.at.max(from), now.at.min(to));
        joules += 0.5 * (at(begin) + at(end)) * (end - begin);
        // A value that was read twice before it was renewed changed somewhere since the renewal.
        let unknown = seconds.max(sensor.update.min(to - from));
        let part = if sensor.averaged >= 0.5 * seconds {
            UNIFORM
        } else {
            UNSEEN
        };
        doubts.push(part * change.abs() * unknown);
        least = least.min(then.value).min(now.value);
        most = most.max(then.value).max(now.value);
    }
    for (held, value) in [
        (first.at.min(to) - from, first.value),
        (to - last.at.max(from), last.value),
    ] {
        if held > 0.0 {
            joules += held * value;
            least = least.min(value);
            most = most.max(value);
        }
    }
    // What was shown at an edge may be an update old, and the power another one since.
    let power = (joules / (to - from)).max(most - least);
    doubts.push(EDGE * edge(sensor, &[first, last], from, to) * power);
    doubts.push(UNIFORM * sensor.step * (to - from));
    doubts.push(sensor.relative * joules.abs());
    Ok(banded(joules, &doubts))
}

/// The longest time at an edge of the window in which power is not known, s.
fn edge(sensor: &Sensor, ends: &[Told; 2], from: f64, to: f64) -> f64 {
    let held = (ends[0].at - from).max(to - ends[1].at);
    sensor.update.max(held - sensor.delay).min(to - from)
}

fn counted(sensor: &Sensor, told: &[Told], from: f64, to: f64) -> Result<Energy, Unknown> {
    let (first, last) = (told[0], told[told.len() - 1]);
    if told.len() < 2 || last.at <= first.at {
        return Err(Unknown::Once);
    }
    for (then, now) in intervals(told, from, to) {
        if now.value < then.value {
            return Err(Unknown::Reset((now.at - from).max(0.0)));
        }
    }
    // A reading that repeats the one before it is no news: what was counted since is not shown.
    let news: Vec<Told> = told
        .windows(2)
        .filter(|pair| pair[1].value != pair[0].value)
        .map(|pair| pair[1])
        .filter(|told| told.at > from - sensor.gap && told.at < to + sensor.gap)
        .collect();
    let (Some(begin), Some(end)) = (news.first(), news.last()) else {
        return Err(Unknown::Still);
    };
    let span = end.at - begin.at;
    if span <= 0.0 {
        return Err(Unknown::Still);
    }
    let rate = (end.value - begin.value) / span;
    // Joules at a time, and those of the update or the stretch without news that it lies in.
    let at = |t: f64| {
        let place = news.partition_point(|told| told.at <= t);
        match (place.checked_sub(1).map(|i| news[i]), news.get(place)) {
            (Some(then), Some(now)) => {
                let rise = now.value - then.value;
                let part = (t - then.at) / (now.at - then.at);
                (then.value + rise * part, rise)
            }
            (Some(then), None) => (then.value + rate * (t - then.at), rate * (t - then.at)),
            (None, Some(now)) => (now.value - rate * (now.at - t), rate * (now.at - t)),
            (None, None) => (0.0, 0.0),
        }
    };
    let ((began, at_begin), (ended, at_end)) = (at(from), at(to));
    let joules = ended - began;
    let update = intervals(&news, from, to)
        .map(|(then, now)| now.at - then.at)
        .fold(sensor.update, f64::max)
        .min(to - from);
    let mut doubts = vec![
        EDGE * at_begin,
        EDGE * at_end,
        EDGE * rate * update,
        EDGE * sensor.step,
        sensor.relative * joules.abs(),
    ];
    let steps = news.len() - 1;
    if steps < FEW {
        doubts.push(EDGE * joules / steps as f64);
    }
    Ok(banded(joules, &doubts))
}

fn banded(joules: f64, doubts: &[f64]) -> Energy {
    let half = rss(doubts);
    Energy {
        joules,
        low: (joules - half).max(0.0),
        high: joules + half,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::random::Random;

    const WATTS: Sensor = Sensor {
        counts: false,
        update: 1.0,
        delay: 0.0,
        averaged: 1.0,
        relative: 0.0,
        step: 0.0,
        gap: 5.0,
    };

    fn series(values: impl IntoIterator<Item = (f64, f64)>) -> Vec<Told> {
        let told = |(at, value)| Told { at, value };
        values.into_iter().map(told).collect()
    }

    #[test]
    fn a_ramp_is_integrated_at_edges_between_readings() {
        let ramp = series((0..=10).map(|t| (f64::from(t), f64::from(t))));
        let found = energy(&WATTS, &ramp, 1.5, 4.5).unwrap();
        assert!((found.joules - 9.0).abs() < 1e-9, "{found:?}");
        assert!(found.low < 9.0 && found.high > 9.0);
    }

    #[test]
    fn a_step_at_any_moment_between_two_readings_is_in_the_band() {
        // 10 W before, 50 W after some moment between 2 and 3 s, read at full seconds.
        let told = series((0..=6).map(|t| (f64::from(t), if t < 3 { 10.0 } else { 50.0 })));
        for tenth in 1..10 {
            let at = 2.0 + f64::from(tenth) / 10.0;
            let truth = 10.0 * at + 50.0 * (6.0 - at);
            let found = energy(&WATTS, &told, 0.0, 6.0).unwrap();
            assert!(
                (found.low..=found.high).contains(&truth),
                "{found:?} {truth}"
            );
        }
    }

    #[test]
    fn moments_of_a_power_that_goes_up_and_down_have_a_wider_band_than_means() {
        let told = series((0..60).map(|t| (f64::from(t), if t % 3 == 0 { 60.0 } else { 20.0 })));
        let moments = Sensor {
            averaged: 0.0,
            ..WATTS
        };
        let mean = energy(&WATTS, &told, 0.0, 59.0).unwrap();
        let moment = energy(&moments, &told, 0.0, 59.0).unwrap();
        assert_eq!(mean.joules, moment.joules);
        assert!(moment.half() > 2.5 * mean.half());
    }

    #[test]
    fn what_was_not_read_has_a_reason() {
        let told = series([(0.0, 10.0), (1.0, 10.0), (9.0, 10.0), (10.0, 10.0)]);
        assert_eq!(energy(&WATTS, &[], 0.0, 1.0), Err(Unknown::Nothing));
        assert_eq!(energy(&WATTS, &told, 0.5, 9.5), Err(Unknown::Gap(0.5, 8.0)));
        assert_eq!(energy(&WATTS, &told, -8.0, 1.0), Err(Unknown::Begins(8.0)));
        assert_eq!(energy(&WATTS, &told, 9.0, 17.0), Err(Unknown::Ends(7.0)));
        assert!(energy(&WATTS, &told, 9.0, 12.0).is_ok());
    }

    #[test]
    fn a_value_that_is_held_at_an_edge_widens_the_band() {
        let told = series([(0.0, 10.0), (1.0, 10.0)]);
        let inside = energy(&WATTS, &told, 0.0, 1.0).unwrap();
        let beyond = energy(&WATTS, &told, 0.0, 3.0).unwrap();
        assert_eq!((inside.joules, beyond.joules), (10.0, 30.0));
        assert!(beyond.high - 30.0 > 15.0);
        let short = energy(&WATTS, &told, 0.0, 0.5);
        assert_eq!(short, Err(Unknown::Short(0.5, 1.0)));
    }

    #[test]
    fn a_counter_gives_its_difference_and_a_reset_none() {
        let counter = Sensor {
            counts: true,
            step: 36.0,
            ..WATTS
        };
        // 18 W in steps of 36 J.
        let told = series((0..=60).map(|t| (f64::from(t), (f64::from(t) * 0.5).floor() * 36.0)));
        let found = energy(&counter, &told, 5.0, 55.0).unwrap();
        assert!((found.low..=found.high).contains(&900.0), "{found:?}");
        assert!(found.half() < 80.0, "{found:?}");
        let still = series((0..=60).map(|t| (f64::from(t), if t < 30 { 36.0 } else { 72.0 })));
        assert_eq!(energy(&counter, &still, 5.0, 55.0), Err(Unknown::Still));
        let fell = series([(0.0, 100.0), (1.0, 110.0), (2.0, 0.0), (3.0, 5.0)]);
        assert_eq!(energy(&counter, &fell, 0.5, 3.0), Err(Unknown::Reset(1.5)));
        assert_eq!(energy(&counter, &fell[..1], 0.0, 1.0), Err(Unknown::Once));
    }

    /// A load that jumps at random moments, as joules since 0 at full tenths of a second.
    fn jumping(seed: u64, seconds: usize) -> Vec<f64> {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (mut total, mut watts) = (0.0, 10.0);
        let mut joules = vec![0.0];
        for _ in 0..10 * seconds {
            if random.next() < 0.08 {
                watts = if random.next() < 0.5 { 8.0 } else { 45.0 };
            }
            total += 0.1 * watts;
            joules.push(total);
        }
        joules
    }

    #[test]
    fn bands_hold_bursts_that_no_reading_shows() {
        for (update, length) in [(10, 150), (40, 300), (40, 600), (150, 600)] {
            let sensor = Sensor {
                update: update as f64 / 10.0,
                delay: 0.075 * update as f64,
                averaged: 0.0,
                gap: 60.0,
                ..WATTS
            };
            let mut held = 0;
            for seed in 1..=100 {
                let joules = jumping(seed, 120);
                let (from, to) = (400, 400 + length);
                // The mean of the last update, read once a second.
                let told = series((from..=to).step_by(10).map(|t| {
                    let late = seed as usize % update;
                    let shown = (t - late) / update * update + late;
                    let watts = (joules[shown] - joules[shown - update]) / (0.1 * update as f64);
                    (t as f64 / 10.0, watts)
                }));
                let found = energy(&sensor, &told, from as f64 / 10.0, to as f64 / 10.0).unwrap();
                let truth = joules[to] - joules[from];
                held += u32::from((found.low..=found.high).contains(&truth));
            }
            assert!(
                held >= 95,
                "update {update}, window {length}: {held} of 100"
            );
        }
    }

    #[test]
    fn a_late_meter_is_shifted() {
        let told = series((0..=20).map(|t| (f64::from(t), if t < 12 { 10.0 } else { 30.0 })));
        let late = Sensor {
            delay: 2.0,
            ..WATTS
        };
        let found = energy(&late, &told, 0.0, 9.0).unwrap();
        assert!((found.joules - 90.0).abs() < 1e-9, "{found:?}");
    }
}
