//! Files that are opened once and read many times, with `pread` from offset 0.
//!
//! Opening costs ten times the read on /proc and /sys.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A read shorter than this was not cut by the kernel's page of 4096 bytes.
const SURELY_WHOLE: usize = 2048;

/// Descriptor of standard error.
const LAST_STANDARD: i32 = 2;

/// Keeps descriptors 0 to 2 from being handed out while it lives.
///
/// In a process that closed its standard streams they would be the next to be given, and whoever
/// reads "standard input" or replaces "standard output" would meet one of our counters.
#[derive(Debug)]
pub struct StandardStreams(#[allow(dead_code, reason = "held, not read")] Vec<File>);

impl StandardStreams {
    /// Takes those of the three that are free.
    pub fn spared() -> Self {
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            if file.as_raw_fd() > LAST_STANDARD {
                break;
            }
            taken.push(file);
        }
        Self(taken)
    }
}

/// A kept descriptor. std opens it close-on-exec.
#[derive(Debug)]
pub struct Kept(File);

impl Kept {
    /// Opens `path` for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.as_raw_fd() > LAST_STANDARD {
            return Ok(Self(file));
        }
        drop(file);
        let _spared = StandardStreams::spared();
        File::open(path).map(Self)
    }

    /// Reads from the start into `buffer` and returns what was read as text.
    ///
    /// Bytes that are no UTF-8 are an `InvalidData` error; a file longer than the buffer is cut.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b str> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], filled as u64) {
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    // The kernel fills a page before it returns short, so a short read that ends a
                    // line is the end; asking again would make it write the whole file anew.
                    if filled < SURELY_WHOLE && buffer[filled - 1] == b'\n' {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        std::str::from_utf8(&buffer[..filled])
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}
