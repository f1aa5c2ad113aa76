//! A record of cumulative series that integrates any window.

use serde::Serialize;

/// Samples of several cumulative series that share their times.
///
/// When it is full every other sample is dropped: the series are cumulative, so this costs
/// resolution and no energy.
#[derive(Debug, Clone, Serialize)]
pub struct Timeline {
    width: usize,
    capacity: usize,
    /// Only every `stride`-th sample is kept.
    stride: u32,
    skipped: u32,
    times_ns: Vec<u64>,
    values: Vec<f64>,
}

impl Timeline {
    /// A timeline of `width` series that keeps at most `capacity` samples (at least 4).
    pub fn new(width: usize, capacity: usize) -> Self {
        Self {
            width,
            capacity: capacity.max(4),
            stride: 1,
            skipped: 0,
            times_ns: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Adds the cumulative `values` at `t_ns`. Times that do not advance are left out.
    pub fn push(&mut self, t_ns: u64, values: &[f64]) {
        self.skipped += 1;
        if self.skipped < self.stride && !self.times_ns.is_empty() {
            return;
        }
        self.push_last(t_ns, values);
        if self.times_ns.len() >= self.capacity {
            self.thin();
        }
    }

    /// Drops every other sample.
    fn thin(&mut self) {
        let width = self.width;
        let mut kept = 0;
        for i in (0..self.times_ns.len()).step_by(2) {
            self.times_ns[kept] = self.times_ns[i];
            self.values
                .copy_within(i * width..(i + 1) * width, kept * width);
            kept += 1;
        }
        self.times_ns.truncate(kept);
        self.values.truncate(kept * width);
        self.stride = self.stride.saturating_mul(2);
    }

    /// Makes room for one more sample: with more memory, else among those that it has.
    fn reserve_one(&mut self) -> bool {
        let more = |line: &mut Self| {
            let width = line.width;
            line.times_ns.try_reserve(1).is_ok() && line.values.try_reserve(width).is_ok()
        };
        if more(self) {
            return true;
        }
        self.thin();
        more(self)
    }

    /// Bytes that a copy takes at most at once.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.values[..])
    }

    /// Adds the start of a window: zero everywhere.
    pub fn push_zeros(&mut self, t_ns: u64) {
        let zeros = vec![0.0; self.width];
        self.push(t_ns, &zeros);
    }

    /// Adds a sample whatever the stride: the last one of a window.
    pub fn push_last(&mut self, t_ns: u64, values: &[f64]) {
        if self.times_ns.last().is_some_and(|last| t_ns <= *last) || values.len() != self.width {
            return;
        }
        if !self.reserve_one() {
            return;
        }
        self.skipped = 0;
        self.times_ns.push(t_ns);
        self.values.extend_from_slice(values);
    }

    /// Sets series `column` in the samples after `from` and up to `to`, where it goes evenly from one
    /// value to the other; each is (ns, value). For series that become known after their samples:
    /// those are pushed as NaN.
    ///
    /// ```
    /// use lithowatt::timeline::Timeline;
    /// let mut line = Timeline::new(1, 8);
    /// line.push_zeros(0);
    /// line.push(10, &[f64::NAN]);
    /// line.push(20, &[f64::NAN]);
    /// line.push(30, &[f64::NAN]);
    /// line.fill(0, (0, 0.0), (20, 4.0));
    /// assert_eq!(line.integrate(0, 10, 20), Some(2.0));
    /// assert!(line.column(0).last().unwrap().is_nan());
    /// ```
    pub fn fill(&mut self, column: usize, from: (u64, f64), to: (u64, f64)) {
        if column >= self.width || to.0 <= from.0 {
            return;
        }
        let first = self.times_ns.partition_point(|t| *t <= from.0);
        let end = self.times_ns.partition_point(|t| *t <= to.0);
        let slope = (to.1 - from.1) / (to.0 - from.0) as f64;
        for i in first..end {
            let value = if self.times_ns[i] == to.0 {
                to.1
            } else {
                from.1 + slope * (self.times_ns[i] - from.0) as f64
            };
            self.values[i * self.width + column] = value;
        }
    }

    /// Times of the samples, ns on `CLOCK_MONOTONIC`.
    pub fn times_ns(&self) -> &[u64] {
        &self.times_ns
    }

    /// The cumulative values of series `column`.
    pub fn column(&self, column: usize) -> impl Iterator<Item = f64> + '_ {
        self.values
            .iter()
            .skip(column)
            .step_by(self.width.max(1))
            .copied()
    }

    /// How much series `column` grew from `t0_ns` to `t1_ns`, interpolated between samples.
    /// `None` where the window is not inside the record.
    ///
    /// ```
    /// use lithowatt::timeline::Timeline;
    /// let mut line = Timeline::new(1, 8);
    /// line.push(0, &[0.0]);
    /// line.push(10, &[5.0]);
    /// line.push(20, &[25.0]);
    /// assert_eq!(line.integrate(0, 5, 15), Some(12.5));
    /// assert_eq!(line.integrate(0, 5, 21), None);
    /// ```
    pub fn integrate(&self, column: usize, t0_ns: u64, t1_ns: u64) -> Option<f64> {
        if column >= self.width || t1_ns < t0_ns {
            return None;
        }
        Some(self.at(column, t1_ns)? - self.at(column, t0_ns)?)
    }

    fn at(&self, column: usize, t_ns: u64) -> Option<f64> {
        let value = |i: usize| self.values[i * self.width + column];
        match self.times_ns.binary_search(&t_ns) {
            Ok(i) => Some(value(i)),
            Err(i) => {
                if i == 0 || i == self.times_ns.len() {
                    return None;
                }
                let (t0, t1) = (self.times_ns[i - 1], self.times_ns[i]);
                let part = (t_ns - t0) as f64 / (t1 - t0) as f64;
                Some(value(i - 1) + (value(i) - value(i - 1)) * part)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_timeline_keeps_its_energy() {
        let mut line = Timeline::new(2, 16);
        for i in 0..1000u64 {
            line.push(i * 10, &[i as f64, 2.0 * i as f64]);
        }
        line.push_last(10_000, &[1000.0, 2000.0]);
        assert!(line.times_ns().len() <= 17);
        assert_eq!(line.integrate(0, 0, 10_000), Some(1000.0));
        assert_eq!(line.integrate(1, 0, 10_000), Some(2000.0));
        assert!((line.integrate(0, 0, 5_000).unwrap() - 500.0).abs() < 1e-9);
    }
}
