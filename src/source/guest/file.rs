//! A file that another machine writes, mounted here by virtio-fs or 9p.
//!
//! It changes without a word to this kernel, so its pages may be old here for ever: with 9p's
//! `cache=loose`, and for a second with virtio-fs' `cache=auto`. Nothing is mapped, and where the
//! file system lets it, the file is opened with `O_DIRECT`, so that each read asks the host.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::source::kept::{OwnFile, StandardStreams};
use crate::source::ring::trust;
use crate::source::{ReadFault, Unavailable, plain};

/// Alignment of what is read directly, bytes: that of a page.
const PAGE: usize = 4096;

/// Pages that are read at once at most.
const PAGES: usize = 3;

/// Memory that is aligned for direct reads.
#[derive(Debug)]
#[repr(C, align(4096))]
struct Buffer([u8; PAGE * PAGES]);

/// The file, open.
#[derive(Debug)]
pub(super) struct SharedFile {
    file: OwnFile,
    buffer: Box<Buffer>,
    is_direct: bool,
}

impl SharedFile {
    /// Opens the file at `path`, if whoever wrote it is believed.
    pub(super) fn open(path: &Path) -> Result<Self, Unavailable> {
        let shown = path.display();
        let refuse = |why: &str| Unavailable::absent(format!("{shown} is refused: {why}"));
        let (file, meta, is_direct) = open(path).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => Unavailable::denied(
                format!("{shown} may not be read"),
                format!("sudo chmod a+r {shown} (on the host)"),
            ),
            io::ErrorKind::InvalidInput => refuse("it is no plain file"),
            _ => Unavailable::of(format!("{shown} cannot be opened"), &e),
        })?;
        if meta.mode() & 0o022 != 0 {
            return Err(refuse("others than its owner may write it"));
        }
        if let Some(why) = trust::distrust(path, &meta) {
            return Err(refuse(&why));
        }
        let file =
            OwnFile::new(file).map_err(|e| refuse(&format!("it cannot be looked at ({e})")))?;
        Ok(Self {
            file,
            buffer: Box::new(Buffer([0; PAGE * PAGES])),
            is_direct,
        })
    }

    /// Reads up to `pages` pages from page `first` on: what there is of them.
    pub(super) fn pages(&mut self, first: usize, pages: usize) -> Result<&[u8], ReadFault> {
        let file = self.file.get().ok_or(ReadFault::Vanished)?;
        let bytes = &mut self.buffer.0[..PAGE * pages.min(PAGES)];
        let at = (PAGE * first) as u64;
        let mut read = file.read_at(bytes, at);
        if self.is_direct && matches!(&read, Err(e) if e.kind() == io::ErrorKind::InvalidInput) {
            // It lets itself be opened so, and not read.
            let flags = libc::O_NONBLOCK;
            // SAFETY: the descriptor is open as long as `file` lives; only its flags change.
            let _ = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) };
            self.is_direct = false;
            read = file.read_at(bytes, at);
        }
        match read {
            Ok(filled) => Ok(&bytes[..filled]),
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => Err(ReadFault::Vanished),
            Err(_) => Err(ReadFault::Failed),
        }
    }

    /// When the host last wrote it, ns of its wall clock; `None` where that cannot be asked.
    pub(super) fn written_ns(&self) -> Option<i64> {
        let meta = self.file.get()?.metadata().ok()?;
        meta.mtime()
            .checked_mul(1_000_000_000)?
            .checked_add(meta.mtime_nsec())
    }
}

fn open(path: &Path) -> io::Result<(File, std::fs::Metadata, bool)> {
    let opened = |path: &Path| match plain::open_direct(path) {
        // tmpfs before Linux 6.6, and whatever else cannot.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            plain::open(path).map(|(file, meta)| (file, meta, false))
        }
        other => other.map(|(file, meta)| (file, meta, true)),
    };
    let first = opened(path)?;
    if first.0.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(first);
    }
    drop(first);
    let _spared = StandardStreams::spared();
    opened(path)
}
