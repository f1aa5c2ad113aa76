//! Offsets of a few structure members, from the kernel's type information (BTF).
//!
//! A loader that parses all of it into objects takes 20 ms; a walk that looks for seven members
//! takes one or two. Format: Documentation/bpf/btf.rst of the kernel.

use memchr::memmem;

/// A structure and those of its members whose offsets are wanted.
pub type Wanted<'a> = (&'a str, &'a [&'a str]);

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const RECORD: usize = 12;

/// Kinds that carry extra data, and how much of it (per element or once).
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset of every type, by id - 1.
    at: Vec<u32>,
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

impl<'a> Types<'a> {
    fn parse(data: &'a [u8]) -> Option<Self> {
        let magic = u16::from_le_bytes(data.get(..2)?.try_into().ok()?);
        if magic != MAGIC || data.len() < HEADER {
            return None;
        }
        let header = word(data, 4)? as usize;
        let part = |at: usize| -> Option<&'a [u8]> {
            let start = header.checked_add(word(data, at)? as usize)?;
            let end = start.checked_add(word(data, at + 4)? as usize)?;
            data.get(start..end)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut at = Vec::with_capacity(types.len() / 24);
        let mut offset = 0;
        while offset < types.len() {
            at.push(offset as u32);
            let info = word(types, offset + 4)?;
            let count = (info & 0xffff) as usize;
            let extra = match info >> 24 & 0x1f {
                KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                KIND_ARRAY => 12,
                KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
                KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
                _ => 0,
            };
            offset = offset.checked_add(RECORD + extra)?;
        }
        Some(Self { types, strings, at })
    }

    /// Every place where `name` stands in the string table. Strings are not always unique.
    fn offset_of(&self, name: &str) -> Option<u32> {
        let mut needle = Vec::with_capacity(name.len() + 2);
        needle.push(0);
        needle.extend_from_slice(name.as_bytes());
        needle.push(0);
        memmem::find(self.strings, &needle).map(|at| at as u32 + 1)
    }

    fn name_is(&self, offset: u32, name: &str) -> bool {
        let start = offset as usize;
        self.strings
            .get(start..start + name.len() + 1)
            .is_some_and(|s| {
                s.split_last()
                    .is_some_and(|(end, text)| *end == 0 && text == name.as_bytes())
            })
    }

    fn record(&self, id: u32) -> Option<(usize, u32, u32)> {
        let at = *self.at.get((id as usize).checked_sub(1)?)? as usize;
        Some((at, word(self.types, at)?, word(self.types, at + 4)?))
    }

    /// Offset of `member` in the structure `id`, bytes; members of nameless inner structures are
    /// members.
    fn member(&self, id: u32, member: &str, depth: u32) -> Option<u32> {
        let (at, _, info) = self.record(id)?;
        let kind = info >> 24 & 0x1f;
        if depth > 8 || !matches!(kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for i in 0..(info & 0xffff) as usize {
            let entry = at + RECORD + 12 * i;
            let name = word(self.types, entry)?;
            let bits = word(self.types, entry + 8)?;
            // With the flag, the upper byte is the size of a bit field.
            let bits = if info >> 31 == 1 {
                bits & 0xff_ffff
            } else {
                bits
            };
            if name == 0 {
                let inner = word(self.types, entry + 4)?;
                if let Some(found) = self.member(inner, member, depth + 1) {
                    return Some(bits / 8 + found);
                }
            } else if self.name_is(name, member) {
                return Some(bits / 8);
            }
        }
        None
    }

    fn structure(&self, name: &str) -> Option<u32> {
        let offset = self.offset_of(name)?;
        (0..self.at.len()).find_map(|i| {
            let at = self.at[i] as usize;
            let info = word(self.types, at + 4)?;
            let found = word(self.types, at)? == offset
                && info >> 24 & 0x1f == KIND_STRUCT
                && info & 0xffff != 0;
            found.then_some(i as u32 + 1)
        })
    }
}

/// Offsets in bytes of the members of each structure, in the order asked for; `None` for a member
/// that the structure has not. `None` as a whole where `data` is no BTF.
pub fn offsets(data: &[u8], wanted: &[Wanted<'_>]) -> Option<Vec<Vec<Option<u32>>>> {
    let types = Types::parse(data)?;
    let all = wanted
        .iter()
        .map(|(structure, members)| {
            let id = types.structure(structure);
            members
                .iter()
                .map(|member| types.member(id?, member, 0))
                .collect()
        })
        .collect();
    Some(all)
}

/// Size in bytes of a structure.
#[cfg(test)]
pub(super) fn size(data: &[u8], structure: &str) -> Option<u32> {
    let types = Types::parse(data)?;
    let (at, ..) = types.record(types.structure(structure)?)?;
    word(types.types, at + 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: Wanted<'static> = ("task_struct", &["pid", "tgid", "no_such_member"]);

    #[test]
    fn finds_members_of_this_kernel() {
        let Ok(data) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            println!("skipped: this kernel has no BTF");
            return;
        };
        let found = offsets(&data, &[TASK, ("no_such_struct", &["x"])]).unwrap();
        let (pid, tgid) = (found[0][0].unwrap(), found[0][1].unwrap());
        assert_eq!(tgid, pid + 4);
        assert_eq!(found[0][2], None);
        assert_eq!(found[1], [None]);
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        assert!(offsets(b"", &[TASK]).is_none());
        assert!(offsets(&[0x9f, 0xeb, 1, 0], &[TASK]).is_none());
        assert!(offsets(&[0; 100], &[TASK]).is_none());
        let Ok(data) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return;
        };
        // Cut off anywhere, it never panics.
        for length in (0..data.len()).step_by(data.len() / 40) {
            let _ = offsets(&data[..length], &[TASK]);
        }
    }
}
