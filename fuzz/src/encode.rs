//! Encodes protobuf by hand, including odd encodings that no real encoder writes.
use tfs_sidecar::wire::emit::put_varint;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn tag(&mut self, field: u32, wire: u8) {
        put_varint(&mut self.0, u64::from(field) << 3 | u64::from(wire));
    }

    pub fn varint(&mut self, field: u32, value: u64) {
        self.tag(field, 0);
        put_varint(&mut self.0, value);
    }

    pub fn bytes(&mut self, field: u32, payload: &[u8]) {
        self.tag(field, 2);
        put_varint(&mut self.0, payload.len() as u64);
        self.0.extend_from_slice(payload);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Writes a varint with more bytes than necessary, at most ten.
pub fn long_varint(out: &mut Vec<u8>, value: u64, extra: usize) {
    let start = out.len();
    put_varint(out, value);
    let extra = extra.min(10 - (out.len() - start));
    if extra > 0 {
        *out.last_mut().expect("a varint has a byte") |= 0x80;
        out.extend(std::iter::repeat_n(0x80, extra - 1));
        out.push(0);
    }
}
