//! The probe's object file made real: its maps in the kernel, and its programs with the maps and
//! functions that they refer to filled in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya_obj::EbpfSectionKind;
use aya_obj::generated::bpf_insn;

use super::sys::{self, MapShape};

/// Most that the verifier is asked to say of a program that it refuses, bytes.
const LOG: usize = 1 << 22;

/// Why an object could not be made real.
#[derive(Debug)]
pub enum Failure {
    /// The object and this code do not fit together.
    Object(String),
    /// The kernel refused.
    Kernel(io::Error),
    /// The verifier refused, in its words.
    Verifier(String),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Kernel(e)
    }
}

fn strange(e: impl std::fmt::Display) -> Failure {
    Failure::Object(e.to_string())
}

/// An object whose maps exist and whose programs can be loaded.
pub struct Prepared {
    maps: BTreeMap<String, OwnedFd>,
    programs: HashMap<String, Vec<bpf_insn>>,
    license: CString,
}

impl Prepared {
    /// Makes the maps of `object`, each as large as `entries` has it or else as it is itself, with
    /// `globals` as the values of its constants.
    pub fn new(
        object: &[u8],
        globals: &[(&str, u32)],
        entries: &[(&str, u32)],
    ) -> Result<Self, Failure> {
        let mut object = aya_obj::Object::parse(object).map_err(strange)?;
        let values: Vec<_> = globals
            .iter()
            .map(|(name, value)| (*name, value.to_ne_bytes()))
            .collect();
        let patches = values
            .iter()
            .map(|(name, value)| (*name, (&value[..], true)))
            .collect();
        object.patch_map_data(patches).map_err(strange)?;

        let definitions = std::mem::take(&mut object.maps);
        let mut maps = BTreeMap::new();
        for (name, map) in &definitions {
            let wanted = entries.iter().find(|(of, _)| of == name);
            let fd = sys::create_map(
                name,
                MapShape {
                    kind: map.map_type(),
                    key_size: map.key_size(),
                    value_size: map.value_size(),
                    max_entries: wanted.map_or(map.max_entries(), |(_, entries)| *entries),
                    flags: map.map_flags(),
                },
            )?;
            if !map.data().is_empty() {
                sys::update_bytes(fd.as_fd(), &0, map.data(), map.value_size())?;
            }
            if map.section_kind() == EbpfSectionKind::Rodata {
                sys::freeze(fd.as_fd())?;
            }
            maps.insert(name.clone(), fd);
        }
        if let Some((name, _)) = entries.iter().find(|(name, _)| !maps.contains_key(*name)) {
            return Err(Failure::Object(format!("the probe has no map {name}")));
        }

        let text: HashSet<usize> = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        let references = definitions
            .iter()
            .filter_map(|(name, map)| Some((name.as_str(), maps.get(name)?.as_raw_fd(), map)));
        object.relocate_maps(references, &text).map_err(strange)?;
        object.relocate_calls(&text).map_err(strange)?;
        let mut programs = HashMap::new();
        for (name, program) in &object.programs {
            let function = object.functions.get(&program.function_key());
            let function = function.ok_or_else(|| strange(format!("no code of {name}")))?;
            programs.insert(name.clone(), function.instructions.clone());
        }
        Ok(Self {
            maps,
            programs,
            license: object.license,
        })
    }

    /// One of the maps.
    pub fn map(&self, name: &str) -> Result<BorrowedFd<'_>, Failure> {
        let map = self.maps.get(name).map(AsFd::as_fd);
        map.ok_or_else(|| Failure::Object(format!("the probe has no map {name}")))
    }

    /// The maps alone.
    pub fn into_maps(self) -> BTreeMap<String, OwnedFd> {
        self.maps
    }

    /// Has the kernel check and take one of the programs.
    pub fn load(&self, name: &str) -> Result<OwnedFd, Failure> {
        let code = self.programs.get(name);
        let code = code.ok_or_else(|| Failure::Object(format!("the probe has no {name}")))?;
        let refused = match sys::load_program(name, code, &self.license, None) {
            Ok(fd) => return Ok(fd),
            Err(e) => e,
        };
        // Once more, for its reasons.
        let mut log = vec![0; LOG];
        match sys::load_program(name, code, &self.license, Some(&mut log)) {
            Ok(fd) => Ok(fd),
            Err(_) => match verdict(&log) {
                Some(said) => Err(Failure::Verifier(format!("{name}: {said}"))),
                None => Err(Failure::Kernel(refused)),
            },
        }
    }
}

/// What the verifier ends its log with, before its statistics.
fn verdict(log: &[u8]) -> Option<String> {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end])
        .lines()
        .map(str::trim)
        .rfind(|line| {
            let statistics = ["processed ", "verification time ", "stack depth "];
            !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start))
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_is_quoted() {
        let log = b"func#0 @0\n0: R1=ctx() R10=fp0\nR2 !read_ok\nverification time 12 usec\n\
            stack depth 0\nprocessed 1 insns (limit 1000000) max_states_per_insn 0\n\0\0";
        assert_eq!(verdict(log).as_deref(), Some("R2 !read_ok"));
        assert_eq!(verdict(b"\0\0"), None);
        assert_eq!(verdict(b""), None);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for object in [&b""[..], b"\x7fELF", &[0; 200]] {
            assert!(matches!(
                Prepared::new(object, &[], &[]),
                Err(Failure::Object(_))
            ));
        }
    }

    /// Classes and operations of instructions (`include/uapi/linux/bpf.h`).
    const JUMPS: [u8; 2] = [0x05, 0x06];
    const ALWAYS: u8 = 0x05;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    /// It is as long as two.
    const LOAD_CONSTANT: u8 = 0x18;

    /// The instructions that may follow one, and whether it comes to each by a jump that may be a loop's.
    fn following(code: &[bpf_insn], at: usize) -> Vec<(usize, bool)> {
        let jump = at.wrapping_add_signed(1 + isize::from(code[at].off));
        match code[at].code {
            EXIT => vec![],
            ALWAYS => vec![(jump, true)],
            LOAD_CONSTANT => vec![(at + 2, false)],
            op if op != CALL && JUMPS.contains(&(op & 7)) => vec![(at + 1, true), (jump, true)],
            _ => vec![(at + 1, false)],
        }
    }

    /// A place where a loop goes on at its beginning because that simply follows. Linux before 6.7 refuses
    /// it ("back-edge from insn"): `check_cfg` in its `kernel/bpf/verifier.c`.
    fn back_edge(code: &[bpf_insn]) -> Option<(usize, usize)> {
        let mut left = vec![false; code.len()];
        let mut way = vec![(0, following(code, 0))];
        while let Some((at, next)) = way.last_mut() {
            let at = *at;
            let Some((to, jumps)) = next.pop() else {
                left[at] = true;
                way.pop();
                continue;
            };
            if way.iter().any(|(on, _)| *on == to) {
                if !jumps {
                    return Some((at, to));
                }
            } else if !left[to] {
                way.push((to, following(code, to)));
            }
        }
        None
    }

    #[test]
    fn loops_are_those_that_older_kernels_take() {
        let object = aya_obj::Object::parse(super::super::load::object_bytes()).unwrap();
        assert!(object.functions.len() > 10);
        for function in object.functions.values() {
            assert_eq!(back_edge(&function.instructions), None, "{}", function.name);
        }
    }
}
