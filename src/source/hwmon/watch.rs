//! The thread that reads slow channels, and what it has counted of each.
//!
//! A channel of power is integrated, and a count of energy that takes long to be read is read beside
//! the function. Whoever asks gets what was counted up to the last look, carried on at the last power.
//! Where that turns out to have been too much, the next stretch is made shorter by the difference, so
//! that the count never goes back.
//!
//! The thread ends when nobody has asked for a while, and begins anew when somebody does. What was used
//! meanwhile is not known, so the count begins again at 0 then, as a counter does that was reset.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::chips::Read;
use crate::clock;
use crate::memory;
use crate::source::ReadFault;
use crate::source::kept::Kept;
use crate::thread;

/// Between two looks at least, ns.
const LOOK_NS: u64 = 100_000_000;

/// Looks may take one part in so many of the time.
const LOOK_PART: u64 = 20;

/// Between two looks at most, ns: a driver that needs longer is read as often as that.
const MOST_LOOK_NS: u64 = 5_000_000_000;

/// The thread ends where nobody asked for so long, ns.
const LINGER_NS: u64 = 3_000_000_000;

/// A look that is older than this, or than so many pauses, tells nothing of now, ns.
const OLD_NS: u64 = 2_000_000_000;
const OLD_PAUSES: u64 = 3;

/// No channel draws more, W. ACPI's power meter says 4.29 MW where its firmware fails.
const MOST_WATTS: f64 = 100_000.0;

/// A count of energy is carried on for so many times as long as it took to change.
const CARRIED: f64 = 1.5;

/// A count that is ahead goes on with at least so much of the power, so that it never stands still.
const SLOWEST: f64 = 0.1;

const STACK_BYTES: usize = 128 << 10;

/// CPU time of the threads of this process that read slow channels, ns, and which process that is.
static SPENT_NS: AtomicU64 = AtomicU64::new(0);
static SPENT_BY: AtomicI32 = AtomicI32::new(0);

/// CPU time of this process that went into reading slow channels so far, ns.
pub fn spent_cpu_ns() -> u64 {
    match SPENT_BY.load(Ordering::Acquire) == clock::getpid() {
        true => SPENT_NS.load(Ordering::Acquire),
        false => 0,
    }
}

/// One channel of energy or power, with its open files.
#[derive(Debug)]
pub(super) struct Sensor {
    files: Vec<Kept>,
    is_energy: bool,
    /// A power of 0 W is no fault.
    may_rest: bool,
}

impl Sensor {
    /// Opens its files.
    pub(super) fn open(
        read: &Read,
        may_rest: bool,
        place: &std::path::Path,
    ) -> std::io::Result<Self> {
        let paths = read.files().into_iter().map(|file| place.join(file));
        let files = paths.map(|path: PathBuf| Kept::open(&path));
        Ok(Self {
            files: files.collect::<std::io::Result<_>>()?,
            is_energy: matches!(read, Read::Energy(_)),
            may_rest,
        })
    }

    /// It counts energy; else it shows power.
    pub(super) fn is_energy(&self) -> bool {
        self.is_energy
    }

    /// µJ, or µW.
    pub(super) fn read(&self) -> Result<f64, ReadFault> {
        let mut product = 1.0;
        for file in &self.files {
            product *= self.number(file)?;
        }
        // Firmware that fails shows nothing, or everything.
        let nothing = product == 0.0 && !self.may_rest;
        let sane = self.is_energy || (!nothing && product <= MOST_WATTS * 1e6);
        if product < 0.0 || !sane {
            return Err(ReadFault::Failed);
        }
        Ok(product)
    }

    /// The count as it is shown.
    pub(super) fn count(&self) -> Result<u64, ReadFault> {
        let file = self.files.first().ok_or(ReadFault::Failed)?;
        let mut buffer = [0u8; 32];
        let text = file.read(&mut buffer).map_err(|e| fault_of(&e))?;
        text.trim().parse().map_err(|_| ReadFault::Malformed)
    }

    fn number(&self, file: &Kept) -> Result<f64, ReadFault> {
        let mut buffer = [0u8; 32];
        let text = file.read(&mut buffer).map_err(|e| fault_of(&e))?;
        let number: i64 = text.trim().parse().map_err(|_| ReadFault::Malformed)?;
        Ok(number as f64)
    }
}

fn fault_of(error: &std::io::Error) -> ReadFault {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENOENT | libc::ENXIO | libc::ESTALE) => ReadFault::Vanished,
        Some(libc::EACCES | libc::EPERM) => ReadFault::Denied,
        _ if error.kind() == std::io::ErrorKind::InvalidData => ReadFault::Malformed,
        _ => ReadFault::Failed,
    }
}

/// What was counted of one channel; times in ns, energies in µJ, powers in µJ per ns.
#[derive(Debug, Clone, Default)]
struct Count {
    /// Up to the last look, and when that was; at first the moment from which on it counts.
    total: f64,
    at_ns: u64,
    /// A count of energy as it was when it last changed, µJ.
    raw: Option<(u64, f64)>,
    /// At the last look.
    power: Option<f64>,
    /// What was handed out last, and when.
    shown: f64,
    shown_ns: u64,
    /// It goes on at that power up to then: a count of energy that has not changed for longer than
    /// before is of something that draws less now.
    known_until_ns: u64,
    /// Up to then it goes on more slowly, by so much of the power.
    slow_until_ns: u64,
    slowness: f64,
    fault: Option<ReadFault>,
}

impl Count {
    /// Nothing yet, from `now_ns` on.
    fn from(now_ns: u64) -> Self {
        Self {
            at_ns: now_ns,
            shown_ns: now_ns,
            known_until_ns: u64::MAX,
            ..Self::default()
        }
    }

    /// Takes what a sensor showed at `now_ns`, µJ or µW; the next look is expected `pause_ns` later.
    fn take(&mut self, now_ns: u64, is_energy: bool, value: f64, pause_ns: u64) {
        let unread = self.fault.take().is_some() && now_ns.saturating_sub(self.at_ns) > OLD_NS;
        if unread && !is_energy {
            // What it drew meanwhile is not known: it begins again, as a counter does that was reset.
            *self = Self::from(now_ns);
        }
        let taken = match is_energy {
            true => self.take_energy(now_ns, value),
            // µW are µJ per s.
            false => Some(self.take_power(now_ns, value * 1e-9)),
        };
        let Some(power) = taken else { return };
        self.carry_on(now_ns);
        (self.at_ns, self.power) = (now_ns, Some(power));
        // Somebody may have asked since the sensor was read.
        let due = self.total + power * self.shown_ns.saturating_sub(now_ns) as f64;
        let ahead = self.shown - due;
        if ahead <= 0.0 {
            (self.shown, self.slowness) = (due, 1.0);
        } else if power > 0.0 {
            let pause = pause_ns.max(1) as f64;
            self.slowness = (1.0 - ahead / (power * pause)).max(SLOWEST);
        }
        self.slow_until_ns = now_ns.saturating_add(pause_ns);
    }

    fn take_power(&mut self, now_ns: u64, power: f64) -> f64 {
        let passed = now_ns.saturating_sub(self.at_ns) as f64;
        // The stretch before the first look had the same.
        let then = self.power.unwrap_or(power);
        self.total += 0.5 * (then + power) * passed;
        power
    }

    fn take_energy(&mut self, now_ns: u64, value: f64) -> Option<f64> {
        let Some((then_ns, then)) = self.raw else {
            self.raw = Some((now_ns, value));
            return None;
        };
        let passed = now_ns.saturating_sub(then_ns);
        let used = value - then;
        if used == 0.0 && passed < OLD_NS {
            // It changes less often than it is looked at.
            return None;
        }
        self.raw = Some((now_ns, value));
        if used < 0.0 {
            // It began again: that stretch is given the power before it.
            let power = self.power?;
            self.total += power * passed as f64;
            return Some(power);
        }
        let power = used / passed.max(1) as f64;
        self.known_until_ns = now_ns.saturating_add((CARRIED * passed as f64) as u64);
        self.total += used;
        if self.power.is_none() {
            self.total += power * then_ns.saturating_sub(self.at_ns) as f64;
        }
        Some(power)
    }

    fn carry_on(&mut self, now_ns: u64) {
        let (from_ns, power) = (self.shown_ns, self.power.unwrap_or(0.0));
        let turn_ns = self.slow_until_ns.clamp(from_ns, now_ns.max(from_ns));
        let slow = turn_ns.saturating_sub(from_ns) as f64 * self.slowness;
        let plain = now_ns.min(self.known_until_ns).saturating_sub(turn_ns) as f64;
        self.shown += power * (slow + plain);
        self.shown_ns = self.shown_ns.max(now_ns);
    }

    /// The count at `now_ns`, µJ.
    fn show(&mut self, now_ns: u64) -> Result<u64, ReadFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.carry_on(now_ns);
        Ok(self.shown as u64)
    }
}

#[derive(Debug, Default)]
struct Board {
    counts: Vec<Count>,
    /// The thread is there.
    runs: bool,
    /// When somebody last asked, ns.
    asked_ns: u64,
    /// When the thread last looked, and how long it then waits, ns.
    looked_ns: u64,
    pause_ns: u64,
}

/// Slow channels with the thread that reads them.
#[derive(Debug)]
pub(super) struct Watch {
    sensors: Arc<Vec<Sensor>>,
    /// The process whose thread it is: a forked one has none, and the lock may be held there for ever.
    pid: i32,
    board: Arc<Mutex<Board>>,
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    pub(super) fn new(sensors: Vec<Sensor>) -> Self {
        Self {
            sensors: Arc::new(sensors),
            pid: clock::getpid(),
            board: Arc::default(),
        }
    }

    /// What was counted of each channel up to now. It waits for no sensor.
    pub(super) fn read(&mut self, out: &mut Vec<Result<u64, ReadFault>>) {
        if self.pid != clock::getpid() {
            // The parent's board is left alone, and never dropped: its lock may be held.
            std::mem::forget(std::mem::take(&mut self.board));
            self.pid = clock::getpid();
        }
        let now_ns = clock::monotonic_ns();
        let mut board = lock(&self.board);
        let old_ns = OLD_NS.max(OLD_PAUSES * board.pause_ns);
        let begun_ns = match board.looked_ns {
            0 => board.asked_ns,
            looked_ns => looked_ns,
        };
        if !board.runs || now_ns.saturating_sub(begun_ns) > old_ns {
            let fresh = Count::from(now_ns);
            board.counts = vec![fresh; self.sensors.len()];
            board.looked_ns = 0;
        }
        board.asked_ns = now_ns;
        if !board.runs {
            board.runs = self.start();
        }
        if board.runs {
            out.extend(board.counts.iter_mut().map(|count| count.show(now_ns)));
        } else {
            out.extend(self.sensors.iter().map(|_| Err(ReadFault::Failed)));
        }
    }

    /// Starts the thread. It ends by itself.
    fn start(&self) -> bool {
        let (sensors, board) = (Arc::clone(&self.sensors), Arc::clone(&self.board));
        let own = clock::getpid();
        if SPENT_BY.swap(own, Ordering::AcqRel) != own {
            SPENT_NS.store(0, Ordering::Release);
        }
        memory::allows_thread()
            && thread::spawn_with(
                c"lithowatt-hwmon",
                STACK_BYTES,
                Box::new(move || run(&sensors, &board)),
            )
            .is_some()
    }
}

/// Looks as long as somebody asks.
fn run(sensors: &[Sensor], board: &Mutex<Board>) {
    let mut spent_ns = 0;
    // Looks are made longer by others that have the CPU, too: the shortest of late is the drivers'.
    let mut took = [u64::MAX; 4];
    for turn in (0..took.len()).cycle() {
        let from_ns = clock::monotonic_ns();
        let values: Vec<_> = sensors
            .iter()
            .map(|sensor| {
                let began_ns = clock::monotonic_ns();
                let value = sensor.read();
                (began_ns / 2 + clock::monotonic_ns() / 2, value)
            })
            .collect();
        let now_ns = clock::monotonic_ns();
        took[turn] = now_ns.saturating_sub(from_ns);
        let usual_ns = took.iter().copied().fold(u64::MAX, u64::min);
        let pause_ns = LOOK_NS
            .max(LOOK_PART.saturating_mul(usual_ns))
            .min(MOST_LOOK_NS);
        {
            let mut board = lock(board);
            for ((count, sensor), (t_ns, value)) in board.counts.iter_mut().zip(sensors).zip(values)
            {
                match value {
                    Ok(value) => count.take(t_ns, sensor.is_energy, value, pause_ns),
                    Err(fault) => count.fault = Some(fault),
                }
            }
            (board.looked_ns, board.pause_ns) = (now_ns, pause_ns);
        }
        let cpu_ns = clock::own_thread_cpu_ns();
        SPENT_NS.fetch_add(cpu_ns.saturating_sub(spent_ns), Ordering::AcqRel);
        spent_ns = cpu_ns;
        std::thread::sleep(Duration::from_nanos(pause_ns));
        let mut board = lock(board);
        let silent_ns = clock::monotonic_ns().saturating_sub(board.asked_ns);
        if silent_ns > LINGER_NS.max(OLD_PAUSES * pause_ns) {
            board.runs = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const PAUSE: u64 = 100 * MS;

    /// A channel from 0 on that is looked at every 100 ms, by its power (W) or its energy (µJ).
    fn looks(count: &mut Count, from: u64, to: u64, is_energy: bool, value: impl Fn(u64) -> f64) {
        for t in (from..=to).step_by(100) {
            count.take(t * MS, is_energy, value(t), PAUSE);
        }
    }

    fn joules(count: &mut Count, t: u64) -> f64 {
        count.show(t * MS).unwrap() as f64 * 1e-6
    }

    #[test]
    fn steady_power_is_counted_to_the_moment_it_is_asked_for() {
        let mut count = Count::from(0);
        assert_eq!(joules(&mut count, 2), 0.0);
        looks(&mut count, 3, 2003, false, |_| 50e6);
        assert!((joules(&mut count, 2050) - 102.5).abs() < 1e-3);
    }

    #[test]
    fn a_step_of_power_is_made_up_for_and_nothing_goes_back() {
        let truth = |t: u64| {
            if t <= 1000 {
                0.1 * t as f64
            } else {
                100.0 + 0.01 * (t - 1000) as f64
            }
        };
        let mut count = Count::from(0);
        let mut last = 0.0;
        for t in 0..=3000 {
            if t % 100 == 0 {
                let watts = if t <= 1000 { 100e6 } else { 10e6 };
                count.take(t * MS, false, watts, PAUSE);
            }
            let shown = joules(&mut count, t);
            assert!(shown >= last, "{t}");
            // Half a pause of the step, each way.
            assert!((shown - truth(t)).abs() < 10.0, "{t} {shown} {}", truth(t));
            last = shown;
        }
        assert!((last - truth(3000)).abs() < 5.0);
    }

    #[test]
    fn a_count_of_energy_has_all_of_it_from_the_first_moment_on() {
        let mut count = Count::from(0);
        // 40 W, in a counter that changes every 250 ms only.
        let energy = |t: u64| 7e9 + (t / 250 * 250) as f64 * 40e3;
        looks(&mut count, 10, 4010, true, energy);
        let shown = joules(&mut count, 4010);
        assert!((shown - 160.4).abs() < 10.0, "{shown}");
        // It stops, and 0.45 s later so does what is shown of it.
        assert!((joules(&mut count, 5900) - joules(&mut count, 5000)).abs() < 1e-3);
        assert!(joules(&mut count, 5900) < 180.0);
    }

    #[test]
    fn a_counter_that_begins_again_is_bridged() {
        let mut count = Count::from(0);
        let energy = |t: u64| {
            if t <= 1000 {
                9e9 + t as f64 * 40e3
            } else {
                t as f64 * 40e3
            }
        };
        looks(&mut count, 0, 2000, true, energy);
        assert!((joules(&mut count, 2000) - 80.0).abs() < 0.1);
    }

    #[test]
    fn power_that_could_not_be_read_for_long_is_made_up_for_by_nothing() {
        let mut count = Count::from(0);
        looks(&mut count, 0, 1000, false, |_| 50e6);
        count.fault = Some(ReadFault::Failed);
        looks(&mut count, 1200, 2000, false, |_| 50e6);
        // A moment is.
        assert!((joules(&mut count, 2000) - 100.0).abs() < 1e-3);
        count.fault = Some(ReadFault::Failed);
        looks(&mut count, 9000, 10_000, false, |_| 50e6);
        assert!((joules(&mut count, 10_000) - 50.0).abs() < 1e-3);
    }

    #[test]
    fn a_fault_is_told_until_the_next_look() {
        let mut count = Count::from(0);
        count.fault = Some(ReadFault::Vanished);
        assert_eq!(count.show(MS), Err(ReadFault::Vanished));
        count.take(2 * MS, false, 1e6, PAUSE);
        assert!(count.show(3 * MS).is_ok());
    }
}
