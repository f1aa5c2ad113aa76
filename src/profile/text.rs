//! The part of a file that is held in memory, its place in the file, and the digest of all of it.

use std::io::{self, Read};

use memchr::{memchr_iter, memrchr};
use sha2::{Digest, Sha256};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// Room that is given back once what it was needed for has been read.
const MUCH: usize = 16 << 20;

/// A place in the file as editors show it, both from 1. Columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    const FIRST: Self = Self { line: 1, column: 1 };

    /// The place after `passed`, which begins here.
    fn after(self, passed: &[u8]) -> Self {
        match memrchr(b'\n', passed) {
            None => Self {
                column: self.column + characters(passed),
                ..self
            },
            Some(last) => Self {
                line: self.line + memchr_iter(b'\n', passed).count(),
                column: 1 + characters(&passed[last + 1..]),
            },
        }
    }
}

/// Characters of UTF-8: bytes that continue no other one's.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

pub(super) struct Text<R> {
    input: R,
    digest: Option<Sha256>,
    buffer: Vec<u8>,
    /// What comes before it in `buffer` is done with.
    start: usize,
    position: Position,
    ended: bool,
}

impl<R: Read> Text<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            digest: Some(Sha256::new()),
            buffer: Vec::new(),
            start: 0,
            position: Position::FIRST,
            ended: false,
        }
    }

    /// What is held and not yet passed.
    pub(super) fn held(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads on; false at the end of the file.
    pub(super) fn grow(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let before = self.buffer.len();
        self.buffer
            .try_reserve(CHUNK)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let wanted = u64::try_from(CHUNK).unwrap_or(u64::MAX);
        self.input
            .by_ref()
            .take(wanted)
            .read_to_end(&mut self.buffer)?;
        let new = &self.buffer[before..];
        self.ended = new.is_empty();
        if let Some(digest) = &mut self.digest {
            digest.update(new);
        }
        Ok(!self.ended)
    }

    /// What is left of a buffer that one large configuration needed is moved to a small one.
    fn give_back(&mut self) {
        if self.buffer.capacity() > MUCH && self.held().len() < CHUNK {
            self.buffer = self.held().to_vec();
            self.start = 0;
        }
    }

    /// The first `bytes` that are held are done with.
    pub(super) fn pass(&mut self, bytes: usize) {
        let passed = &self.buffer[self.start..self.start + bytes];
        self.position = self.position.after(passed);
        self.start += bytes;
        self.give_back();
    }

    /// Passes a byte order mark, which counts as no character.
    pub(super) fn pass_mark(&mut self) -> io::Result<()> {
        const MARK: &[u8] = "\u{feff}".as_bytes();
        while self.held().len() < MARK.len() && self.grow()? {}
        if self.held().starts_with(MARK) {
            self.start += MARK.len();
        }
        Ok(())
    }

    /// Passes white space; the first byte after it, `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<u8>> {
        loop {
            let held = self.held();
            let blank = held
                .iter()
                .position(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
            if let Some(blank) = blank {
                self.pass(blank);
                return Ok(self.held().first().copied());
            }
            self.pass(held.len());
            if !self.grow()? {
                return Ok(None);
            }
        }
    }

    /// Where the byte at `index` of what is held is in the file.
    pub(super) fn position(&self, index: usize) -> Position {
        let held = self.held();
        self.position.after(&held[..index.min(held.len())])
    }

    /// SHA-256 of the whole file, once it is read to its end.
    pub(super) fn digest(&mut self) -> Option<[u8; 32]> {
        if !self.ended {
            return None;
        }
        Some(self.digest.take()?.finalize().into())
    }
}
