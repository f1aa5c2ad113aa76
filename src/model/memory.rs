//! Power of memory: what it takes at rest, by its modules and size, and what traffic adds.
//!
//! No counter shows it on most machines, and a counter that does shows other watts than the
//! modules take (`docs/measurement.md`). The answer comes from the few machines whose memory was
//! measured, at rest and with all CPUs busy with memory kernels, by size between them; with a band
//! that holds nine of ten rows of those.

use super::{RawPower, at_least_zero};

/// Memory (GiB) of a machine, its power (W) at rest and with all CPUs at work, by what was measured:
///
/// - 32 GiB: two 16 GB modules of two E5-2650 v4, 2.2 W at rest and 9.1 W at most (DRAM RAPL, which current-sense
///   risers confirm within a third; Alt et al., ICPE 2024);
/// - 179 and 358 GiB: six AWS metal hosts by turbostat, 37 to 60 W at rest, 169 to 384 W at full load
///   (Teads Engineering). At rest the counters of these parts show up to twice what modules take (12 of 0.9 to
///   1.9 W), so the values are between the two;
/// - 2015 GiB: four E5-4669 v4, 123 W at rest; full load as of 358 GiB times the same ratio.
///
/// The smallest is one module of 8 GiB as of 32 GiB.
const MEASURED: [(f64, f64, f64); 5] = [
    (8.0, 0.9, 2.4),
    (32.0, 2.2, 9.0),
    (179.0, 28.0, 187.0),
    (358.0, 45.0, 293.0),
    (2015.0, 110.0, 490.0),
];

/// Power (W) of one module at rest, by current-sense risers and machines with many modules: 0.9 to 1.9.
const MODULE_REST_W: f64 = 1.4;

/// vCPUs of the host of a guest, which does not see it: the commonest number of AWS hosts.
const HOST_VCPUS: f64 = 96.0;

/// Its memory (GiB) by the vCPU, as a guest's own, which is sold in proportion: from hosts for much computing (AWS c)
/// over the commonest (m) to those for much memory (r).
///
/// At full load the first take 1.7 W a vCPU more than at rest by [`MEASURED`], the second 2.6 and the last 3.1; the
/// six that were measured take 1.8 (2 GiB and 2.5), 2.0, 2.8 and 3.4 (4) and 4.3 W (8).
const HOST_GIB_A_VCPU: [f64; 3] = [2.0, 4.0, 8.0];

/// Exponent of load in what traffic adds: six AWS hosts take 0.10 to 0.23 of it at 10 % load and
/// 0.55 to 0.61 at 50 %.
const LOAD_EXPONENT: f64 = 0.77;

/// Factor by which the truth may lie above or below, for 95 % of cases.
const BAND: f64 = 2.5;

/// GiB that are taken to come with a vCPU where the size of memory is not known, and the factor by which its watts
/// may be more or less for that. Most machines have half to twice as much, of which the watts at full load differ
/// by up to that factor between 64 and 256 GiB.
pub(crate) const UNKNOWN_GIB: (f64, f64) = (HOST_GIB_A_VCPU[1], 4.0);

/// Energy (J) of a byte that goes between modules and processor, what the modules take at rest apart: at
/// least, as best known, and at most.
///
/// - One module of 16 GB DDR4-2400 takes 0.93 W asleep, 1.66 W awake, and 3.7 to 5.0 W with programs that keep
///   its channel of 19.2 GB/s busy (current-sense risers; Alt et al., ICPE 2024): 0.11 to 0.30 nJ with 70 to
///   95 % of those bytes, by kernel and by which rest is taken off.
/// - Two EPYC 7502 with 16 channels of DDR4-3200 take 82 W more at the wall, beyond what RAPL shows, with a
///   memory kernel than with an arithmetic one (Schöne et al., CLUSTER 2021): 0.22 to 0.40 nJ with 50 to 90 %
///   of 410 GB/s, power supply included.
/// - Mobile memory takes a third to a fifth of a server's (Malladi et al., ISCA 2012): the lower end.
///
/// The AWS hosts of [`MEASURED`] tell nothing of it: their traffic is not known.
pub(crate) const JOULES_A_BYTE: [f64; 3] = [0.07e-9, 0.24e-9, 0.48e-9];

/// Memory's traffic of some time, as the machine counted it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// For so long it is known, s.
    pub seconds: f64,
    /// Bytes in that time.
    pub bytes: f64,
    /// What truly went through the modules, at least and at most, as parts of `bytes`.
    pub part: (f64, f64),
}

impl Traffic {
    /// Power (W) of the traffic alone: at least, as best known, and at most.
    fn watts(self) -> [f64; 3] {
        let rate = at_least_zero(self.bytes / self.seconds).min(1e15);
        let [low, usual, high] = JOULES_A_BYTE.map(|joules| joules * rate);
        [low * self.part.0, usual, high * self.part.1]
    }
}

/// What is known of the memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Memory {
    /// Its size, and that of the machine it is part of: `None` where it is all of it.
    BySize {
        host_gib: Option<f64>,
        /// vCPUs of that machine, where they are not those that the system shows.
        host_vcpus: Option<f64>,
        /// Memory modules of the machine, where it shows them.
        modules: Option<u32>,
        /// Factor by which the truth may lie above or below.
        band: f64,
    },
    /// Measured on this machine: its GiB, W at rest, what full load adds, and the band's factor.
    Measured {
        gib: f64,
        idle: f64,
        active: f64,
        band: f64,
    },
    /// It is in the curve: an external meter shows the whole machine.
    InCurve,
}

impl Memory {
    /// A machine of which nothing but the size will be told.
    pub(super) const WHOLE: Self = Self::BySize {
        host_gib: None,
        host_vcpus: None,
        modules: None,
        band: BAND,
    };

    /// A part of a host that is not seen, by the GiB that come with a vCPU, where they are known.
    pub(super) fn of_a_host(gib_a_vcpu: Option<f64>) -> Self {
        let [least, usual, most] = HOST_GIB_A_VCPU;
        let ratio = gib_a_vcpu.filter(|ratio| *ratio > 0.0).unwrap_or(usual);
        Self::BySize {
            host_gib: Some(ratio.clamp(least, most) * HOST_VCPUS),
            host_vcpus: Some(HOST_VCPUS),
            modules: None,
            band: BAND,
        }
    }

    /// All memory of a machine of that size, by its modules where they are known.
    pub(super) fn of_size(gib: f64, modules: Option<u32>) -> Self {
        Self::BySize {
            host_gib: Some(gib),
            host_vcpus: None,
            modules,
            band: BAND,
        }
    }

    /// The GiB that come with `vcpus` of the `all` of the machine, and the memory that they are of: where nobody
    /// stated them, the usual ones in a wider band.
    pub(super) fn sized(mut self, gib: Option<f64>, vcpus: f64, all: f64) -> (Self, f64) {
        let (usual, unsure) = UNKNOWN_GIB;
        let gib = match (&mut self, gib) {
            (_, Some(gib)) => gib,
            (Self::Measured { gib: whole, .. }, None) => *whole * (vcpus / all).min(1.0),
            (Self::BySize { band, .. }, None) => {
                *band = band.ln().hypot(unsure.ln()).exp();
                usual * vcpus
            }
            (Self::InCurve, None) => 0.0,
        };
        (self, gib)
    }

    /// The same where `gib` GiB come with `vcpus` of the `all` of a machine whose size nobody told: as much with
    /// each of them, but no more than clouds sell.
    pub(super) fn in_proportion(mut self, gib: f64, vcpus: f64, all: f64) -> Self {
        if let Self::BySize {
            host_gib: host_gib @ None,
            ..
        } = &mut self
        {
            let [.., most] = HOST_GIB_A_VCPU;
            *host_gib = Some((gib / vcpus).min(most) * all).filter(|host| *host > gib);
        }
        self
    }

    /// vCPUs of the machine that the memory is part of, where they are not those that the system shows.
    pub(super) fn host_vcpus(self) -> Option<f64> {
        match self {
            Self::BySize { host_vcpus, .. } => host_vcpus,
            Self::Measured { .. } | Self::InCurve => None,
        }
    }

    /// Power of so many GiB and of what the CPUs that are that part (0..1) of the machine do with them, at a
    /// `load` of those CPUs (0..1). Modules at rest belong to who has the GiB, traffic to who has the CPUs, so
    /// that parts sum to the machine. Where the CPUs are not known their part is that of the GiB; where the load
    /// is not known the middle of rest and full load is taken. Negative or NaN counts as none.
    pub(super) fn watts(self, gib: f64, cpus: Option<f64>, load: Option<f64>) -> RawPower {
        let gib = at_least_zero(gib).min(1e9);
        let load = load.map(|load| at_least_zero(load).min(1.0));
        if gib <= 0.0 {
            return RawPower::default();
        }
        let cpus_of = |part: f64| cpus.map_or(part, at_least_zero);
        let (rest, total, band) = match self {
            Self::BySize {
                host_gib,
                modules,
                band,
                ..
            } => {
                let host = at_least_zero(host_gib.unwrap_or(gib)).max(gib);
                let (rest, full) = ends(host);
                let rest = modules.map_or(rest, |n| MODULE_REST_W * f64::from(n));
                let part = gib / host;
                let traffic = (full - rest).max(0.0) * cpus_of(part).min(1.0);
                let rest = rest * part;
                let total = match load {
                    Some(load) => rest + traffic * load.powf(LOAD_EXPONENT),
                    None => (rest * (rest + traffic)).sqrt(),
                };
                (rest, total, band)
            }
            Self::Measured {
                gib: all,
                idle,
                active,
                band,
            } => {
                let part = gib / all;
                let at = |load: f64| idle * part + active * cpus_of(part) * load;
                return RawPower {
                    total: at(load.unwrap_or(0.5)),
                    low: at(load.unwrap_or(0.0)) / band,
                    high: at(load.unwrap_or(1.0)) * band,
                    idle: at(0.0),
                    idle_low: at(0.0) / band,
                    idle_high: at(0.0) * band,
                };
            }
            Self::InCurve => (0.0, 0.0, 1.0),
        };
        RawPower {
            total,
            low: total / band,
            high: total * band,
            idle: rest,
            idle_low: rest / band,
            idle_high: rest * band,
        }
    }

    /// Power of so many GiB with that traffic of theirs, in the place of a load: at rest as ever, and what the
    /// bytes take.
    pub(super) fn watts_with(self, gib: f64, traffic: Traffic) -> RawPower {
        let at_rest = self.watts(gib, None, Some(0.0));
        if self == Self::InCurve {
            return at_rest;
        }
        let [low, usual, high] = traffic.watts();
        RawPower {
            total: at_rest.idle + usual,
            low: at_rest.idle_low + low,
            high: at_rest.idle_high + high,
            ..at_rest
        }
    }

    /// Where the figures come from.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::BySize { .. } => {
                "memory by size, between machines that were measured (Alt et al., ICPE 2024; Teads \
                 Engineering)"
            }
            Self::Measured { .. } => "memory as calibrated",
            Self::InCurve => "memory is in the watts of the external meter",
        }
    }
}

/// Power (W) of a machine's memory at rest and with all CPUs at work: between two measured sizes by
/// the logarithms, beyond them in proportion.
fn ends(gib: f64) -> (f64, f64) {
    let (first, last) = (MEASURED[0], MEASURED[MEASURED.len() - 1]);
    if gib <= first.0 {
        return (first.1 * gib / first.0, first.2 * gib / first.0);
    }
    for pair in MEASURED.windows(2) {
        let (low, high) = (pair[0], pair[1]);
        if gib <= high.0 {
            let way = (gib / low.0).ln() / (high.0 / low.0).ln();
            let between = |a: f64, b: f64| a * (b / a).powf(way);
            return (between(low.1, high.1), between(low.2, high.2));
        }
    }
    (last.1 * gib / last.0, last.2 * gib / last.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_takes_more_and_less_a_gib_in_the_end() {
        let mut last = RawPower::default();
        for step in 0..200 {
            let gib = 1.05_f64.powi(step);
            let now = Memory::WHOLE.watts(gib, None, None);
            assert!(now.total > last.total && now.idle > last.idle, "{gib}");
            assert!(now.low <= now.total && now.total <= now.high);
            assert!(now.idle <= now.total);
            last = now;
        }
        let per_gib = |gib: f64| Memory::WHOLE.watts(gib, None, Some(0.0)).total / gib;
        assert!(per_gib(2015.0) < 0.5 * per_gib(179.0));
    }

    #[test]
    fn measured_machines_are_inside() {
        for (gib, load, watts) in [
            (32.0, 0.0, 2.2),
            (32.0, 0.5, 9.05),
            (179.0, 0.0, 36.55),
            (179.0, 0.1, 66.3),
            (179.0, 1.0, 210.5),
            (358.0, 0.0, 57.8),
            (358.0, 0.1, 92.4),
            (358.0, 1.0, 383.8),
            (2015.0, 0.0, 123.0),
        ] {
            let told = Memory::WHOLE.watts(gib, None, Some(load));
            assert!(told.low <= watts && watts <= told.high, "{gib}: {told:?}");
        }
    }

    #[test]
    fn parts_of_a_machine_sum_to_it() {
        let by_size = Memory::BySize {
            host_gib: Some(64.0),
            host_vcpus: None,
            modules: Some(4),
            band: BAND,
        };
        let measured = Memory::Measured {
            gib: 64.0,
            idle: 5.6,
            active: 12.0,
            band: 1.1,
        };
        for machine in [by_size, measured] {
            let of = |gib, cpus| machine.watts(gib, cpus, Some(0.3));
            let whole = of(64.0, None);
            assert!((whole.idle - 4.0 * MODULE_REST_W).abs() < 1e-9);
            // GiB and parts of the CPUs, in proportion and not.
            for parts in [
                [(1.0, None), (7.0, None), (24.0, None), (32.0, None)],
                [
                    (1.0, Some(0.5)),
                    (7.0, Some(0.25)),
                    (24.0, Some(0.15)),
                    (32.0, Some(0.1)),
                ],
            ] {
                let sum: f64 = parts.iter().map(|&(gib, cpus)| of(gib, cpus).total).sum();
                assert!((sum - whole.total).abs() < 1e-9, "{sum} {whole:?}");
            }
            // Much memory at rest is not charged what few CPUs do elsewhere.
            let traffic = |gib, cpus| {
                let told = of(gib, Some(cpus));
                told.total - told.idle
            };
            assert!((traffic(32.0, 0.1) - traffic(1.0, 0.1)).abs() < 1e-9);
            assert!((traffic(32.0, 0.2) - 2.0 * traffic(32.0, 0.1)).abs() < 1e-9);
        }
    }

    #[test]
    fn what_a_vcpu_adds_on_a_host_is_as_on_those_measured() {
        // AWS c5, c5n, m5, m5n, m5zn and z1d metal, all CPUs busy against none, a vCPU.
        for (gib, watts) in [
            (2.0, 1.81),
            (2.5, 1.83),
            (4.0, 3.40),
            (4.0, 2.03),
            (4.0, 2.83),
            (8.0, 4.29),
        ] {
            let host = Memory::of_a_host(Some(gib));
            for gib in [0.25, gib, 24.0] {
                let told = host.watts(gib, Some(1.0 / HOST_VCPUS), Some(1.0));
                let added = told.total - told.idle;
                assert!(
                    added / 1.6 <= watts && watts <= added * 1.6,
                    "{gib}: {added}"
                );
            }
        }
        assert_eq!(Memory::of_a_host(None), Memory::of_a_host(Some(4.0)));
        for (odd, bound) in [(0.1, 2.0), (64.0, 8.0), (f64::INFINITY, 8.0)] {
            assert_eq!(Memory::of_a_host(Some(odd)), Memory::of_a_host(Some(bound)));
        }
        assert_eq!(Memory::of_a_host(Some(f64::NAN)), Memory::of_a_host(None));
    }

    #[test]
    fn counted_bytes_stand_for_the_load() {
        let traffic = |bytes: f64| Traffic {
            seconds: 2.0,
            bytes,
            part: (0.9, 1.3),
        };
        let rest = Memory::WHOLE.watts(64.0, None, Some(0.0));
        let none = Memory::WHOLE.watts_with(64.0, traffic(0.0));
        assert_eq!(
            (none.total, none.low, none.high),
            (rest.idle, rest.idle_low, rest.idle_high)
        );
        // 20 GB/s at 0.24 nJ a byte.
        let some = Memory::WHOLE.watts_with(64.0, traffic(40e9));
        assert!((some.total - rest.idle - 4.8).abs() < 1e-9);
        assert!((some.low - rest.idle_low - 0.063 * 20.0).abs() < 1e-9);
        assert!((some.high - rest.idle_high - 0.624 * 20.0).abs() < 1e-9);
        assert_eq!((some.idle, some.idle_high), (rest.idle, rest.idle_high));
        assert_eq!(
            Memory::InCurve.watts_with(64.0, traffic(40e9)),
            RawPower::default()
        );
        for bad in [f64::NAN, -1.0, f64::INFINITY] {
            assert!(
                Memory::WHOLE
                    .watts_with(64.0, traffic(bad))
                    .high
                    .is_finite()
            );
        }
    }

    #[test]
    fn modules_that_were_measured_with_their_channel_busy_are_inside() {
        // One DDR4-2400 module of 16 GB by current-sense risers, of which a channel is 19.2 GB/s: streams,
        // and reads alone.
        for (watts, busy) in [(5.0, 0.7), (5.0, 0.95), (4.3, 0.9), (3.7, 0.7), (3.7, 0.95)] {
            let traffic = Traffic {
                seconds: 1.0,
                bytes: 19.2e9 * busy,
                part: (1.0, 1.0),
            };
            let [low, _, high] = traffic.watts();
            for rest in [0.93, 1.66] {
                let taken: f64 = watts - rest;
                assert!(low <= taken && taken <= high, "{taken} of {low} to {high}");
            }
        }
    }

    #[test]
    fn nonsense_is_no_memory() {
        for bad in [f64::NAN, -3.0, 0.0] {
            assert_eq!(Memory::WHOLE.watts(bad, None, None), RawPower::default());
        }
        let most = Memory::WHOLE.watts(f64::INFINITY, None, Some(f64::NAN));
        assert!(most.high.is_finite());
    }
}
