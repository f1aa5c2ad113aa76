//! The energy of a virtual machine, as its host states it.
//!
//! A guest has no energy counter. Its host has, and knows what CPU time the guest's process used of
//! all: the guest's part, never the whole machine's. It writes that into a file which the guest
//! mounts (virtio-fs, 9p): the ring of our own agent ([`crate::agent::guests`]), or what other
//! programs write for their guests ([`content`]). All of them change seldom, from ten times a second
//! to once in five, so the total is carried on by the CPU time that the guest used since
//! ([`Carried`]), and what that leaves open widens the band of a window.

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::busy::BusyClock;
use self::content::{Content, Look, Value};
use self::file::SharedFile;
use super::energy::{EnergyCounter, Note};
use super::{Domain, Method, ReadFault, Unavailable, Zone};
use crate::clock;
use crate::counter::{Arrears, Carried, Carry, Moment};

mod busy;
mod content;
mod file;
mod place;

pub use place::{DEFAULT_RING, SCAPHANDRE, VARIABLE};

/// Joules of a zone's count.
const UNIT_JOULES: f64 = 1e-6;

/// A file is looked at so many times in the time between two of its values …
const LOOKS: u64 = 20;

/// … and in this time at least and at most once, ns: each asks the host.
const LOOK_NS: (u64, u64) = (2_000_000, 50_000_000);

/// A host that wrote nothing for so many periods, and this long, has stopped.
const SILENT_PERIODS: u64 = 4;
const SILENT_NS: u64 = 3_000_000_000;

/// A file that is being written is read again after this, ns …
const WRITTEN_NS: u64 = 1_000_000;

/// … for so long after it was first seen so, ns.
const IN_WRITING_NS: u64 = 4_000_000;

/// A file that may have been replaced is opened anew at most this often, ns.
const REOPEN_NS: u64 = 500_000_000;

/// Clocks of host and guest drift apart by up to this between two values, ns.
const DRIFT_NS: i64 = 1_000_000;

/// The first stretch counts where so much of it was seen, 0..1.
const SEEN_PART: f64 = 0.3;

/// Opens what the host of the machine below `root` hands on.
pub(super) fn open(root: &Path) -> Result<Box<dyn EnergyCounter>, Unavailable> {
    let found = place::find(root)?;
    let mut busy = BusyClock::open(root);
    let now = busy.moment(clock::monotonic_ns());
    let mut guest = Guest {
        zones: Vec::new(),
        notes: Vec::new(),
        parts: Vec::new(),
        carries: Vec::new(),
        busy,
        next_look_ns: 0,
    };
    let mut rule = None;
    for path in &found {
        let part = Part::open(path, now)?;
        guest.zones.push(Zone {
            method: Method::Guest,
            domain: Domain::Package,
            package: guest.zones.len() as u32,
            name: part.content.title(path),
            unit_joules: UNIT_JOULES,
            modulus: None,
        });
        rule = Some(part.content.rule());
        guest.carries.push(Carry::default());
        guest.parts.push(part);
    }
    guest.notes.extend(rule.map(|rule| Note {
        domain: None,
        about: String::new(),
        why: rule.to_owned(),
    }));
    Ok(Box::new(guest))
}

/// The files that hosts write in steps, and how long ago they did, s by this machine's clock: for a
/// diagnosis.
pub fn ages(root: &Path) -> Vec<(PathBuf, f64)> {
    let files = place::find(root).into_iter().flatten();
    let parts = files.filter_map(|path| Part::open(&path, Moment::default()).ok());
    parts
        .filter_map(|part| Some((part.path.clone(), part.age_ns()? as f64 * 1e-9)))
        .collect()
}

/// The files of one guest.
#[derive(Debug)]
struct Guest {
    zones: Vec<Zone>,
    notes: Vec<Note>,
    parts: Vec<Part>,
    carries: Vec<Carry>,
    busy: BusyClock,
    next_look_ns: u64,
}

impl EnergyCounter for Guest {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn read(&mut self, out: &mut Vec<Result<u64, ReadFault>>) {
        let mut now = self.busy.moment(clock::monotonic_ns());
        let is_due = now.t_ns >= self.next_look_ns;
        let mut apart = LOOK_NS.1;
        for (part, carry) in self.parts.iter_mut().zip(&mut self.carries) {
            if is_due {
                part.look(now);
            }
            while is_due && part.is_just_written(now.t_ns) {
                std::thread::sleep(Duration::from_nanos(WRITTEN_NS));
                now = self.busy.moment(clock::monotonic_ns());
                part.look(now);
            }
            apart = apart.min(part.looks_apart_ns());
            out.push(part.total(now).map(|(joules, unsure)| {
                *carry = unsure;
                (joules / UNIT_JOULES) as u64
            }));
        }
        if is_due {
            self.next_look_ns = now.t_ns.saturating_add(apart);
        }
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn carries(&self) -> &[Carry] {
        &self.carries
    }
}

/// What was seen of a file before its first change.
#[derive(Debug, Clone, Copy)]
struct First {
    value: Value,
    /// When it was first looked at.
    seen: Moment,
}

/// One file and what it counts.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: SharedFile,
    content: Content,
    carried: Carried,
    first: Option<First>,
    /// The file was older than that when it was first looked at: its host has stopped.
    was_old: bool,
    /// Another file is in its place, which counts anew.
    is_another: bool,
    /// J from the first look on to the first value that came after it, and by how much that is in doubt.
    before: (f64, f64),
    /// The same as it was first told of, and since when.
    arrears: Arrears,
    /// This machine's clock less the host's, ns: the least that was seen, as a value is seen late, and the least
    /// that it may be, as a value is not older than a period and was not there at the look before.
    offset_ns: Option<i64>,
    least_offset_ns: i64,
    /// When it was last looked at, and held a value.
    looked: Moment,
    /// Since when it is seen to be written, ns.
    in_writing_ns: Option<u64>,
    reopened_ns: u64,
    fault: Option<ReadFault>,
}

impl Part {
    fn open(path: &Path, now: Moment) -> Result<Self, Unavailable> {
        let mut file = SharedFile::open(path)?;
        let mut content = Content::of(path, &mut file)?;
        let look = content
            .look(&mut file)
            .map_err(|fault| Unavailable::absent(format!("{}: {fault}", path.display())))?;
        let mut part = Self {
            path: path.to_owned(),
            file,
            carried: Carried::new(content.period_ns()),
            content,
            first: None,
            was_old: false,
            is_another: false,
            before: (0.0, 0.0),
            arrears: Arrears {
                since_ns: now.t_ns,
                ..Arrears::default()
            },
            offset_ns: None,
            least_offset_ns: i64::MIN,
            looked: now,
            in_writing_ns: None,
            reopened_ns: now.t_ns,
            fault: None,
        };
        part.was_old = part.age_ns().is_some_and(|age| age > part.silent_ns());
        if let Look::New(value) = look {
            part.begin(value, now);
        }
        Ok(part)
    }

    /// Takes the first value. It is not believed to go on, whatever power it states, before it changed:
    /// its host may have stopped long ago.
    fn begin(&mut self, value: Value, now: Moment) {
        self.time_of(&value, now, 0);
        self.first = Some(First { value, seen: now });
    }

    /// When a value that was seen `now` was true, on this machine's clock, ns: not before `least_ns`.
    fn time_of(&mut self, value: &Value, now: Moment, least_ns: u64) -> u64 {
        let Some(host_ns) = value.host_ns else {
            return now.t_ns;
        };
        let seen = now.t_ns as i64 - host_ns;
        let offset = match self.offset_ns {
            Some(known) => seen.min(known + DRIFT_NS),
            None => seen,
        };
        self.offset_ns = Some(offset);
        let late = now.t_ns.saturating_sub(least_ns);
        let late = late.min(self.carried.period_ns().unwrap_or(u64::MAX));
        let late = i64::try_from(late).unwrap_or(i64::MAX);
        let before = self.least_offset_ns.saturating_sub(DRIFT_NS);
        self.least_offset_ns = before.max(seen.saturating_sub(late));
        (host_ns + offset).clamp(least_ns.min(now.t_ns) as i64, now.t_ns as i64) as u64
    }

    /// By how much values may be older than they are taken to be, ns: until one was seen soon.
    fn unsure_ns(&self) -> u64 {
        let most = self.offset_ns.unwrap_or(0);
        let unsure = most.saturating_sub(self.least_offset_ns).max(0) as u64;
        if unsure > 2 * LOOK_NS.1 { unsure } else { 0 }
    }

    /// Looks whether the host wrote something new.
    fn look(&mut self, now: Moment) {
        let found = self.content.look(&mut self.file);
        self.fault = found.err();
        if found == Ok(Look::InWriting) {
            self.in_writing_ns.get_or_insert(now.t_ns);
        } else {
            self.in_writing_ns = None;
            let looked = std::mem::replace(&mut self.looked, now);
            if let Ok(Look::New(value)) = found {
                self.take(value, looked, now);
            }
        }
        let age = self.carried.age_ns(now.t_ns).unwrap_or(u64::MAX);
        let is_quiet = self.fault.is_some() || age > self.silent_ns() / 2;
        if is_quiet && now.t_ns.saturating_sub(self.reopened_ns) >= REOPEN_NS {
            self.reopened_ns = now.t_ns;
            // Another file may be in its place: the host's program was started anew.
            if let Ok(file) = SharedFile::open(&self.path) {
                self.file = file;
                self.is_another |= self.content.reopened(&mut self.file);
            }
        }
    }

    fn take(&mut self, value: Value, looked: Moment, now: Moment) {
        let t_ns = self.time_of(&value, now, looked.t_ns);
        let offset_ns = self.offset_ns;
        let mut at = Moment::between(&looked, &now, t_ns);
        at.may_be_earlier(&looked, self.unsure_ns());
        let is_another = std::mem::take(&mut self.is_another);
        let unseen_ns = now.t_ns.saturating_sub(looked.t_ns);
        let is_a_guess = self.content.is_a_guess(unseen_ns);
        if let Some(apart_ns) = self.carried.age_ns(at.t_ns) {
            let is_late = apart_ns > self.silent_ns();
            if is_another || is_late && self.content.lacks(apart_ns, unseen_ns) {
                return self.carried.begin_row(at, value.joules);
            }
            if is_a_guess {
                self.carried.doubt_until(at, value.joules);
            }
            return self.carried.update(at, value.joules);
        }
        let Some(first) = self.first.take() else {
            self.arrears.since_ns = now.t_ns;
            return self.begin(value, now);
        };
        // Of the first stretch only the end was seen: it is taken to have been like that throughout.
        let seen = at.t_ns.saturating_sub(first.seen.t_ns) as f64;
        // How old the first value was shows only now.
        let first_ns = match (first.value.host_ns, offset_ns) {
            (Some(host_ns), Some(offset)) => (host_ns + offset).max(0) as u64,
            _ => first.seen.t_ns,
        };
        let first_ns = first_ns.min(first.seen.t_ns);
        let apart_ns = at.t_ns.saturating_sub(first_ns);
        let whole = apart_ns as f64;
        let lacks = apart_ns > self.silent_ns() && self.content.lacks(apart_ns, unseen_ns);
        if is_a_guess || lacks {
            self.arrears.since_ns = now.t_ns;
            return match value.watts {
                Some(watts) => self.carried.begin(at, value.joules, watts),
                None => self.begin(value, now),
            };
        }
        let gained = (value.joules - first.value.joules).max(0.0);
        let part = gained * seen / whole.max(1.0);
        if seen < SEEN_PART * whole {
            // What was written long before tells nothing of what was seen; power of late does.
            let part = value.watts.map_or(part, |watts| watts * seen * 1e-9);
            self.before.0 += part;
            self.before.1 += part;
            return match value.watts {
                Some(watts) => self.carried.begin(at, value.joules, watts),
                None => self.begin(value, now),
            };
        }
        self.before.0 += part;
        self.before.1 += part.min(gained - part);
        let rate = at.busy_ns.saturating_sub(first.seen.busy_ns) as f64 / seen.max(1.0);
        let unseen = first.seen.t_ns.saturating_sub(first_ns) as f64;
        let before = Moment {
            t_ns: first_ns,
            busy_ns: first.seen.busy_ns.saturating_sub((rate * unseen) as u64),
            unsure_ns: (rate * unseen) as u64,
        };
        self.carried.update(before, first.value.joules);
        self.carried.update(at, value.joules);
    }

    fn looks_apart_ns(&self) -> u64 {
        let period = self.carried.period_ns().unwrap_or(0);
        (period / LOOKS).clamp(LOOK_NS.0, LOOK_NS.1)
    }

    fn silent_ns(&self) -> u64 {
        let period = self.carried.period_ns().unwrap_or(0);
        (SILENT_PERIODS * period).max(SILENT_NS)
    }

    /// For how long it is seen to be written, ns.
    fn in_writing_for(&self, t_ns: u64) -> Option<u64> {
        Some(t_ns.saturating_sub(self.in_writing_ns?))
    }

    /// Whether its value may be there in a moment.
    fn is_just_written(&self, t_ns: u64) -> bool {
        self.in_writing_for(t_ns)
            .is_some_and(|ns| ns < IN_WRITING_NS)
    }

    /// The total now, J, and what is not known of it.
    fn total(&mut self, now: Moment) -> Result<(f64, Carry), ReadFault> {
        let silent_ns = self.silent_ns();
        let is_written = self
            .in_writing_for(now.t_ns)
            .is_some_and(|ns| ns <= silent_ns);
        let carried = self.carried.at(now, self.busy_grain(), UNIT_JOULES);
        match (self.carried.age_ns(now.t_ns), carried) {
            // The last value is carried on, in doubt, while the next one is being written.
            (Some(age), _) if age > silent_ns && !is_written => {
                Err(self.fault.unwrap_or(ReadFault::Silent))
            }
            (_, Some((joules, carry))) => {
                let (before, doubt) = self.before;
                let joules = before + joules;
                if self.arrears.units == 0 {
                    self.arrears.known_ns = now.t_ns;
                    self.arrears.units = (joules / UNIT_JOULES) as u64;
                    self.arrears.doubt = (doubt / UNIT_JOULES) as u64;
                }
                let arrears = self.arrears;
                Ok((joules, Carry { arrears, ..carry }))
            }
            (_, None) => Err(self.fault.unwrap_or(match self.is_left(now) {
                true => ReadFault::Silent,
                false => ReadFault::Waiting,
            })),
        }
    }

    /// Whether a file that has not changed yet will not: its host wrote it long ago, or has not for long.
    fn is_left(&self, now: Moment) -> bool {
        let waited = |first: &First| now.t_ns.saturating_sub(first.seen.t_ns);
        let first = self.first.as_ref();
        first.is_some_and(|first| self.was_old || waited(first) > self.silent_ns())
    }

    /// How long ago the host wrote the file, by this machine's clock, ns; `None` where that is not known.
    fn age_ns(&self) -> Option<u64> {
        match self.content {
            // It is written by mapped memory, which leaves the file's time as it was.
            Content::Ring { .. } => None,
            _ => {
                let written_ns = u64::try_from(self.file.written_ns()?).ok()?;
                clock::realtime_ns().checked_sub(written_ns)
            }
        }
    }

    fn busy_grain(&self) -> u64 {
        super::procfs::TICK_NS
    }
}

#[cfg(test)]
mod tests;
