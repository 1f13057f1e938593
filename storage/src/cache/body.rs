//! An object's bytes: as they are while the object is live, packed once a newer state has taken its place.
//!
//! Superseded states are most of what the history weighs, and few are ever asked for again: by watchers that are behind, by pages of a
//! list that began before. Those get them unpacked, each for itself.

use bytes::Bytes;
use parking_lot::RwLock;

/// Fewer bytes aren't worth it.
const LEAST: usize = 512;
/// More bytes would take too long.
const MOST: usize = 256 * 1024;

/// The bytes of one object.
pub(super) struct Body {
    length: u32,
    state: RwLock<State>,
}

enum State {
    Whole(Bytes),
    Packed(Box<[u8]>),
}

impl Body {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            state: RwLock::new(State::Whole(bytes)),
        }
    }

    /// How many bytes they are when they aren't packed.
    pub(super) fn len(&self) -> usize {
        self.length as usize
    }

    pub(super) fn bytes(&self) -> Bytes {
        match &*self.state.read() {
            State::Whole(bytes) => bytes.clone(),
            // What was packed here comes out as it went in.
            State::Packed(packed) => lz4_flex::block::decompress(packed, self.len())
                .unwrap_or_default()
                .into(),
        }
    }

    /// Packs them where that is worth it; how much memory they take then.
    pub(super) fn pack(&self) -> usize {
        let whole = match &*self.state.read() {
            State::Packed(packed) => return packed.len(),
            State::Whole(bytes) => bytes.clone(),
        };
        if !(LEAST..=MOST).contains(&whole.len()) {
            return whole.len();
        }
        let packed = lz4_flex::block::compress(&whole).into_boxed_slice();
        if packed.len() > whole.len() / 4 * 3 {
            return whole.len();
        }
        let size = packed.len();
        *self.state.write() = State::Packed(packed);
        size
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let object = br#"{"kind":"Pod","metadata":{"name":"a","labels":{"app":"a"}}}"#;
        let large: Vec<u8> = object.iter().copied().cycle().take(5000).collect();
        let mut state = 88_172_645_463_325_252u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let noise: Vec<u8> = (0..2000).map(|_| random()).collect();
        for (bytes, packs) in [
            (&object[..], false),
            (&large, true),
            (&noise, false),
            (b"", false),
        ] {
            let body = Body::new(Bytes::copy_from_slice(bytes));
            let size = body.pack();
            assert_eq!(size < bytes.len(), packs);
            assert_eq!(body.pack(), size);
            assert_eq!((&*body.bytes(), body.len()), (bytes, bytes.len()));
        }
    }
}
