//! The ring's file: made whole under another name, then put in its place; one writer at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::source::ring::layout::{
    ACCOUNT_AT, Account, GROUP_WORDS, GroupRow, HEAD_AT, HEAD_WORDS, HEADER_WORDS, Head, Header,
    IDLE_AT, IDLE_WORDS, SAMPLES_AT, Sample, WORD, seal, to_words,
};
use crate::source::ring::trust;

/// Name of the lock beside the ring. It is the lock that counts, not the file.
const LOCK: &str = "agent.lock";

/// Holds the right to write the ring; the kernel gives it back when the holder ends, however.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Takes the right to write the ring at `path`, whose directory is made if it is missing.
    ///
    /// # Errors
    /// [`Error::Agent`] where another agent has it, the directory is not safe, or files cannot be
    /// made.
    pub fn take(path: &Path) -> Result<Self> {
        let dir = directory(path)?;
        // Before anything is made: what is refused leaves nothing behind.
        may_be_replaced(path)?;
        safe(dir)?;
        let lock = dir.join(LOCK);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&lock)
            .map_err(|e| not_made(&lock, &e))?;
        let holder = holder_in(&file).ok_or_else(|| Error::Agent {
            reason: format!("{} is a file of something else", lock.display()),
            accepted: "a directory of the ring's own, such as /run/lithowatt",
        })?;
        // SAFETY: flock takes a descriptor that is open and touches no memory.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(not_made(&lock, &error));
            }
            return Err(Error::Agent {
                reason: match holder {
                    Some(pid) => format!("another one, pid {pid}, writes {}", path.display()),
                    None => format!("another one writes {}", path.display()),
                },
                accepted: "one agent for a ring",
            });
        }
        let write = file
            .set_len(0)
            .and_then(|()| file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0));
        write.map_err(|e| not_made(&lock, &e))?;
        Ok(Self(file))
    }
}

/// Who holds a lock, by its file: a number, or nobody yet. `None` for a file of something else.
fn holder_in(lock: &File) -> Option<Option<u32>> {
    let mut bytes = [0; 16];
    if !lock.metadata().ok()?.is_file() {
        return None;
    }
    let length = lock.read_at(&mut bytes, 0).ok()?;
    match bytes.get(..length) {
        Some([]) => Some(None),
        // A number whose end is missing is one that is being written.
        Some(text) => Some(Some(std::str::from_utf8(text).ok()?.trim().parse().ok()?)),
        None => None,
    }
}

/// Sees that nothing but a ring is where the ring is put.
///
/// # Errors
/// [`Error::Agent`] saying what is there.
pub fn may_be_replaced(path: &Path) -> Result<()> {
    trust::replaceable(path)
        .map(drop)
        .map_err(|what| Error::Agent {
            reason: format!("{} {what}", path.display()),
            accepted: "a path of its own for the ring, such as /run/lithowatt/ring; only a ring is \
                   replaced",
        })
}

fn directory(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() && path.file_name().is_some() => Ok(dir),
        _ => Err(Error::Agent {
            reason: format!("{:?} is no path of a ring", path.display().to_string()),
            accepted: "a file in a directory of its own, such as /run/lithowatt/ring",
        }),
    }
}

fn not_made(path: &Path, error: &io::Error) -> Error {
    Error::Agent {
        reason: format!("{} cannot be made ({error})", path.display()),
        accepted: "a place for the ring in a folder that nobody but this user or root can have \
                   made, such as --ring=\"$XDG_RUNTIME_DIR/lithowatt/ring\" (its readers find it \
                   by LITHOWATT_RING)",
    }
}

/// Makes the directory, or sees that nobody else can put files into it.
pub(super) fn safe(dir: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o755).create(dir) {
        Ok(()) => {
            // Whatever the umask: others must come in.
            let mode = fs::Permissions::from_mode(0o755);
            return fs::set_permissions(dir, mode).map_err(|e| not_made(dir, &e));
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(not_made(dir, &e)),
    }
    let meta = fs::symlink_metadata(dir).map_err(|e| not_made(dir, &e))?;
    // SAFETY: geteuid has no preconditions.
    let us = unsafe { libc::geteuid() };
    let why = if !meta.is_dir() {
        "is no directory"
    } else if meta.mode() & 0o022 != 0 {
        "may be written by others"
    } else if meta.uid() != us && meta.uid() != 0 {
        "belongs to another user"
    } else {
        return Ok(());
    };
    Err(Error::Agent {
        reason: format!("{} {why}", dir.display()),
        accepted: "a directory of the agent's own, mode 0755",
    })
}

/// What an earlier agent left, if it can be believed.
#[derive(Debug)]
pub struct Left {
    /// Its header.
    pub header: Header,
    /// Its last sample.
    pub sample: Sample,
    /// Its last account.
    pub account: Account,
    /// Its groups.
    pub groups: Vec<GroupRow>,
}

/// Reads what an earlier agent left at `path`. The lock is held: nobody writes it.
pub fn left_at(path: &Path) -> Option<Left> {
    let bytes = trust::replaceable(path).ok()??;
    let words_at = |at: u64, count: usize| -> Option<Vec<u64>> {
        let at = usize::try_from(at).ok()?;
        let slice = bytes.get(at..at.checked_add(count * WORD)?)?;
        let mut words = vec![0; count];
        to_words(slice, &mut words);
        Some(words)
    };
    let header = Header::decode(&words_at(0, HEADER_WORDS)?).ok()?;
    if header.file_bytes() != bytes.len() as u64 {
        return None;
    }
    let sample_of = |number: u64| {
        let words = words_at(header.sample_at(number), header.sample_words())?;
        let mut sample = Sample::default();
        sample.decode(&words, number).then_some(sample)
    };
    // A writer that was killed between the two may have left the head or the newest sample behind.
    let sample = match words_at(HEAD_AT, HEAD_WORDS).and_then(|w| Head::decode(&w)) {
        Some(head) => sample_of(head.count + 1).or_else(|| sample_of(head.count))?,
        None => newest(&header, &words_at)?,
    };
    let account = words_at(ACCOUNT_AT, crate::source::ring::layout::ACCOUNT_WORDS)
        .and_then(|w| Account::decode(&w))
        .unwrap_or_default();
    let rows = account.rows.min(header.groups) as usize;
    let groups: Vec<GroupRow> = (0..rows)
        .filter_map(|i| {
            let at = header.groups_at() + (i * GROUP_WORDS * WORD) as u64;
            GroupRow::decode(&words_at(at, GROUP_WORDS)?)
        })
        .collect();
    // A round that was not written whole is not divided any more.
    let whole = groups.len() == rows && groups.iter().all(|row| row.round == account.round);
    let (account, groups) = if whole {
        (account, groups)
    } else {
        (Account::default(), Vec::new())
    };
    Some(Left {
        header,
        sample,
        account,
        groups,
    })
}

fn newest(header: &Header, words_at: &dyn Fn(u64, usize) -> Option<Vec<u64>>) -> Option<Sample> {
    let slot = (header.sample_words() * WORD) as u64;
    (0..header.slots)
        .filter_map(|i| {
            let words = words_at(SAMPLES_AT + i * slot, header.sample_words())?;
            let mut sample = Sample::default();
            sample.decode(&words, words[0]).then_some(sample)
        })
        .max_by_key(|sample| sample.number)
}

/// The file as memory of this process. Stores cost nothing; the reader's side never maps.
#[derive(Debug)]
struct Shared {
    words: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only stored to through atomics.
unsafe impl Send for Shared {}

impl Shared {
    fn map(file: &File, bytes: u64) -> io::Result<Self> {
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)? / WORD;
        // SAFETY: a fresh mapping of `len` words of a file that is that long; no pointer goes in.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * WORD,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { words, len })
    }

    /// Stores `words` at `at` bytes from the start.
    fn store(&self, at: u64, words: &[u64]) {
        let first = at as usize / WORD;
        for (i, word) in words.iter().enumerate() {
            if first + i < self.len {
                // SAFETY: the index is within the mapping, which lives as long as `self`; a page
                // is aligned for words, and AtomicU64 has their size.
                let cell = unsafe { &*self.words.as_ptr().add(first + i) };
                cell.store(word.to_le(), Ordering::Relaxed);
            }
        }
        // What is stored next, a head or an account, is not seen before this.
        std::sync::atomic::fence(Ordering::Release);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and nothing refers to it any more.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.len * WORD) };
    }
}

/// The open ring.
#[derive(Debug)]
pub struct Writer {
    shared: Shared,
    header: Header,
    count: u64,
    words: Vec<u64>,
}

impl Writer {
    /// Makes the ring and puts it in its place at once with its first sample.
    ///
    /// # Errors
    /// [`Error::Agent`] naming the path.
    pub fn create(
        path: &Path,
        header: Header,
        mode: u32,
        group: Option<u32>,
        mut first: Sample,
    ) -> Result<Self> {
        let dir = directory(path)?;
        let temporary = dir.join(format!(".ring.{}", std::process::id()));
        let made = Self::make(&temporary, header, mode, group, &mut first);
        // The directory is the agent's own, but what is in it may have changed since it was locked.
        if let Err(error) = may_be_replaced(path) {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        let put = made.and_then(|writer| fs::rename(&temporary, path).map(|()| writer));
        put.map_err(|e| {
            let _ = fs::remove_file(&temporary);
            not_made(path, &e)
        })
    }

    fn make(
        path: &Path,
        header: Header,
        mode: u32,
        group: Option<u32>,
        first: &mut Sample,
    ) -> io::Result<Self> {
        // What a killed agent of the same pid left, as in a container.
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        if group.is_some() {
            std::os::unix::fs::fchown(&file, None, group).map_err(|e| {
                io::Error::new(e.kind(), format!("it may not be given to its group: {e}"))
            })?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        // Written, not only made long: a full tmpfs is an error now and no signal later.
        file.write_all_at(&vec![0; header.file_bytes() as usize], 0)?;
        let mut writer = Self {
            shared: Shared::map(&file, header.file_bytes())?,
            header,
            count: 0,
            words: Vec::new(),
        };
        writer.shared.store(0, &writer.header.encode());
        writer.publish_groups(&Account::default(), &[]);
        writer.publish_idle(std::iter::empty());
        writer.publish(first);
        Ok(writer)
    }

    /// Publishes a sample, whose number is given to it here.
    pub fn publish(&mut self, sample: &mut Sample) {
        sample.number = self.count + 1;
        sample.encode(&mut self.words);
        let at = self.header.sample_at(sample.number);
        self.shared.store(at, &self.words);
        self.count = sample.number;
        self.beat(sample.t_ns, false);
    }

    /// Publishes a round of groups. The account comes last: it vouches for the rows.
    pub fn publish_groups(&mut self, account: &Account, rows: &[GroupRow]) {
        let mut at = self.header.groups_at();
        for row in rows.iter().take(self.header.groups as usize) {
            self.shared.store(at, &row.encode());
            at += (GROUP_WORDS * WORD) as u64;
        }
        self.shared.store(ACCOUNT_AT, &account.encode());
    }

    /// Publishes each zone's idle power as it was seen at rest, mW; 0 where it was not.
    pub fn publish_idle(&mut self, milliwatts: impl Iterator<Item = u64>) {
        let mut words = [0; IDLE_WORDS];
        for (word, mw) in words.iter_mut().zip(milliwatts.take(IDLE_WORDS - 1)) {
            *word = mw;
        }
        seal(&mut words);
        self.shared.store(IDLE_AT, &words);
    }

    /// Writes the agent's heartbeat, or that it ends.
    pub fn beat(&mut self, t_ns: u64, closed: bool) {
        let head = Head {
            count: self.count,
            heartbeat_ns: t_ns,
            closed,
            generation: self.header.generation,
        };
        self.shared.store(HEAD_AT, &head.encode());
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Samples so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}
