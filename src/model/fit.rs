//! The curve of one machine from watts that were measured on it at several loads.
//!
//! Package power is linear in what is sought once the shape is given, so this is least squares in
//! three unknowns that must not be negative: all seven sets of them are tried.

use serde::Serialize;

use super::curve::{ClockPolicy, Curve, Shape};
use crate::source::busy::BusyCpus;

/// Power of the machine at one load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Load of all CPUs together, 0..1.
    pub load: f64,
    /// The part of the CPUs on which it ran, 0..1.
    pub spread: f64,
    /// Power, W.
    pub watts: f64,
}

/// A fitted curve and how well it fits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// Idle power, W.
    pub idle_w: f64,
    /// What an awake uncore adds, W.
    pub wake_w: f64,
    /// What the cores add at full load, W.
    pub core_w: f64,
    /// Clock at no load as a part of the clock at full load.
    pub low_clock: f64,
    /// What the second thread of a core adds, as a part of what the first one takes.
    pub second_thread: f64,
    /// Root mean square of `residuals`, %.
    pub residual_percent: f64,
    /// Factor by which the truth may lie above or below, for 95 % of cases.
    pub band: f64,
    /// Fitted minus measured power, % of the measured, by point.
    pub residuals_percent: Vec<f64>,
}

/// Least band: a ladder of one program does not show what others take.
const LEAST_BAND: f64 = 0.08;

/// Idle power below the lowest measured load is extrapolated by the curve's shape: its band is widened
/// by this part of that gap.
const UNSEEN: f64 = 0.3;

/// Band where there are no more points than unknowns, so that the residuals are no evidence.
const BLIND_BAND: f64 = 0.15;

/// Fits a curve; `None` for fewer than two points or for one that is not of this world.
///
/// Watts count relatively, since that is how errors are judged. The clock's fall at low load is
/// either none or the shipped shape's, whichever fits better.
///
/// ```
/// use lithowatt::model::fit::{Point, fit};
/// let at = |load, watts| Point { load, spread: load, watts };
/// let found = fit(&[at(0.0, 20.0), at(0.5, 50.0), at(1.0, 72.0)], 2.0, 1.0).unwrap();
/// assert!((found.idle_w - 20.0).abs() < 1.0 && found.residual_percent < 3.0);
/// ```
pub fn fit(points: &[Point], cores_per_socket: f64, threads_per_core: f64) -> Option<Fit> {
    let sound = |p: &Point| {
        let part = 0.0..=1.0;
        part.contains(&p.load) && part.contains(&p.spread) && p.watts.is_finite() && p.watts > 0.0
    };
    if points.len() < 2
        || !points.iter().all(sound)
        || ![cores_per_socket, threads_per_core]
            .iter()
            .all(|n| n.is_finite())
    {
        return None;
    }
    // The likeliest first: another must be better to be taken.
    let clocks = [1.0, Shape::SHIPPED.low_clock];
    let seconds: &[f64] = if threads_per_core > 1.0 {
        &[Shape::SHIPPED.second_thread, 0.05, 1.0]
    } else {
        &[Shape::SHIPPED.second_thread]
    };
    let one = |second_thread: f64, low_clock: f64| {
        let unit = Curve {
            idle_w: 0.0,
            wake_w: 0.0,
            core_w: 0.0,
            cores_per_socket,
            threads_per_core,
            full_mhz: None,
            clock: ClockPolicy::Saving,
            uncore_follows: false,
            shape: Shape {
                low_clock,
                second_thread,
                ..Shape::SHIPPED
            },
        };
        with_shape(points, &unit)
    };
    seconds
        .iter()
        .flat_map(|second| clocks.map(|clock| one(*second, clock)))
        .flatten()
        .reduce(|best, next| {
            // A hair's breadth is no reason.
            if next.residual_percent < best.residual_percent - 0.1 {
                next
            } else {
                best
            }
        })
}

/// Least squares of idle, wake and cores with the shape of `unit`.
fn with_shape(points: &[Point], unit: &Curve) -> Option<Fit> {
    let shape = unit.shape;
    let unit = |wake_w: f64, core_w: f64| Curve {
        wake_w,
        core_w,
        ..*unit
    };
    let (wake, core) = (unit(1.0, 0.0), unit(0.0, 1.0));
    let rows: Vec<[f64; 3]> = points
        .iter()
        .map(|p| {
            let part =
                |curve: &Curve| curve.active_at(p.load, BusyCpus::on(p.spread)).total() / p.watts;
            [1.0 / p.watts, part(&wake), part(&core)]
        })
        .collect();
    let residuals = |found: &[f64; 3]| -> Vec<f64> {
        let of = |row: &[f64; 3]| row.iter().zip(found).map(|(a, x)| a * x).sum::<f64>() - 1.0;
        rows.iter().map(of).collect()
    };
    let squares = |found: &[f64; 3]| residuals(found).iter().map(|r| r * r).sum::<f64>();
    // Bits: idle, wake, core. Where two fit alike, the cores are the likelier.
    let (found, sum) = [0b111_u8, 0b101, 0b011, 0b001, 0b110, 0b100, 0b010]
        .into_iter()
        .filter_map(|set| least_squares(&rows, set))
        .filter(|found| found.iter().all(|x| x.is_finite() && *x >= 0.0))
        .map(|found| (found, squares(&found)))
        .reduce(
            |best, next| {
                if next.1 < best.1 - 1e-12 { next } else { best }
            },
        )?;
    let count = points.len() as f64;
    let free = distinct(points) as f64 - 3.0;
    let band = if free >= 1.0 {
        (2.0 * (sum / free).sqrt()).max(LEAST_BAND)
    } else {
        (2.0 * (sum / count).sqrt()).max(BLIND_BAND)
    };
    let lowest = points.iter().min_by(|a, b| a.load.total_cmp(&b.load))?;
    let above = unit(found[1], found[2])
        .active_at(lowest.load, BusyCpus::on(lowest.spread))
        .total();
    let unseen = if found[0] > 0.0 {
        (UNSEEN * above / found[0]).min(2.0)
    } else {
        2.0
    };
    let band = band.max(unseen);
    Some(Fit {
        idle_w: found[0],
        wake_w: found[1],
        core_w: found[2],
        low_clock: shape.low_clock,
        second_thread: shape.second_thread,
        residual_percent: 100.0 * (sum / count).sqrt(),
        band: 1.0 + band,
        residuals_percent: residuals(&found).iter().map(|r| 100.0 * r).collect(),
    })
}

/// Loads that differ by more than noise.
fn distinct(points: &[Point]) -> usize {
    let mut loads: Vec<f64> = points.iter().map(|p| p.load).collect();
    loads.sort_by(f64::total_cmp);
    loads.dedup_by(|next, last| *next - *last < 0.02);
    loads.len()
}

/// The unknowns of `set` for which `rows · x = 1` holds best, the others 0; `None` where the rows
/// do not separate them.
fn least_squares(rows: &[[f64; 3]], set: u8) -> Option<[f64; 3]> {
    let used: Vec<usize> = (0..3).filter(|i| set & (1 << i) != 0).collect();
    let size = used.len();
    // Columns are scaled to length 1, so that the size of a pivot means something.
    let length = |i: usize| rows.iter().map(|row| row[i] * row[i]).sum::<f64>().sqrt();
    let scale: Vec<f64> = used.iter().map(|i| length(*i)).collect();
    if scale.iter().any(|s| *s <= 0.0) {
        return None;
    }
    let mut m = [[0.0; 4]; 3];
    for row in rows {
        for a in 0..size {
            let left = row[used[a]] / scale[a];
            for b in 0..size {
                m[a][b] += left * row[used[b]] / scale[b];
            }
            m[a][3] += left;
        }
    }
    // Gauss-Jordan; the matrix is positive definite, so no pivot is sought.
    for k in 0..size {
        let pivot = m[k][k];
        if pivot < 1e-9 {
            return None;
        }
        let own = m[k].map(|x| x / pivot);
        for (i, row) in m.iter_mut().enumerate().take(size) {
            let factor = row[k];
            for (x, y) in row.iter_mut().zip(own) {
                *x = if i == k { y } else { *x - factor * y };
            }
        }
    }
    let mut found = [0.0; 3];
    for (k, i) in used.into_iter().enumerate() {
        found[i] = m[k][3] / scale[k];
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(curve: &Curve, loads: &[(f64, f64)]) -> Vec<Point> {
        let watts =
            |load, spread| curve.idle_w + curve.active_at(load, BusyCpus::on(spread)).total();
        loads
            .iter()
            .map(|&(load, spread)| Point {
                load,
                spread,
                watts: watts(load, spread),
            })
            .collect()
    }

    #[test]
    fn a_curve_is_found_again_with_its_clock() {
        for low_clock in [1.0, Shape::SHIPPED.low_clock] {
            let curve = Curve {
                idle_w: 20.0,
                wake_w: 15.0,
                core_w: 90.0,
                cores_per_socket: 8.0,
                threads_per_core: 2.0,
                full_mhz: None,
                clock: ClockPolicy::Saving,
                uncore_follows: false,
                shape: Shape {
                    low_clock,
                    ..Shape::SHIPPED
                },
            };
            let loads = [
                (0.01, 1.0),
                (0.125, 0.125),
                (0.3, 1.0),
                (0.5, 0.5),
                (0.75, 1.0),
                (1.0, 1.0),
            ];
            let found = fit(&ladder(&curve, &loads), 8.0, 2.0).unwrap();
            assert_eq!(found.low_clock, low_clock);
            for (a, b) in [
                (found.idle_w, 20.0),
                (found.wake_w, 15.0),
                (found.core_w, 90.0),
            ] {
                assert!((a - b).abs() < 1e-6 * b, "{found:?}");
            }
            assert!(found.residual_percent < 1e-6);
            assert_eq!(found.band, 1.0 + LEAST_BAND);
            // Without rest the way down to it is a guess.
            let found = fit(
                &ladder(&curve, &[(0.5, 1.0), (0.7, 1.0), (0.8, 1.0), (1.0, 1.0)]),
                8.0,
                2.0,
            );
            assert!(found.unwrap().band > 1.3);
        }
    }

    #[test]
    fn nothing_is_negative_and_the_band_holds_the_points() {
        let at = |load: f64, watts| Point {
            load,
            spread: load,
            watts,
        };
        // Convex: a wake would have to be negative.
        let points = [at(0.0, 20.0), at(0.5, 25.0), at(0.75, 40.0), at(1.0, 90.0)];
        let found = fit(&points, 4.0, 2.0).unwrap();
        assert!(found.idle_w >= 0.0 && found.wake_w >= 0.0 && found.core_w > 0.0);
        let worst = found
            .residuals_percent
            .iter()
            .fold(0.0, |w: f64, r| w.max(r.abs()));
        assert!(found.band > 1.0 + worst / 100.0, "{found:?}");
    }

    #[test]
    fn too_little_is_no_curve_and_two_points_are_a_wide_one() {
        let at = |load: f64, watts| Point {
            load,
            spread: load,
            watts,
        };
        assert_eq!(fit(&[], 4.0, 1.0), None);
        assert_eq!(fit(&[at(0.0, 20.0)], 4.0, 1.0), None);
        assert_eq!(fit(&[at(0.0, 20.0), at(f64::NAN, 30.0)], 4.0, 1.0), None);
        assert_eq!(fit(&[at(0.0, 20.0), at(1.0, 0.0)], 4.0, 1.0), None);
        let found = fit(&[at(0.0, 20.0), at(1.0, 30.0)], 1.0, 1.0).unwrap();
        assert!((found.core_w - 10.0).abs() < 1e-9 && found.band == 1.0 + BLIND_BAND);
        // Falling with load: a constant is the best that is possible.
        let found = fit(&[at(0.0, 30.0), at(1.0, 20.0)], 1.0, 1.0).unwrap();
        assert!(found.core_w == 0.0 && found.residual_percent > 10.0);
    }
}
