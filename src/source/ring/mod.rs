//! The node agent's ring, read by whoever may not read the counters.
//!
//! The file is foreign: it may be half-written, cut, replaced, made by another version or by
//! somebody who means harm. So it is read with `pread`, never mapped (a mapped file that is cut
//! kills its reader), and nothing in it is believed before its checksum, its sizes, its generation
//! and its times are right. What cannot be believed is a [`ReadFault`] with its reason.
//!
//! The newest sample is up to one period old. The counters are carried on to "now" with the power
//! of the last period: at the edges of a window that is the power before the edge, which is right.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use self::layout::{
    ACCOUNT_AT, ACCOUNT_WORDS, Account, GROUP_WORDS, GroupRow, HEAD_AT, HEAD_WORDS, HEADER_WORDS,
    Head, Header, IDLE_AT, IDLE_WORDS, Sample, WORD, to_words,
};
use super::kept::{OwnFile, StandardStreams};
use super::plain;
use super::{Method, ReadFault, Unavailable, Zone};
use crate::clock;

pub mod layout;
pub mod trust;

/// Where the ring is, below the root.
pub const DEFAULT_PATH: &str = "run/lithowatt/ring";

/// The variable that names another place.
pub const PATH_VARIABLE: &str = "LITHOWATT_RING";

/// What brings the ring.
const FIX: &str = as_root!("agent");

/// Counters are carried on for so many periods at most.
const CARRY_PERIODS: u64 = 3;

/// … and where a period is short for so long at least, ns: an agent is now and then kept waiting.
const CARRY_NS: u64 = 30_000_000;

/// A ring that is not alive is looked for anew at most this often, ns.
const REOPEN_NS: u64 = 100_000_000;

/// Tries to read a block that is being written.
const TRIES: usize = 5;

/// Clocks of two CPUs may differ by a little, ns.
const CLOCK_SLACK_NS: u64 = 20_000_000;

/// Where the ring is for a process whose root is `root`.
pub fn path_below(root: &Path) -> PathBuf {
    match std::env::var_os(PATH_VARIABLE).filter(|p| !p.is_empty()) {
        Some(path) => path.into(),
        None => root.join(DEFAULT_PATH),
    }
}

/// A ring that is open for reading.
#[derive(Debug)]
pub struct Ring {
    path: PathBuf,
    file: OwnFile,
    header: Header,
    boot_id: Option<[u64; 2]>,
    /// This process's clock less the host's, ns.
    offset_ns: i64,
    last: Sample,
    before: Sample,
    words: Vec<u64>,
    bytes: Vec<u8>,
    /// Added to each total, modulo 2^64, so that values go on where a ring begins anew.
    base: Vec<u64>,
    values: Vec<u64>,
    idle: Option<u64>,
    /// Times that energy was lost, by a counter's reset or a ring that began anew.
    resets: u64,
    age_ns: u64,
    look_again_ns: u64,
    /// A heartbeat older than this makes the reader look for a new ring, ns.
    quiet_ns: u64,
}

impl Ring {
    /// Opens the ring at `path` of the machine below `root`.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, where there is none or it cannot be believed.
    pub fn open(path: &Path, root: &Path) -> Result<Self, Unavailable> {
        let mut boot_id = None;
        // Found out only once there is a ring: most machines have none.
        let (file, header) = open_checked(path, || {
            boot_id = layout::boot_id(root);
            boot_id
        })?;
        let offset_ns = clock::kernel_offset_ns();
        let zones = header.zones.len();
        let mut ring = Self {
            path: path.to_owned(),
            file,
            boot_id,
            offset_ns,
            last: Sample::default(),
            before: Sample::default(),
            words: vec![0; 2 * header.sample_words()],
            bytes: vec![0; 2 * header.sample_words() * WORD],
            base: vec![0; zones],
            values: vec![0; zones],
            idle: None,
            resets: 0,
            age_ns: 0,
            look_again_ns: 0,
            quiet_ns: header.period_ns.saturating_mul(5).max(REOPEN_NS),
            header,
        };
        match ring.look(clock::monotonic_ns()) {
            Ok(()) => {
                ring.resets = 0;
                Ok(ring)
            }
            Err(fault) => {
                Err(Unavailable::absent(format!("{}: {fault}", path.display())).with_fix(FIX))
            }
        }
    }

    /// The ring's own header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its zones, in the order of [`Ring::read`].
    pub fn zones(&self) -> &[Zone] {
        &self.header.zones
    }

    /// The method that the agent reads the counters with.
    pub fn method(&self) -> Method {
        self.header.zones.first().map_or(Method::Rapl, |z| z.method)
    }

    /// How old the newest sample was at the last look, ns.
    pub fn age_ns(&self) -> u64 {
        self.age_ns
    }

    /// The newest sample is older than a waiting agent explains: the agent may be no more.
    pub fn is_quiet(&self) -> bool {
        self.age_ns > self.header.period_ns.saturating_mul(5).max(REOPEN_NS)
    }

    /// Times that energy was lost since the ring was opened.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// CPU time that nobody on the machine used, at the last look, ns.
    pub fn idle_ns(&self) -> Option<u64> {
        self.idle
    }

    /// Appends one result per zone to `out`: the totals of the last look, µJ, or its faults.
    pub fn read(&self, out: &mut Vec<Result<u64, ReadFault>>) {
        for (i, value) in self.values.iter().enumerate() {
            let faulty = self.last.faults >> i & 1 == 1;
            out.push(if faulty {
                Err(ReadFault::Failed)
            } else {
                Ok(*value)
            });
        }
    }

    /// Looks at the newest sample and carries it on to `now_ns` of this process's clock.
    ///
    /// # Errors
    /// Why the ring cannot be believed now: [`ReadFault::Stale`] where the agent gives no sign of
    /// life, [`ReadFault::Stopped`] where it marked its end, [`ReadFault::Vanished`] where there
    /// is no ring, [`ReadFault::Malformed`] else.
    pub fn look(&mut self, now_ns: u64) -> Result<(), ReadFault> {
        let host_ns = now_ns.saturating_add_signed(self.offset_ns.saturating_neg());
        if self.file.get().is_none() {
            self.attach_again();
        }
        let mut head = self.head();
        let late = self.quiet_ns;
        let quiet = |head: &Result<Head, ReadFault>| match head {
            Ok(head) => head.closed || host_ns.saturating_sub(head.heartbeat_ns) > late,
            Err(_) => true,
        };
        if quiet(&head) && now_ns >= self.look_again_ns {
            self.look_again_ns = now_ns.saturating_add(REOPEN_NS);
            if self.reopen()? {
                head = self.head();
            }
        }
        let head = head?;
        if head.closed {
            return Err(ReadFault::Stopped);
        }
        if host_ns.saturating_sub(head.heartbeat_ns) > self.header.stale_ns {
            return Err(ReadFault::Stale);
        }
        let future = host_ns.saturating_add(self.header.period_ns.max(CLOCK_SLACK_NS));
        if head.heartbeat_ns > future || head.count == 0 {
            return Err(ReadFault::Malformed);
        }
        if head.count != self.last.number {
            self.fetch(head.count)?;
        }
        if self.last.t_ns > future {
            return Err(ReadFault::Malformed);
        }
        self.age_ns = host_ns.saturating_sub(self.last.t_ns);
        self.carry();
        Ok(())
    }

    fn head(&self) -> Result<Head, ReadFault> {
        let mut bytes = [0; HEAD_WORDS * WORD];
        let mut words = [0; HEAD_WORDS];
        for _ in 0..TRIES {
            read_at(&self.file, &mut bytes, HEAD_AT)?;
            to_words(&bytes, &mut words);
            if let Some(head) = Head::decode(&words) {
                return if head.generation == self.header.generation {
                    Ok(head)
                } else {
                    Err(ReadFault::Malformed)
                };
            }
        }
        Err(ReadFault::Malformed)
    }

    /// Reads sample `number`, and the one before it where that is not known.
    fn fetch(&mut self, number: u64) -> Result<(), ReadFault> {
        let one = self.header.sample_words();
        let follows = self.last.number != 0 && number == self.last.number + 1;
        let mut before = Sample::default();
        let mut last = Sample::default();
        // Two neighbours in one read, but at the ring's end.
        let together = !follows && number > 1 && self.header.sample_at(number) > layout::SAMPLES_AT;
        for _ in 0..TRIES {
            if together {
                let at = self.header.sample_at(number - 1);
                self.words_at(at, 2)?;
                if before.decode(&self.words[..one], number - 1)
                    && last.decode(&self.words[one..2 * one], number)
                {
                    return self.accept(Some(before), last);
                }
                continue;
            }
            self.words_at(self.header.sample_at(number), 1)?;
            if !last.decode(&self.words[..one], number) {
                continue;
            }
            if follows || number == 1 {
                return self.accept(None, last);
            }
            self.words_at(self.header.sample_at(number - 1), 1)?;
            if before.decode(&self.words[..one], number - 1) {
                return self.accept(Some(before), last);
            }
        }
        Err(ReadFault::Malformed)
    }

    fn words_at(&mut self, at: u64, samples: usize) -> Result<(), ReadFault> {
        let words = samples * self.header.sample_words();
        let bytes = &mut self.bytes[..words * WORD];
        read_at(&self.file, bytes, at)?;
        to_words(bytes, &mut self.words[..words]);
        Ok(())
    }

    /// Takes a sample over, if it goes on from what was seen before.
    fn accept(&mut self, before: Option<Sample>, last: Sample) -> Result<(), ReadFault> {
        let earlier = before.as_ref().unwrap_or(&self.last);
        let orderly = |earlier: &Sample| {
            earlier.number == 0
                || (earlier.number < last.number
                    && earlier.t_ns <= last.t_ns
                    && earlier.resets <= last.resets
                    && earlier.totals.iter().zip(&last.totals).all(|(a, b)| a <= b))
        };
        if !orderly(earlier) || !orderly(&self.last) {
            return Err(ReadFault::Malformed);
        }
        if self.last.number != 0 {
            self.resets += last.resets - self.last.resets;
        }
        let old = std::mem::replace(&mut self.last, last);
        self.before = before.unwrap_or(old);
        Ok(())
    }

    /// The totals at the last look, with the power of the last period.
    fn carry(&mut self) {
        let most = self.carry_ns();
        let dt = self.last.t_ns.saturating_sub(self.before.t_ns);
        let known = self.before.number != 0 && dt > 0;
        let ahead = if known {
            self.age_ns.min(most) as f64 / dt as f64
        } else {
            0.0
        };
        let carried = |then: u64, now: u64| {
            let more = now.saturating_sub(then) as f64 * ahead;
            now.saturating_add(more as u64)
        };
        for (i, now) in self.last.totals.iter().enumerate() {
            let then = self.before.totals.get(i).copied().unwrap_or(*now);
            let value = self.base[i].wrapping_add(carried(then, *now));
            // What was shown too early is not taken back: energy does not run backwards.
            self.values[i] = self.values[i].max(value);
        }
        let until = self.last.t_ns.saturating_add(self.age_ns.min(most));
        let idle = self.last.idle_at(until);
        self.idle = idle.map(|ns| ns.max(self.idle.unwrap_or(0)));
    }

    /// Opens the ring anew after the process closed its descriptor, where it is still the same.
    fn attach_again(&mut self) {
        if let Ok((file, header)) = open_checked(&self.path, || self.boot_id)
            && header.generation == self.header.generation
        {
            self.file = file;
        }
    }

    /// Looks whether another agent has made a new ring. `Ok(true)` where it has.
    fn reopen(&mut self) -> Result<bool, ReadFault> {
        let (file, header) = match open_checked(&self.path, || self.boot_id) {
            Ok(opened) => opened,
            // The one that is open shows why it is not alive, if it does.
            Err(_) => return Ok(false),
        };
        if header.generation == self.header.generation {
            return Ok(false);
        }
        if header.zones != self.header.zones {
            return Err(ReadFault::Vanished);
        }
        let old = std::mem::replace(&mut self.header, header);
        let previous = std::mem::replace(&mut self.file, file);
        let last = std::mem::take(&mut self.last);
        let before = std::mem::take(&mut self.before);
        let undo = |ring: &mut Self, fault| {
            ring.header = old.clone();
            ring.file = previous;
            ring.last = last.clone();
            ring.before = before;
            Err(fault)
        };
        let goes_on = self.header.lineage == old.lineage;
        let fetched = self.head().and_then(|head| match head.count {
            0 => Err(ReadFault::Stale),
            count => self.fetch(count),
        });
        if let Err(fault) = fetched {
            return undo(self, fault);
        }
        if goes_on {
            let back = |(new, old): (&u64, &u64)| new < old;
            if self.last.totals.iter().zip(&last.totals).any(back) {
                return undo(self, ReadFault::Malformed);
            }
            self.resets += self.last.resets.saturating_sub(last.resets);
        } else {
            // What was used in between is not known: values go on from where they were.
            for ((base, value), now) in self
                .base
                .iter_mut()
                .zip(&self.values)
                .zip(&self.last.totals)
            {
                *base = value.wrapping_sub(*now);
            }
            self.resets += 1;
        }
        Ok(true)
    }

    /// The machine's account and the rows of the groups; `None` where no whole round was seen.
    pub fn groups(&self) -> Option<(Account, Vec<GroupRow>)> {
        for _ in 0..TRIES {
            let account = self.account()?;
            if account.rows > self.header.groups {
                return None;
            }
            let row_bytes = GROUP_WORDS * WORD;
            let mut bytes = vec![0; account.rows as usize * row_bytes];
            read_at(&self.file, &mut bytes, self.header.groups_at()).ok()?;
            let rows: Option<Vec<GroupRow>> = bytes
                .chunks_exact(row_bytes)
                .map(|chunk| {
                    let mut words = [0; GROUP_WORDS];
                    to_words(chunk, &mut words);
                    GroupRow::decode(&words).filter(|row| row.round == account.round)
                })
                .collect();
            if let Some(rows) = rows {
                return Some((account, rows));
            }
            std::thread::yield_now();
        }
        None
    }

    /// Idle power of each zone as the agent saw it at rest, W, in the order of the zones.
    pub fn idle_watts(&self) -> Vec<Option<f64>> {
        let mut bytes = [0; IDLE_WORDS * WORD];
        let mut words = [0; IDLE_WORDS];
        for _ in 0..TRIES {
            if read_at(&self.file, &mut bytes, IDLE_AT).is_err() {
                break;
            }
            to_words(&bytes, &mut words);
            if layout::sealed(&words) {
                let watts = |mw: &u64| Some(*mw as f64 * 1e-3).filter(|w| *w > 0.0);
                return words[..self.zones().len()].iter().map(watts).collect();
            }
        }
        vec![None; self.zones().len()]
    }

    /// How long the totals are carried on at most, ns.
    pub fn carry_ns(&self) -> u64 {
        (CARRY_PERIODS * self.header.period_ns).max(CARRY_NS)
    }

    fn account(&self) -> Option<Account> {
        let mut bytes = [0; ACCOUNT_WORDS * WORD];
        let mut words = [0; ACCOUNT_WORDS];
        for _ in 0..TRIES {
            read_at(&self.file, &mut bytes, ACCOUNT_AT).ok()?;
            to_words(&bytes, &mut words);
            if let Some(account) = Account::decode(&words) {
                return Some(account);
            }
        }
        None
    }

    /// The next look at a ring that is quiet looks for a new one, however soon it comes.
    #[cfg(test)]
    pub(crate) fn look_again(&mut self) {
        self.look_again_ns = 0;
        self.quiet_ns = 0;
    }

    /// The newest sample as it was written.
    pub fn last(&self) -> &Sample {
        &self.last
    }
}

/// Reads all of `bytes`; a file that ends before is no ring any more.
fn read_at(file: &OwnFile, bytes: &mut [u8], at: u64) -> Result<(), ReadFault> {
    let file = file.get().ok_or(ReadFault::Failed)?;
    file.read_exact_at(bytes, at).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => ReadFault::Malformed,
        _ => ReadFault::Failed,
    })
}

fn open_file(path: &Path) -> io::Result<(File, std::fs::Metadata)> {
    let (file, found) = plain::open(path)?;
    if file.as_raw_fd() > libc::STDERR_FILENO {
        return Ok((file, found));
    }
    drop(file);
    let _spared = StandardStreams::spared();
    plain::open(path)
}

fn open_checked(
    path: &Path,
    boot: impl FnOnce() -> Option<[u64; 2]>,
) -> Result<(OwnFile, Header), Unavailable> {
    let shown = path.display();
    let refuse = |why: &str| Unavailable::absent(format!("the ring {shown} is refused: {why}"));
    let (file, meta) = open_file(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Unavailable::absent(format!("no agent: there is no ring {shown}")).with_fix(FIX)
        }
        io::ErrorKind::PermissionDenied => Unavailable::denied(
            format!("the ring {shown} may not be read"),
            "start the agent without --group, or join that group",
        ),
        io::ErrorKind::InvalidInput => refuse("it is no plain file"),
        _ => Unavailable::of(format!("the ring {shown} cannot be opened"), &e),
    })?;
    if meta.mode() & 0o022 != 0 {
        return Err(refuse("others than its owner may write it"));
    }
    if let Some(why) = trust::distrust(path, &meta) {
        return Err(refuse(&why));
    }
    let file = OwnFile::new(file).map_err(|e| refuse(&format!("it cannot be looked at ({e})")))?;
    let mut bytes = vec![0; HEADER_WORDS * WORD];
    read_at(&file, &mut bytes, 0).map_err(|_| refuse("it is shorter than a header"))?;
    let mut words = vec![0; HEADER_WORDS];
    to_words(&bytes, &mut words);
    let header = Header::decode(&words).map_err(|why| refuse(&why))?;
    if meta.len() != header.file_bytes() {
        return Err(refuse("its length is not the one in its header"));
    }
    if boot().is_some_and(|id| id != header.boot_id && header.boot_id != [0, 0]) {
        return Err(refuse("it is of another boot or another machine"));
    }
    Ok((file, header))
}

#[cfg(test)]
mod tests;
