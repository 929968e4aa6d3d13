//! The header of a frame.

pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 0x1;
    pub(in super::super) const END_STREAM: u8 = 0x1;
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    pub(in super::super) const PADDED: u8 = 0x8;
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) const LEN: usize = 9;

    pub(super) fn parse(bytes: &[u8; Self::LEN]) -> Self {
        // Two loads in place of nine.
        let [first @ .., last] = *bytes;
        let first = u64::from_be_bytes(first);
        Self {
            length: (first >> 40) as usize,
            kind: (first >> 32) as u8,
            flags: (first >> 24) as u8,
            stream: ((first << 8) as u32 | u32::from(last)) & 0x7fff_ffff,
        }
    }

    pub(super) fn write(&self, to: &mut [u8]) {
        let [_, length @ ..] = (self.length as u32).to_be_bytes();
        to[..3].copy_from_slice(&length);
        (to[3], to[4]) = (self.kind, self.flags);
        to[5..Self::LEN].copy_from_slice(&self.stream.to_be_bytes());
    }
}
