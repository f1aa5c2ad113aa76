//! A counter of the processor against a meter of the whole machine.

use serde::Serialize;

use crate::bands::Energy;
use crate::distributions::student_t_quantile;

/// Watts of the counter that differ by less than this part of their mean show no slope.
const LEAST_SPREAD: f64 = 0.1;

/// A window in which both were read, J.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Its length, s.
    pub seconds: f64,
    /// What the counter said.
    pub counter: Energy,
    /// What the meter said.
    pub reference: Energy,
}

impl Window {
    /// What the meter's band of this window has beside the error that all its readings share, J:
    /// that one is the same in all windows, and counted once for all of them.
    fn own_half(&self, relative: f64) -> f64 {
        let shared = relative * self.reference.joules;
        let half = self.reference.half();
        (half * half - shared * shared).max(0.0).sqrt()
    }
}

/// A value with its 95 % band.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slope {
    /// Best estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Slope {
    fn around(value: f64, half: f64) -> Self {
        Self {
            value,
            low: value - half,
            high: value + half,
        }
    }
}

/// `meter = offset + slope × counter`, in watts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// How many windows.
    pub windows: usize,
    /// The counter's joules for each of the meter's, over all windows.
    pub part: Slope,
    /// Watts of the meter for each watt of the counter; `None` where the load did not change enough.
    pub slope: Option<Slope>,
    /// Watts of the meter where the counter has none; `None` with the slope.
    pub offset: Option<Slope>,
    /// Root mean square of what the line leaves, W.
    pub residual_watts: Option<f64>,
    /// Why there is no line.
    pub reason: Option<String>,
}

/// Compares; `relative` is the error that all readings of the meter share. `None` without a window in
/// which both had energy.
///
/// ```
/// use lithowatt::{bands::Energy, reference::{Window, compared}};
/// let exact = |joules| Energy { joules, low: joules, high: joules };
/// // The machine takes 12 W and 1.25 W for each watt of the processor.
/// let windows: Vec<Window> = [5.0, 20.0, 60.0].map(|watts| Window {
///     seconds: 2.0, counter: exact(2.0 * watts), reference: exact(2.0 * (12.0 + 1.25 * watts)),
/// }).into();
/// let line = compared(&windows, 0.0).unwrap();
/// assert!((line.slope.unwrap().value - 1.25).abs() < 1e-9);
/// assert!((line.offset.unwrap().value - 12.0).abs() < 1e-9);
/// ```
pub fn compared(windows: &[Window], relative: f64) -> Option<Line> {
    let sum = |of: fn(&Window) -> f64| windows.iter().map(of).sum::<f64>();
    let (counted, metered) = (sum(|w| w.counter.joules), sum(|w| w.reference.joules));
    if !(counted > 0.0 && metered > 0.0) || windows.iter().any(|w| w.seconds <= 0.0) {
        return None;
    }
    let square = |of: fn(&Window) -> f64| windows.iter().map(of).map(|x| x * x).sum::<f64>();
    // The errors of windows are independent but for the meter's own.
    let own: f64 = windows.iter().map(|w| w.own_half(relative).powi(2)).sum();
    let off = (square(|w| w.counter.half()).sqrt() / counted)
        .hypot(own.sqrt() / metered)
        .hypot(relative);
    let part = counted / metered;
    let mut line = Line {
        windows: windows.len(),
        part: Slope::around(part, part * off),
        slope: None,
        offset: None,
        residual_watts: None,
        reason: None,
    };
    match fitted(windows, relative) {
        Ok((slope, offset, residual)) => {
            line.slope = Some(slope);
            line.offset = Some(offset);
            line.residual_watts = Some(residual);
        }
        Err(why) => line.reason = Some(why),
    }
    Some(line)
}

/// Slope, offset and residual by least squares.
fn fitted(windows: &[Window], relative: f64) -> Result<(Slope, Slope, f64), String> {
    let n = windows.len();
    if n < 3 {
        return Err(format!(
            "a line with a band needs three windows or more, not {n}"
        ));
    }
    let points: Vec<(f64, f64, f64)> = windows
        .iter()
        .map(|w| {
            let half = w.own_half(relative) / w.seconds;
            (
                w.counter.joules / w.seconds,
                w.reference.joules / w.seconds,
                half,
            )
        })
        .collect();
    let count = n as f64;
    let mean = |of: fn(&(f64, f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let least = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|p| p.0).fold(0.0, f64::max);
    if most - least < LEAST_SPREAD * mx {
        return Err(format!(
            "the counter's power went from {least:.2} to {most:.2} W only, which shows no slope"
        ));
    }
    let sxx: f64 = points.iter().map(|p| (p.0 - mx).powi(2)).sum();
    let sxy: f64 = points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
    let slope = sxy / sxx;
    let offset = my - slope * mx;
    let squares: f64 = points
        .iter()
        .map(|p| (p.1 - offset - slope * p.0).powi(2))
        .sum();
    let t = student_t_quantile(0.975, count - 2.0).ok_or("no quantile")?;
    let scatter = t * (squares / (count - 2.0)).sqrt();
    // Points that happen to lie on a line are not known better than each of them is.
    let stated = (points.iter().map(|p| p.2 * p.2).sum::<f64>() / count).sqrt();
    let half = scatter.max(stated);
    let slope_half = (half / sxx.sqrt()).hypot(relative * slope);
    let offset_half = (half * (1.0 / count + mx * mx / sxx).sqrt()).hypot(relative * offset);
    Ok((
        Slope::around(slope, slope_half),
        Slope::around(offset, offset_half),
        (squares / count).sqrt(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(watts: f64, meter: f64) -> Window {
        let of = |watts: f64, off: f64| Energy {
            joules: 10.0 * watts,
            low: 10.0 * watts * (1.0 - off),
            high: 10.0 * watts * (1.0 + off),
        };
        Window {
            seconds: 10.0,
            counter: of(watts, 0.001),
            reference: of(meter, 0.02),
        }
    }

    #[test]
    fn the_truth_of_a_machine_is_in_the_bands() {
        let noise = [0.3, -0.4, 0.1, 0.5, -0.5];
        let windows: Vec<Window> = std::iter::zip([4.0, 10.0, 25.0, 40.0, 60.0], noise)
            .map(|(watts, noise)| window(watts, 9.0 + 1.2 * watts + noise))
            .collect();
        let line = compared(&windows, 0.01).unwrap();
        let (slope, offset) = (line.slope.unwrap(), line.offset.unwrap());
        assert!((slope.low..slope.high).contains(&1.2), "{slope:?}");
        assert!((offset.low..offset.high).contains(&9.0), "{offset:?}");
        assert!(slope.high - slope.low < 0.2 && offset.high - offset.low < 6.0);
        let truth = 139.0 / (45.0 + 1.2 * 139.0);
        assert!((line.part.low..line.part.high).contains(&truth));
    }

    #[test]
    fn the_error_that_all_windows_share_is_counted_once() {
        // A meter that is off by 5 % in all its readings, and by nothing else.
        let windows: Vec<Window> = [5.0, 20.0, 60.0, 80.0]
            .map(|watts| {
                let joules = 10.0 * (12.0 + 1.25 * watts);
                Window {
                    seconds: 10.0,
                    counter: Energy {
                        joules: 10.0 * watts,
                        low: 10.0 * watts,
                        high: 10.0 * watts,
                    },
                    reference: Energy {
                        joules,
                        low: 0.95 * joules,
                        high: 1.05 * joules,
                    },
                }
            })
            .into();
        let line = compared(&windows, 0.05).unwrap();
        let off = |band: Slope| (band.high - band.value) / band.value;
        for band in [line.part, line.slope.unwrap(), line.offset.unwrap()] {
            assert!((off(band) - 0.05).abs() < 1e-6, "{band:?}");
        }
    }

    #[test]
    fn a_load_that_stays_the_same_has_a_part_and_no_line() {
        let line = compared(
            &[window(20.0, 33.0), window(20.5, 33.6), window(20.2, 33.1)],
            0.01,
        );
        let line = line.unwrap();
        assert!(line.slope.is_none() && line.offset.is_none());
        assert!(line.reason.unwrap().contains("20.00 to 20.50 W"));
        assert!(line.part.low > 0.55 && line.part.high < 0.65);
        assert_eq!(compared(&[], 0.0), None);
    }
}
