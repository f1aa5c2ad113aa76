//! Files that are opened once and read many times, with `pread` from offset 0.
//!
//! Opening costs ten times the read on /proc and /sys. The function that is metered runs in the
//! same process and may close descriptors that are not its own (`os.closerange`, a daemon that
//! closes all); their numbers then become its files. So a kept descriptor is used and closed only
//! while it is the file that was opened.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::plain;

/// A read shorter than this was not cut by the kernel's page of 4096 bytes.
const SURELY_WHOLE: usize = 2048;

/// Most files of /proc fit in twice this, bytes.
const FIRST_BYTES: usize = 2048;

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

/// Whether an error means that the process or the machine lacks descriptors or memory: what was
/// refused for that may be there the next time.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    ) || error.kind() == io::ErrorKind::OutOfMemory
}

/// Whether this process can open no file at this moment.
pub fn no_descriptor_free() -> bool {
    shortage().is_some()
}

/// Why this process can open no file at this moment, where it cannot for want of descriptors or
/// memory.
pub fn shortage() -> Option<io::Error> {
    File::open("/dev/null").err().filter(is_shortage)
}

/// A descriptor's number with what it was when it was opened, in one word, so that both change
/// together: the number above, 31 bits made of device and inode below, and the last one where the
/// file also has a position by which it is known.
///
/// Reads with `pread` leave the position alone, and whoever opens a file begins at 0. So a file
/// that stands far beyond its end, where it was put, is the one that was put there. To ask for that
/// takes a third of the time of asking for device and inode, which are asked for where it differs.
#[derive(Debug)]
struct Marked(AtomicU64);

impl Marked {
    /// No descriptor.
    const NONE: u64 = u64::MAX;

    /// In a word: the file has its position.
    const PLACED: u64 = 1;

    fn word(fd: RawFd, device: u64, inode: u64) -> u64 {
        // Multiplied by odd constants, so that near numbers do not cancel each other.
        let mixed = device
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(inode.wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
        u64::from(fd as u32) << 32 | mixed >> 32 & !Self::PLACED
    }

    /// The word of a file that was just opened, which is given its position where that can be asked
    /// for at no cost: to find its place the kernel writes a file of /proc anew.
    fn of(file: &File, found: &Metadata) -> u64 {
        let word = Self::word(file.as_raw_fd(), found.dev(), found.ino());
        if plain::file_system_of(file).is_none_or(|kind| kind == plain::PROC) {
            return word;
        }
        let placed = word | Self::PLACED;
        let position = Self::position(placed);
        let mut file = file;
        match file.seek(SeekFrom::Start(position)) {
            Ok(at) if at == position => placed,
            _ => word,
        }
    }

    /// Where a file of that word stands: above 1 GiB, and no higher than sysfs lets it.
    fn position(word: u64) -> u64 {
        1 << 30 | word & 0x3fff_ffff
    }

    /// The descriptor that `word` names, if it still is what it was.
    fn verified(word: u64) -> Option<RawFd> {
        let fd = (word >> 32) as u32 as RawFd;
        if word & Self::PLACED != 0 && fd >= 0 {
            // SAFETY: lseek by 0 changes nothing; a number that is no descriptor is an error.
            let at = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
            if u64::try_from(at) == Ok(Self::position(word)) {
                return Some(fd);
            }
        }
        // SAFETY: fstat fills the zeroed structure, for which all-zero is valid; a number that is
        // no descriptor is an error, not a fault.
        let found = unsafe {
            let mut found: libc::stat = std::mem::zeroed();
            if fd < 0 || libc::fstat(fd, &mut found) != 0 {
                return None;
            }
            found
        };
        (Self::word(fd, found.st_dev, found.st_ino) == word & !Self::PLACED).then_some(fd)
    }
}

/// An open file, used and closed only while its descriptor is that file.
#[derive(Debug)]
pub struct OwnFile {
    file: ManuallyDrop<File>,
    word: u64,
}

impl OwnFile {
    /// Takes a file that was just opened.
    pub fn new(file: File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            word: Marked::word(file.as_raw_fd(), found.dev(), found.ino()),
            file: ManuallyDrop::new(file),
        })
    }

    /// The file; `None` where somebody closed it.
    pub fn get(&self) -> Option<&File> {
        Marked::verified(self.word).map(|_| &*self.file)
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if self.get().is_some() {
            // SAFETY: nobody uses it after this.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

/// A kept descriptor, close-on-exec.
///
/// Where it was closed by somebody else, and where none was free when it was to be opened, the next
/// read opens the file anew.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    opened: Marked,
}

impl Kept {
    /// Opens `path`, which must be a regular file, for reading.
    ///
    /// A process that has no descriptor free now may have one at the first read, so that is no
    /// error here.
    pub fn open(path: &Path) -> io::Result<Self> {
        let word = match Self::opened(path) {
            Err(e) if is_shortage(&e) => Marked::NONE,
            other => other?,
        };
        Ok(Self {
            path: path.to_owned(),
            opened: Marked(AtomicU64::new(word)),
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn opened(path: &Path) -> io::Result<u64> {
        let (mut file, mut found) = plain::open(path)?;
        if file.as_raw_fd() <= LAST_STANDARD {
            drop(file);
            let _spared = StandardStreams::spared();
            (file, found) = plain::open(path)?;
        }
        let word = Marked::of(&file, &found);
        let _ours = file.into_raw_fd();
        Ok(word)
    }

    /// The file, opened anew where the descriptor is ours no more.
    fn file(&self) -> io::Result<ManuallyDrop<File>> {
        let word = self.opened.0.load(Ordering::Acquire);
        let fd = match Marked::verified(word) {
            Some(fd) => fd,
            None => {
                let fresh = Self::opened(&self.path)?;
                let fd = (fresh >> 32) as u32 as RawFd;
                let swapped = self.opened.0.compare_exchange(
                    word,
                    fresh,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                match swapped {
                    Ok(_) => fd,
                    Err(theirs) => {
                        // SAFETY: opened above, and known to nobody else.
                        drop(unsafe { File::from_raw_fd(fd) });
                        Marked::verified(theirs).ok_or(io::ErrorKind::NotFound)?
                    }
                }
            }
        };
        // SAFETY: an open file of ours, as was just found out; it is not closed by this handle.
        Ok(ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }))
    }

    /// Closes the descriptor; the next read opens the file anew. Not while somebody reads it.
    pub fn release(&self) {
        let word = self.opened.0.swap(Marked::NONE, Ordering::AcqRel);
        if let Some(fd) = Marked::verified(word) {
            // SAFETY: ours, as was just found out, and nobody finds its number any more.
            drop(unsafe { File::from_raw_fd(fd) });
        }
    }

    /// Whether the file was removed since it was opened. Below a root of plain files its content
    /// stays readable then, which the kernel's own does not.
    pub fn is_removed(&self) -> bool {
        let found = self.file().and_then(|file| file.metadata());
        found.is_ok_and(|found| found.nlink() == 0)
    }

    /// Reads a file that holds a number or a short line into `buffer` and returns it as text.
    ///
    /// Bytes that are no UTF-8 are an `InvalidData` error, a file that is longer than the buffer a
    /// `FileTooLarge` error: a number of which a part is missing is another number.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b str> {
        let file = self.file()?;
        let filled = fill(&file, buffer, 0)?;
        if filled == buffer.len() && fill(&file, &mut [0], filled)? > 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        std::str::from_utf8(&buffer[..filled])
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// Reads the first bytes of a long file, as many as `buffer` holds.
    pub fn read_start<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b str> {
        let file = self.file()?;
        let filled = fill(&file, buffer, 0)?;
        Ok(as_text(&mut buffer[..filled]))
    }

    /// Reads a file of any length to its end into `buffer`, which grows as needed and is there for
    /// the next time. Names in it that are no UTF-8 have a question mark for each such byte.
    ///
    /// # Errors
    /// The system's error; `OutOfMemory`; `FileTooLarge` where the file does not end.
    pub fn read_whole<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<&'b str> {
        let file = self.file()?;
        let mut filled = 0;
        loop {
            // All that is reserved is used, so that a long file takes few calls.
            buffer.clear();
            if filled == buffer.capacity() {
                buffer.try_reserve(filled.max(FIRST_BYTES) * 2)?;
            }
            buffer.resize(buffer.capacity(), 0);
            filled = fill(&file, buffer, 0)?;
            if filled < buffer.len() {
                return Ok(as_text(&mut buffer[..filled]));
            }
            if filled as u64 >= plain::MOST_OF_KERNEL_TEXT {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    }
}

/// Reads from `offset` on until the buffer is full or the file ends; returns how many bytes came.
fn fill(file: &File, buffer: &mut [u8], offset: usize) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], (offset + filled) as u64) {
            Ok(0) => break,
            Ok(n) => {
                filled += n;
                // The kernel fills a page before it returns short, so a short read that ends a
                // line is the end; asking again would make it write the whole file anew.
                if offset + filled < SURELY_WHOLE && buffer[filled - 1] == b'\n' {
                    break;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// The bytes as text. The kernel passes on names as their owners gave them, in any encoding; the
/// numbers beside them are ASCII.
pub fn as_text(bytes: &mut [u8]) -> &str {
    if std::str::from_utf8(bytes).is_err() {
        for byte in bytes.iter_mut().filter(|byte| !byte.is_ascii()) {
            *byte = b'?';
        }
    }
    // ASCII by now, if it was not UTF-8 before.
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Puts `other` where the descriptor of `kept` is, as a function does that closes all and then
    /// opens files of its own.
    fn take_over(kept: &Kept, other: &File) -> RawFd {
        let fd = Marked::verified(kept.opened.0.load(Ordering::Acquire)).unwrap();
        // SAFETY: both are open descriptors of this test.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
        fd
    }

    #[test]
    fn a_descriptor_that_became_another_file_is_neither_read_nor_closed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("counter");
        std::fs::write(&path, "17\n").unwrap();
        let mut foreign = tempfile::tempfile().unwrap();
        foreign.write_all(b"99\n").unwrap();
        let kept = Kept::open(&path).unwrap();
        let fd = take_over(&kept, &foreign);
        let mut buffer = [0; 16];
        assert_eq!(kept.read(&mut buffer).unwrap(), "17\n");
        // It was opened anew, and stays open.
        let word = kept.opened.0.load(Ordering::Acquire);
        assert_ne!(Marked::verified(word).unwrap(), fd);
        assert_eq!(kept.read(&mut buffer).unwrap(), "17\n");
        assert_eq!(kept.opened.0.load(Ordering::Acquire), word);
        drop(kept);
        // SAFETY: a descriptor that this test made.
        let foreign = unsafe { File::from_raw_fd(fd) };
        assert_eq!(foreign.metadata().unwrap().len(), 3);
    }

    #[test]
    fn a_file_is_known_by_its_position_and_where_that_changed_by_what_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("counter");
        std::fs::write(&path, "17\n").unwrap();
        let kept = Kept::open(&path).unwrap();
        let word = kept.opened.0.load(Ordering::Acquire);
        assert_ne!(word & Marked::PLACED, 0);
        let mut file = kept.file().unwrap();
        assert_eq!(file.stream_position().unwrap(), Marked::position(word));
        // Somebody else read from it.
        file.seek(SeekFrom::Start(1)).unwrap();
        assert_eq!(kept.read(&mut [0; 16]).unwrap(), "17\n");
        assert_eq!(kept.opened.0.load(Ordering::Acquire), word);
        // Another file that stands somewhere, too.
        let mut foreign = tempfile::tempfile().unwrap();
        foreign.seek(SeekFrom::Start(1 << 30)).unwrap();
        take_over(&kept, &foreign);
        assert_eq!(kept.read(&mut [0; 16]).unwrap(), "17\n");
        assert_ne!(kept.opened.0.load(Ordering::Acquire), word);
    }

    #[test]
    fn to_ask_whether_a_file_of_proc_is_ours_does_not_write_it_anew() {
        for (path, placed) in [
            ("/proc/stat", 0),
            ("/sys/devices/system/cpu/online", Marked::PLACED),
        ] {
            let kept = Kept::open(Path::new(path)).unwrap();
            let word = kept.opened.0.load(Ordering::Acquire);
            assert_eq!(word & Marked::PLACED, placed, "{path}");
        }
    }

    #[test]
    fn a_descriptor_that_became_another_file_survives_the_drop() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("counter");
        std::fs::write(&path, "17\n").unwrap();
        let foreign = tempfile::tempfile().unwrap();
        let kept = Kept::open(&path).unwrap();
        let fd = take_over(&kept, &foreign);
        drop(kept);
        // SAFETY: a descriptor that this test made.
        let foreign = unsafe { File::from_raw_fd(fd) };
        assert!(foreign.metadata().is_ok());
    }

    #[test]
    fn what_is_gone_or_no_file_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        assert!(Kept::open(&place.path().join("nothing")).is_err());
        assert!(Kept::open(place.path()).is_err());
        let path = place.path().join("counter");
        std::fs::write(&path, "17\n").unwrap();
        let kept = Kept::open(&path).unwrap();
        take_over(&kept, &tempfile::tempfile().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(kept.read(&mut [0; 16]).is_err());
    }

    fn kept_of(bytes: &[u8]) -> (tempfile::TempDir, Kept) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let kept = Kept::open(&path).unwrap();
        (place, kept)
    }

    #[test]
    fn a_file_of_any_length_is_read_to_its_end() {
        let mut buffer = Vec::new();
        for lines in [0usize, 1, 500, 4096, 70_000] {
            let text = "eth0: 1\n".repeat(lines);
            let (_place, kept) = kept_of(text.as_bytes());
            assert_eq!(kept.read_whole(&mut buffer).unwrap(), text);
        }
        // What was long before is of no harm to what is short.
        let (_place, kept) = kept_of(b"7\n");
        assert_eq!(kept.read_whole(&mut buffer).unwrap(), "7\n");
        let (_place, kept) = kept_of(b"no end of line");
        assert_eq!(kept.read_whole(&mut buffer).unwrap(), "no end of line");
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error_and_not_another_number() {
        let (_place, kept) = kept_of(b"123456789");
        assert!(kept.read(&mut [0; 8]).is_err());
        assert_eq!(kept.read(&mut [0; 9]).unwrap(), "123456789");
        assert_eq!(kept.read_start(&mut [0; 3]).unwrap(), "123");
    }

    #[test]
    fn names_in_any_encoding_leave_the_numbers_readable() {
        let (_place, kept) = kept_of(b"Name:\tcaf\xe9 \xc3\nVmHWM:\t 8 kB\n");
        let mut buffer = Vec::new();
        let text = kept.read_whole(&mut buffer).unwrap();
        assert_eq!(text, "Name:\tcaf? ?\nVmHWM:\t 8 kB\n");
        let (_place, kept) = kept_of("Name:\té\n".as_bytes());
        assert_eq!(kept.read_whole(&mut buffer).unwrap(), "Name:\té\n");
    }
}
