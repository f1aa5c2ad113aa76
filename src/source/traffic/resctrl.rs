//! Bytes by the kernel's resource control, `/sys/fs/resctrl`, where somebody mounted it
//! (Documentation/filesystems/resctrl.rst of the kernel).
//!
//! Each group of tasks has a file `mon_data/mon_L3_NN/mbm_total_bytes` for each last-level cache. The
//! file of a control group (the root, and the folders in it) holds the sum of its own tasks and of the
//! monitoring groups below it (`mon_groups`), so the machine's bytes are the sum over the control groups
//! alone. A monitoring group that cannot be read is left out of that sum without a word, and one that
//! is removed takes its count along, so both are looked for here: what a sum lost is not known. Of a group that
//! is made and removed between two looks nothing is left to be found, neither here nor in its parent's count.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Look;
use crate::source::Unavailable;
use crate::source::plain;

/// Where it is mounted.
const MOUNT: &str = "sys/fs/resctrl";

/// The command that mounts it.
const MOUNT_FIX: &str = "sudo mount -t resctrl resctrl /sys/fs/resctrl";

/// The command that lets everybody read it, as the kernel does at first.
const READ_FIX: &str = "sudo chmod -R a+rX /sys/fs/resctrl";

/// Where a processor that has fewer counters than groups lets them be assigned, below the mount, …
const ASSIGN_MODE: &str = "info/L3_MON/mbm_assign_mode";

/// … the command for that, so that it does not take them from one group for another, …
const MODE_FIX: &str = "echo mbm_event | sudo tee /sys/fs/resctrl/info/L3_MON/mbm_assign_mode";

/// … and the one that then gives each group its own.
const ASSIGN_FIX: &str =
    "echo 'mbm_total_bytes:*=e' | sudo tee $(find /sys/fs/resctrl -name mbm_L3_assignments)";

/// Where they cannot be assigned: fewer groups.
const REMOVE_FIX: &str =
    "sudo rmdir /sys/fs/resctrl/mon_groups/NAME, for each group that nobody needs";

/// The event of a cache.
const EVENT: &str = "mbm_total_bytes";

/// Folders of a cache below `mon_data`. Those of its parts (`mon_sub_L3_NN`, inside of it) are in its sum.
const CACHE: &str = "mon_L3_";

/// More files than this are not read: a large machine has some ten caches, and a node of containers some
/// hundred groups.
const MOST_FILES: usize = 1024;

/// Without all of these kinds of event (bits of `mbm_total_bytes_config`) only a part is counted:
/// reads of local and remote memory, and dirty victims.
const NEEDED_BITS: u64 = 0b100_0011;

/// The same by the names of newer kernels (`event_filter`).
const NEEDED_NAMES: [&str; 3] = ["local_reads", "remote_reads", "dirty_victim_writes_all"];

/// A group's count for a cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Part {
    /// Inode of the group's folder: names are given anew.
    group: u64,
    cache: String,
}

/// What was seen at one moment.
#[derive(Debug, Default)]
struct Seen {
    /// Of control groups, in which all is.
    counts: HashMap<Part, u64>,
    /// Folders of monitoring groups, whose counts are in those.
    inside: Vec<u64>,
}

impl Seen {
    /// What was counted since `then`.
    fn since(&self, then: &Self) -> Look {
        if !then.inside.iter().all(|group| self.inside.contains(group)) {
            return Look::Lost("a monitoring group was removed with its count".into());
        }
        let mut bytes = 0u64;
        for (part, before) in &then.counts {
            let Some(count) = self.counts.get(part) else {
                return Look::Lost("a group or a cache is gone with its count".into());
            };
            let Some(more) = count.checked_sub(*before) else {
                return Look::Lost(format!("the count of {} began again", part.cache));
            };
            bytes = bytes.saturating_add(more);
        }
        for (part, count) in &self.counts {
            if then.counts.contains_key(part) {
                continue;
            }
            if then.counts.keys().any(|known| known.group == part.group) {
                return Look::Lost(format!("{} came", part.cache));
            }
            // A group begins to count when it is made.
            bytes = bytes.saturating_add(*count);
        }
        Look::Bytes(bytes)
    }
}

/// The groups of the machine.
#[derive(Debug)]
pub struct Groups {
    mount: PathBuf,
    caches: usize,
    last: Option<Seen>,
}

impl Groups {
    pub(super) fn open(root: &Path) -> Result<Self, Unavailable> {
        let mount = root.join(MOUNT);
        let shown = format!("/{MOUNT}");
        let data = match fs::read_dir(mount.join("mon_data")) {
            Ok(data) => data,
            Err(e) if e.kind() == io::ErrorKind::NotFound && mount.is_dir() => {
                // The kernel makes the empty folder where the processor has something to control.
                let bare = fs::read_dir(&mount).is_ok_and(|mut inside| inside.next().is_none());
                return Err(match bare {
                    true => {
                        Unavailable::absent(format!("{shown} is not mounted")).with_fix(MOUNT_FIX)
                    }
                    false => {
                        Unavailable::absent(format!("{shown} monitors nothing on this processor"))
                    }
                });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Unavailable::absent(format!(
                    "{shown} does not exist: the processor or the kernel has no resource control"
                )));
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Unavailable::denied(
                    format!("{shown}/mon_data: {e}"),
                    READ_FIX,
                ));
            }
            Err(e) => return Err(Unavailable::of(format!("{shown}/mon_data"), &e)),
        };
        let caches = data
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(CACHE))
            .filter(|name| mount.join("mon_data").join(name).join(EVENT).exists())
            .count();
        if caches == 0 {
            return Err(Unavailable::absent(format!(
                "{shown}: the processor counts no {EVENT}"
            )));
        }
        if let Some(why) = counts_a_part(&mount) {
            return Err(Unavailable::absent(format!("{shown}: {why}")));
        }
        Ok(Self {
            mount,
            caches,
            last: None,
        })
    }

    pub(super) fn describe(&self) -> String {
        let caches = match self.caches {
            1 => "1 cache".to_owned(),
            n => format!("{n} caches"),
        };
        format!("{EVENT} of {caches} by /{MOUNT}")
    }

    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    pub(super) fn look(&mut self) -> Look {
        let now = match self.see() {
            Ok(now) => now,
            Err(why) => {
                self.last = None;
                return Look::Lost(why.reason);
            }
        };
        let look = match &self.last {
            Some(then) => now.since(then),
            None => Look::First,
        };
        self.last = Some(now);
        look
    }

    /// Whether it can be read now.
    pub(super) fn check(&self) -> Result<(), Unavailable> {
        self.see().map(|_| ())
    }

    /// All groups as they are now.
    fn see(&self) -> Result<Seen, Unavailable> {
        let mut seen = Seen::default();
        let mut files = 0;
        let mut control = vec![self.mount.clone()];
        let of_groups =
            |name: &OsStr| !matches!(name.to_str(), Some("info" | "mon_data" | "mon_groups"));
        let within = folders(&self.mount, of_groups);
        control.extend(within.map_err(|e| refused(&self.mount, &e))?);
        for group in control {
            let id = inode(&group)?;
            let counts = self.counts_of(&group, &mut files)?;
            if counts.is_empty() && group != self.mount {
                // A folder of the root that holds no group.
                continue;
            }
            for (cache, count) in counts {
                let part = Part { group: id, cache };
                seen.counts.insert(part, count);
            }
            let below = group.join("mon_groups");
            let children = some_folders(&below, |_| true).map_err(|e| refused(&below, &e))?;
            for child in children {
                // Only to know that it is in its parent's.
                self.counts_of(&child, &mut files)?;
                seen.inside.push(inode(&child)?);
            }
        }
        if seen.counts.is_empty() {
            return Err(Unavailable::absent(format!(
                "/{MOUNT} shows no {EVENT} any more"
            )));
        }
        Ok(seen)
    }

    /// A group's count for each cache.
    fn counts_of(
        &self,
        group: &Path,
        files: &mut usize,
    ) -> Result<Vec<(String, u64)>, Unavailable> {
        let data = group.join("mon_data");
        let of_caches = |name: &OsStr| name.as_encoded_bytes().starts_with(CACHE.as_bytes());
        let caches = some_folders(&data, of_caches).map_err(|e| refused(&data, &e))?;
        let mut counts = Vec::with_capacity(caches.len());
        for cache in caches {
            *files += 1;
            if *files > MOST_FILES {
                return Err(Unavailable::absent(format!(
                    "there are more than {MOST_FILES} files of it"
                )));
            }
            let file = cache.join(EVENT);
            let text = plain::kernel_text(&file).map_err(|e| refused(&file, &e))?;
            let count = text.trim().parse();
            let count = count.map_err(|_| self.without_count(&file, text.trim()))?;
            let name = cache.file_name().unwrap_or_default();
            counts.push((name.to_string_lossy().into_owned(), count));
        }
        Ok(counts)
    }

    /// A file that says a word where a count is expected.
    fn without_count(&self, file: &Path, text: &str) -> Unavailable {
        let said: String = text.chars().take(32).collect();
        let mut why = Unavailable::absent(format!("{} says {said:?}", place(file)));
        if matches!(text, "Unavailable" | "Unassigned") {
            let mode = plain::kernel_text(&self.mount.join(ASSIGN_MODE)).unwrap_or_default();
            why.reason += ": the processor has no counter for a group";
            why.fix = Some(
                match (mode.contains("[mbm_event]"), mode.contains("mbm_event")) {
                    (true, _) => ASSIGN_FIX,
                    (false, true) => MODE_FIX,
                    (false, false) => REMOVE_FIX,
                }
                .into(),
            );
        }
        why
    }
}

/// Why only a part of the traffic is counted; `None` where all is.
fn counts_a_part(mount: &Path) -> Option<String> {
    let monitor = mount.join("info/L3_MON");
    if let Ok(text) = plain::kernel_text(&monitor.join("mbm_total_bytes_config")) {
        let all = text.trim().split(';').all(|of| {
            let bits = of.rsplit_once("=0x").map(|(_, bits)| bits);
            let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
            bits.is_none_or(|bits| bits & NEEDED_BITS == NEEDED_BITS)
        });
        if !all {
            return Some(format!(
                "{EVENT} is set to count a part of the traffic (mbm_total_bytes_config is {})",
                text.trim()
            ));
        }
    }
    let filter = monitor
        .join("event_configs")
        .join(EVENT)
        .join("event_filter");
    let text = plain::kernel_text(&filter).ok()?;
    let kinds: Vec<&str> = text.trim().split(',').map(str::trim).collect();
    let all = NEEDED_NAMES.iter().all(|name| kinds.contains(name));
    (!all).then(|| {
        format!(
            "{EVENT} is set to count a part of the traffic ({})",
            text.trim()
        )
    })
}

/// The folders in `within` whose names are `wanted`, sorted. A name is whatever somebody gave to a group.
fn folders(within: &Path, wanted: impl Fn(&OsStr) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(within)? {
        let entry = entry?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && wanted(&entry.file_name()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The same of a folder that need not be there.
fn some_folders(within: &Path, wanted: impl Fn(&OsStr) -> bool) -> io::Result<Vec<PathBuf>> {
    match folders(within, wanted) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found,
    }
}

fn inode(folder: &Path) -> Result<u64, Unavailable> {
    let found = fs::metadata(folder).map_err(|e| refused(folder, &e))?;
    Ok(found.ino())
}

/// Why what is at `path` could not be read.
fn refused(path: &Path, error: &io::Error) -> Unavailable {
    let why = format!("{}: {error}", place(path));
    match error.kind() {
        io::ErrorKind::PermissionDenied => Unavailable::denied(why, READ_FIX),
        _ => Unavailable::absent(why),
    }
}

/// A path as seen from the mount, for texts: names that somebody gave to groups are left out.
fn place(path: &Path) -> String {
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    let from = parts.iter().rposition(|part| *part == "mon_data");
    match from {
        Some(from) => parts[from..].join("/"),
        None => "a group".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    /// A tree as the kernel shows it.
    struct Tree(tempfile::TempDir);

    impl Tree {
        /// Two caches, of which the root's group has counted 1000 and 2000 bytes.
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            tree.count("", "mon_L3_00", "1000");
            tree.count("", "mon_L3_01", "2000");
            for folder in ["info/L3_MON", "mon_groups"] {
                fs::create_dir_all(tree.mount().join(folder)).unwrap();
            }
            tree
        }

        fn mount(&self) -> PathBuf {
            self.0.path().join(MOUNT)
        }

        fn count(&self, group: &str, cache: &str, text: &str) {
            let folder = self.mount().join(group).join("mon_data").join(cache);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(EVENT), format!("{text}\n")).unwrap();
        }

        fn open(&self) -> Groups {
            Groups::open(self.0.path()).unwrap()
        }

        fn why(&self) -> Unavailable {
            Groups::open(self.0.path()).unwrap_err()
        }
    }

    fn lost(look: Look) -> String {
        match look {
            Look::Lost(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bytes_are_the_sum_over_caches_and_control_groups() {
        let tree = Tree::new();
        // A control group, and a monitoring group whose bytes are in the root's.
        tree.count("batch", "mon_L3_00", "50");
        tree.count("batch", "mon_L3_01", "0");
        tree.count("mon_groups/job", "mon_L3_00", "400");
        tree.count("mon_groups/job", "mon_L3_01", "0");
        let mut groups = tree.open();
        assert_eq!(
            groups.describe(),
            "mbm_total_bytes of 2 caches by /sys/fs/resctrl"
        );
        assert_eq!(groups.look(), Look::First);
        assert_eq!(groups.look(), Look::Bytes(0));
        tree.count("", "mon_L3_00", "1700");
        tree.count("mon_groups/job", "mon_L3_00", "900");
        tree.count("batch", "mon_L3_01", "30");
        assert_eq!(groups.look(), Look::Bytes(730));
    }

    #[test]
    fn a_group_that_is_made_counts_from_then_on() {
        let tree = Tree::new();
        let mut groups = tree.open();
        groups.look();
        tree.count("new", "mon_L3_00", "5");
        tree.count("new", "mon_L3_01", "6");
        assert_eq!(groups.look(), Look::Bytes(11));
    }

    #[test]
    fn what_a_group_takes_along_is_not_known() {
        for (gone, why) in [
            ("batch", "a group or a cache is gone"),
            ("mon_groups/job", "a monitoring group was removed"),
            ("mon_data/mon_L3_01", "a group or a cache is gone"),
        ] {
            let tree = Tree::new();
            tree.count("batch", "mon_L3_00", "50");
            tree.count("mon_groups/job", "mon_L3_00", "400");
            let mut groups = tree.open();
            groups.look();
            fs::remove_dir_all(tree.mount().join(gone)).unwrap();
            tree.count("", "mon_L3_00", "9000");
            assert!(lost(groups.look()).contains(why), "{gone}");
            // It goes on from there.
            tree.count("", "mon_L3_00", "9001");
            assert_eq!(groups.look(), Look::Bytes(1), "{gone}");
        }
    }

    #[test]
    fn a_name_that_is_no_utf8_is_a_group_all_the_same() {
        let tree = Tree::new();
        let named = |bytes: &[u8]| tree.mount().join(OsStr::from_bytes(bytes)).join("mon_data");
        let (control, inside) = (named(b"\xff"), named(b"mon_groups/\xfe"));
        let count = |data: &Path, text: &str| {
            fs::create_dir_all(data.join("mon_L3_00")).unwrap();
            fs::write(data.join("mon_L3_00").join(EVENT), text).unwrap();
        };
        count(&control, "7");
        count(&inside, "9");
        let mut groups = tree.open();
        groups.look();
        count(&control, "107");
        assert_eq!(groups.look(), Look::Bytes(100));
        count(&inside, "Unavailable");
        assert!(lost(groups.look()).contains("Unavailable"));
    }

    #[test]
    fn what_cannot_be_read_has_what_changes_it() {
        let tree = Tree::new();
        let fix = |tree: &Tree| tree.open().check().unwrap_err().fix;
        assert_eq!(tree.open().check(), Ok(()));
        tree.count("mon_groups/job", "mon_L3_00", "Unavailable");
        assert_eq!(fix(&tree).as_deref(), Some(REMOVE_FIX));
        let mode = tree.mount().join(ASSIGN_MODE);
        fs::write(&mode, "[default]\nmbm_event\n").unwrap();
        assert_eq!(fix(&tree).as_deref(), Some(MODE_FIX));
        fs::write(&mode, "[mbm_event]\ndefault\n").unwrap();
        tree.count("mon_groups/job", "mon_L3_00", "Unassigned");
        assert_eq!(fix(&tree).as_deref(), Some(ASSIGN_FIX));
        tree.count("mon_groups/job", "mon_L3_00", "Error");
        assert_eq!(fix(&tree), None);
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        let why = refused(&tree.mount().join("mon_data/mon_L3_00"), &denied);
        assert!(why.denied && why.reason.starts_with("mon_data/mon_L3_00: "));
        assert_eq!(why.fix.as_deref(), Some(READ_FIX));
    }

    #[test]
    fn words_and_counts_that_begin_again_are_no_bytes() {
        for (group, text, why) in [
            (
                "",
                "Unavailable",
                "mon_data/mon_L3_00/mbm_total_bytes says \"Unavailable\"",
            ),
            ("", "Error", "says \"Error\""),
            ("", "", "says \"\""),
            ("", "-5", "says \"-5\""),
            ("mon_groups/job", "Unassigned", "says \"Unassigned\""),
            ("", "999", "the count of mon_L3_00 began again"),
        ] {
            let tree = Tree::new();
            tree.count("mon_groups/job", "mon_L3_00", "1");
            let mut groups = tree.open();
            groups.look();
            tree.count(group, "mon_L3_00", text);
            let said = lost(groups.look());
            assert!(said.contains(why), "{said}");
            tree.count("", "mon_L3_00", "5000");
            tree.count("mon_groups/job", "mon_L3_00", "2");
            // Nothing to compare with, or the count that began again.
            match text {
                "999" => assert_eq!(groups.look(), Look::Bytes(4001)),
                _ => assert_eq!(groups.look(), Look::First),
            }
            tree.count("", "mon_L3_01", "2003");
            assert_eq!(groups.look(), Look::Bytes(3));
        }
    }

    #[test]
    fn a_mount_that_goes_away_and_comes_back_is_looked_at_again() {
        let tree = Tree::new();
        let mut groups = tree.open();
        groups.look();
        let away = tree.0.path().join("away");
        fs::rename(tree.mount(), &away).unwrap();
        fs::create_dir_all(tree.mount()).unwrap();
        assert!(lost(groups.look()).contains("shows no mbm_total_bytes"));
        fs::remove_dir(tree.mount()).unwrap();
        assert!(lost(groups.look()).contains("No such file"));
        fs::rename(&away, tree.mount()).unwrap();
        assert_eq!(groups.look(), Look::First);
        assert_eq!(groups.look(), Look::Bytes(0));
    }

    #[test]
    fn what_is_absent_has_its_reason() {
        let bare = tempfile::tempdir().unwrap();
        let why = Groups::open(bare.path()).unwrap_err();
        assert!(why.reason.contains("does not exist") && why.fix.is_none());
        fs::create_dir_all(bare.path().join(MOUNT)).unwrap();
        let why = Groups::open(bare.path()).unwrap_err();
        assert!(why.reason.ends_with("is not mounted"));
        assert_eq!(why.fix.as_deref(), Some(MOUNT_FIX));
        // Control without monitoring, and monitoring without that event.
        fs::create_dir_all(bare.path().join(MOUNT).join("info/L3")).unwrap();
        let why = Groups::open(bare.path()).unwrap_err();
        assert!(why.reason.contains("monitors nothing"));
        fs::create_dir_all(bare.path().join(MOUNT).join("mon_data/mon_L3_00")).unwrap();
        let why = Groups::open(bare.path()).unwrap_err();
        assert!(why.reason.contains("counts no mbm_total_bytes"));
    }

    #[test]
    fn an_event_that_was_set_to_count_a_part_is_not_the_traffic() {
        let tree = Tree::new();
        let monitor = tree.mount().join("info/L3_MON");
        let config = monitor.join("mbm_total_bytes_config");
        fs::write(&config, "0=0x7f;1=0x7f\n").unwrap();
        tree.open();
        // Reads alone, on one of the caches.
        fs::write(&config, "0=0x33;1=0x7f\n").unwrap();
        assert!(tree.why().reason.contains("a part of the traffic"));
        fs::remove_file(&config).unwrap();
        let events = monitor.join("event_configs").join(EVENT);
        fs::create_dir_all(&events).unwrap();
        let filter = events.join("event_filter");
        let all = "local_reads,remote_reads,local_non_temporal_writes,dirty_victim_writes_all\n";
        fs::write(&filter, all).unwrap();
        tree.open();
        fs::write(&filter, "local_reads,remote_reads\n").unwrap();
        assert!(tree.why().reason.contains("a part of the traffic"));
    }

    #[test]
    fn a_node_with_very_many_groups_is_left_alone() {
        let tree = Tree::new();
        let mut groups = tree.open();
        for i in 0..=MOST_FILES {
            fs::create_dir_all(tree.mount().join(format!("mon_data/mon_L3_{i:05}"))).unwrap();
            tree.count("", &format!("mon_L3_{i:05}"), "1");
        }
        assert!(lost(groups.look()).contains("more than 1024"));
    }
}
