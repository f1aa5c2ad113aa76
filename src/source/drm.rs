//! Who keeps the engines of GPUs busy, as drivers of the kernel's DRM show it of every open file in
//! /proc/PID/fdinfo.
//!
//! All processes are looked through for files of `/dev/dri`, which takes a thousandth of a second and
//! more for each hundred of them: so seldom that it is one part in [`SCAN_PART`] of a CPU's time. In
//! between only the files that were found are read again, so that of a client that ends little is
//! missed. A client is told by its number, as one file may be open many times, in several processes.

mod fdinfo;
mod queues;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use fdinfo::{Engine, Fdinfo};
pub use queues::users as queue_users;

use self::fdinfo::only_copies;
use super::gpu::{Use, is_nested};
use super::plain;
use crate::clock;

/// Between two looks at least, ns.
const LOOK_NS: u64 = 100_000_000;

/// To look through all processes takes one part in so many of a CPU's time …
const SCAN_PART: u64 = 125;

/// … and to read again what was found there one in so many: together 1 %.
const AGAIN_PART: u64 = 500;

/// An fdinfo is not longer, bytes: one of xe has about 1500.
const MOST: u64 = 1 << 16;

/// Cycles of a timestamp in a second where that was not seen yet: Intel's usual crystal (19.2 MHz).
const TIMESTAMP_HZ: f64 = 19.2e6;

/// Less use than this part of the time is nobody's, as it is with NVML's whole percents, %.
const LEAST_PERCENT: f64 = 0.5;

type Engines = BTreeMap<String, Engine>;

/// A card whose clients are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'c> {
    /// On the PCI bus.
    pub slot: &'c str,
    /// The names of its files in `/dev/dri`.
    pub nodes: &'c [String],
    /// To ask for clients of a card that sleeps would wake it.
    pub asleep: bool,
}

/// Who used a card between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// The clients that did.
    pub uses: Vec<Use>,
    /// Up to this moment, ns on `CLOCK_MONOTONIC`, …
    pub until_ns: u64,
    /// … and for so long, s.
    pub seconds: f64,
    /// Clients may be hidden: some processes cannot be read, or are not shown.
    pub hidden: bool,
    /// Processes that cannot be read.
    pub unreadable: Vec<i32>,
    /// It is open and its driver does not say how busy it is kept.
    pub silent: bool,
}

#[derive(Debug, Default)]
struct Client {
    /// Who has it open.
    pids: Vec<i32>,
    /// As it was told at the last look through all processes; `None` where the client is new.
    then: Option<Engines>,
    now: Engines,
    /// The number of the look that last found it.
    found: u64,
}

#[derive(Debug, Default)]
struct Card {
    /// The last look at its clients, ns, and the device's timestamp at that look.
    then: Option<(u64, Option<u64>)>,
    timestamp: Option<u64>,
    /// At the look of this number a client of it told nothing.
    silent: u64,
}

/// The clients of a machine's GPUs.
#[derive(Debug)]
pub struct Clients {
    proc: PathBuf,
    nested: bool,
    cards: HashMap<String, Card>,
    known: HashMap<(String, u64), Client>,
    /// The open files of `/dev/dri`: process, name there, its fdinfo.
    files: Vec<(i32, String, PathBuf)>,
    unreadable: Vec<i32>,
    /// Of processes that cannot be read, whether they have memory of their own.
    live: HashMap<i32, bool>,
    looks: u64,
    due_ns: u64,
    again_ns: u64,
}

impl Clients {
    /// Nothing is looked at yet.
    pub fn below(root: &Path) -> Self {
        let proc = proc_below(root);
        Self {
            nested: is_nested(&proc).unwrap_or(false),
            proc,
            cards: HashMap::new(),
            known: HashMap::new(),
            files: Vec::new(),
            unreadable: Vec::new(),
            live: HashMap::new(),
            looks: 0,
            due_ns: 0,
            again_ns: 0,
        }
    }

    /// Looks who used these cards since the last look, where it is time to. Cards that sleep and those
    /// that were not looked at before have no answer.
    pub fn look(&mut self, places: &[Place]) -> HashMap<String, Told> {
        let began_ns = clock::monotonic_ns();
        let mut told = HashMap::new();
        let is_due = began_ns >= self.due_ns;
        if places.iter().all(|place| place.asleep) || !is_due && began_ns < self.again_ns {
            return told;
        }
        let spent_ns = clock::own_thread_cpu_ns();
        if is_due {
            self.looks += 1;
            self.find();
        }
        let now_ns = clock::monotonic_ns();
        self.read(places);
        if is_due {
            for place in places.iter().filter(|place| !place.asleep) {
                if let Some(one) = self.settle(place.slot, now_ns) {
                    told.insert(place.slot.to_owned(), one);
                }
            }
            let looks = self.looks;
            let sleeps = |slot: &str| places.iter().any(|p| p.asleep && p.slot == slot);
            self.known
                .retain(|(slot, _), client| client.found == looks || sleeps(slot));
        }
        let cost_ns = clock::own_thread_cpu_ns().saturating_sub(spent_ns);
        let pause = |part: u64| LOOK_NS.max(part * cost_ns);
        if is_due {
            // The first look tells nothing yet: the second one follows at once, and makes up for it.
            self.due_ns = match self.looks {
                1 => began_ns + LOOK_NS,
                2 => began_ns + 2 * pause(SCAN_PART),
                _ => began_ns + pause(SCAN_PART),
            };
            self.again_ns = began_ns + LOOK_NS;
        } else {
            self.again_ns = began_ns + pause(AGAIN_PART);
        }
        told
    }

    /// Whether some may be hidden, as of the last look: of processes that cannot be read, or are not shown.
    pub fn hide(&self) -> bool {
        // Where process 1 is not shown, others are not, either.
        self.nested || !self.unreadable.is_empty() || !self.proc.join("1").exists()
    }

    /// Whether the driver of a card did not say at the last look how busy its clients keep it.
    pub fn are_silent(&self, slot: &str) -> bool {
        let card = self.cards.get(slot);
        card.is_some_and(|card| card.silent > 0 && card.silent == self.looks)
    }

    /// Finds the open files of `/dev/dri`.
    fn find(&mut self) {
        self.files.clear();
        self.unreadable.clear();
        let pids: Vec<i32> = numbers(&self.proc).collect();
        self.live.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            match self.find_of(pid) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    let statm = self.proc.join(pid.to_string()).join("statm");
                    // Neither the kernel's threads nor what has ended can have a file open.
                    let live = self.live.entry(pid).or_insert_with(|| {
                        fs::read_to_string(statm).is_ok_and(|text| !text.starts_with("0 "))
                    });
                    if *live {
                        self.unreadable.push(pid);
                    }
                }
                // It has ended.
                _ => {}
            }
        }
    }

    fn find_of(&mut self, pid: i32) -> io::Result<()> {
        let process = self.proc.join(pid.to_string());
        for entry in fs::read_dir(process.join("fd"))? {
            let entry = entry?;
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let name = target
                .to_str()
                .and_then(|path| path.strip_prefix("/dev/dri/"));
            let Some(name) = name else { continue };
            let shown = process.join("fdinfo").join(entry.file_name());
            self.files.push((pid, name.to_owned(), shown));
        }
        Ok(())
    }

    /// Reads the files that were found, but for those of cards that sleep.
    fn read(&mut self, places: &[Place]) {
        let sleeps = |name| places.iter().any(|p| p.asleep && p.nodes.contains(name));
        for (pid, name, path) in self.files.iter().filter(|(_, name, _)| !sleeps(name)) {
            let text = match plain::read_text(path, MOST) {
                Ok(text) => text,
                Err(e) => {
                    let refused = e.kind() == io::ErrorKind::PermissionDenied;
                    if refused && !self.unreadable.contains(pid) {
                        self.unreadable.push(*pid);
                    }
                    continue;
                }
            };
            let shown = Fdinfo::parse(&text);
            // A driver that says nothing of itself is known by the file's name.
            let is_of = |place: &&Place| match &shown.slot {
                Some(slot) => slot == place.slot,
                None => shown.driver.is_none() && place.nodes.contains(name),
            };
            let Some(place) = places.iter().find(is_of) else {
                continue;
            };
            let card = self.cards.entry(place.slot.to_owned()).or_default();
            let Some(id) = shown.client.filter(|_| shown.tells()) else {
                card.silent = self.looks;
                continue;
            };
            card.timestamp = card.timestamp.max(shown.timestamp);
            let client = self.known.entry((place.slot.to_owned(), id)).or_default();
            if client.found != self.looks {
                client.found = self.looks;
                client.pids.clear();
            }
            if !client.pids.contains(pid) {
                client.pids.push(*pid);
            }
            for (name, engine) in shown.engines {
                let known = client.now.entry(name).or_insert(engine);
                // The kernel's numbers may go back a little, and then catch up.
                known.busy = known.busy.max(engine.busy);
            }
        }
    }

    /// What the clients of a card used it since the last time; `None` at the first.
    fn settle(&mut self, slot: &str, now_ns: u64) -> Option<Told> {
        let card = self.cards.entry(slot.to_owned()).or_default();
        let before = card.then.replace((now_ns, card.timestamp));
        let clients = self.known.iter_mut().filter(|((at, _), _)| at == slot);
        let Some((then_ns, then)) = before else {
            clients.for_each(|(_, client)| client.then = Some(client.now.clone()));
            return None;
        };
        let seconds = now_ns.saturating_sub(then_ns).max(1) as f64 * 1e-9;
        let cycles = card
            .timestamp
            .zip(then)
            .map(|(now, then)| now.saturating_sub(then));
        let hz = match cycles {
            Some(cycles) if cycles > 0 => cycles as f64 / seconds,
            _ => TIMESTAMP_HZ,
        };
        let (mut uses, mut copies) = (Vec::new(), Vec::new());
        for (_, client) in clients {
            let (mut worked, mut copied) = (0.0, 0.0);
            for (name, engine) in &client.now {
                let before = client.then.as_ref().map(|then| then.get(name));
                let then = before.flatten().map_or(0, |engine| engine.busy);
                let busy = engine.busy.saturating_sub(then) as f64;
                let busy = if engine.in_cycles {
                    busy / hz
                } else {
                    busy * 1e-9
                };
                // A client that was not there before may have been there, unseen.
                let most = match client.then {
                    Some(_) => f64::INFINITY,
                    None => seconds * f64::from(engine.capacity),
                };
                match only_copies(name) {
                    true => copied += busy.min(most),
                    false => worked += busy.min(most),
                }
            }
            client.then = Some(client.now.clone());
            for (list, busy) in [(&mut uses, worked), (&mut copies, copied)] {
                if busy > 0.0 {
                    list.push(Use {
                        pids: client.pids.clone(),
                        percent: 100.0 * busy / seconds,
                    });
                }
            }
        }
        let is_used =
            |uses: &[Use]| uses.iter().map(|one| one.percent).sum::<f64>() >= LEAST_PERCENT;
        // Copying takes little power beside work.
        let uses = match (is_used(&uses), is_used(&copies)) {
            (true, _) => uses,
            (false, true) => copies,
            (false, false) => Vec::new(),
        };
        Some(Told {
            uses,
            until_ns: now_ns,
            seconds,
            hidden: self.hide(),
            unreadable: self.unreadable.clone(),
            silent: self.are_silent(slot),
        })
    }
}

/// Where processes are shown under the numbers that they have here: another root may show them as another
/// PID namespace has them.
fn proc_below(root: &Path) -> PathBuf {
    let below = root.join("proc");
    let ourselves = fs::read_link(below.join("self")).ok();
    let number = ourselves.and_then(|path| path.to_str()?.parse::<i32>().ok());
    match number {
        Some(pid) if pid != clock::getpid() => PathBuf::from("/proc"),
        _ => below,
    }
}

/// The entries of a directory whose names are numbers.
fn numbers(directory: &Path) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests;
