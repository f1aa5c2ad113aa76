//! The powercap tree as a FUSE file system whose counters are computed when they are read.
//!
//! Its root holds two directories that are bind-mounted where they belong:
//! `devices` at `/sys/devices/virtual/powercap` (the nested zones) and `class` at
//! `/sys/class/powercap` (flat symbolic links), as the kernel lays them out.

use crate::plant::{Plant, Shown};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, Notifier, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, Request, SessionACL,
};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// Name of the directory that holds the nested zones.
pub const DEVICES: &str = "devices";
/// Name of the directory that holds the links.
pub const CLASS: &str = "class";

/// Names and attributes stay as they are until a [`Refresh`]; only contents move.
const TTL: Duration = Duration::from_secs(3600);

#[derive(Debug)]
enum Kind {
    Dir,
    Link(String),
    Text(String),
    Energy,
}

#[derive(Debug)]
struct Node {
    parent: u64,
    name: String,
    kind: Kind,
    /// The zone that takes this node with it when it vanishes.
    zone: Option<usize>,
}

/// The file system.
#[derive(Debug)]
pub struct Tree {
    plant: Arc<Plant>,
    mode: u16,
    /// Inode `n` is `nodes[n - 1]`; the root is inode 1.
    nodes: Vec<Node>,
    next_handle: AtomicU64,
    /// What each open file saw at offset 0. As in sysfs, whoever reads on reads the rest of that
    /// text, not of a newer one.
    seen: Mutex<HashMap<u64, Vec<u8>>>,
}

const CONTROL_TYPES: [&str; 2] = ["intel-rapl", "intel-rapl-mmio"];

impl Tree {
    /// Lays the plant's zones out; `mode` is that of `energy_uj`.
    pub fn new(plant: Arc<Plant>, mode: u16) -> Self {
        let mut tree = Self {
            plant: Arc::clone(&plant),
            mode,
            nodes: vec![Node {
                parent: 1,
                name: String::new(),
                kind: Kind::Dir,
                zone: None,
            }],
            next_handle: AtomicU64::new(1),
            seen: Mutex::new(HashMap::new()),
        };
        let devices = tree.add(1, DEVICES, Kind::Dir, None);
        let class = tree.add(1, CLASS, Kind::Dir, None);
        let up = "../../devices/virtual/powercap";
        let mut inodes: Vec<u64> = Vec::new();
        let mut paths: Vec<String> = Vec::new();
        for (mmio, control) in CONTROL_TYPES.iter().enumerate() {
            let of_this = |k: &usize| usize::from(plant.zones[*k].mmio) == mmio;
            let zones: Vec<usize> = (0..plant.zones.len()).filter(of_this).collect();
            if zones.is_empty() {
                continue;
            }
            let top = tree.add(devices, control, Kind::Dir, None);
            tree.add(top, "enabled", Kind::Text("1\n".into()), None);
            tree.subsystem(top, 1, None);
            tree.add(class, control, Kind::Link(format!("{up}/{control}")), None);
            for k in zones {
                let zone = &plant.zones[k];
                let (parent, path) = match zone.parent {
                    Some(p) => (inodes[p], format!("{}/{}", paths[p], zone.dir)),
                    None => (top, format!("{control}/{}", zone.dir)),
                };
                let depth = path.matches('/').count() + 1;
                let dir = tree.add(parent, &zone.dir, Kind::Dir, Some(k));
                let text = |t: String| Kind::Text(t);
                tree.add(dir, "name", text(format!("{}\n", zone.name)), Some(k));
                tree.add(dir, "energy_uj", Kind::Energy, Some(k));
                let range = format!("{}\n", plant.max_range_uj());
                tree.add(dir, "max_energy_range_uj", text(range), Some(k));
                tree.add(dir, "enabled", text("1\n".into()), Some(k));
                tree.subsystem(dir, depth, Some(k));
                tree.add(
                    class,
                    &zone.dir,
                    Kind::Link(format!("{up}/{path}")),
                    Some(k),
                );
                inodes.push(dir);
                paths.push(path);
            }
        }
        tree
    }

    fn add(&mut self, parent: u64, name: &str, kind: Kind, zone: Option<usize>) -> u64 {
        self.nodes.push(Node {
            parent,
            name: name.to_owned(),
            kind,
            zone,
        });
        self.nodes.len() as u64
    }

    /// The link back to the class, from a directory `depth` levels below `powercap`.
    fn subsystem(&mut self, dir: u64, depth: usize, zone: Option<usize>) {
        let target = format!("{}class/powercap", "../".repeat(depth + 3));
        self.add(dir, "subsystem", Kind::Link(target), zone);
    }

    /// Mounts the tree at `at` and serves it in the background until the process ends.
    pub fn mount(self, at: &Path) -> io::Result<(fuser::BackgroundSession, Refresh)> {
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoDev,
            MountOption::NoSuid,
            MountOption::DefaultPermissions,
            MountOption::FSName("lithowatt-rig".to_owned()),
        ];
        config.acl = SessionACL::All;
        let entries = self.nodes.iter().filter(|n| n.zone.is_some());
        let entries = entries.map(|n| (n.parent, n.name.clone())).collect();
        let session = fuser::spawn_mount(self, at, &config)?;
        let notifier = session.notifier();
        Ok((session, Refresh { notifier, entries }))
    }

    fn node(&self, ino: u64) -> Option<&Node> {
        self.nodes.get(usize::try_from(ino.checked_sub(1)?).ok()?)
    }

    fn gone(&self, node: &Node) -> bool {
        node.zone.is_some_and(|zone| self.plant.vanished(zone))
    }

    /// The node, unless its zone has vanished.
    fn alive(&self, ino: u64) -> Result<&Node, Errno> {
        let node = self.node(ino).ok_or(Errno::ENOENT)?;
        if self.gone(node) {
            return Err(Errno::ENODEV);
        }
        Ok(node)
    }

    fn attr(&self, ino: u64, node: &Node) -> FileAttr {
        let (kind, perm) = match node.kind {
            Kind::Dir => (FileType::Directory, 0o755),
            Kind::Link(_) => (FileType::Symlink, 0o777),
            Kind::Text(_) => (FileType::RegularFile, 0o444),
            Kind::Energy => (FileType::RegularFile, self.mode),
        };
        FileAttr {
            ino: INodeNo(ino),
            // As for every file of sysfs, whatever it holds.
            size: if kind == FileType::RegularFile {
                4096
            } else {
                0
            },
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn content(&self, ino: u64) -> Result<Vec<u8>, Errno> {
        let node = self.alive(ino)?;
        match (&node.kind, node.zone) {
            (Kind::Text(text), _) => Ok(text.clone().into_bytes()),
            (Kind::Energy, Some(zone)) => match self.plant.show(zone) {
                Shown::Value(v) => Ok(format!("{v}\n").into_bytes()),
                Shown::Text(text) => Ok(text.as_bytes().to_vec()),
                Shown::Denied => Err(Errno::EACCES),
                Shown::Gone => Err(Errno::ENODEV),
            },
            _ => Err(Errno::EISDIR),
        }
    }

    fn text(&self, ino: u64, handle: u64, offset: usize) -> Result<Vec<u8>, Errno> {
        let fresh = if offset == 0 {
            Some(self.content(ino)?)
        } else {
            None
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match fresh {
            Some(text) => {
                seen.insert(handle, text.clone());
                Ok(text)
            }
            None => Ok(seen
                .get(&handle)
                .and_then(|text| text.get(offset..))
                .unwrap_or_default()
                .to_vec()),
        }
    }
}

/// Makes the kernel forget the names of all zones: some may have vanished or come back.
#[derive(Debug)]
pub struct Refresh {
    notifier: Notifier,
    entries: Vec<(u64, String)>,
}

impl Refresh {
    /// Forgets; open files are not touched.
    pub fn now(&self) {
        for (parent, name) in &self.entries {
            // What the kernel does not hold it cannot forget.
            let _ = self
                .notifier
                .inval_entry(INodeNo(*parent), OsStr::new(name));
        }
    }
}

impl Filesystem for Tree {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Where the kernel cannot, it asks each time.
        let _ = config.add_capabilities(InitFlags::FUSE_CACHE_SYMLINKS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self
            .nodes
            .iter()
            .enumerate()
            .skip(1)
            .find(|(_, n)| n.parent == parent.0 && OsStr::new(&n.name) == name);
        match found {
            Some((k, node)) if !self.gone(node) => {
                reply.entry(&TTL, &self.attr(k as u64 + 1, node), Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.alive(ino.0) {
            Ok(node) => reply.attr(&TTL, &self.attr(ino.0, node)),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.alive(ino.0) {
            Ok(Node {
                kind: Kind::Link(target),
                ..
            }) => reply.data(target.as_bytes()),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(e) => reply.error(e),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.alive(ino.0) {
            Ok(Node {
                kind: Kind::Energy,
                zone: Some(zone),
                ..
            }) if self.plant.denied(*zone) => reply.error(Errno::EACCES),
            Ok(_) => {
                let handle = FileHandle(self.next_handle.fetch_add(1, Relaxed));
                reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.text(ino.0, handle.0, offset) {
            Ok(text) => reply.data(&text[..text.len().min(size as usize)]),
            Err(e) => reply.error(e),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(&handle.0);
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Ok(here) = self.alive(ino.0) else {
            return reply.error(Errno::ENOENT);
        };
        let dots = [(ino.0, "."), (here.parent, "..")]
            .into_iter()
            .map(|(i, name)| (i, FileType::Directory, name));
        let entries = self
            .nodes
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, n)| n.parent == ino.0 && !self.gone(n))
            .map(|(k, n)| {
                let ino = k as u64 + 1;
                (ino, self.attr(ino, n).kind, n.name.as_str())
            });
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (k, (ino, kind, name)) in dots.chain(entries).enumerate().skip(skip) {
            if reply.add(INodeNo(ino), k as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn tree(changes: &str) -> Tree {
        let text = r#"{"names": ["package-0", "package-1"], "split": [0.5, 0.5],
            "domains": ["core", "dram"], "fractions": {"core": 0.7, "uncore": 0.1, "dram": 0.2},
            "psys_watts": 5.0, "psys_first": false, "mmio": true, "core_zone_of": 1,
            "idle_watts": 20.0, "watts": 50.0, "gain": 30.0, "gamma": 0.8, "tick_us": 1000,
            "jitter_us": 0, "step_us": 1000, "history_s": 1, "max_range_uj": 1000,
            "start_uj": 1, "resolution_uj": null, "mode": 256, "count_self": true,
            "realtime": false, "parent": 1, "binds": []"#;
        let config: Config = serde_json::from_str(&format!("{text}{changes}}}")).expect("config");
        Tree::new(Arc::new(Plant::new(&config).expect("plant")), 0o400)
    }

    #[test]
    fn every_link_leads_to_a_directory() {
        let tree = tree("");
        // Where the two directories will be mounted.
        let place = |n: &str| match n {
            CLASS => "sys/class/powercap".to_owned(),
            DEVICES => "sys/devices/virtual/powercap".to_owned(),
            other => other.to_owned(),
        };
        let path = |ino: u64| {
            let mut parts = Vec::new();
            let mut at = ino;
            while at != 1 {
                let node = tree.node(at).expect("node");
                parts.push(place(&node.name));
                at = node.parent;
            }
            parts.reverse();
            parts.join("/")
        };
        let dirs: Vec<String> = (2..=tree.nodes.len() as u64)
            .filter(|i| matches!(tree.nodes[*i as usize - 1].kind, Kind::Dir))
            .map(path)
            .collect();
        let mut links = 0;
        for (k, node) in tree.nodes.iter().enumerate() {
            if let Kind::Link(target) = &node.kind {
                let from = path(k as u64 + 1);
                let mut at: Vec<&str> = from.split('/').collect();
                at.pop();
                for part in target.split('/') {
                    if part == ".." {
                        assert!(at.pop().is_some(), "{target}");
                    } else {
                        at.push(part);
                    }
                }
                assert!(dirs.contains(&at.join("/")), "{from} -> {target}");
                links += 1;
            }
        }
        // Two control types and nine zones, each with a class link and a subsystem link.
        assert_eq!(links, 2 * (2 + 9));
    }
}
