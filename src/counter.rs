//! One energy counter of the kernel, made into a total that only rises.
//!
//! A counter is not believed blindly. It wraps at its range, which is put right. But counters were
//! also seen to step back by a little, to show less for a moment and come back, to jump when a
//! machine woke or a guest was moved to another host, and to begin again with their driver. So each
//! step is judged by what this machine can use at most in that time ([`Counter::most_watts`]). A
//! step that no machine could have used is refused: the counter goes on from the new value, nothing
//! is added, and [`Anomalies`] records what happened and how much time is without energy for it.

use serde::{Deserialize, Serialize};

mod carried;
#[cfg(test)]
pub(crate) mod random;
mod updates;

pub use carried::{Arrears, Carried, Carry, Moment};
pub use updates::Updates;

/// How often a counter changes is learned from readings whose moments are known as well as this, ns.
const SHARP_NS: u64 = 200_000;

/// More than any socket, memory or platform domain can draw, W; for counters of a machine of which
/// nothing nearer is known. (The largest published package power in 2026 is below 1 kW.)
pub const STATED_WATTS: f64 = 5_000.0;

/// A step may hold the energy of so much more time than passed between two readings, ns. Counters
/// change every millisecond or so, and every 8 to 20 ms where the processor filters them.
const UPDATE_NS: u64 = 20_000_000;

/// A counter that stood still may bring the energy of that time at once, up to this, ns.
pub const STILL_NS: u64 = 2_000_000_000;

/// A counter that led elsewhere is expected back within this time, or within a few readings, ns.
const RETURN_NS: u64 = 2_000_000_000;
/// … or within so many readings.
const RETURN_READINGS: u64 = 3;

/// So many places are remembered to which a counter may come back.
const PLACES: usize = 4;

/// Between readings at least this far apart, ns, a step back by less than a 64th of the range is
/// no wrap: the counter would have gone round nearly exactly once.
const GLANCE_NS: u64 = 1_000_000_000;
const GRAZE: u64 = 64;

/// A gap in which a counter could go round at this power, W, may hide more than one wrap.
const ROUND_WATTS: f64 = 1_000.0;

/// The clocks with and without suspend must move apart by this before a suspend is believed, ns.
const ASLEEP_NS: u64 = 100_000_000;

/// When a counter was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At {
    /// `CLOCK_MONOTONIC`, ns.
    pub t_ns: u64,
    /// The value was read at most this long before or after, ns.
    pub slack_ns: u64,
    /// Time that the machine was suspended since it booted, ns, where it is known.
    pub asleep_ns: Option<u64>,
}

impl At {
    /// A reading at exactly `t_ns` by a machine that never sleeps.
    pub fn exactly(t_ns: u64) -> Self {
        Self {
            t_ns,
            ..Self::default()
        }
    }

    /// A reading that began at `from_ns` and ended at `to_ns`.
    pub fn between(from_ns: u64, to_ns: u64, asleep_ns: Option<u64>) -> Self {
        let slack_ns = to_ns.saturating_sub(from_ns) / 2;
        Self {
            t_ns: from_ns + slack_ns,
            slack_ns,
            asleep_ns,
        }
    }
}

/// What one new raw value of a counter meant. Units are the counter's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first value: there is no difference yet.
    First,
    /// The counter went on.
    Forward(u64),
    /// It passed its end and began again: the difference with the wrap put right.
    Wrapped(u64),
    /// It came back from where a refused step had led, and so much is to be added: what it gained
    /// since before that step, less what was counted meanwhile.
    Returned(u64),
    /// Refused: it went back by so much.
    Back(u64),
    /// Refused: it began again near 0.
    Reset,
    /// Refused: it went forward by so much, which is more than this machine can use.
    Jumped(u64),
    /// Refused: the machine was suspended in between, for so many ns.
    Suspended(u64),
    /// Refused as no reading: the value is above the counter's own range.
    Beyond,
}

impl Step {
    /// What it adds to the total.
    pub fn units(self) -> u64 {
        match self {
            Self::Forward(units) | Self::Wrapped(units) | Self::Returned(units) => units,
            _ => 0,
        }
    }

    /// Energy may be missing after it.
    pub fn refused(self) -> bool {
        matches!(
            self,
            Self::Back(_) | Self::Reset | Self::Jumped(_) | Self::Suspended(_) | Self::Beyond
        )
    }
}

/// What a counter did that no counter should, in numbers that only rise (but for `missing_ns` and
/// `doubt_units`, which fall again when a counter came back).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomalies {
    /// Steps back.
    pub backs: u32,
    /// … by so many units in all.
    pub back_units: u64,
    /// Steps back to nearly 0.
    pub resets: u32,
    /// Steps forward that were too large.
    pub jumps: u32,
    /// … by so many units in all.
    pub jump_units: u64,
    /// … in so much time in all, ns.
    pub jump_ns: u64,
    /// Times it came back from where such a step had led.
    pub returns: u32,
    /// Intervals within which the machine was suspended.
    pub suspends: u32,
    /// … for so long in all, ns.
    pub suspended_ns: u64,
    /// Times that whoever hands the counter on lost energy.
    pub losses: u32,
    /// Time whose energy is missing, ns.
    pub missing_ns: u64,
    /// The total may be off by so much either way.
    pub doubt_units: u64,
    /// What is not known of it now, where it is carried on between rare values.
    #[serde(skip)]
    pub carry: Carry,
}

impl Anomalies {
    /// How many there were.
    pub fn count(&self) -> u32 {
        [
            self.backs,
            self.resets,
            self.jumps,
            self.returns,
            self.suspends,
            self.losses,
        ]
        .into_iter()
        .fold(0, u32::saturating_add)
    }

    /// What came after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            backs: self.backs.saturating_sub(earlier.backs),
            back_units: self.back_units.saturating_sub(earlier.back_units),
            resets: self.resets.saturating_sub(earlier.resets),
            jumps: self.jumps.saturating_sub(earlier.jumps),
            jump_units: self.jump_units.saturating_sub(earlier.jump_units),
            jump_ns: self.jump_ns.saturating_sub(earlier.jump_ns),
            returns: self.returns.saturating_sub(earlier.returns),
            suspends: self.suspends.saturating_sub(earlier.suspends),
            suspended_ns: self.suspended_ns.saturating_sub(earlier.suspended_ns),
            losses: self.losses.saturating_sub(earlier.losses),
            missing_ns: self.missing_ns.saturating_sub(earlier.missing_ns),
            doubt_units: self
                .doubt_units
                .saturating_sub(earlier.doubt_units)
                .saturating_add(self.carry.doubt_since(&earlier.carry)),
            carry: Carry::default(),
        }
    }
}

/// The counter is elsewhere since a refused step, and may come back.
#[derive(Debug, Clone, Copy, Default)]
struct Elsewhere {
    /// The last value before it, and when.
    t_ns: u64,
    raw: u64,
    /// The counter is below that value by so much since; 0 where it is above.
    back: u64,
    /// Counted since.
    counted: u64,
    /// Of [`Anomalies`], to be taken back if the counter comes back.
    missing_ns: u64,
    doubt_units: u64,
    /// A window began meanwhile: what was used before it must not come with the return.
    straddled: bool,
}

/// Where a counter was before refused steps, the latest last. The oldest gives way.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    places: [Elsewhere; PLACES],
    count: usize,
}

impl Places {
    fn iter(&self) -> std::slice::Iter<'_, Elsewhere> {
        self.places[..self.count].iter()
    }

    fn iter_mut(&mut self) -> std::slice::IterMut<'_, Elsewhere> {
        self.places[..self.count].iter_mut()
    }

    fn push(&mut self, place: Elsewhere) {
        if self.count == PLACES {
            self.places.rotate_left(1);
            self.count -= 1;
        }
        self.places[self.count] = place;
        self.count += 1;
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut Elsewhere) -> bool) {
        let mut kept = 0;
        for i in 0..self.count {
            if keep(&mut self.places[i]) {
                self.places[kept] = self.places[i];
                kept += 1;
            }
        }
        self.count = kept;
    }

    /// Takes out the places from `at` on.
    fn split_off(&mut self, at: usize) -> impl Iterator<Item = Elsewhere> + use<> {
        let gone = *self;
        self.count = self.count.min(at);
        gone.places.into_iter().take(gone.count).skip(at)
    }
}

/// One counter that only ever goes up, made from one that wraps and is not always right.
#[derive(Debug, Clone)]
pub struct Counter {
    modulus: Option<u64>,
    unit_joules: f64,
    last: Option<(At, u64)>,
    /// Where it was before the refused steps of late, the latest last.
    elsewhere: Places,
    /// How long it stood still between two changes lately, ns.
    update_ns: u64,
    /// Losses that the next step accounts for.
    lost: u32,
    /// More than what it counts can draw, W.
    pub most_watts: f64,
    /// Units counted so far.
    pub total: u64,
    /// Times it wrapped.
    pub wraps: u32,
    /// Gaps so long that more than one wrap may hide in them.
    pub ambiguous: u32,
    /// What it did that no counter should.
    pub anomalies: Anomalies,
    /// When the counter last changed, ns.
    pub changed_ns: u64,
    /// For how long it was seen to stand still before it first moved, ns.
    pub unmoved_ns: u64,
    /// How often it changes, as far as its readings show.
    pub updates: Updates,
}

impl Counter {
    /// A counter of `unit_joules` per unit that wraps at `modulus`, if it wraps.
    pub fn new(unit_joules: f64, modulus: Option<u64>) -> Self {
        Self {
            modulus,
            unit_joules,
            last: None,
            elsewhere: Places::default(),
            update_ns: 0,
            lost: 0,
            most_watts: STATED_WATTS,
            total: 0,
            wraps: 0,
            ambiguous: 0,
            anomalies: Anomalies::default(),
            changed_ns: 0,
            unmoved_ns: 0,
            updates: Updates::default(),
        }
    }

    /// Takes the raw value that was read at `at`.
    ///
    /// ```
    /// use lithowatt::counter::{At, Counter, Step};
    /// let mut counter = Counter::new(1e-6, Some(1_000_001));
    /// assert_eq!(counter.advance(At::exactly(0), 999_990), Step::First);
    /// assert_eq!(counter.advance(At::exactly(1_000_000_000), 9), Step::Wrapped(20));
    /// assert_eq!(counter.total, 20);
    /// // 0.9 J less a second later: a wrap would be 0.1 J. 1 MJ in a second is refused.
    /// let mut counter = Counter::new(1e-6, None);
    /// counter.advance(At::exactly(0), 0);
    /// let jump = counter.advance(At::exactly(1_000_000_000), 1_000_000_000_000);
    /// assert_eq!((jump, counter.total), (Step::Jumped(1_000_000_000_000), 0));
    /// ```
    pub fn advance(&mut self, at: At, raw: u64) -> Step {
        if self.modulus.is_some_and(|modulus| raw >= modulus) {
            return Step::Beyond;
        }
        let Some((last_at, last)) = self.last else {
            self.changed_ns = at.t_ns;
            self.last = Some((at, raw));
            self.lost = 0;
            return Step::First;
        };
        let dt_ns = at.t_ns.saturating_sub(last_at.t_ns);
        self.elsewhere.retain(|place| {
            let away_ns = at.t_ns.saturating_sub(place.t_ns);
            away_ns <= RETURN_NS.max(RETURN_READINGS.saturating_mul(dt_ns))
        });
        let most = self.most_units(last_at, at);
        let step = self.judge((last_at, last), at, raw, most);
        self.note(step, (last_at, last), at, raw, most);
        if !step.refused() && self.lost == 0 && last_at.slack_ns + at.slack_ns <= SHARP_NS {
            self.updates.see(dt_ns, raw != last);
        }
        if raw != last {
            if !step.refused() {
                self.learn_update(self.stood_ns(last_at.t_ns));
            }
            self.changed_ns = at.t_ns;
        } else if self.total == 0 {
            self.unmoved_ns = self.stood_ns(at.t_ns);
        }
        if let Some(modulus) = self.modulus
            && self.units_of(self.most_watts.min(ROUND_WATTS), dt_ns) > modulus as f64
        {
            self.ambiguous = self.ambiguous.saturating_add(1);
        }
        if self.lost > 0 {
            self.anomalies.losses = self.anomalies.losses.saturating_add(self.lost);
            self.lost = 0;
            // A step that was refused counts its time as missing already.
            if !step.refused() {
                self.anomalies.missing_ns += dt_ns;
            }
        }
        let asleep_ns = at.asleep_ns.or(last_at.asleep_ns);
        self.last = Some((At { asleep_ns, ..at }, raw));
        self.total = self.total.saturating_add(step.units());
        step
    }

    /// Whether the last reading showed another value than the one before it.
    ///
    /// ```
    /// use lithowatt::counter::{At, Counter};
    /// let mut counter = Counter::new(1e-6, None);
    /// counter.advance(At::exactly(0), 7);
    /// counter.advance(At::exactly(1_000), 7);
    /// assert!(!counter.moved());
    /// counter.advance(At::exactly(2_000), 8);
    /// assert!(counter.moved());
    /// ```
    pub fn moved(&self) -> bool {
        self.last.is_some_and(|(at, _)| at.t_ns == self.changed_ns)
    }

    /// Whoever hands this counter on lost energy, so many times, before what is read next.
    pub fn lose(&mut self, times: u32) {
        self.lost = self.lost.saturating_add(times);
    }

    /// What is not known of a total that its source carries on. It begins with what the source saw before it
    /// was known.
    pub fn take_carry(&mut self, carry: Carry) {
        let arrears = carry.arrears;
        let before = std::mem::replace(&mut self.anomalies.carry, carry);
        let times = carry.breaks.saturating_sub(before.breaks);
        let sums = &mut self.anomalies;
        sums.losses = sums.losses.saturating_add(times);
        sums.missing_ns += carry.broken_ns.saturating_sub(before.broken_ns);
        sums.doubt_units += carry.broken_units.saturating_sub(before.broken_units);
        if self.total == 0 && arrears.units > 0 {
            self.total = arrears.units;
            self.anomalies.doubt_units = self.anomalies.doubt_units.saturating_add(arrears.doubt);
        }
    }

    /// A window begins: energy from before it must not come into it.
    pub fn begin_window(&mut self) {
        for place in self.elsewhere.iter_mut() {
            place.straddled = true;
        }
    }

    /// The value that was believed last.
    pub fn raw(&self) -> Option<u64> {
        self.last.map(|(_, raw)| raw)
    }

    /// Units as joules.
    pub fn joules(&self, units: u64) -> f64 {
        units as f64 * self.unit_joules
    }

    fn units_of(&self, watts: f64, ns: u64) -> f64 {
        watts * ns as f64 * 1e-9 / self.unit_joules
    }

    /// It has never moved, though it was read over at least `ns`.
    pub fn never_moved(&self, ns: u64) -> bool {
        self.total == 0 && self.unmoved_ns >= ns
    }

    /// For so long it has not moved by `at_ns`, ns.
    pub fn stood_ns(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.changed_ns)
    }

    /// What it can have counted at most from one reading to the next.
    fn most_units(&self, last: At, at: At) -> f64 {
        let still = self.stood_ns(at.t_ns).min(STILL_NS);
        // A trace may say anything of its times.
        let ns = [
            UPDATE_NS.max(self.update_ns.saturating_mul(2)),
            last.slack_ns,
            at.slack_ns,
        ]
        .into_iter()
        .fold(
            at.t_ns.saturating_sub(last.t_ns).max(still),
            u64::saturating_add,
        );
        self.units_of(self.most_watts, ns)
    }

    /// From `from` to `to` if the counter went forward, and round if need be.
    fn ahead(&self, from: u64, to: u64) -> Option<u64> {
        match self.modulus {
            _ if to >= from => Some(to - from),
            Some(modulus) => Some(modulus - from + to),
            None => None,
        }
    }

    fn judge(&self, (last_at, last): (At, u64), at: At, raw: u64, most: f64) -> Step {
        if let (Some(then), Some(now)) = (last_at.asleep_ns, at.asleep_ns)
            && now.saturating_sub(then) > ASLEEP_NS
        {
            return Step::Suspended(now - then);
        }
        let dt_ns = at.t_ns.saturating_sub(last_at.t_ns);
        let grazed = raw < last
            && dt_ns >= GLANCE_NS
            && self.modulus.is_some_and(|m| last - raw <= m / GRAZE);
        let plausible = self
            .ahead(last, raw)
            .filter(|units| *units as f64 <= most && !grazed);
        if let Some((_, gain)) = self.returned_to(last, raw) {
            let straddled = self.elsewhere.iter().any(|place| place.straddled);
            match plausible {
                // It may have come back or gone on: the less of the two is sure.
                Some(units) if gain < units => return Step::Returned(gain),
                None if gain as f64 <= most => {
                    return Step::Returned(if straddled { 0 } else { gain });
                }
                _ => {}
            }
        }
        match plausible {
            Some(units) if raw >= last => Step::Forward(units),
            Some(units) => Step::Wrapped(units),
            None if raw >= last => Step::Jumped(raw - last),
            None if raw as f64 <= most && raw < last - raw => Step::Reset,
            None => Step::Back(last - raw),
        }
    }

    /// The place to which a step from `last` to `raw` may have led back, and what was gained since
    /// the counter left it: of several places the one with the least gain.
    fn returned_to(&self, last: u64, raw: u64) -> Option<(usize, u64)> {
        let gains = self.elsewhere.iter().enumerate().filter_map(|(i, place)| {
            let gain = self.ahead(place.raw, raw)?.checked_sub(place.counted)?;
            // From ahead it comes back by a step back.
            (place.back > 0 || raw < last).then_some((i, gain))
        });
        gains.min_by_key(|(_, gain)| *gain)
    }

    /// Writes down what a step was, and where the counter is after it.
    fn note(&mut self, step: Step, last: (At, u64), at: At, raw: u64, most: f64) {
        let dt_ns = at.t_ns.saturating_sub(last.0.t_ns);
        let back_at = self.returned_to(last.1, raw).map_or(0, |(i, _)| i);
        let sums = &mut self.anomalies;
        match step {
            Step::First | Step::Beyond => {}
            Step::Forward(units) | Step::Wrapped(units) => {
                if matches!(step, Step::Wrapped(_)) {
                    self.wraps = self.wraps.saturating_add(1);
                }
                self.elsewhere.retain(|place| {
                    place.counted = place.counted.saturating_add(units);
                    // It passed the old value by its own pace, so it went on from the new one.
                    place.back == 0 || place.counted <= place.back
                });
            }
            Step::Returned(_) => {
                sums.returns = sums.returns.saturating_add(1);
                let mut straddled = false;
                for place in self.elsewhere.split_off(back_at) {
                    if place.straddled {
                        straddled = true;
                        continue;
                    }
                    sums.missing_ns = sums.missing_ns.saturating_sub(place.missing_ns);
                    // Back by less than one step: whether it came back is not sure.
                    if place.back as f64 > most {
                        sums.doubt_units = sums.doubt_units.saturating_sub(place.doubt_units);
                    }
                }
                if straddled {
                    sums.missing_ns += dt_ns;
                }
            }
            Step::Suspended(ns) => {
                sums.suspends = sums.suspends.saturating_add(1);
                sums.suspended_ns = sums.suspended_ns.saturating_add(ns);
                sums.missing_ns += dt_ns;
                self.elsewhere = Places::default();
            }
            Step::Back(_) | Step::Reset | Step::Jumped(_) => {
                let mut doubt = 0;
                match step {
                    Step::Reset => sums.resets = sums.resets.saturating_add(1),
                    Step::Jumped(units) => {
                        sums.jumps = sums.jumps.saturating_add(1);
                        sums.jump_units = sums.jump_units.saturating_add(units);
                        sums.jump_ns += dt_ns;
                    }
                    Step::Back(units) => {
                        sums.backs = sums.backs.saturating_add(1);
                        sums.back_units = sums.back_units.saturating_add(units);
                        // If it comes back in a step that is not too large, nobody can know.
                        doubt = units.min(most as u64);
                    }
                    _ => {}
                }
                sums.doubt_units = sums.doubt_units.saturating_add(doubt);
                sums.missing_ns += dt_ns;
                self.leave(last, raw, dt_ns, doubt);
            }
        }
    }

    /// A refused step led elsewhere: from `last` to `raw`.
    fn leave(&mut self, last: (At, u64), raw: u64, dt_ns: u64, doubt: u64) {
        self.elsewhere.push(Elsewhere {
            t_ns: last.0.t_ns,
            raw: last.1,
            missing_ns: dt_ns,
            doubt_units: doubt,
            ..Elsewhere::default()
        });
        for place in self.elsewhere.iter_mut() {
            place.back = place.raw.saturating_sub(raw);
        }
    }

    fn learn_update(&mut self, still_ns: u64) {
        let still_ns = still_ns.min(STILL_NS / 2);
        self.update_ns = if self.update_ns == 0 {
            still_ns
        } else {
            (self.update_ns * 7 + still_ns) / 8
        };
    }
}

#[cfg(test)]
mod tests;
