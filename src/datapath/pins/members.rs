// SPDX-License-Identifier: Apache-2.0
//! What a map's values consist of, by the type information (BTF) that the kernel keeps with it, and
//! how a value of an older layout becomes one of a newer.
//!
//! A member keeps its meaning for as long as it keeps its name and size; zero means what it was
//! before there was the member. Whoever breaks that gives the member another name.
//! Source: Documentation/bpf/btf.rst.

/// One number, address or array: `path` counts the names of the structs around it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    path: String,
    offset: usize,
    size: usize,
}

/// All of one type, in order. Empty for a plain number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Members(Vec<Member>);

/// From one layout into another: what is copied where. Everything else is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conversion {
    /// Old offset, new offset, length.
    moves: Vec<(usize, usize, usize)>,
    size: usize,
}

impl Conversion {
    /// `size`: of the new value in bytes. None: a member of the same name has another size, so
    /// that nobody knows what it means.
    pub(super) fn between(old: &Members, new: &Members, size: usize) -> Option<Self> {
        let mut moves = Vec::new();
        for member in new.0.iter().filter(|member| !member.is_padding()) {
            match old.0.iter().find(|each| each.path == member.path) {
                Some(before) if before.size != member.size => return None,
                Some(before) => moves.push((before.offset, member.offset, member.size)),
                None => {}
            }
        }
        // Nothing in common: these are two things, not two layouts of one.
        (!moves.is_empty()).then_some(Self { moves, size })
    }

    pub(super) fn apply(&self, old: &[u8]) -> Vec<u8> {
        let mut new = vec![0; self.size];
        for &(from, to, length) in &self.moves {
            new[to..to + length].copy_from_slice(&old[from..from + length]);
        }
        new
    }
}

impl Member {
    fn is_padding(&self) -> bool {
        self.path.rsplit('.').next().is_some_and(|name| name.starts_with("pad"))
    }
}

impl Members {
    /// Of type `id` in raw BTF. None: it is no BTF, or has bit fields, which have no place of
    /// their own.
    pub(super) fn read(btf: &[u8], id: u32) -> Option<Self> {
        let types = Types::read(btf)?;
        let mut members = Vec::new();
        types.flatten(id, "", 0, &mut members)?;
        Some(Self(members))
    }
}

/// `BTF_KIND_*`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Bytes of `struct btf_type`.
const TYPE: usize = 12;

struct Types<'a> {
    btf: &'a [u8],
    strings: usize,
    /// Where each type begins; the first is `void`.
    at: Vec<usize>,
}

impl<'a> Types<'a> {
    fn read(btf: &'a [u8]) -> Option<Self> {
        let header = word(btf, 4)? as usize;
        let part = |at| Some(header + word(btf, at)? as usize);
        let (mut next, strings) = (part(8)?, part(16)?);
        let end = next + word(btf, 12)? as usize;
        let mut types = Self { btf, strings, at: vec![0] };
        while next < end {
            types.at.push(next);
            next += TYPE + types.more(next)?;
        }
        Some(types)
    }

    /// Bytes that follow the fixed part of the type at `at`.
    fn more(&self, at: usize) -> Option<usize> {
        let info = word(self.btf, at + 4)?;
        let count = info as usize & 0xffff;
        Some(match info >> 24 & 0x1f {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => count * 12,
            kind::ENUM | kind::FUNC_PROTO => count * 8,
            _ => 0,
        })
    }

    /// Kind, number of members, `kind_flag`, and size or type.
    fn describe(&self, id: u32) -> Option<(usize, u32, usize, bool, u32)> {
        let at = *self.at.get(id as usize).filter(|_| id > 0)?;
        let info = word(self.btf, at + 4)?;
        Some((
            at,
            info >> 24 & 0x1f,
            info as usize & 0xffff,
            info >> 31 == 1,
            word(self.btf, at + 8)?,
        ))
    }

    fn name(&self, offset: u32) -> Option<&'a str> {
        let text = self.btf.get(self.strings + offset as usize..)?;
        str::from_utf8(text.split(|&byte| byte == 0).next()?).ok()
    }

    fn size(&self, id: u32) -> Option<usize> {
        let (at, kind, _, _, size) = self.describe(id)?;
        match kind {
            kind::ARRAY => {
                let (of, count) = (word(self.btf, at + TYPE)?, word(self.btf, at + TYPE + 8)?);
                Some(self.size(of)? * count as usize)
            }
            kind::TYPEDEF..=kind::RESTRICT | kind::TYPE_TAG => self.size(size),
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 => {
                Some(size as usize)
            }
            _ => None,
        }
    }

    fn flatten(&self, id: u32, path: &str, offset: usize, members: &mut Vec<Member>) -> Option<()> {
        let (at, kind, count, bit_fields, to) = self.describe(id)?;
        if matches!(kind, kind::TYPEDEF..=kind::RESTRICT | kind::TYPE_TAG) {
            return self.flatten(to, path, offset, members);
        }
        let of_member = |index: usize| {
            let at = at + TYPE + index * 12;
            let name = self.name(word(self.btf, at)?)?;
            Some((name, word(self.btf, at + 4)?, word(self.btf, at + 8)?))
        };
        if kind != kind::STRUCT {
            let mut path = path.to_owned();
            if kind == kind::UNION && (path.is_empty() || path.ends_with('.')) {
                // A union without a name goes by that of its first member.
                path += of_member(0)?.0;
            }
            members.push(Member { path, offset, size: self.size(id)? });
            return Some(());
        }
        for index in 0..count {
            let (name, ty, bits) = of_member(index)?;
            if bit_fields && bits >> 24 != 0 || bits & 7 != 0 {
                return None;
            }
            let inner = offset + (bits as usize & 0xff_ffff) / 8;
            let is_struct = self.describe(ty)?.1 == kind::STRUCT;
            let dot = if is_struct && !name.is_empty() { "." } else { "" };
            self.flatten(ty, &format!("{path}{name}{dot}"), inner, members)?;
        }
        Some(())
    }
}

/// BTF has the byte order of the machine that made it, which is this one.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
