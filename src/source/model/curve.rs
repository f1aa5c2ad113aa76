//! Package power against load: the shape, its coefficients and how far to trust them.
//!
//! `watts(u) = idle + (full - idle) * u^gamma` for a load `u` between 0 and 1. Power rises steeply
//! with the first busy core (the uncore wakes, the idle cores lose their deep sleep) and flattens
//! afterwards, hence `gamma < 1`. How the numbers below were found is told in
//! `docs/power-model.md`.

use serde::Serialize;

/// Coefficients of a class of processors, as shares of the TDP.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shape {
    /// Idle package power as a share of the TDP (0..1).
    pub idle_share: f64,
    /// Package power at full load as a share of the TDP; above 1 is possible.
    pub full_share: f64,
    /// Exponent of the load, between 0 and 1.
    pub gamma: f64,
}

/// Servers with more than [`SMALL_SOCKET_CORES`] cores per socket.
///
/// Geometric means over the Intel hosts of AWS that Teads Engineering measured with turbostat
/// (Xeon E5-2686 v4, 8124M, 8151, 8175M, 8252C, 8259CL, 8275CL: idle 0.10 to 0.13, full 0.88 to
/// 1.31 of TDP, gamma 0.46 to 0.65), <https://medium.com/teads-engineering/building-an-aws-ec2-carbon-emissions-dataset-3f0fd76c98ac>.
pub const LARGE_SERVER: Shape = Shape {
    idle_share: 0.116,
    full_share: 1.01,
    gamma: 0.57,
};

/// Servers with few cores per socket, whose sockets have more thermal room than they use.
///
/// Geometric mean of the two machines in our data (2 × Xeon E5-2620 v3: 0.09, 0.60, 0.75; EPYC
/// 8024P: 0.18, 0.58, 0.30) with [`LARGE_SERVER`] at a quarter of a machine's weight.
pub const SMALL_SERVER: Shape = Shape {
    idle_share: 0.126,
    full_share: 0.626,
    gamma: 0.484,
};

/// Desktop and laptop parts: the TDP (PL1) is what they settle at under sustained load.
///
/// No machine of this class is in our data: an assumption with a wider band.
pub const CLIENT: Shape = Shape {
    idle_share: 0.10,
    full_share: 1.0,
    gamma: 0.55,
};

/// Single-board computers: figures are of the board, whose parts hardly sleep.
///
/// Raspberry Pi 3 B, 3 B+ and 4 B idle at 0.38 to 0.42 of their full-load board power
/// (<https://www.pidramble.com/wiki/benchmarks/power-consumption>); nearly linear between.
pub const SINGLE_BOARD: Shape = Shape {
    idle_share: 0.40,
    full_share: 1.0,
    gamma: 0.9,
};

/// Up to this many cores per socket a server counts as small.
pub const SMALL_SOCKET_CORES: u32 = 8;

/// Factors by which the truth may lie above or below, for 95 % of cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// For the idle part: the truth is within `idle / factor` and `idle * factor`.
    pub idle: f64,
    /// For the part above idle.
    pub active: f64,
}

impl Spread {
    /// Only the TDP is known. Chosen as the smallest pair (in steps of 0.1, least product) that
    /// covers 42 of the 44 measured rows when the coefficients come from the other machine and the
    /// literature alone.
    pub const FROM_TDP: Self = Self {
        idle: 2.2,
        active: 1.9,
    };
    /// Idle and full watts of this very part were measured by somebody: what remains is the
    /// difference between boards and between workloads.
    pub const MEASURED: Self = Self {
        idle: 1.6,
        active: 1.5,
    };
    /// The name only hints at the part (`Intel(R) Xeon(R) Processor @ 2.50GHz`).
    pub const LIKELY_PART: Self = Self {
        idle: 1.4,
        active: 1.4,
    };
    /// The part is not known at all: a class default stands in.
    pub const CLASS_DEFAULT: Self = Self {
        idle: 2.0,
        active: 1.8,
    };
    /// No machine of this class was measured.
    pub const UNSEEN_CLASS: Self = Self {
        idle: 1.5,
        active: 1.3,
    };
    /// We hold a share of a host whose other load is unknown. A busy thread of a host that is 20 %
    /// busy costs twice what it costs on a full host (`0.2^(gamma - 1)` = 2.0), and hosts are
    /// oversubscribed. Wide enough that the watts per vCPU of the public methods we know fall
    /// inside (a test keeps it so).
    pub const SHARE_OF_HOST: Self = Self {
        idle: 1.5,
        active: 1.7,
    };

    /// Combines independent spreads: their logarithms add in quadrature.
    pub fn and(self, other: Self) -> Self {
        let join = |a: f64, b: f64| a.ln().hypot(b.ln()).exp();
        Self {
            idle: join(self.idle, other.idle),
            active: join(self.active, other.active),
        }
    }

    /// This spread, weakened to a fraction `weight` (0..1) of its logarithm.
    pub(crate) fn scaled(self, weight: f64) -> Self {
        Self {
            idle: self.idle.powf(weight),
            active: self.active.powf(weight),
        }
    }
}

/// Power (W) of all packages of a host against load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Curve {
    /// Idle power (W) of all sockets.
    pub idle_w: f64,
    /// Power (W) of all sockets at full load.
    pub full_w: f64,
    /// Exponent of the load.
    pub gamma: f64,
}

impl Curve {
    /// Watts above idle at load `u`, which is clamped to 0..1.
    pub fn active(&self, u: f64) -> f64 {
        (self.full_w - self.idle_w) * u.clamp(0.0, 1.0).powf(self.gamma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concave_and_anchored() {
        let curve = Curve {
            idle_w: 20.0,
            full_w: 100.0,
            gamma: 0.5,
        };
        assert_eq!(curve.active(0.0), 0.0);
        assert_eq!(curve.active(1.0), 80.0);
        assert_eq!(curve.active(7.0), 80.0);
        assert!(curve.active(0.5) > 40.0);
    }

    #[test]
    fn spreads_combine_in_quadrature() {
        let one = Spread {
            idle: 1.0,
            active: 1.0,
        };
        let both = Spread::FROM_TDP.and(one);
        assert!((both.idle - 2.2).abs() < 1e-12 && (both.active - 1.9).abs() < 1e-12);
        let wide = Spread::FROM_TDP.and(Spread::SHARE_OF_HOST);
        assert!(wide.active > 1.9 && wide.active < 1.9 * 1.7);
        assert!((Spread::FROM_TDP.scaled(0.0).idle - 1.0).abs() < 1e-12);
    }
}
