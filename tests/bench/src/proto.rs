//! Hand-written protobuf, so that the harness shares no protobuf library with what it measures.

pub const FLOAT: u64 = 1;
pub const DOUBLE: u64 = 2;
pub const UINT8: u64 = 4;

/// A message under construction.
#[derive(Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn varint(mut self, field: u32, value: u64) -> Self {
        self.put(u64::from(field) << 3);
        self.put(value);
        self
    }

    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.put(u64::from(field) << 3 | 2);
        self.put(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// An entry of a map from strings to messages.
    pub fn entry(self, field: u32, key: &str, value: &Message) -> Self {
        let entry = Message::new().bytes(1, key.as_bytes()).bytes(2, &value.0);
        self.bytes(field, &entry.0)
    }

    /// The message with gRPC's five-byte prefix.
    pub fn framed(&self) -> Vec<u8> {
        let mut framed = Vec::with_capacity(self.0.len() + 5);
        framed.push(0);
        framed.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        framed.extend_from_slice(&self.0);
        framed
    }

    fn put(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A TensorShapeProto; -1 is any size.
pub fn shape(dims: &[i64]) -> Message {
    dims.iter().fold(Message::new(), |shape, &size| {
        let dim = match size {
            0 => Message::new(),
            _ => Message::new().varint(1, size as u64),
        };
        shape.bytes(2, &dim.0)
    })
}

pub fn model_spec(name: &str, version: Option<u64>) -> Message {
    let spec = Message::new().bytes(1, name.as_bytes());
    match version {
        Some(v) => spec.bytes(2, &Message::new().varint(1, v).0),
        None => spec,
    }
}

/// The value of a field.
#[derive(Debug, PartialEq, Clone, Copy)]
pub enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed(&'a [u8]),
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(b) => Some(b),
            _ => None,
        }
    }
}

/// The fields of a message in order. Stops at the first malformed one and sets `broken`.
pub struct Fields<'a> {
    rest: &'a [u8],
    pub broken: bool,
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message, broken: false }
    }

    fn read_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(count).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn read(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.read_varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.read_varint()?),
            1 => Value::Fixed(self.take(8)?),
            2 => {
                let count = self.read_varint()?;
                Value::Bytes(self.take(count)?)
            }
            5 => Value::Fixed(self.take(4)?),
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.broken {
            return None;
        }
        let field = self.read();
        self.broken = field.is_none();
        field
    }
}

/// The name in the ModelSpec that is field 1 of every request.
pub fn model_name(request: &[u8]) -> Option<&str> {
    let first =
        |message| Fields::of(message).find(|(field, _)| *field == 1).and_then(|(_, value)| value.bytes());
    std::str::from_utf8(first(first(request)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let message = Message::new().varint(1, 300).bytes(2, b"ab");
        let fields: Vec<_> = Fields::of(&message.0).collect();
        assert_eq!(fields, [(1, Value::Varint(300)), (2, Value::Bytes(b"ab"))]);
        assert_eq!(message.framed()[..5], [0, 0, 0, 0, 7]);
    }

    #[test]
    fn tells_a_broken_message() {
        let mut fields = Fields::of(&[0x12, 9, 1]);
        assert_eq!(fields.next(), None);
        assert!(fields.broken);
    }

    #[test]
    fn any_size_takes_ten_bytes() {
        assert_eq!(shape(&[-1]).0.len(), 2 + 1 + 10);
    }

    #[test]
    fn names_the_model() {
        let request = Message::new().bytes(1, &model_spec("img", Some(3)).0);
        assert_eq!(model_name(&request.0), Some("img"));
        assert_eq!(model_name(b""), None);
    }
}
