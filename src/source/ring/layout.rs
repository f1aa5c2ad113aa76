//! The ring's layout, version 1: pure functions between words and values.
//!
//! Everything is a 64-bit little-endian word, so the file reads the same in every language. Each
//! block ends with a [`checksum`] over its words: a block that is read while it is written, cut
//! short or forged by accident is known by it, in whatever order the bytes arrived.
//! `docs/how-to/agent.md` has the table.

use serde::Serialize;

use crate::source::{Domain, Method, Zone};

/// First word of the file: `LITHOWAT`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"LITHOWAT");

/// The version that this code writes, and the only one it reads.
pub const LAYOUT: u64 = 1;

/// Words of the header, its checksum included.
pub const HEADER_WORDS: usize = 512;
/// Where the head is, bytes from the start.
pub const HEAD_AT: u64 = 4096;
/// Words of the head.
pub const HEAD_WORDS: usize = 8;
/// Where the account of the machine is.
pub const ACCOUNT_AT: u64 = 4096 + 512;
/// Words of the account.
pub const ACCOUNT_WORDS: usize = 16;
/// Where the zones' idle powers are.
pub const IDLE_AT: u64 = 4096 + 1024;
/// Words of them: one per zone, and the checksum.
pub const IDLE_WORDS: usize = MOST_ZONES + 1;
/// Where the samples begin.
pub const SAMPLES_AT: u64 = 8192;
/// Words of a group's row.
pub const GROUP_WORDS: usize = 8;
/// Words of a sample before its zones.
pub const SAMPLE_WORDS: usize = 7;
/// Most zones that a header holds.
pub const MOST_ZONES: usize = 56;
/// Most samples and most groups that a reader believes in.
pub const MOST_SLOTS: u64 = 1 << 20;
/// A word that means "unknown".
pub const UNKNOWN: u64 = u64::MAX;

const ZONES_AT: usize = 32;
const ZONE_WORDS: usize = 8;

/// Bytes of a word.
pub const WORD: usize = 8;

/// FNV-1a over words instead of bytes. (Fowler, Noll, Vo; the 64-bit parameters.)
///
/// ```
/// use lithowatt::source::ring::layout::checksum;
/// assert_ne!(checksum(&[]), 0);
/// assert_ne!(checksum(&[1, 2]), checksum(&[2, 1]));
/// ```
pub fn checksum(words: &[u64]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Puts the checksum into the last word.
pub fn seal(words: &mut [u64]) {
    if let Some((last, rest)) = words.split_last_mut() {
        *last = checksum(rest);
    }
}

/// Whether the last word is the checksum of those before it.
pub fn sealed(words: &[u64]) -> bool {
    words
        .split_last()
        .is_some_and(|(last, rest)| *last == checksum(rest))
}

/// Words as bytes.
pub fn to_bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Bytes as words; what is left over at the end is not looked at.
pub fn to_words(bytes: &[u8], words: &mut [u64]) {
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(WORD)) {
        let mut eight = [0; WORD];
        eight.copy_from_slice(chunk);
        *word = u64::from_le_bytes(eight);
    }
}

fn put_text(words: &mut [u64], text: &str) {
    let room = words.len() * WORD;
    let mut cut = text.len().min(room);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut bytes = text.as_bytes()[..cut].to_vec();
    bytes.resize(room, 0);
    to_words(&bytes, words);
}

/// Text of a foreign file: printable or nothing.
fn get_text(words: &[u64]) -> Option<String> {
    let bytes = to_bytes(words);
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    text.chars()
        .all(|c| !c.is_control())
        .then(|| text.to_owned())
}

/// What is written once, when a ring is made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Header {
    /// Unlike that of any other ring.
    pub generation: u64,
    /// The same as that of the ring before where the totals go on from it.
    pub lineage: u64,
    /// The kernel's id of this boot.
    pub boot_id: [u64; 2],
    /// Time between samples, ns: what every reader gets at most.
    pub period_ns: u64,
    /// Totals are multiples of this, µJ.
    pub quantum_uj: u64,
    /// A heartbeat older than this is stale, ns.
    pub stale_ns: u64,
    /// Time between two rounds of the groups, ns.
    pub round_ns: u64,
    /// Logical CPUs of the machine.
    pub cpus: u32,
    /// The cgroup hierarchy whose ids are in the groups: 1 (cpuacct), 2 (unified), 0 for none.
    pub cgroup_version: u32,
    /// Samples that are kept.
    pub slots: u64,
    /// Rows for groups.
    pub groups: u64,
    /// Name of the node, or nothing.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// The zones, in the order of a sample's totals, in units of 1 µJ and without a modulus.
    pub zones: Vec<Zone>,
}

impl Header {
    /// Words of a sample.
    pub fn sample_words(&self) -> usize {
        SAMPLE_WORDS + self.zones.len() + 1
    }

    /// Where sample `number` (from 1) is.
    pub fn sample_at(&self, number: u64) -> u64 {
        let slot = (number.max(1) - 1) % self.slots.max(1);
        SAMPLES_AT + slot * (self.sample_words() * WORD) as u64
    }

    /// Where the groups begin.
    pub fn groups_at(&self) -> u64 {
        SAMPLES_AT + self.slots * (self.sample_words() * WORD) as u64
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.groups_at() + self.groups * (GROUP_WORDS * WORD) as u64
    }

    /// As words.
    pub fn encode(&self) -> Vec<u64> {
        let mut words = vec![0; HEADER_WORDS];
        let fixed = [
            MAGIC,
            LAYOUT,
            self.file_bytes(),
            self.generation,
            self.lineage,
            self.boot_id[0],
            self.boot_id[1],
            self.period_ns,
            self.quantum_uj,
            self.stale_ns,
            self.round_ns,
            u64::from(self.cpus),
            u64::from(self.cgroup_version),
            self.zones.len() as u64,
            self.slots,
            self.sample_words() as u64,
            self.groups,
            SAMPLES_AT,
            self.groups_at(),
        ];
        words[..fixed.len()].copy_from_slice(&fixed);
        put_text(&mut words[20..28], &self.node);
        put_text(&mut words[28..32], &self.version);
        for (i, zone) in self.zones.iter().enumerate().take(MOST_ZONES) {
            let at = ZONES_AT + i * ZONE_WORDS;
            words[at] = (zone.method as u64)
                | ((zone.domain as u64) << 8)
                | (u64::from(zone.package) << 32);
            put_text(&mut words[at + 1..at + ZONE_WORDS], &zone.name);
        }
        seal(&mut words);
        words
    }

    /// From words that anybody may have written.
    ///
    /// # Errors
    /// What is wrong with them, in words for the user.
    pub fn decode(words: &[u64]) -> Result<Self, String> {
        if words.len() != HEADER_WORDS || words[0] != MAGIC {
            return Err("it is no ring: its first bytes are not LITHOWAT".into());
        }
        if words[1] != LAYOUT {
            return Err(format!(
                "its layout is version {}, and this reader knows version {LAYOUT}: agent and \
                 reader must be of the same kind",
                words[1]
            ));
        }
        if !sealed(words) {
            return Err("its header is damaged: the checksum is another".into());
        }
        let count = |word: u64, most: u64, what: &str| {
            (word <= most)
                .then_some(word)
                .ok_or_else(|| format!("its header holds {word} {what}"))
        };
        let zone_count = count(words[13], MOST_ZONES as u64, "zones")? as usize;
        let mut zones = Vec::with_capacity(zone_count);
        for i in 0..zone_count {
            let at = ZONES_AT + i * ZONE_WORDS;
            zones.push(zone_of(&words[at..at + ZONE_WORDS]).ok_or("a zone in it is not known")?);
        }
        if zones.is_empty() {
            return Err("it has no energy counter".into());
        }
        let year_ns = 366 * 86_400 * 1_000_000_000;
        let header = Self {
            generation: words[3],
            lineage: words[4],
            boot_id: [words[5], words[6]],
            period_ns: count(words[7], year_ns, "ns between samples")?,
            quantum_uj: count(words[8], 1_000_000_000, "µJ as resolution")?.max(1),
            stale_ns: count(words[9], year_ns, "ns until it is stale")?,
            round_ns: count(words[10], year_ns, "ns between rounds")?,
            cpus: count(words[11], 1 << 20, "CPUs")? as u32,
            cgroup_version: count(words[12], 2, "as cgroup version")? as u32,
            slots: count(words[14], MOST_SLOTS, "samples")?,
            groups: count(words[16], MOST_SLOTS, "groups")?,
            node: get_text(&words[20..28]).ok_or("the node's name in it is no text")?,
            version: get_text(&words[28..32]).ok_or("the agent's version in it is no text")?,
            zones,
        };
        if header.period_ns == 0 || header.cpus == 0 || header.slots < 2 {
            return Err("its header counts no time, no CPU or no samples".into());
        }
        let derived = [
            header.file_bytes(),
            header.sample_words() as u64,
            SAMPLES_AT,
            header.groups_at(),
        ];
        if [words[2], words[15], words[17], words[18]] != derived {
            return Err("sizes in its header contradict each other".into());
        }
        Ok(header)
    }
}

fn zone_of(words: &[u64]) -> Option<Zone> {
    let method = Method::ALL
        .iter()
        .copied()
        .find(|m| *m as u64 == words[0] & 0xff)
        .filter(|method| method.energy_counter().is_some())?;
    let domain = Domain::ALL
        .into_iter()
        .find(|d| *d as u64 == (words[0] >> 8) & 0xff)?;
    Some(Zone {
        method,
        domain,
        package: (words[0] >> 32) as u32,
        name: get_text(&words[1..])?,
        unit_joules: 1e-6,
        modulus: None,
    })
}

/// What changes with every sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Samples so far: the newest one's number.
    pub count: u64,
    /// When the agent was last alive, ns on the host's `CLOCK_MONOTONIC`.
    pub heartbeat_ns: u64,
    /// The agent went away in good order.
    pub closed: bool,
    /// The ring's generation again.
    pub generation: u64,
}

impl Head {
    /// As words.
    pub fn encode(self) -> [u64; HEAD_WORDS] {
        let mut words = [0; HEAD_WORDS];
        words[0] = self.count;
        words[1] = self.heartbeat_ns;
        words[2] = 1 + u64::from(self.closed);
        words[3] = self.generation;
        seal(&mut words);
        words
    }

    /// From words; `None` where they do not belong together.
    pub fn decode(words: &[u64]) -> Option<Self> {
        (words.len() == HEAD_WORDS && sealed(words) && matches!(words[2], 1 | 2)).then(|| Self {
            count: words[0],
            heartbeat_ns: words[1],
            closed: words[2] == 2,
            generation: words[3],
        })
    }
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Its number, from 1.
    pub number: u64,
    /// When, ns on the host's `CLOCK_MONOTONIC`.
    pub t_ns: u64,
    /// CPU time that nobody used since boot, all CPUs, ns: read less often than the counters, and
    /// carried on by whoever wants it now.
    pub idle_ns: Option<u64>,
    /// When it was read, ns.
    pub idle_t_ns: u64,
    /// How fast it grew lately, ns a second.
    pub idle_rate: u64,
    /// Zones that could not be read, one bit each.
    pub faults: u64,
    /// Times that any counter was reset.
    pub resets: u64,
    /// Energy by zone, µJ, a multiple of the quantum.
    pub totals: Vec<u64>,
}

impl Sample {
    /// Its idle time carried on to `t_ns`, ns.
    pub fn idle_at(&self, t_ns: u64) -> Option<u64> {
        let ahead = t_ns.saturating_sub(self.idle_t_ns);
        let more = u128::from(self.idle_rate) * u128::from(ahead) / 1_000_000_000;
        Some(
            self.idle_ns?
                .saturating_add(u64::try_from(more).unwrap_or(u64::MAX)),
        )
    }

    /// Writes it into `words`.
    pub fn encode(&self, words: &mut Vec<u64>) {
        words.clear();
        words.extend([
            self.number,
            self.t_ns,
            self.idle_ns.unwrap_or(UNKNOWN),
            self.idle_t_ns,
            self.idle_rate,
            self.faults,
            self.resets,
        ]);
        words.extend(&self.totals);
        words.push(0);
        seal(words);
    }

    /// Reads sample `number` from `words`; `false` where they are not that sample.
    pub fn decode(&mut self, words: &[u64], number: u64) -> bool {
        if words.len() <= SAMPLE_WORDS || words[0] != number || !sealed(words) {
            return false;
        }
        self.number = number;
        self.t_ns = words[1];
        self.idle_ns = Some(words[2]).filter(|ns| *ns != UNKNOWN);
        self.idle_t_ns = words[3];
        self.idle_rate = words[4];
        self.faults = words[5];
        self.resets = words[6];
        self.totals.clear();
        self.totals
            .extend_from_slice(&words[SAMPLE_WORDS..words.len() - 1]);
        true
    }
}

/// The machine's energy since the lineage began, divided.
///
/// `idle + rest + gone + Σ counted groups == machine`, to the µJ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Account {
    /// Number of the round.
    pub round: u64,
    /// When it ended, ns.
    pub t_ns: u64,
    /// Packages and DRAM, µJ.
    pub machine_uj: u64,
    /// What the machine would have used at rest, µJ.
    pub idle_uj: u64,
    /// Above idle, by whatever is in no group, µJ.
    pub rest_uj: u64,
    /// Above idle, by groups that are no more, µJ.
    pub gone_uj: u64,
    /// Rows that follow.
    pub rows: u64,
    /// Where idle power is from: 0 unknown, 1 learned, 2 calibrated, 3 configured, 4 modelled.
    pub idle_source: u64,
    /// CPU time that was used, all CPUs, ns.
    pub busy_ns: u64,
    /// The counters' sum when the lineage began, µJ.
    pub base_uj: u64,
    /// Idle time since boot at the round's end, all CPUs, ns.
    pub idle_ns: Option<u64>,
}

impl Account {
    /// As words.
    pub fn encode(self) -> [u64; ACCOUNT_WORDS] {
        let mut words = [0; ACCOUNT_WORDS];
        words[..11].copy_from_slice(&[
            self.round,
            self.t_ns,
            self.machine_uj,
            self.idle_uj,
            self.rest_uj,
            self.gone_uj,
            self.rows,
            self.idle_source,
            self.busy_ns,
            self.base_uj,
            self.idle_ns.unwrap_or(UNKNOWN),
        ]);
        seal(&mut words);
        words
    }

    /// From words; `None` where they do not belong together.
    pub fn decode(words: &[u64]) -> Option<Self> {
        (words.len() == ACCOUNT_WORDS && sealed(words)).then(|| Self {
            round: words[0],
            t_ns: words[1],
            machine_uj: words[2],
            idle_uj: words[3],
            rest_uj: words[4],
            gone_uj: words[5],
            rows: words[6],
            idle_source: words[7],
            busy_ns: words[8],
            base_uj: words[9],
            idle_ns: Some(words[10]).filter(|ns| *ns != UNKNOWN),
        })
    }
}

/// What a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One container.
    Container,
    /// A Kubernetes pod: its containers and its sandbox.
    Pod,
}

/// One cgroup's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GroupRow {
    /// The round that wrote it.
    pub round: u64,
    /// The cgroup's id: its directory's inode.
    pub id: u64,
    /// The pod's id for a container in a pod, else 0.
    pub parent: u64,
    /// What it is.
    pub kind: Kind,
    /// It is in no other group, so it counts in the sum.
    pub counted: bool,
    /// CPU time of everything in it since it was made, ns.
    pub cpu_ns: u64,
    /// Energy above idle since the agent knows it, µJ.
    pub active_uj: u64,
    /// Since when the agent knows it, ns.
    pub since_ns: u64,
}

impl GroupRow {
    /// As words.
    pub fn encode(self) -> [u64; GROUP_WORDS] {
        let kind = match self.kind {
            Kind::Container => 1,
            Kind::Pod => 2,
        };
        let mut words = [
            self.round,
            self.id,
            self.parent,
            kind | (u64::from(self.counted) << 8),
            self.cpu_ns,
            self.active_uj,
            self.since_ns,
            0,
        ];
        seal(&mut words);
        words
    }

    /// From words; `None` where they do not belong together.
    pub fn decode(words: &[u64]) -> Option<Self> {
        if words.len() != GROUP_WORDS || !sealed(words) {
            return None;
        }
        let kind = match words[3] & 0xff {
            1 => Kind::Container,
            2 => Kind::Pod,
            _ => return None,
        };
        Some(Self {
            round: words[0],
            id: words[1],
            parent: words[2],
            kind,
            counted: words[3] >> 8 == 1,
            cpu_ns: words[4],
            active_uj: words[5],
            since_ns: words[6],
        })
    }
}

/// The id of this boot, below `root`; `None` where it is not shown.
pub fn boot_id(root: &std::path::Path) -> Option<[u64; 2]> {
    let text =
        crate::source::plain::kernel_text(&root.join("proc/sys/kernel/random/boot_id")).ok()?;
    boot_id_of(&text)
}

/// ```
/// use lithowatt::source::ring::layout::boot_id_of;
/// let id = boot_id_of("00000000-0000-0001-0000-00000000000a\n").unwrap();
/// assert_eq!(id, [1, 10]);
/// assert_eq!(boot_id_of("none"), None);
/// ```
pub fn boot_id_of(text: &str) -> Option<[u64; 2]> {
    let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
    (hex.len() == 32 && hex.is_ascii()).then_some(())?;
    Some([
        u64::from_str_radix(&hex[..16], 16).ok()?,
        u64::from_str_radix(&hex[16..], 16).ok()?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn header() -> Header {
        let zone = |domain, name: &str| Zone {
            method: Method::Rapl,
            domain,
            package: 1,
            name: name.into(),
            unit_joules: 1e-6,
            modulus: None,
        };
        Header {
            generation: 7,
            lineage: 5,
            boot_id: [1, 2],
            period_ns: 10_000_000,
            quantum_uj: 1000,
            stale_ns: 1_000_000_000,
            round_ns: 500_000_000,
            cpus: 2,
            cgroup_version: 2,
            slots: 8,
            groups: 4,
            node: "nöde-1".into(),
            version: "0.1.0".into(),
            zones: vec![
                zone(Domain::Package, "package-1"),
                zone(Domain::Dram, "package-1/dram"),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let header = header();
        assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        let sample = Sample {
            number: 9,
            t_ns: 10,
            idle_ns: None,
            idle_t_ns: 9,
            idle_rate: 8,
            faults: 2,
            resets: 0,
            totals: vec![3000, 4000],
        };
        let mut words = Vec::new();
        sample.encode(&mut words);
        assert_eq!(words.len(), header.sample_words());
        let mut back = Sample::default();
        assert!(back.decode(&words, 9) && back == sample);
        assert!(!back.decode(&words, 8));
        let row = GroupRow {
            round: 3,
            id: 4,
            parent: 5,
            kind: Kind::Pod,
            counted: true,
            cpu_ns: 6,
            active_uj: 7,
            since_ns: 8,
        };
        assert_eq!(GroupRow::decode(&row.encode()), Some(row));
    }

    #[test]
    fn no_change_of_a_word_goes_unseen() {
        let good = header().encode();
        for i in 0..HEADER_WORDS {
            for flip in [1, 1 << 40, u64::MAX] {
                let mut bad = good.clone();
                bad[i] ^= flip;
                assert!(Header::decode(&bad).is_err(), "word {i}");
            }
        }
    }

    #[test]
    fn a_sealed_header_that_lies_is_refused() {
        for (word, value) in [
            (1, 2),
            (2, 1 << 50),
            (7, 0),
            (11, 0),
            (13, 0),
            (13, 99),
            (14, 1),
            (14, u64::MAX),
            (15, 3),
            (16, u64::MAX),
            (17, 0),
            (18, 0),
            (32, 0xff),
            (33, u64::MAX),
        ] {
            let mut bad = header().encode();
            bad[word] = value;
            seal(&mut bad);
            assert!(Header::decode(&bad).is_err(), "word {word} = {value}");
        }
    }

    #[test]
    fn a_torn_sample_is_known_whatever_its_order() {
        let sample = |number: u64, total: u64| {
            let mut words = Vec::new();
            Sample {
                number,
                t_ns: number,
                idle_ns: Some(number),
                totals: vec![total, total],
                ..Sample::default()
            }
            .encode(&mut words);
            words
        };
        let (old, new) = (sample(1, 1000), sample(9, 9000));
        let mut seen = Sample::default();
        for mask in 1u32..(1 << old.len()) - 1 {
            let mixed: Vec<u64> = (0..old.len())
                .map(|i| if mask >> i & 1 == 1 { new[i] } else { old[i] })
                .collect();
            if mixed != old && mixed != new {
                assert!(!seen.decode(&mixed, 1) && !seen.decode(&mixed, 9));
            }
        }
    }
}
