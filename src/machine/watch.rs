//! The files that set which part of the machine this process may use, watched for changes: a quota
//! may be set anew, and a process put into another cgroup, while it lives.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::allotted::Allotted;
use crate::source::kept::Kept;

/// They are not read more often than this, ns.
pub const EVERY_NS: u64 = 100_000_000;

/// More of them are not kept open.
const MOST_FILES: usize = 16;

/// Files with what was in them.
#[derive(Debug)]
pub struct Watch {
    files: Vec<(Kept, u64)>,
    read_ns: u64,
    text: Vec<u8>,
}

impl Watch {
    /// Opens the files that `share` was read from.
    pub fn open(share: &Allotted, now_ns: u64) -> Self {
        let mut text = Vec::new();
        let files = share.files().iter().take(MOST_FILES);
        let files = files.filter_map(|path| {
            let kept = Kept::open(path).ok()?;
            let content = content(&kept, &mut text);
            Some((kept, content))
        });
        Self {
            files: files.collect(),
            read_ns: now_ns,
            text,
        }
    }

    /// Whether one of them has changed or is gone. Each is read at most every 0.1 s.
    pub fn changed(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.read_ns) < EVERY_NS {
            return false;
        }
        self.read_ns = now_ns;
        let text = &mut self.text;
        self.files
            .iter()
            .any(|(kept, before)| content(kept, text) != *before)
    }

    /// Closes the files until they are read again.
    pub fn release(&self) {
        self.files.iter().for_each(|(kept, _)| kept.release());
    }
}

/// A number that stands for what is in a file; for one that cannot be read, too.
fn content(kept: &Kept, text: &mut Vec<u8>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match kept.read_whole(text) {
        Ok(text) if !kept.is_removed() => text.hash(&mut hasher),
        _ => "gone".hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_quota_that_is_set_anew_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("sys/fs/cgroup");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cpu.max"), "max 100000\n").unwrap();
        let mut watch = Watch::open(&Allotted::read(root.path(), 8), 0);
        assert!(!watch.changed(EVERY_NS));
        fs::write(group.join("cpu.max"), "150000 100000\n").unwrap();
        assert!(!watch.changed(EVERY_NS + 1));
        assert!(watch.changed(2 * EVERY_NS));
        let mut watch = Watch::open(&Allotted::read(root.path(), 8), 0);
        fs::remove_file(group.join("cpu.max")).unwrap();
        assert!(watch.changed(EVERY_NS));
    }
}
