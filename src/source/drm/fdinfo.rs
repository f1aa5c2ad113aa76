//! What does /proc/PID/fdinfo say of a client of a GPU's driver? Text to numbers; no file is read here.
//!
//! The keys are those of the kernel's Documentation/gpu/drm-usage-stats.rst.

use std::collections::BTreeMap;

/// How long a client kept the engines of one name busy, since it opened the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Engine {
    /// ns, or cycles of the device's timestamp.
    pub busy: u64,
    /// It is in cycles.
    pub in_cycles: bool,
    /// So many engines have this name.
    pub capacity: u32,
}

/// One open file of a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fdinfo {
    /// The driver's name; `None` where it shows nothing.
    pub driver: Option<String>,
    /// The device's place on the PCI bus.
    pub slot: Option<String>,
    /// The same for all files of a client, and on this device for nobody else.
    pub client: Option<u64>,
    /// By their names.
    pub engines: BTreeMap<String, Engine>,
    /// The device's timestamp, cycles.
    pub timestamp: Option<u64>,
}

impl Fdinfo {
    /// Reads the text of a file. Lines of other meaning are passed over.
    ///
    /// ```
    /// use lithowatt::source::drm::Fdinfo;
    /// let shown = Fdinfo::parse(
    ///     "pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t7\ndrm-pdev:\t0000:03:00.0\n\
    ///      drm-engine-gfx:\t5000 ns\ndrm-engine-capacity-gfx:\t2\n",
    /// );
    /// assert_eq!(shown.slot.as_deref(), Some("0000:03:00.0"));
    /// assert_eq!((shown.client, shown.engines["gfx"].busy), (Some(7), 5000));
    /// ```
    pub fn parse(text: &str) -> Self {
        let mut shown = Self::default();
        let mut cycles: BTreeMap<&str, u64> = BTreeMap::new();
        let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
        let mut capacities: BTreeMap<&str, u32> = BTreeMap::new();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            let number = || value.split_ascii_whitespace().next()?.parse().ok();
            if key == "drm-driver" {
                shown.driver = Some(value.to_owned());
            } else if key == "drm-pdev" {
                shown.slot = Some(value.to_ascii_lowercase());
            } else if key == "drm-client-id" {
                shown.client = number();
            } else if let Some(name) = key.strip_prefix("drm-engine-capacity-") {
                capacities.extend(number().and_then(|n| Some((name, u32::try_from(n).ok()?))));
            } else if let Some(name) = key.strip_prefix("drm-engine-") {
                // amdgpu gives two kinds of decoders one name.
                if let Some(ns) = number() {
                    let engine = shown.engines.entry(name.to_owned()).or_default();
                    engine.busy = engine.busy.saturating_add(ns);
                }
            } else if let Some(name) = key.strip_prefix("drm-total-cycles-") {
                totals.extend(number().map(|n| (name, n)));
            } else if let Some(name) = key.strip_prefix("drm-cycles-") {
                cycles.extend(number().map(|n| (name, n)));
            }
        }
        // Cycles of an engine's own clock say nothing of time.
        for (name, busy) in cycles {
            if totals.contains_key(name) && !shown.engines.contains_key(name) {
                let engine = shown.engines.entry(name.to_owned()).or_default();
                (engine.busy, engine.in_cycles) = (busy, true);
            }
        }
        for (name, engine) in &mut shown.engines {
            engine.capacity = capacities.get(name.as_str()).copied().unwrap_or(1).max(1);
        }
        shown.timestamp = totals.into_values().max();
        shown
    }

    /// Whether it says how busy its client kept the engines.
    pub fn tells(&self) -> bool {
        // amdgpu leaves out the engines that the client has not used.
        self.driver.as_deref() == Some("amdgpu") || !self.engines.is_empty()
    }
}

/// Whether an engine only copies: `dma` (amdgpu), `copy` (i915), `bcs` (xe).
pub(super) fn only_copies(engine: &str) -> bool {
    matches!(engine, "dma" | "copy" | "bcs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_taken_where_the_timestamp_is_told_with_them() {
        let shown = Fdinfo::parse(
            "drm-driver:\txe\ndrm-client-id:\t3\ndrm-pdev:\t0000:05:00.0\n\
             drm-cycles-rcs:\t28257900\ndrm-total-cycles-rcs:\t7655183225\n\
             drm-cycles-ccs: 0\ndrm-total-cycles-ccs:\t7655183225\ndrm-engine-capacity-ccs:\t4\n\
             drm-cycles-other:\t17\n",
        );
        assert_eq!(shown.timestamp, Some(7_655_183_225));
        let engine = |busy, capacity| Engine {
            busy,
            in_cycles: true,
            capacity,
        };
        assert_eq!(shown.engines["rcs"], engine(28_257_900, 1));
        assert_eq!(shown.engines["ccs"], engine(0, 4));
        assert_eq!(shown.engines.len(), 2);
        assert!(shown.tells());
    }

    #[test]
    fn a_driver_that_shows_no_engine_tells_nothing_and_amdgpu_leaves_out_unused_ones() {
        for text in ["pos:\t0\nflags:\t02\n", "drm-driver:\tnouveau\n", "", ":\n"] {
            assert!(!Fdinfo::parse(text).tells(), "{text}");
        }
        assert!(Fdinfo::parse("drm-driver:\tamdgpu\ndrm-memory-vram: 8 KiB\n").tells());
        // The format of Linux 5.14 to 5.18.
        let old = "pdev:\t0000:03:00.0\npasid:\t32769\ngfx0:\t12.00%\n";
        assert!(!Fdinfo::parse(old).tells());
    }
}
