//! A recording of what the sources of one window showed: everything that enters its reading, so that
//! the same code makes the same reading of it, on another machine and by other rules.
//!
//! A trace has a [`Header`] (the machine, its counters, the options of the meter) and [`Frame`]s: what
//! was read at one moment each. On its way to a file a frame is a row of whole numbers, one a column
//! ([`Layout::columns`]). Rows travel in blocks, column by column: see [`encode`]. The file around
//! both is Python's (`python/lithowatt/trace/`), its format is in `docs/reference/trace-format.md`.
//!
//! The clock, the counters and the CPU times of a window are read in `src/sampler/`; `tape.rs` there
//! writes frames and plays them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::calibration::Calibration;
use crate::cgroup::limits::SandboxCount;
use crate::json::{self, from_json};
use crate::machine::allotted::Allotted;
use crate::machine::cpu::CpuIdentity;
use crate::machine::environment::Environment;
use crate::machine::facts::Facts;
use crate::source::busy::{self, Clock};
use crate::source::perf::TreeCount;
use crate::source::procfs::{
    InOut, MachineShown, Memory, Missed, StatLine, SystemEdge, SystemState, is_a_clock,
};
use crate::source::traffic::{Counter, Stretch};
use crate::source::{Hole, Method, Note, ReadFault, Unavailable, Zone};

/// A value that is not there.
const NONE: i64 = i64::MIN;

/// Rows of a block, at most: what is decoded at once.
pub const BLOCK_ROWS: usize = 4096;

/// More counters than any machine has.
const MOST_ZONES: usize = 4096;

/// Columns of a row, at most: two a counter, and those of everything else. A block of constant columns takes
/// two bytes for each, and 32 kB when it is decoded.
const MOST_COLUMNS: usize = 2 * MOST_ZONES + 1024;

/// What the machine is.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor.
    pub cpu: CpuIdentity,
    /// Container, cloud, limits.
    pub environment: Environment,
    /// Logical CPUs online.
    pub cpus: u32,
    /// Its stored calibration.
    pub calibration: Option<Calibration>,
}

from_json!(Machine {
    cpu,
    environment,
    cpus,
    calibration
});

impl Machine {
    /// What a recording keeps of `facts`; names that somebody gave (of pods and nodes), and what tells this
    /// machine from all others, are none of it.
    pub fn of(facts: &Facts) -> Self {
        Self {
            cpu: facts.cpu.clone(),
            environment: Environment {
                k8s_pod: None,
                k8s_node: None,
                ..facts.environment.clone()
            },
            cpus: facts.cpus,
            calibration: facts
                .calibration
                .clone()
                .map(|stored| Calibration { on: None, ..stored }),
        }
    }

    /// The facts that it was made of.
    pub fn facts(&self) -> Facts {
        Facts::of_parts(
            Path::new("/"),
            self.cpu.clone(),
            self.environment.clone(),
            self.cpus,
            self.calibration.clone(),
        )
    }
}

/// What was different of the machine when the window ended.
#[derive(Debug, Clone, Serialize)]
pub struct AtEnd {
    /// Logical CPUs online.
    pub cpus: u32,
    /// The part of the machine that the process might use.
    pub allotted: Allotted,
}

from_json!(AtEnd { cpus, allotted });

/// What does not change within a trace.
#[derive(Debug, Clone, Serialize)]
pub struct Header {
    /// The machine.
    pub machine: Machine,
    /// What was different when the window ended.
    pub at_end: Option<AtEnd>,
    /// The counters, in the order of the columns.
    pub zones: Vec<Zone>,
    /// What each method's packages are let draw, as the machine states it, W.
    pub limits: Vec<(Method, Vec<f64>)>,
    /// What sources left out.
    pub notes: Vec<(Method, Note)>,
    /// Parts that could not be read.
    pub holes: Vec<(Method, Hole)>,
    /// Methods that are not there.
    pub missing: Vec<(Method, Unavailable)>,
    /// Why hardware counters of the process tree are not there.
    pub hardware_missing: Option<Unavailable>,
    /// Methods that the meter was asked for.
    pub methods: Vec<Method>,
    /// Between samples, ns; `None` where only the edges were read.
    pub interval_ns: Option<u64>,
    /// Descendants were metered, too.
    pub children: bool,
    /// How the model's watts were made, and what was wrong with what was set for it.
    pub estimation: (String, Option<String>),
    /// What the headline held, where that was asked for.
    pub definition: Option<String>,
    /// The columns of a row.
    pub columns: Vec<String>,
}

from_json!(Header {
    machine,
    at_end,
    zones,
    limits,
    notes,
    holes,
    missing,
    hardware_missing,
    methods,
    interval_ns,
    children,
    estimation,
    definition,
    columns
});

/// What a frame is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// The window began.
    Begin,
    /// A sample within it.
    #[default]
    Sample,
    /// It ended.
    End,
    /// Counters that were read once more in the frame after, because something came between.
    Again,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Begin, Self::Sample, Self::End, Self::Again];
}

const FAULTS: [ReadFault; 9] = [
    ReadFault::Vanished,
    ReadFault::Denied,
    ReadFault::Malformed,
    ReadFault::Beyond,
    ReadFault::Failed,
    ReadFault::Stale,
    ReadFault::Stopped,
    ReadFault::Waiting,
    ReadFault::Silent,
];

/// CPU time as it was counted at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Of what is metered, ns.
    pub own_ns: Option<u64>,
    /// Of it and the meter, ns.
    pub inside_ns: Option<u64>,
    /// Some may have been used before it was counted last.
    pub may_be_late: bool,
    /// When they began to be read, ns.
    pub began_ns: u64,
    /// … and were read, ns.
    pub ended_ns: u64,
    /// perf's counts of the process tree.
    pub tree: Option<TreeCount>,
}

/// What was read at one moment.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// What it is of.
    pub kind: Kind,
    /// When the counters were read, ns on `CLOCK_MONOTONIC`.
    pub t_ns: u64,
    /// At most so long before or after, ns.
    pub slack_ns: u64,
    /// For how long the machine was suspended since it booted, ns.
    pub asleep_ns: Option<u64>,
    /// When the counters of each method were read, and how far off that may be, ns; in the order of
    /// [`Layout::methods`].
    pub reads: Vec<Option<(u64, u64)>>,
    /// What each counter showed.
    pub raw: Vec<Result<u64, ReadFault>>,
    /// CPU time, where it was looked at.
    pub cpu: Option<CpuTimes>,
    /// How busy the machine was, where it was looked at.
    pub busy: Option<MachineShown>,
    /// What the limiting cgroup had counted.
    pub sandbox: Option<SandboxCount>,
    /// Resident memory of the tree, bytes.
    pub rss_bytes: Option<u64>,
    /// Its root's high-water mark, bytes.
    pub high_water_bytes: Option<u64>,
    /// What of the tree's CPU time had been missed.
    pub missed: Missed,
    /// Flows of the machine.
    pub system: Option<SystemEdge>,
    /// States of the machine.
    pub state: Option<SystemState>,
    /// Memory's traffic of a stretch that ended since the row before.
    pub traffic: Option<Stretch>,
    /// What the CPUs that had work did in a stretch that ended since the row before.
    pub work: Option<busy::Stretch>,
    /// Wall clock minus monotonic clock since the trace began, ns.
    pub drift_ns: Option<i64>,
    /// The system refused a thread to sample with.
    pub refused: bool,
}

/// Which columns a row has.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Methods that count energy here.
    pub methods: Vec<Method>,
    zones: usize,
}

impl Layout {
    /// The layout for these counters.
    pub fn of(zones: &[Zone]) -> Self {
        let counts = |method: &Method| zones.iter().any(|zone| zone.method == *method);
        Self {
            methods: Method::energy_counters()
                .map(|(method, _)| method)
                .filter(counts)
                .collect(),
            zones: zones.len(),
        }
    }

    /// An empty frame.
    pub fn frame(&self) -> Frame {
        Frame {
            reads: vec![None; self.methods.len()],
            raw: vec![Err(ReadFault::Failed); self.zones],
            ..Frame::default()
        }
    }

    /// The names of the columns.
    pub fn columns(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.frame()
            .visit(self, &mut Pass::over(What::Names(&mut names)));
        names
    }

    /// Appends a frame as a row.
    pub fn write(&self, frame: &mut Frame, rows: &mut Vec<i64>) {
        frame.visit(self, &mut Pass::over(What::Write(rows)));
    }

    /// Reads a row as a frame.
    pub fn read(&self, row: &[i64]) -> Frame {
        let mut frame = self.frame();
        frame.visit(self, &mut Pass::over(What::Read(row.iter())));
        frame
    }
}

/// One pass over the cells of a row.
struct Pass<'a> {
    what: What<'a>,
    /// Cells are of something that is not there.
    blank: bool,
}

/// What for: their names, to write them or to read them.
enum What<'a> {
    Names(&'a mut Vec<String>),
    Write(&'a mut Vec<i64>),
    Read(std::slice::Iter<'a, i64>),
}

impl<'a> Pass<'a> {
    fn over(what: What<'a>) -> Self {
        Self { what, blank: false }
    }

    fn cell(&mut self, name: fmt::Arguments<'_>, cell: &mut i64) {
        match &mut self.what {
            What::Names(names) => names.push(name.to_string()),
            What::Write(row) => row.push(if self.blank { NONE } else { *cell }),
            What::Read(row) => *cell = row.next().copied().unwrap_or(NONE),
        }
    }

    fn signed(&mut self, name: fmt::Arguments<'_>, value: &mut Option<i64>) {
        let mut cell = value.unwrap_or(NONE);
        self.cell(name, &mut cell);
        *value = (cell != NONE).then_some(cell);
    }

    fn maybe(&mut self, name: fmt::Arguments<'_>, value: &mut Option<u64>) {
        let mut cell = value.map(|v| v as i64);
        self.signed(name, &mut cell);
        *value = cell.map(|cell| cell as u64);
    }

    fn number(&mut self, name: fmt::Arguments<'_>, value: &mut u64) {
        let mut cell = Some(*value);
        self.maybe(name, &mut cell);
        *value = cell.unwrap_or(0);
    }

    fn flag(&mut self, name: fmt::Arguments<'_>, value: &mut bool) {
        let mut cell = u64::from(*value);
        self.number(name, &mut cell);
        *value = cell != 0;
    }

    /// A time, as the difference from another: that is small.
    fn near(&mut self, name: fmt::Arguments<'_>, value: &mut Option<u64>, base: u64) {
        let mut cell = value.map(|v| v.wrapping_sub(base) as i64);
        self.signed(name, &mut cell);
        *value = cell.map(|cell| base.wrapping_add(cell as u64));
    }

    fn float(&mut self, name: fmt::Arguments<'_>, value: &mut Option<f64>) {
        let mut cell = value.map(f64::to_bits);
        self.maybe(name, &mut cell);
        *value = cell.map(f64::from_bits);
    }

    /// Something that is there or not: its first cell is 1 or nothing.
    fn group<T: Default>(
        &mut self,
        name: fmt::Arguments<'_>,
        value: &mut Option<T>,
        parts: impl FnOnce(&mut Self, &mut T),
    ) {
        let mut there = value.as_ref().map(|_| 1);
        self.signed(name, &mut there);
        let mut inner = value.take().unwrap_or_default();
        let blank = self.blank;
        self.blank |= there.is_none();
        parts(self, &mut inner);
        self.blank = blank;
        *value = there.map(|_| inner);
    }
}

impl Frame {
    /// Every cell, in the order of the columns.
    fn visit(&mut self, layout: &Layout, pass: &mut Pass<'_>) {
        let mut kind = self.kind as u64;
        pass.number(format_args!("kind"), &mut kind);
        self.kind = *Kind::ALL.get(kind as usize).unwrap_or(&Kind::Sample);
        pass.number(format_args!("t_ns"), &mut self.t_ns);
        let t_ns = self.t_ns;
        pass.number(format_args!("slack_ns"), &mut self.slack_ns);
        pass.maybe(format_args!("asleep_ns"), &mut self.asleep_ns);
        for (method, read) in layout.methods.iter().zip(&mut self.reads) {
            let name = method.name();
            let (mut at, mut slack) = read.unzip();
            pass.near(format_args!("{name}.t_ns"), &mut at, t_ns);
            pass.maybe(format_args!("{name}.slack_ns"), &mut slack);
            *read = at.map(|at| (at, slack.unwrap_or(0)));
        }
        for (i, raw) in self.raw.iter_mut().enumerate() {
            let place = |fault: ReadFault| FAULTS.iter().position(|f| *f == fault);
            let mut shown = raw.ok();
            let mut fault = raw.err().and_then(place).map_or(0, |at| at as u64 + 1);
            pass.maybe(format_args!("zone.{i}.raw"), &mut shown);
            pass.number(format_args!("zone.{i}.fault"), &mut fault);
            *raw = match FAULTS.get((fault as usize).wrapping_sub(1)) {
                Some(fault) => Err(*fault),
                None => Ok(shown.unwrap_or(NONE as u64)),
            };
        }
        pass.group(format_args!("cpu"), &mut self.cpu, |pass, cpu| {
            pass.maybe(format_args!("cpu.own_ns"), &mut cpu.own_ns);
            let own_ns = cpu.own_ns.unwrap_or(0);
            pass.near(format_args!("cpu.inside_ns"), &mut cpu.inside_ns, own_ns);
            pass.flag(format_args!("cpu.may_be_late"), &mut cpu.may_be_late);
            let (mut began, mut ended) = (Some(cpu.began_ns), Some(cpu.ended_ns));
            pass.near(format_args!("cpu.began_ns"), &mut began, t_ns);
            pass.near(format_args!("cpu.ended_ns"), &mut ended, t_ns);
            (cpu.began_ns, cpu.ended_ns) = (began.unwrap_or(t_ns), ended.unwrap_or(t_ns));
            pass.group(format_args!("cpu.tree"), &mut cpu.tree, |pass, tree| {
                pass.maybe(
                    format_args!("cpu.tree.task_clock_ns"),
                    &mut tree.task_clock_ns,
                );
                pass.maybe(format_args!("cpu.tree.cycles"), &mut tree.cycles);
                pass.maybe(
                    format_args!("cpu.tree.instructions"),
                    &mut tree.instructions,
                );
            });
        });
        pass.group(format_args!("busy"), &mut self.busy, |pass, busy| {
            let (mut cpus, mut turns) = (u64::from(busy.cpus), u64::from(busy.turns));
            pass.number(format_args!("busy.cpus"), &mut cpus);
            pass.number(format_args!("busy.turns"), &mut turns);
            (busy.cpus, busy.turns) = (cpus as u32, turns as u32);
            let mut at = Some(busy.looked_at_ns);
            pass.near(format_args!("busy.looked_at_ns"), &mut at, t_ns);
            busy.looked_at_ns = at.unwrap_or(t_ns);
            // Less what there would have been with as many CPUs from the beginning.
            let base_ns = cpus.wrapping_mul(busy.looked_at_ns);
            let mut capacity = Some(busy.capacity_ns);
            pass.near(format_args!("busy.capacity_ns"), &mut capacity, base_ns);
            busy.capacity_ns = capacity.unwrap_or(0);
            pass.maybe(format_args!("busy.idle_ns"), &mut busy.idle_ns);
            pass.number(format_args!("busy.waiting_ns"), &mut busy.waiting_ns);
            pass.number(format_args!("busy.witness"), &mut busy.witness);
            pass.maybe(format_args!("busy.unknown"), &mut busy.unknown);
            pass.flag(format_args!("busy.genuine"), &mut busy.genuine);
        });
        pass.group(
            format_args!("sandbox"),
            &mut self.sandbox,
            |pass, sandbox| {
                pass.maybe(format_args!("sandbox.used_ns"), &mut sandbox.used_ns);
                pass.number(format_args!("sandbox.periods"), &mut sandbox.periods);
                pass.number(
                    format_args!("sandbox.throttled_periods"),
                    &mut sandbox.throttled_periods,
                );
                pass.number(
                    format_args!("sandbox.throttled_ns"),
                    &mut sandbox.throttled_ns,
                );
            },
        );
        pass.maybe(format_args!("rss_bytes"), &mut self.rss_bytes);
        pass.maybe(format_args!("high_water_bytes"), &mut self.high_water_bytes);
        let missed = &mut self.missed;
        pass.number(format_args!("missed.unwaited"), &mut missed.unwaited);
        pass.number(format_args!("missed.discarding"), &mut missed.discarding);
        pass.flag(format_args!("missed.root_ended"), &mut missed.root_ended);
        pass.flag(format_args!("missed.hidden"), &mut missed.hidden);
        pass.group(format_args!("system"), &mut self.system, |pass, edge| {
            pass.group(
                format_args!("system.stat"),
                &mut edge.stat,
                |pass, line: &mut StatLine| {
                    pass.number(format_args!("system.stat.user"), &mut line.user);
                    pass.number(format_args!("system.stat.system"), &mut line.system);
                    pass.number(format_args!("system.stat.idle"), &mut line.idle);
                    pass.number(format_args!("system.stat.iowait"), &mut line.iowait);
                    pass.number(format_args!("system.stat.steal"), &mut line.steal);
                },
            );
            for (name, flow) in [("disk", &mut edge.disk), ("net", &mut edge.net)] {
                pass.group(format_args!("{name}"), flow, |pass, flow: &mut InOut| {
                    pass.number(format_args!("{name}.input"), &mut flow.input);
                    pass.number(format_args!("{name}.output"), &mut flow.output);
                });
            }
        });
        pass.group(format_args!("state"), &mut self.state, |pass, state| {
            pass.group(
                format_args!("state.memory"),
                &mut state.memory,
                |pass, memory: &mut Memory| {
                    pass.number(format_args!("state.memory.total"), &mut memory.total);
                    pass.number(
                        format_args!("state.memory.available"),
                        &mut memory.available,
                    );
                },
            );
            pass.float(format_args!("state.load_1m"), &mut state.load_1m);
            pass.float(
                format_args!("state.frequency_mhz"),
                &mut state.frequency_mhz,
            );
            pass.float(
                format_args!("state.temperature_celsius"),
                &mut state.temperature_celsius,
            );
        });
        pass.group(format_args!("traffic"), &mut self.traffic, |pass, of| {
            let mut counter = of.counter as u64;
            pass.number(format_args!("traffic.counter"), &mut counter);
            of.counter = Counter::ALL
                .get(counter as usize)
                .copied()
                .unwrap_or_default();
            let (mut from, mut to) = (Some(of.from_ns), Some(of.to_ns));
            pass.near(format_args!("traffic.from_ns"), &mut from, t_ns);
            pass.near(format_args!("traffic.to_ns"), &mut to, t_ns);
            (of.from_ns, of.to_ns) = (from.unwrap_or(t_ns), to.unwrap_or(t_ns));
            pass.number(format_args!("traffic.bytes"), &mut of.bytes);
        });
        pass.group(format_args!("work"), &mut self.work, |pass, of| {
            let (mut from, mut to) = (Some(of.from_ns), Some(of.to_ns));
            pass.near(format_args!("work.from_ns"), &mut from, t_ns);
            pass.near(format_args!("work.to_ns"), &mut to, t_ns);
            (of.from_ns, of.to_ns) = (from.unwrap_or(t_ns), to.unwrap_or(t_ns));
            let (mut spread, mut threads) = (of.seen.spread, of.seen.threads);
            pass.float(format_args!("work.spread"), &mut spread);
            pass.float(format_args!("work.threads"), &mut threads);
            let clock = of.seen.clock;
            let [mut low, mut mhz, mut high] = [
                clock.map(|c| c.low),
                clock.map(|c| c.mhz),
                clock.map(|c| c.high),
            ];
            pass.float(format_args!("work.mhz"), &mut mhz);
            pass.float(format_args!("work.mhz_low"), &mut low);
            pass.float(format_args!("work.mhz_high"), &mut high);
            // A file may say anything; the model would come to as little.
            of.seen.spread = spread.filter(|part| (0.0..=1.0).contains(part));
            of.seen.threads = threads.filter(|n| (1.0..=busy::MOST_THREADS).contains(n));
            let known = |mhz: Option<f64>| mhz.filter(|mhz| is_a_clock(*mhz));
            of.seen.clock = known(mhz).map(|mhz| Clock {
                low: known(low).unwrap_or(mhz),
                mhz,
                high: known(high).unwrap_or(mhz),
            });
        });
        pass.signed(format_args!("drift_ns"), &mut self.drift_ns);
        pass.flag(format_args!("refused"), &mut self.refused);
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u128> {
    let mut value = 0u128;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u128::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A column has one value throughout.
const CONSTANT: u8 = 0;
/// A column has a code per row.
const CODES: u8 = 1;

/// The difference of `cell` from the last value of its column, as a code: 0 for none, else one more
/// than the difference, folded so that small ones of either sign are small.
fn code_of(cell: i64, last: &mut i64) -> u128 {
    if cell == NONE {
        return 0;
    }
    let difference = cell.wrapping_sub(std::mem::replace(last, cell));
    let folded = (difference << 1) ^ (difference >> 63);
    u128::from(folded as u64) + 1
}

fn cell_of(code: u128, last: &mut i64) -> Option<i64> {
    let Some(folded) = code.checked_sub(1) else {
        return Some(NONE);
    };
    let folded = u64::try_from(folded).ok()?;
    let difference = (folded >> 1) as i64 ^ -((folded & 1) as i64);
    *last = last.wrapping_add(difference);
    Some(*last)
}

/// Rows of `width` cells as the bytes of a block: their number, then column by column either one
/// code for all or one code a row, each a little-endian base-128 number.
///
/// ```
/// use lithowatt::trace::{decode, encode};
/// let rows = [5, i64::MIN, 7, i64::MIN, 9, i64::MIN];
/// assert_eq!(decode(&encode(&rows, 2), 2), Some(rows.to_vec()));
/// assert_eq!(decode(b"\xff\xff\xff", 2), None);
/// ```
pub fn encode(rows: &[i64], width: usize) -> Vec<u8> {
    let count = rows.len().checked_div(width).unwrap_or(0);
    let mut bytes = Vec::new();
    push_varint(&mut bytes, count as u128);
    for column in 0..width.min(rows.len()) {
        let cells = rows.iter().skip(column).step_by(width);
        let first = rows[column];
        let (mode, used) = match cells.clone().all(|cell| *cell == first) {
            true => (CONSTANT, 1),
            false => (CODES, count),
        };
        bytes.push(mode);
        let mut last = 0;
        for cell in cells.take(used) {
            push_varint(&mut bytes, code_of(*cell, &mut last));
        }
    }
    bytes
}

/// The rows of a block; `None` of what is no block of `width` columns.
pub fn decode(mut bytes: &[u8], width: usize) -> Option<Vec<i64>> {
    let count = usize::try_from(take_varint(&mut bytes)?).ok()?;
    if count == 0 || count > BLOCK_ROWS || width == 0 {
        return None;
    }
    let mut rows = vec![NONE; count * width];
    for column in 0..width {
        let (mode, rest) = bytes.split_first()?;
        bytes = rest;
        let mut last = 0;
        let mut cells = rows.iter_mut().skip(column).step_by(width);
        match *mode {
            CONSTANT => {
                let value = cell_of(take_varint(&mut bytes)?, &mut last)?;
                cells.for_each(|cell| *cell = value);
            }
            CODES => cells.try_for_each(|cell| {
                *cell = cell_of(take_varint(&mut bytes)?, &mut last)?;
                Some(())
            })?,
            _ => return None,
        }
    }
    bytes.is_empty().then_some(rows)
}

/// A trace that was read and found whole.
#[derive(Debug)]
pub struct Trace {
    /// What does not change within it.
    pub header: Header,
    /// The machine's facts.
    pub facts: Arc<Facts>,
    layout: Layout,
    blocks: Vec<Vec<u8>>,
    /// Where each column of the layout is in a row of the file.
    places: Vec<Option<usize>>,
    /// Rows of each block.
    counts: Vec<usize>,
    /// When its window began and ended, ns.
    pub window_ns: (u64, u64),
    /// Samples within it.
    pub samples: u64,
}

impl Trace {
    /// A trace of this header, as JSON, and these blocks.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(header: &[u8], blocks: Vec<Vec<u8>>) -> Result<Self, String> {
        let header: Header = json::read(header)?;
        let believable = |zone: &Zone| {
            zone.unit_joules.is_finite() && zone.unit_joules > 0.0 && zone.modulus != Some(0)
        };
        if header.zones.len() > MOST_ZONES || !header.zones.iter().all(believable) {
            return Err("its counters are none that a machine can have".into());
        }
        if header.columns.len() > MOST_COLUMNS {
            return Err(format!(
                "it has {} columns, more than {MOST_COLUMNS}",
                header.columns.len()
            ));
        }
        let facts = Arc::new(header.machine.facts());
        let layout = Layout::of(&header.zones);
        let place = |wanted: String| header.columns.iter().position(|of| *of == wanted);
        let places = layout.columns().into_iter().map(place).collect();
        let mut trace = Self {
            places,
            facts,
            layout,
            blocks,
            counts: Vec::new(),
            window_ns: (0, 0),
            samples: 0,
            header,
        };
        trace.check()?;
        Ok(trace)
    }

    /// Looks through all of it once.
    fn check(&mut self) -> Result<(), String> {
        let (mut begun, mut ended, mut before) = (None, None, 0);
        let (mut counts, mut samples) = (Vec::new(), 0);
        for at in 0..self.blocks.len() {
            let frames = self
                .block(at)
                .ok_or_else(|| format!("block {at} of its rows is damaged"))?;
            counts.push(frames.len());
            for frame in frames {
                let order = match frame.kind {
                    Kind::Begin => begun.replace(frame.t_ns).is_none(),
                    Kind::End => begun.is_some() && ended.replace(frame.t_ns).is_none(),
                    Kind::Sample => begun.is_some() && ended.is_none(),
                    Kind::Again => ended.is_none(),
                };
                if !order || frame.t_ns < before {
                    return Err("its rows are in no order that a window has".into());
                }
                before = frame.t_ns;
                samples += u64::from(frame.kind == Kind::Sample);
            }
        }
        let window = begun.zip(ended);
        self.window_ns = window.ok_or("it has no beginning, or no end")?;
        (self.counts, self.samples) = (counts, samples);
        Ok(())
    }

    /// The frames of one block.
    fn block(&self, at: usize) -> Option<Vec<Frame>> {
        let width = self.header.columns.len();
        let rows = decode(self.blocks.get(at)?, width)?;
        let mut row = Vec::new();
        let frames = rows.chunks_exact(width).map(|cells| {
            row.clear();
            row.extend(self.places.iter().map(|place| match place {
                Some(place) => cells[*place],
                None => NONE,
            }));
            self.layout.read(&row)
        });
        Some(frames.collect())
    }

    /// Its frames, decoded block by block.
    pub fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        (0..self.blocks.len()).flat_map(|at| self.block(at).unwrap_or_default())
    }

    /// Which columns it has.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

#[cfg(test)]
mod tests;
