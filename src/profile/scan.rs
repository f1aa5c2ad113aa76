//! Where a JSON string or list ends, in text that may still grow.
//!
//! Nothing but strings and brackets is looked at: whether what is between them is JSON is seen by
//! whoever parses it.

use memchr::{memchr2, memchr3};

/// Looks for the end of a string whose opening quote is the first byte.
#[derive(Debug)]
pub(super) struct StringEnd {
    at: usize,
}

impl StringEnd {
    pub(super) fn new() -> Self {
        Self { at: 1 }
    }

    /// One past the closing quote; `None` where `data`, which may be longer the next time, does
    /// not hold it.
    pub(super) fn find(&mut self, data: &[u8]) -> Option<usize> {
        loop {
            let found = memchr2(b'"', b'\\', data.get(self.at..)?)?;
            let at = self.at + found;
            if data[at] == b'"' {
                return Some(at + 1);
            }
            if at + 1 >= data.len() {
                // The escaped byte is not there yet.
                self.at = at;
                return None;
            }
            self.at = at + 2;
        }
    }
}

/// Looks for the end of a metric's list, whose opening bracket is the first byte.
#[derive(Debug)]
pub(super) struct ListEnd {
    at: usize,
    depth: usize,
    within: Option<StringEnd>,
}

impl ListEnd {
    /// A list of lists of values.
    const DEEPEST: usize = 2;

    pub(super) fn new() -> Self {
        Self {
            at: 0,
            depth: 0,
            within: None,
        }
    }

    /// One past the closing bracket, or past one that opens a list where none can be; `None` where
    /// `data`, which may be longer the next time, does not hold it.
    pub(super) fn find(&mut self, data: &[u8]) -> Option<usize> {
        loop {
            if let Some(string) = &mut self.within {
                self.at += string.find(&data[self.at..])?;
                self.within = None;
            }
            let Some(found) = memchr3(b'"', b'[', b']', data.get(self.at..)?) else {
                self.at = data.len();
                return None;
            };
            self.at += found;
            match data[self.at] {
                b'"' => {
                    self.within = Some(StringEnd::new());
                    continue;
                }
                b'[' => self.depth += 1,
                _ => self.depth -= 1,
            }
            self.at += 1;
            if self.depth == 0 || self.depth > Self::DEEPEST {
                return Some(self.at);
            }
        }
    }
}
