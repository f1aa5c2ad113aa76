//! A total that is known at a few moments only, once a second or more rarely, carried on in between.
//!
//! Somebody else measures a machine and writes its energy into a file: a host for its guest. Read
//! as it stands, such a total gives a window of 50 ms nothing, or the energy of a whole second. But
//! whoever reads it knows the CPU time that was used meanwhile, and by every rule that hosts share
//! their energy by, a guest's part grows with its CPU time. So the joules per CPU-second of the last
//! stretches carry the total on from its last value until the next one comes.
//!
//! How well that works is seen at each new value, which had been foretold: the foretold and the
//! true energy of a stretch differ, and that is what a window's two ends are doubted by ([`Carry`]).

/// A machine that does nothing counts as this many busy CPUs, so that its energy is carried on, too. That
/// much is wholly in doubt.
const RESTING_CPUS: f64 = 0.002;

/// What was seen before counts so much less after a stretch of as much load, in the joules per
/// CPU-second …
const KEPT_POWER: f64 = 0.5;

/// … and in how far they were off. A stretch of rest changes neither: what work costs is not
/// forgotten in a pause.
const KEPT_ERROR: f64 = 0.7;

/// How far off a stretch may be as long as few were seen, relative.
const FIRST_ERROR: f64 = 0.3;

/// A part of a stretch may be so many times as far off as stretches were in the mean (root of the mean
/// square): 95 % of what is normally distributed, and more, as work changes within a stretch.
const TIMES_ERROR: f64 = 2.5;

/// The least and the most that a part of a stretch is doubted by, relative.
const DOUBTS: (f64, f64) = (0.05, 1.0);

/// A total is carried on for so many periods at most.
const MOST_PERIODS: f64 = 2.5;

/// While more was shown than there is, the total goes on at this part of its pace: it never runs
/// backwards, and a short window is not without energy.
const SLOWED: f64 = 0.25;

/// What is not known of a total at one moment, in units of its counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carry {
    /// Number of the value that it is carried on from.
    pub update: u32,
    /// What was carried on since may be off by so much.
    pub ahead: u64,
    /// More was shown than there is, by so much.
    pub owed: u64,
    /// CPU time is known in steps: what a step is worth.
    pub grain: u64,
    /// So often, and for so long in all (ns), nobody knows what was used: the total lacks it.
    pub breaks: u32,
    /// See `breaks`.
    pub broken_ns: u64,
    /// So much of such times was carried on all the same, and so much of others is in doubt, in units of the
    /// counter.
    pub broken_units: u64,
    /// What came before the total was first known.
    pub arrears: Arrears,
}

/// What a total holds at the moment from which on it is known: what came since the first look at its
/// source. The first value says nothing of that time, the second one does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrears {
    /// When that first look was, ns.
    pub since_ns: u64,
    /// That moment, ns.
    pub known_ns: u64,
    /// How much, in units of the counter.
    pub units: u64,
    /// It may be off by so much either way: the first stretch was not seen whole.
    pub doubt: u64,
}

impl Arrears {
    /// Of a window that began at `start_ns`, before the total was known: from when on the total holds it,
    /// and what the total was then.
    pub fn of(&self, start_ns: u64) -> Option<(u64, u64)> {
        let whole = self.known_ns.saturating_sub(self.since_ns);
        if self.units == 0 || start_ns >= self.known_ns || whole == 0 {
            return None;
        }
        let from_ns = self.since_ns.max(start_ns);
        let part = (from_ns - self.since_ns) as f64 / whole as f64;
        Some((from_ns, (part * self.units as f64) as u64))
    }
}

impl Carry {
    /// By how much the difference of two such totals may be off: of `self` and of an earlier one.
    pub fn doubt_since(&self, earlier: &Self) -> u64 {
        let both = self.grain.max(earlier.grain);
        if self.update == earlier.update {
            // They are off the same way.
            return self.ahead.abs_diff(earlier.ahead)
                + self.owed.abs_diff(earlier.owed)
                + both.min(self.ahead.max(earlier.ahead).max(both));
        }
        let ends = [self, earlier].map(|end| end.ahead as f64);
        let ends = (ends[0] * ends[0] + ends[1] * ends[1]).sqrt() as u64;
        ends + self.owed + earlier.owed + both
    }
}

/// A moment of the machine: ns on one clock, and the CPU time that it had used until then, ns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moment {
    /// When.
    pub t_ns: u64,
    /// CPU time that all its CPUs were busy, ns.
    pub busy_ns: u64,
    /// That may be off by so much, as nobody looked at that moment, ns.
    pub unsure_ns: u64,
}

impl Moment {
    /// Busy CPU-seconds since an earlier one.
    fn load_since(&self, earlier: &Self) -> f64 {
        let busy = self.busy_ns.saturating_sub(earlier.busy_ns) as f64;
        let dt = self.t_ns.saturating_sub(earlier.t_ns) as f64;
        (busy + RESTING_CPUS * dt) * 1e-9
    }

    /// What it was at `t_ns`, as if work had been spread evenly from an earlier moment to a later one. But the time
    /// from `t_ns` on may have been without work, have had twice as much, or one busy CPU throughout.
    pub fn between(earlier: &Self, later: &Self, t_ns: u64) -> Self {
        let whole = later.t_ns.saturating_sub(earlier.t_ns).max(1) as f64;
        let part = (t_ns.saturating_sub(earlier.t_ns) as f64 / whole).min(1.0);
        let busy = later.busy_ns.saturating_sub(earlier.busy_ns);
        let before = (part * busy as f64) as u64;
        let since = (busy - before).max(later.t_ns.saturating_sub(t_ns));
        Self {
            t_ns,
            busy_ns: earlier.busy_ns + before,
            unsure_ns: since.min(before),
        }
    }

    /// It may have been so much earlier, ns, though not before `earlier`.
    pub fn may_be_earlier(&mut self, earlier: &Self, ns: u64) {
        let busy = self.busy_ns.saturating_sub(earlier.busy_ns);
        let dt = self.t_ns.saturating_sub(earlier.t_ns).max(1);
        let rate = (busy as f64 / dt as f64).max(1.0);
        self.unsure_ns = (self.unsure_ns + (rate * ns as f64) as u64).min(busy);
    }
}

/// A total that is known at some moments, carried on in between. Joules throughout.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    /// The last value, and when it was true.
    last: Option<(Moment, f64)>,
    /// Joules and CPU-seconds of the last stretches, the newest ones counting most.
    sums: (f64, f64),
    /// Squares of what foretold stretches were off and of their energies, J².
    errors: (f64, f64),
    /// Time between two values, ns; 0 while it is not known.
    period_ns: f64,
    /// Added to values, so that what is shown goes on where a row of them begins anew.
    base: f64,
    /// What was shown last, and when.
    shown: f64,
    looked: Moment,
    updates: u32,
    breaks: u32,
    broken_ns: u64,
    /// What was carried on of that time, and what is in doubt of others.
    broken_joules: f64,
    /// Power of late, W, for as long as no stretch was seen.
    pace: Option<f64>,
}

impl Carried {
    /// One of which nothing is known but that values come every `period_ns`, if even that.
    pub fn new(period_ns: Option<u64>) -> Self {
        Self {
            period_ns: period_ns.unwrap_or(0) as f64,
            ..Self::default()
        }
    }

    /// The first value, whose writer says the power of late, too, W. That carries the total on from now
    /// on, and is wholly in doubt.
    pub fn begin(&mut self, at: Moment, joules: f64, watts: f64) {
        self.pace = Some(watts);
        self.last = Some((at, joules));
        self.base = self.shown - joules;
    }

    /// A new row of values begins: what was used between the last one and `joules`, which was true at `at`, is
    /// not known, and the total goes on from what was shown.
    pub fn begin_row(&mut self, at: Moment, joules: f64) {
        if let Some((then, value)) = self.last.replace((at, joules)) {
            self.broken_ns += at.t_ns.saturating_sub(then.t_ns);
            self.broken_joules += (self.shown - self.base - value).max(0.0);
        }
        self.base = self.shown - joules;
        self.updates = self.updates.wrapping_add(1);
        self.breaks = self.breaks.wrapping_add(1);
    }

    /// What came between the last value and `joules`, which was true at `at`, is guessed: it is in doubt by as
    /// much as the CPU time says otherwise.
    pub fn doubt_until(&mut self, at: Moment, joules: f64) {
        if let (Some((then, before)), Some(each)) = (self.last, self.joules_each()) {
            self.broken_joules += (joules - before - each * at.load_since(&then)).abs();
        }
    }

    /// The value that was true at `at` is `joules`: the next in a row that only rises. One that is
    /// lower than the last begins a new row.
    pub fn update(&mut self, at: Moment, joules: f64) {
        let Some((then, before)) = self.last else {
            self.last = Some((at, joules));
            return;
        };
        if joules < before || at.t_ns <= then.t_ns {
            return self.begin_row(at, joules);
        }
        self.last = Some((at, joules));
        let (gained, load) = (joules - before, at.load_since(&then));
        // A stretch whose work is not known teaches so much less.
        let unsure = at.unsure_ns.max(then.unsure_ns) as f64 * 1e-9;
        let mut counts = (1.0 - unsure / load.max(1e-9)).max(0.0);
        if let Some(each) = self.joules_each() {
            let foretold = each * load;
            let off = gained - foretold;
            let kept = KEPT_ERROR.powf(counts * self.weight(load));
            self.errors.0 = kept * self.errors.0 + counts * off * off;
            self.errors.1 = kept * self.errors.1 + counts * gained * gained.max(foretold);
        } else {
            counts = 1.0;
            if self.pace.is_none() {
                // What came before is of nobody's window.
                self.base = self.shown - joules;
            }
            self.errors = (FIRST_ERROR * FIRST_ERROR * gained * gained, gained * gained);
        }
        let kept = KEPT_POWER.powf(counts * self.weight(load));
        self.sums.0 = kept * self.sums.0 + counts * gained;
        self.sums.1 = kept * self.sums.1 + counts * load;
        let dt = (at.t_ns - then.t_ns) as f64;
        // Where nobody looked for a while, several values came and went.
        self.period_ns = match self.period_ns {
            0.0 => dt,
            known => dt.min(1.1 * known),
        };
        self.updates = self.updates.wrapping_add(1);
    }

    /// How much a stretch of `load` CPU-seconds counts beside what was seen, 0..1.
    fn weight(&self, load: f64) -> f64 {
        if self.sums.1 > 0.0 {
            (load / self.sums.1).min(1.0)
        } else {
            1.0
        }
    }

    /// Joules of a busy CPU-second, where any were seen.
    fn joules_each(&self) -> Option<f64> {
        (self.sums.1 > 0.0).then(|| self.sums.0 / self.sums.1)
    }

    /// Time between two values, ns; `None` while it is not known.
    pub fn period_ns(&self) -> Option<u64> {
        (self.period_ns > 0.0).then_some(self.period_ns as u64)
    }

    /// How old the last value is at `t_ns`; `None` where there is none.
    pub fn age_ns(&self, t_ns: u64) -> Option<u64> {
        self.last.map(|(then, _)| t_ns.saturating_sub(then.t_ns))
    }

    /// How much a part of a stretch is doubted by, relative.
    fn doubt(&self) -> f64 {
        let (off, all) = self.errors;
        let error = if all > 0.0 { (off / all).sqrt() } else { 1.0 };
        (TIMES_ERROR * error).clamp(DOUBTS.0, DOUBTS.1)
    }

    /// The total now, J, and what is not known of it; `None` until two values have come. `joules_unit`
    /// is that of [`Carry`]'s numbers, `grain_ns` the step in which CPU time is known.
    pub fn at(&mut self, now: Moment, grain_ns: u64, joules_unit: f64) -> Option<(f64, Carry)> {
        let (then, value) = self.last?;
        let (each, pace) = (self.joules_each(), self.pace);
        each.or(pace)?;
        let of = |from: &Moment| match each {
            Some(each) => each * now.load_since(from),
            None => pace.unwrap_or(0.0) * now.t_ns.saturating_sub(from.t_ns) as f64 * 1e-9,
        };
        let most = MOST_PERIODS * self.period_ns;
        let age = now.t_ns.saturating_sub(then.t_ns) as f64;
        let within = if age > most { most / age } else { 1.0 };
        let ahead = of(&then) * within;
        let uncounted = of(&then) - ahead;
        let there_is = self.base + value + ahead;
        if self.looked.t_ns == 0 {
            self.looked = now;
        }
        let busy = now.busy_ns.saturating_sub(self.looked.busy_ns) as f64 * 1e-9;
        // Not for rest: in a long pause more and more would be owed.
        let step = each.map_or_else(|| of(&self.looked), |each| each * busy);
        self.shown = if there_is >= self.shown {
            there_is
        } else {
            self.shown + SLOWED * step
        };
        self.looked = now;
        // Nobody looked at the moment of the value, or the machine was at rest since.
        let unsure = match each {
            Some(each) => each * (RESTING_CPUS * age + then.unsure_ns as f64) * 1e-9 * within,
            None => 0.0,
        };
        let units = |joules: f64| (joules / joules_unit).max(0.0) as u64;
        let carry = Carry {
            update: self.updates,
            ahead: units(self.doubt() * ahead + unsure + uncounted),
            owed: units(self.shown - there_is),
            grain: units(each.unwrap_or(0.0) * grain_ns as f64 * 1e-9),
            breaks: self.breaks,
            broken_ns: self.broken_ns,
            broken_units: units(self.broken_joules),
            arrears: Arrears::default(),
        };
        Some((self.shown, carry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::random::Random;

    /// A total of a machine with one busy CPU that draws 20 W, known once a second up to `last_s`.
    fn carried(last_s: u64) -> Carried {
        let mut carried = Carried::new(Some(1_000_000_000));
        for s in 1..=last_s {
            carried.update(busy_to(s * 1000), 20.0 * s as f64);
            carried.at(busy_to(s * 1000), GRAIN_NS, UNIT);
        }
        carried
    }

    /// That machine after so many ms.
    fn busy_to(ms: u64) -> Moment {
        let ns = ms * STEP_NS;
        Moment {
            t_ns: ns,
            busy_ns: ns,
            ..Moment::default()
        }
    }

    #[test]
    fn what_is_not_carried_on_any_more_is_in_doubt() {
        let mut carried = carried(5);
        let then = carried.at(busy_to(5000), GRAIN_NS, UNIT).unwrap();
        for ms in [7000, 7500, 8000, 9000] {
            let now = carried.at(busy_to(ms), GRAIN_NS, UNIT).unwrap();
            let truth = 0.02 * (ms - 5000) as f64;
            let off = now.1.doubt_since(&then.1) as f64 * UNIT;
            assert!(
                (now.0 - then.0 - truth).abs() <= off,
                "{ms} {now:?} {then:?}"
            );
        }
    }

    #[test]
    fn a_new_row_goes_on_and_says_how_long_nothing_was_known() {
        let mut carried = carried(5);
        let then = carried.at(busy_to(5000), GRAIN_NS, UNIT).unwrap();
        carried.at(busy_to(60_000), GRAIN_NS, UNIT);
        // A file of watts that is written again holds 20 W of 55 s; nobody wrote that it was so.
        carried.begin_row(busy_to(60_000), 20.0 * 60.0);
        carried.update(busy_to(61_000), 20.0 * 61.0);
        carried.at(busy_to(61_000), GRAIN_NS, UNIT);
        // … and a host that counts anew.
        carried.update(busy_to(62_000), 3.0);
        let now = carried.at(busy_to(62_000), GRAIN_NS, UNIT).unwrap();
        let gained = now.0 - then.0;
        assert!((60.0..=110.0).contains(&gained), "{gained}");
        assert_eq!((now.1.breaks, now.1.broken_ns), (2, 56_000_000_000));
    }

    const UNIT: f64 = 1e-6;
    const STEP_NS: u64 = 1_000_000;
    const GRAIN_NS: u64 = 10_000_000;

    /// What a guest does, as it falls: how many CPUs for how long, and the joules of a CPU-second.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Work {
        /// One kind of work, all the time.
        Steady,
        /// Bursts of one kind of work and rests, each of 20 ms to 3 s.
        Bursts,
        /// Bursts whose CPU-seconds cost 10 to 17 J.
        Kinds,
        /// Bursts between pauses of up to a minute.
        Pauses,
    }

    /// The machine at every millisecond: busy ns and J.
    fn history(work: Work, seconds: u64, random: &mut Random) -> Vec<(u64, f64)> {
        let mut at = vec![(0, 0.0)];
        let (mut left, mut cpus, mut each) = (0, 2.0, 12.0);
        for _ in 0..seconds * 1000 {
            if left == 0 {
                let rests = work == Work::Pauses && cpus > 0.1;
                let most = if rests { 60_000.0 } else { 2_980.0 };
                left = (20.0 + most * random.next() * random.next()) as u64;
                if work != Work::Steady {
                    cpus = if cpus > 0.1 {
                        if rests { 0.003 } else { 0.02 }
                    } else {
                        1.0 + 3.0 * random.next()
                    };
                }
                if work == Work::Kinds {
                    each = 10.0 + 7.0 * random.next();
                }
            }
            left -= 1;
            let (busy, joules): (u64, f64) = at[at.len() - 1];
            let used = cpus * 1e-3;
            at.push((busy + (used * 1e9) as u64, joules + used * each));
        }
        at
    }

    /// Of windows of `window_ms`: how many there were, the mean of reading ÷ truth, the part whose
    /// band holds the truth, the median half width of those in which it worked, relative.
    fn windows(work: Work, period_ms: u64, window_ms: u64, seed: u64) -> (u32, f64, f64, f64) {
        let mut random = Random(seed);
        let seconds = 200 * period_ms / 1000;
        let truth = history(work, seconds, &mut random);
        let moment = |ms: u64| Moment {
            t_ns: ms * STEP_NS,
            // As /proc shows it.
            busy_ns: truth[ms as usize].0 / GRAIN_NS * GRAIN_NS,
            ..Moment::default()
        };
        let mut carried = Carried::new(None);
        let mut starts = Vec::new();
        let (mut next, mut ending) = (8 * period_ms, None);
        let (mut count, mut sums, mut inside) = (0, (0.0, 0.0), 0);
        let mut halves = Vec::new();
        for ms in 0..seconds * 1000 {
            if ms % period_ms == 0 {
                carried.update(moment(ms), truth[ms as usize].1);
            }
            // A window's edges, and a sample every 100 ms.
            let edge = ms == next || Some(ms) == ending;
            if !edge && ms % 100 != 37 {
                continue;
            }
            let shown = carried.at(moment(ms), GRAIN_NS, UNIT);
            if ms == next {
                starts.push((ms, shown.unwrap()));
                ending = Some(ms + window_ms);
                next = ms + window_ms + 40 + (random.next() * 900.0) as u64;
            } else if Some(ms) == ending {
                let (from, (then, carry)) = starts[starts.len() - 1];
                let (now, end) = shown.unwrap();
                let really = truth[ms as usize].1 - truth[from as usize].1;
                let (read, doubt) = (now - then, end.doubt_since(&carry) as f64 * UNIT);
                count += 1;
                sums = (sums.0 + read, sums.1 + really);
                inside += u32::from((read - really).abs() <= doubt + 1e-6);
                // At rest a step of CPU time is more than all.
                if really > 5.0 * window_ms as f64 * 1e-3 {
                    assert!(read > 0.0, "a window without energy at {ms} ms");
                    halves.push(doubt / really);
                }
            }
        }
        halves.sort_by(f64::total_cmp);
        let part = f64::from(inside) / f64::from(count);
        (count, sums.0 / sums.1, part, halves[halves.len() / 2])
    }

    #[test]
    fn windows_shorter_than_the_period_have_their_energy_and_a_band_that_holds() {
        for work in [Work::Steady, Work::Bursts, Work::Kinds, Work::Pauses] {
            for period_ms in [1000, 5000] {
                for window_ms in [50, 300, 2000] {
                    let (count, ratio, held, half) = windows(work, period_ms, window_ms, 9);
                    println!(
                        "{work:?}, values every {} s, windows of {window_ms} ms: {count} windows, \
                         read/true {ratio:.3}, held {held:.3}, median half width {half:.3}",
                        period_ms / 1000
                    );
                    assert!(
                        (ratio - 1.0).abs() < 0.15,
                        "{work:?} {period_ms} {window_ms}: {ratio}"
                    );
                    assert!(held > 0.93, "{work:?} {period_ms} {window_ms}: {held}");
                    assert!(half < 0.9, "{work:?} {period_ms} {window_ms}: {half}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_shown_before_the_power_is_known_and_what_came_before_is_nobodys() {
        let at = |s: f64| Moment {
            t_ns: 1 + (s * 1e9) as u64,
            busy_ns: (s * 1e9) as u64,
            ..Moment::default()
        };
        let mut carried = Carried::new(None);
        assert_eq!(carried.at(at(0.1), 0, UNIT), None);
        carried.update(at(0.2), 1000.0);
        assert_eq!(carried.at(at(0.3), 0, UNIT), None);
        carried.update(at(1.2), 1010.0);
        let (first, _) = carried.at(at(1.2), 0, UNIT).unwrap();
        let (later, carry) = carried.at(at(1.7), 0, UNIT).unwrap();
        assert!(
            first.abs() < 1e-9 && (later - 5.0).abs() < 1e-9,
            "{first} {later}"
        );
        assert!(carry.ahead > 0);
    }

    #[test]
    fn a_host_that_stops_is_not_carried_on_for_ever() {
        let at = |s: f64| Moment {
            t_ns: (s * 1e9) as u64,
            busy_ns: (s * 1e9) as u64,
            ..Moment::default()
        };
        let mut carried = Carried::new(None);
        carried.update(at(1.0), 0.0);
        carried.update(at(2.0), 10.0);
        let (now, _) = carried.at(at(100.0), 0, UNIT).unwrap();
        assert!((now - 25.0).abs() < 1.0, "{now}");
        assert_eq!(carried.age_ns(100_000_000_000), Some(98_000_000_000));
    }

    #[test]
    fn a_row_that_begins_anew_adds_and_loses_nothing() {
        let at = |s: f64| Moment {
            t_ns: (s * 1e9) as u64,
            busy_ns: (s * 1e9) as u64,
            ..Moment::default()
        };
        let mut carried = Carried::new(None);
        carried.update(at(1.0), 500.0);
        carried.update(at(2.0), 510.0);
        let (before, _) = carried.at(at(2.5), 0, UNIT).unwrap();
        carried.update(at(2.5), 0.0);
        let (same, _) = carried.at(at(2.5), 0, UNIT).unwrap();
        carried.update(at(3.5), 10.0);
        let (after, _) = carried.at(at(3.5), 0, UNIT).unwrap();
        assert!((same - before).abs() < 1e-9);
        assert!((after - before - 10.0).abs() < 1e-6, "{before} {after}");
    }
}
