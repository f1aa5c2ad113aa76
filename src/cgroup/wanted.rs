//! Which cgroups are meant: directories, patterns, units of systemd, jobs of batch systems.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::jobs::{System, patterns};
use super::own::mount;
use crate::error::{Error, Result};

/// So many cgroups may be metered as one: each takes a descriptor, and a read at every look.
pub const MOST: usize = 1000;

/// Slices are nested no deeper: the kernel's paths would end before.
const DEEPEST: usize = 16;

/// What was asked for in the place of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Each {
    /// A directory, as it is.
    Directory(PathBuf),
    /// An absolute pattern, as it is.
    Anywhere(PathBuf),
    /// A path or pattern below the mount of a hierarchy.
    Below(PathBuf),
    /// A unit of systemd, by its name or a pattern of it.
    Unit(String),
    /// A job; of any system where there is none.
    Job(Option<System>, String),
}

/// The cgroups that a meter is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    root: PathBuf,
    each: Vec<(String, Each)>,
}

impl Wanted {
    /// By what is given: a directory; a pattern of one with `*`, `?` or `[…]`; a path or pattern below
    /// the mount of the cgroups; `unit:NAME`; `job:ID` or `slurm:`, `oar:`, `pbs:`, `condor:`.
    pub fn new(root: &Path, given: &[PathBuf]) -> Self {
        let each = given
            .iter()
            .map(|path| (path.display().to_string(), Each::of(path)));
        Self {
            root: root.to_owned(),
            each: each.collect(),
        }
    }

    /// The one directory, where no more is asked for.
    pub fn directory(&self) -> Option<&Path> {
        match self.each.as_slice() {
            [(_, Each::Directory(path))] => Some(path),
            _ => None,
        }
    }

    /// Whether other cgroups may be meant later: those that a pattern or a name finds.
    pub fn may_change(&self) -> bool {
        let fixed = |each: &Each| matches!(each, Each::Directory(_));
        !self.each.iter().all(|(_, each)| fixed(each))
    }

    /// The directories, none of them inside another; each is there.
    ///
    /// # Errors
    /// [`Error::NoGroups`] where something that was asked for has none, and [`Error::Conflict`] where
    /// a job's id is one of two systems, or there are more than [`MOST`].
    pub fn find(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for (given, each) in &self.each {
            let here = each.find(&self.root)?;
            if here.is_empty() {
                return Err(Error::NoGroups {
                    given: given.chars().take(200).collect(),
                    expected: each.expected(),
                    place: self.root.join("sys/fs/cgroup"),
                });
            }
            found.extend(here);
        }
        let found = outermost(found);
        if found.len() > MOST {
            return Err(Error::Conflict {
                given: format!("{} cgroups", found.len()),
                accepted: format!("at most {MOST}, or the one that they are in"),
            });
        }
        Ok(found)
    }

    /// As [`Wanted::find`], of what is there now: nothing of what is not.
    pub fn find_again(&self) -> Vec<PathBuf> {
        let found = self
            .each
            .iter()
            .filter_map(|(_, each)| each.find(&self.root).ok());
        outermost(found.flatten().take(MOST).collect())
    }
}

impl Each {
    fn of(path: &Path) -> Self {
        if let Some((word, name)) = path.to_str().and_then(|text| text.split_once(':')) {
            let system = System::ALL.into_iter().find(|one| one.name() == word);
            match (word, system) {
                ("unit", _) => return Self::Unit(name.to_owned()),
                ("job", _) => return Self::Job(None, name.to_owned()),
                (_, Some(_)) => return Self::Job(system, name.to_owned()),
                _ => {}
            }
        }
        let pattern = path.as_os_str().as_bytes().iter().any(is_special);
        match (path.is_absolute(), pattern) {
            // A job of PBS has brackets in its name.
            _ if path.is_dir() => Self::Directory(path.to_owned()),
            (true, true) => Self::Anywhere(path.to_owned()),
            (true, false) => Self::Directory(path.to_owned()),
            // A path that begins with a dot is of this process's directory.
            (false, pattern) if path.starts_with(".") || path.starts_with("..") => {
                match std::env::current_dir() {
                    Ok(here) if pattern => Self::Anywhere(here.join(path)),
                    _ => Self::Directory(path.to_owned()),
                }
            }
            (false, _) => Self::Below(path.to_owned()),
        }
    }

    /// What one that is found is.
    fn expected(&self) -> &'static str {
        match self {
            Self::Directory(_) | Self::Anywhere(_) | Self::Below(_) => {
                "a directory with cpu.stat or cpuacct.usage, a pattern of such, unit:NAME, or job:ID"
            }
            Self::Unit(_) => "the name of a unit of systemd that runs, as unit:postgresql",
            Self::Job(_, id)
                if id.contains('_') && id.bytes().all(|c| c.is_ascii_digit() || c == b'_') =>
            {
                "the job's own number, which Slurm gives each job of an array (SLURM_JOB_ID, squeue \
                 --format=%A), and not ARRAY_INDEX"
            }
            Self::Job(..) => {
                "a job that runs on this machine and whose CPU time its batch system has the kernel \
                 account for: job:ID, slurm:ID or slurm:ID.STEP, oar:ID, pbs:ID or condor:SLOT \
                 (docs/how-to/jobs.md)"
            }
        }
    }

    fn find(&self, root: &Path) -> Result<Vec<PathBuf>> {
        Ok(match self {
            Self::Directory(path) => vec![path.clone()],
            Self::Anywhere(path) => expand(Path::new("/"), path),
            Self::Below(path) => in_hierarchy(root, |mount, _| expand(mount, path)),
            Self::Unit(name) => {
                let name = match name.rsplit_once('.') {
                    Some((_, "service" | "scope" | "slice" | "socket" | "mount" | "swap")) => {
                        name.clone()
                    }
                    _ => format!("{name}.service"),
                };
                in_hierarchy(root, |mount, _| units(mount, name.as_bytes()))
            }
            Self::Job(Some(system), id) => of_job(root, *system, id),
            Self::Job(None, id) => {
                let systems = System::ALL.map(|system| (system, of_job(root, system, id)));
                let mut found = systems.into_iter().filter(|(_, found)| !found.is_empty());
                let first = found.next();
                if let (Some((first, _)), Some((second, _))) = (&first, found.next()) {
                    return Err(Error::Conflict {
                        given: format!(
                            "job {id}, of which {} and {} have one",
                            first.name(),
                            second.name()
                        ),
                        accepted: format!("{}:{id} or {}:{id}", first.name(), second.name()),
                    });
                }
                first.map_or_else(Vec::new, |(_, found)| found)
            }
        })
    }
}

fn of_job(root: &Path, system: System, id: &str) -> Vec<PathBuf> {
    in_hierarchy(root, |mount, version| {
        let all = patterns(system, id, version);
        let found = all.iter().flat_map(|path| expand(mount, Path::new(path)));
        found.collect()
    })
}

/// What is in the first hierarchy that has any of it: what is in both would be counted twice.
fn in_hierarchy(root: &Path, find: impl Fn(&Path, u32) -> Vec<PathBuf>) -> Vec<PathBuf> {
    [2, 1]
        .into_iter()
        .filter_map(|version| Some(find(&mount(root, version)?, version)))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// Groups of units of that name: they are in slices, which are in each other, and in the services of
/// users' own managers.
fn units(mount: &Path, name: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![(mount.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for (here, path) in entries(&folder) {
            if matches(name, &here) {
                found.push(path);
            } else if depth < DEEPEST
                && (here.ends_with(b".slice")
                    || here.starts_with(b"user@") && here.ends_with(b".service"))
            {
                folders.push((path, depth + 1));
            }
        }
    }
    found.sort();
    found
}

/// The directories that a pattern means below `base`.
fn expand(base: &Path, pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![base.to_owned()];
    for part in pattern.components() {
        let part = match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            // What is outside of the hierarchy is no cgroup.
            Component::ParentDir if base != Path::new("/") => return Vec::new(),
            Component::ParentDir => b"..",
            Component::Normal(part) => part.as_bytes(),
        };
        if part.iter().any(is_special) {
            let all = found.iter().flat_map(|folder| entries(folder));
            let some = all.filter(|(name, _)| matches(part, name));
            found = some.map(|(_, path)| path).take(MOST + 1).collect();
        } else {
            for path in &mut found {
                path.push(OsStr::from_bytes(part));
            }
        }
    }
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

/// Names and paths of the directories in one.
fn entries(folder: &Path) -> Vec<(Vec<u8>, PathBuf)> {
    let Ok(listed) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let folders = listed.flatten().filter(|entry| {
        let kind = entry.file_type();
        kind.is_ok_and(|kind| kind.is_dir() || kind.is_symlink() && entry.path().is_dir())
    });
    folders
        .map(|entry| (entry.file_name().as_bytes().to_vec(), entry.path()))
        .collect()
}

/// Those that are not in another; each once.
fn outermost(found: Vec<PathBuf>) -> Vec<PathBuf> {
    // By what they really are: two links may lead to one.
    let real = |path: PathBuf| {
        (
            fs::canonicalize(&path).unwrap_or_else(|_| path.clone()),
            path,
        )
    };
    let mut all: Vec<(PathBuf, PathBuf)> = found.into_iter().map(real).collect();
    // What is above comes before what is in it.
    all.sort();
    let mut kept: Vec<(PathBuf, PathBuf)> = Vec::new();
    for one in all {
        if !kept.iter().any(|(above, _)| one.0.starts_with(above)) {
            kept.push(one);
        }
    }
    kept.into_iter().map(|(_, path)| path).collect()
}

fn is_special(byte: &u8) -> bool {
    b"*?[".contains(byte)
}

/// Whether a name matches a pattern of the shell: `*`, `?`, `[ab]`, `[a-z]` and `[!a]`.
///
/// ```
/// use lithowatt::cgroup::wanted::matches;
/// assert!(matches(b"web@*.service", b"web@7.service"));
/// assert!(matches(b"a?[0-9][!x]", b"ab3y"));
/// assert!(!matches(b"a?[0-9][!x]", b"ab3x"));
/// assert!(matches(b"7[[]1]", b"7[1]"));
/// assert!(matches(b"[", b"["));
/// assert!(!matches(b"web", b"web2"));
/// ```
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last star is, and up to where it has taken the name.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => match set(&pattern[p..], name[n]) {
                Some((true, long)) => Some(long),
                Some((false, _)) => None,
                // It is not closed, and so stands for itself.
                None => (name[n] == b'[').then_some(1),
            },
            Some(byte) => (*byte == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(long), _) => {
                p += long;
                n += 1;
            }
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether a byte is in the set that a pattern begins with, and how long that is.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let not = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = 1 + usize::from(not);
    let mut at = first;
    let mut within = false;
    loop {
        let from = *pattern.get(at)?;
        // One that comes first is in the set.
        if from == b']' && at > first {
            return Some((within != not, at + 1));
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(to)) if *to != b']' => {
                within |= (from..=*to).contains(&byte);
                at += 3;
            }
            _ => {
                within |= from == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::escaped;
    use super::*;

    #[test]
    fn a_star_takes_no_more_than_it_must_and_comes_back() {
        assert!(matches(b"*a*b", b"xxaxbxb"));
        assert!(!matches(b"*a*b", b"xxaxbx"));
        assert!(matches(b"**", b""));
        assert!(!matches(b"?", b""));
        // No time without end.
        let long = [b'a'; 5000];
        assert!(!matches(b"*a*a*a*a*a*a*a*b", &long));
    }

    #[test]
    fn an_escaped_text_matches_itself_alone() {
        for text in ["a*b", "[x]", "?", "7[1].pbs"] {
            assert!(matches(escaped(text).as_bytes(), text.as_bytes()), "{text}");
            assert!(!matches(escaped(text).as_bytes(), b"axb"), "{text}");
        }
    }
}
