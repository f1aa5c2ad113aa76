//! One metric of one configuration.

use std::collections::HashMap;

/// Beyond this a whole number in an f64 may stand for its neighbour.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// The values of a metric, those of all repetitions one after another.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// There is none.
    Missing,
    /// NaN where one is missing.
    Numbers(Vec<f64>),
    /// The number of each value's text among the labels, -1 where one is missing.
    Texts(Vec<i32>),
}

/// A metric's values, and what there is to say about them without having them.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    values: Values,
    lengths: Vec<u32>,
    keep: bool,
    count: usize,
    missing: usize,
    zeros: usize,
    minimum: f64,
    maximum: f64,
    whole: bool,
    written_whole: usize,
    not_finite: usize,
    labels: Vec<String>,
    codes: HashMap<String, i32>,
    last: i32,
}

/// A number where texts are, or a text where numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mixed;

impl Column {
    /// Without `keep` the values are counted, not stored.
    pub(super) fn new(keep: bool) -> Self {
        Self {
            values: Values::Missing,
            lengths: Vec::new(),
            keep,
            count: 0,
            missing: 0,
            zeros: 0,
            minimum: f64::INFINITY,
            maximum: f64::NEG_INFINITY,
            whole: true,
            written_whole: 0,
            not_finite: 0,
            labels: Vec::new(),
            codes: HashMap::new(),
            last: -1,
        }
    }

    pub(super) fn end_repetition(&mut self, length: u32) {
        self.lengths.push(length);
    }

    pub(super) fn push_missing(&mut self) {
        self.count += 1;
        self.missing += 1;
        if self.keep {
            match &mut self.values {
                Values::Missing => {}
                Values::Numbers(numbers) => numbers.push(f64::NAN),
                Values::Texts(codes) => codes.push(-1),
            }
        }
    }

    /// `whole`: it is written as a whole number.
    pub(super) fn push_number(&mut self, number: f64, whole: bool) -> Result<(), Mixed> {
        if !number.is_finite() {
            self.not_finite += 1;
            self.push_missing();
            return Ok(());
        }
        if matches!(self.values, Values::Missing) {
            self.values = Values::Numbers(vec![f64::NAN; self.before()]);
        }
        let Values::Numbers(numbers) = &mut self.values else {
            return Err(Mixed);
        };
        if self.keep {
            numbers.push(number);
        }
        self.count += 1;
        self.zeros += usize::from(number == 0.0);
        self.minimum = self.minimum.min(number);
        self.maximum = self.maximum.max(number);
        self.whole &= whole && number.abs() <= LARGEST_WHOLE;
        self.written_whole += usize::from(whole);
        Ok(())
    }

    pub(super) fn push_text(&mut self, text: &str) -> Result<(), Mixed> {
        if matches!(self.values, Values::Missing) {
            self.values = Values::Texts(vec![-1; self.before()]);
        }
        let Values::Texts(codes) = &mut self.values else {
            return Err(Mixed);
        };
        let last = usize::try_from(self.last)
            .ok()
            .and_then(|last| self.labels.get(last));
        if last.is_none_or(|last| last != text) {
            self.last = match self.codes.get(text) {
                Some(code) => *code,
                None => {
                    let code = i32::try_from(self.labels.len()).unwrap_or(i32::MAX);
                    self.labels.push(text.to_owned());
                    self.codes.insert(text.to_owned(), code);
                    code
                }
            };
        }
        if self.keep {
            codes.push(self.last);
        }
        self.count += 1;
        Ok(())
    }

    /// How many values are to be stored for those that came before the first that is there.
    fn before(&self) -> usize {
        if self.keep { self.count } else { 0 }
    }

    /// The values; empty where they were not to be kept.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Whether the values were to be kept.
    pub fn kept(&self) -> bool {
        self.keep
    }

    /// Workers of each repetition.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// How many values there are, missing ones among them.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many are null, NaN or infinite.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// How many are 0.
    pub fn zeros(&self) -> usize {
        self.zeros
    }

    /// The least and the greatest number, if there is any.
    pub fn range(&self) -> Option<(f64, f64)> {
        (self.minimum <= self.maximum).then_some((self.minimum, self.maximum))
    }

    /// Whether all numbers that are there are written as whole ones, and small enough to be stored
    /// as they are. Never of texts.
    pub fn whole(&self) -> bool {
        self.whole && !matches!(self.values, Values::Texts(_))
    }

    /// Whether values and labels say all that the file does: a number that is missing is null there,
    /// and either all numbers are written as whole ones or none is.
    pub fn exact(&self) -> bool {
        self.not_finite == 0 && (self.whole || self.written_whole == 0)
    }

    /// Whether all values that are there are the same.
    pub fn constant(&self) -> bool {
        self.minimum == self.maximum || self.labels.len() == 1
    }

    /// The different texts, in the order in which they appear.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }
}
