//! The embedded table of processors, and what stands in for one that is not in it.

use std::sync::Mutex;

use once_cell::sync::Lazy;
use serde::Serialize;

use super::pattern::{NOISE, is_boundary, key, rows};

const CSV: &str = include_str!("cpus.csv");

const NODES_CSV: &str = include_str!("microarchitectures.csv");

/// The rows that parse; the tests of this file see to it that all of them do.
static TABLE: Lazy<Vec<CpuSpec>> =
    Lazy::new(|| rows(CSV).filter_map(|row| parse_row(row).ok()).collect());

/// By the key of its pattern's last part, where each row of the table begins; `build.rs` writes it. A
/// process that lives for one function call looks up one processor: to go through the whole table
/// would be most of its first reading, and keep the table in its memory.
static INDEX: &[(u32, u32)] = &include!(concat!(env!("OUT_DIR"), "/cpu_index.rs"));

/// Rows that [`find`] has found, by where they begin: there are few in a process.
static FOUND: Mutex<Vec<(u32, &'static CpuSpec)>> = Mutex::new(Vec::new());

/// Kind of processor, which decides the shape of its power curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// x86 server.
    Server,
    /// Arm server.
    ArmServer,
    /// Desktop.
    Desktop,
    /// Laptop or handheld.
    Laptop,
    /// Low-power x86 or Arm client of a few watts: fanless laptops, mini PCs, thin clients, routers.
    LowPower,
    /// Single-board computer; its watts are those of the board.
    SingleBoard,
}

impl Class {
    /// The name used in sources and in [`super::PowerModel::describe`].
    pub fn label(self) -> &'static str {
        match self {
            Self::Server => "server-x86_64",
            Self::ArmServer => "server-arm64",
            Self::Desktop => "desktop",
            Self::Laptop => "laptop",
            Self::LowPower => "low-power",
            Self::SingleBoard => "single-board",
        }
    }
}

/// How sure it is that a row speaks of the processor that carries the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// The name is the part's own.
    Exact,
    /// The name hides the part; the row is its most plausible one.
    Likely,
}

/// One row of the table: public facts of one processor, per socket.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CpuSpec {
    /// Name pattern: words that must follow each other in the processor's name, compared without
    /// case, trademarks and the words "CPU" and "processor". A leading `=` asks for the whole name.
    /// A version behind them (`v2`) makes another part; a Xeon's Bronze to Platinum may be left out.
    pub pattern: String,
    /// Maker.
    pub maker: String,
    /// Microarchitecture.
    pub microarchitecture: String,
    /// Kind of processor.
    pub class: Class,
    /// Year of launch.
    pub year: Option<u32>,
    /// Cores per socket.
    pub cores: Option<u32>,
    /// Threads per socket.
    pub threads: Option<u32>,
    /// Base clock (MHz), as rated; of a hybrid part that of its fastest kind of core.
    pub base_mhz: Option<f64>,
    /// Highest clock (MHz) of a single core. Equals the base clock where there is no turbo.
    #[doc(alias = "turbo")]
    pub boost_mhz: Option<f64>,
    /// Highest clock (MHz) with all cores busy, where the maker or the cloud publishes it.
    pub allcore_mhz: Option<f64>,
    /// Process node (nm) as the foundry calls it, from the microarchitecture: a generation's name,
    /// not a length. Of several dies that of the cores.
    #[doc(alias = "lithography")]
    pub node_nm: Option<f64>,
    /// Thermal design power (W) per socket.
    #[doc(alias = "TDP")]
    pub tdp_w: Option<f64>,
    /// Measured idle power (W) per socket.
    pub idle_w: Option<f64>,
    /// Measured power (W) per socket at full load.
    pub full_w: Option<f64>,
    /// Whether the name pins the part.
    pub certainty: Certainty,
    /// Where the figures come from.
    pub source: String,
}

/// Words of parts that are made for one provider's hosts and sold to nobody else.
const OF_CLOUDS: [&str; 9] = [
    "8124m", "8151", "8175m", "8171m", "8173m", "8252c", "8259cl", "8272cl", "8275cl",
];

impl CpuSpec {
    /// Whether the part is made for the hosts of one cloud provider, which keep their clock up on
    /// metal, too: six hosts of AWS by Teads Engineering are told within 9 % with a steady clock and
    /// within 22 % with one that falls.
    pub fn made_for_a_cloud(&self) -> bool {
        let name = self.pattern.trim_start_matches('=');
        let part = name.rsplit(' ').next().unwrap_or(name);
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).count();
        // EPYC 7R13, 7B12, 7V73X, 9R14: a letter within the number. EPYC 72F3 is for all.
        let epyc = name.starts_with("epyc ") && {
            let mut letters = part.chars().skip(1);
            matches!(letters.next(), Some('r' | 'b' | 'v')) && digits(part) >= 3
        };
        // Xeon Platinum 8375C, 8488C, 8370C, 6975P-C: a C behind the number.
        let xeon = name.starts_with("xeon")
            && (part.ends_with('c') && digits(part) == 4 || OF_CLOUDS.contains(&part));
        epyc || xeon
            || matches!(
                self.maker.as_str(),
                "AWS" | "Microsoft" | "Google" | "Alibaba"
            )
    }
}

/// Every processor of the table, specific names before generic ones.
///
/// ```
/// assert!(lithowatt::model::table::processors().len() >= 80);
/// ```
pub fn processors() -> &'static [CpuSpec] {
    &TABLE
}

/// The first row whose pattern the name contains.
///
/// ```
/// use lithowatt::model::table::find;
/// let row = find("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz").expect("in the table");
/// assert_eq!(row.tdp_w, Some(210.0));
/// assert!(find("Imaginary 9000").is_none());
/// ```
pub fn find(name: &str) -> Option<&'static CpuSpec> {
    let name = normalise(name);
    let mut starts: Vec<u32> = name
        .split(is_boundary)
        .chain([""])
        .flat_map(|part| starts_of(key(part)))
        .collect();
    starts.sort_unstable();
    starts.dedup();
    starts
        .into_iter()
        .filter_map(row_at)
        .find(|spec| matches(&name, &spec.pattern))
}

/// Where the rows of a key begin.
fn starts_of(key: u32) -> impl Iterator<Item = u32> {
    let first = INDEX.partition_point(|(other, _)| *other < key);
    INDEX[first..]
        .iter()
        .take_while(move |(other, _)| *other == key)
        .map(|(_, start)| *start)
}

/// The row that begins there, parsed once; `None` if it does not parse.
fn row_at(start: u32) -> Option<&'static CpuSpec> {
    let known = |found: &[(u32, &'static CpuSpec)]| {
        let row = found.iter().find(|(other, _)| *other == start);
        row.map(|(_, spec)| *spec)
    };
    // Nobody is waited for: a process that was forked meanwhile would wait for ever.
    if let Some(spec) = FOUND.try_lock().ok().and_then(|found| known(&found)) {
        return Some(spec);
    }
    let line = CSV.get(start as usize..)?.lines().next()?;
    let spec: &'static CpuSpec = Box::leak(Box::new(parse_row(line).ok()?));
    if let Ok(mut found) = FOUND.try_lock() {
        match known(&found) {
            Some(spec) => return Some(spec),
            None => found.push((start, spec)),
        }
    }
    Some(spec)
}

/// Longest name (characters) that is looked at; CPUID has room for 48.
const MAX_NAME: usize = 200;

/// Lower case, no trademarks, no "cpu" and "processor", single spaces, none around a hyphen;
/// parentheses become spaces.
pub(crate) fn normalise(name: &str) -> String {
    let lower: String = name.chars().take(MAX_NAME).collect();
    let mut lower = lower.to_lowercase();
    // Hardly a pattern of the table has one, and there are many patterns.
    if lower.contains(['(', ')', '®', '™']) {
        lower = ["(r)", "(tm)", "®", "™", "(", ")"]
            .iter()
            .fold(lower, |text, mark| text.replace(mark, " "));
    }
    let words = lower
        .split_whitespace()
        .filter(|word| !NOISE.contains(word))
        .collect::<Vec<_>>()
        .join(" ");
    // "E7- 4870" and "FX(tm)-8350" are how those processors name themselves.
    if words.contains("- ") || words.contains(" -") {
        return words.replace("- ", "-").replace(" -", "-");
    }
    words
}

/// `pattern` is normalised already (at parse time).
///
/// Intel's generations share numbers: an `E5-2650` is not an `E5-2650 v2`. And the tier of a Xeon
/// follows from its number, so that it may be left out of the name: `Xeon 8480+`.
fn matches(name: &str, pattern: &str) -> bool {
    if let Some(whole) = pattern.strip_prefix('=') {
        return name == whole;
    }
    let boundary = |c: Option<char>| c.is_none_or(is_boundary);
    let contains = |pattern: &str| {
        name.match_indices(pattern).any(|(at, found)| {
            let rest = &name[at + found.len()..];
            boundary(name[..at].chars().next_back())
                && boundary(rest.chars().next())
                && !is_version(rest)
        })
    };
    contains(pattern) || without_tier(pattern).is_some_and(|pattern| contains(&pattern))
}

/// Whether what follows a number makes it a later generation's: " v2 @ 2.60ghz".
fn is_version(rest: &str) -> bool {
    rest.strip_prefix(" v").is_some_and(|rest| {
        let mut chars = rest.chars();
        chars.next().is_some_and(|c| c.is_ascii_digit())
            && chars.next().is_none_or(|c| c.is_whitespace())
    })
}

/// "xeon platinum 8480+" as "xeon 8480+".
fn without_tier(pattern: &str) -> Option<String> {
    let rest = pattern.strip_prefix("xeon ")?;
    let number = ["platinum ", "gold ", "silver ", "bronze "]
        .iter()
        .find_map(|tier| rest.strip_prefix(tier))?;
    Some(format!("xeon {number}"))
}

/// A slug such as `xeon-platinum-8259cl` for the method's name.
pub(crate) fn slug(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in normalise(name).chars() {
        if c.is_ascii_alphanumeric() || c == '.' {
            out.push(c);
        } else if c == '+' {
            out.push_str("plus");
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    out.trim_end_matches('-').to_owned()
}

/// A number that is there must be one: a slip of the pen is an error, not an unknown.
fn number<T: std::str::FromStr + PartialOrd + std::default::Default>(
    column: &str,
    text: &str,
) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<T>() {
        Ok(value) if value > T::default() => Ok(Some(value)),
        _ => Err(format!("{column} is not a positive number: {text:?}")),
    }
}

fn parse_row(line: &str) -> Result<CpuSpec, String> {
    let fields: Vec<&str> = line.splitn(15, ',').map(str::trim).collect();
    let [
        pattern,
        maker,
        microarchitecture,
        class,
        year,
        cores,
        threads,
        base_mhz,
        boost_mhz,
        allcore_mhz,
        tdp_w,
        idle_w,
        full_w,
        certainty,
        source,
    ] = fields[..]
    else {
        return Err(format!("{} fields, not 15", fields.len()));
    };
    let pattern = match pattern.strip_prefix('=') {
        Some(whole) => format!("={}", normalise(whole)),
        None => normalise(pattern),
    };
    if pattern.trim_start_matches('=').is_empty() || maker.is_empty() || source.is_empty() {
        return Err("pattern, maker and source must be there".to_owned());
    }
    let class = match class {
        "server" => Class::Server,
        "arm-server" => Class::ArmServer,
        "desktop" => Class::Desktop,
        "laptop" => Class::Laptop,
        "low-power" => Class::LowPower,
        "single-board" => Class::SingleBoard,
        other => return Err(format!("unknown class {other:?}")),
    };
    let certainty = match certainty {
        "exact" => Certainty::Exact,
        "likely" => Certainty::Likely,
        other => return Err(format!("unknown certainty {other:?}")),
    };
    Ok(CpuSpec {
        pattern,
        maker: maker.to_owned(),
        microarchitecture: microarchitecture.to_owned(),
        class,
        year: number("year", year)?,
        cores: number("cores", cores)?,
        threads: number("threads", threads)?,
        base_mhz: number("base_mhz", base_mhz)?,
        boost_mhz: number("boost_mhz", boost_mhz)?,
        allcore_mhz: number("allcore_mhz", allcore_mhz)?,
        node_nm: node_nm(microarchitecture),
        tdp_w: number("tdp_w", tdp_w)?,
        idle_w: number("idle_w", idle_w)?,
        full_w: number("full_w", full_w)?,
        certainty,
        source: source.to_owned(),
    })
}

/// One row of `microarchitectures.csv`.
struct Node {
    microarchitecture: &'static str,
    node_nm: Option<f64>,
}

fn node_nm(microarchitecture: &str) -> Option<f64> {
    if microarchitecture.is_empty() {
        return None;
    }
    rows(NODES_CSV)
        .filter(|row| row.starts_with(microarchitecture))
        .filter_map(|row| parse_node(row).ok())
        .find(|node| node.microarchitecture == microarchitecture)?
        .node_nm
}

fn parse_node(line: &'static str) -> Result<Node, String> {
    let fields: Vec<&str> = line.splitn(3, ',').map(str::trim).collect();
    let [microarchitecture, node_nm, source] = fields[..] else {
        return Err(format!("{} fields, not 3", fields.len()));
    };
    if microarchitecture.is_empty() || source.len() < 10 {
        return Err("microarchitecture and source must be there".to_owned());
    }
    Ok(Node {
        microarchitecture,
        node_nm: number("node_nm", node_nm)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_parses() {
        for row in rows(CSV) {
            if let Err(error) = parse_row(row) {
                panic!("{error}: {row}");
            }
        }
        for row in rows(NODES_CSV) {
            if let Err(error) = parse_node(row) {
                panic!("{error}: {row}");
            }
        }
        assert_eq!(processors().len(), rows(CSV).count());
    }

    #[test]
    fn a_look_at_one_row_finds_what_a_look_at_all_finds() {
        let names = processors()
            .iter()
            .map(|row| row.pattern.trim_start_matches('=').to_owned())
            .chain(processors().iter().map(|row| {
                format!(
                    "{}(R) {} CPU @ 2.00GHz",
                    row.maker,
                    row.pattern.to_uppercase()
                )
            }))
            .chain(["", "Imaginary 9000", "(R)", "AMD EPYC", "é ®"].map(str::to_owned));
        // An unoptimised build takes a second for every one of them.
        for name in names.step_by(7) {
            let normal = normalise(&name);
            let slow = processors()
                .iter()
                .find(|row| matches(&normal, &row.pattern));
            assert_eq!(find(&name), slow, "{name}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_an_error() {
        let good = "X 1,Intel,Skylake,server,2017,4,8,2000,3000,,80,,,exact,a page";
        assert!(parse_row(good).is_ok());
        for (from, to) in [
            ("2000", "2.0GHz"),
            ("2017", "20l7"),
            (",80,", ",-80,"),
            (",80,", ",NaN,"),
            (",80,", ",0,"),
            ("exact", "sure"),
            ("server", "mainframe"),
            (",,exact", ",exact"),
            ("a page", ""),
            ("X 1", "CPU"),
        ] {
            assert!(parse_row(&good.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn patterns_are_unique_and_clocks_plausible() {
        let mut seen = BTreeSet::new();
        for row in processors() {
            assert!(seen.insert(&row.pattern), "twice: {}", row.pattern);
            for mhz in [row.base_mhz, row.boost_mhz, row.allcore_mhz]
                .into_iter()
                .flatten()
            {
                assert!((600.0..=6300.0).contains(&mhz), "{row:?}");
            }
            if let (Some(base), Some(boost)) = (row.base_mhz, row.boost_mhz) {
                assert!(base <= boost && boost <= 4.5 * base, "{row:?}");
            }
            if let (Some(allcore), Some(boost)) = (row.allcore_mhz, row.boost_mhz) {
                assert!(allcore <= boost, "{row:?}");
            }
            if let (Some(base), Some(allcore)) = (row.base_mhz, row.allcore_mhz) {
                assert!(base <= allcore, "{row:?}");
            }
        }
    }

    #[test]
    fn every_microarchitecture_is_in_its_table_once() {
        let mut seen = BTreeSet::new();
        for node in rows(NODES_CSV).filter_map(|row| parse_node(row).ok()) {
            assert!(
                seen.insert(node.microarchitecture),
                "{}",
                node.microarchitecture
            );
            if let Some(nm) = node.node_nm {
                assert!((2.0..=65.0).contains(&nm), "{}", node.microarchitecture);
            }
        }
        for row in processors() {
            assert!(
                row.microarchitecture.is_empty() || seen.contains(row.microarchitecture.as_str()),
                "{row:?}"
            );
        }
    }
}
