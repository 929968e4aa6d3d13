//! Fields are read the same however a message is cut into chunks, and errors have their places.
use bytes::Bytes;

use super::rope::Rope;
use super::scan::{Field, Reader, WireError, text};

fn fields(bytes: &[u8], cut: usize) -> Result<Vec<Field>, WireError> {
    let rope: Rope = bytes.chunks(cut).map(Bytes::copy_from_slice).collect();
    let mut reader = Reader::new(&rope);
    let mut all = Vec::new();
    while let Some(field) = reader.next_field()? {
        all.push(field);
    }
    Ok(all)
}

#[test]
fn chunk_boundaries_do_not_change_the_fields() {
    // 1: varint 300, 2: "hi", 3: fixed32, 4: fixed64, 9: group { 1: varint 1 }
    let bytes = [
        0x08, 0xac, 0x02, 0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x4b, 0x08, 1,
        0x4c,
    ];
    let whole = fields(&bytes, 99).unwrap();
    assert_eq!(whole.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 2, 3, 4, 9]);
    assert_eq!((whole[0].varint, whole[1].payload.clone(), whole[4].span.clone()), (300, 5..7, 21..25));
    for cut in 1..bytes.len() {
        assert_eq!(fields(&bytes, cut).unwrap(), whole, "cut {cut}");
    }
}

#[test]
fn a_range_ends_where_it_ends_however_the_chunks_are_cut() {
    // 1: { 2: "a long name", 1: a varint without its end }, 2: "\x01"
    let mut bytes = vec![0x0a, 15, 0x12, 11];
    bytes.extend_from_slice(b"a long name");
    bytes.extend_from_slice(&[0x08, 0x96, 0x12, 1, 1]);
    for cut in 1..=bytes.len() {
        let rope: Rope = bytes.chunks(cut).map(Bytes::copy_from_slice).collect();
        let mut outer = Reader::new(&rope);
        let field = outer.next_field().unwrap().unwrap();
        assert_eq!(field.payload, 2..17, "cut {cut}");
        for mut inner in [outer.inner(&field), Reader::of_range(&rope, &field.payload)] {
            let name = inner.next_field().unwrap().unwrap();
            assert_eq!(text(&inner, &name).unwrap(), "a long name", "cut {cut}");
            assert_eq!(inner.next_field(), Err(WireError::Truncated { at: 17 }), "cut {cut}");
        }
        assert_eq!(outer.next_field().unwrap().unwrap().payload, 19..20, "cut {cut}");
    }
}

#[test]
fn each_error_has_its_position() {
    let cases: [(&[u8], WireError); 9] = [
        (&[0x08], WireError::Truncated { at: 1 }),
        (&[0x0d, 1, 2], WireError::Truncated { at: 3 }),
        (&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], WireError::LongVarint { at: 1 }),
        (&[0x0a, 200, 1, 0], WireError::Length { at: 0, claimed: 200, left: 1 }),
        (&[0x00, 1], WireError::FieldNumber { at: 0 }),
        (&[0x0e], WireError::WireType { at: 0, wire: 6 }),
        (&[0x0c], WireError::Group { at: 0 }),
        (&[0x0b, 0x14], WireError::Group { at: 1 }),
        (&[0x0b], WireError::Group { at: 0 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(fields(bytes, 99), Err(error), "{bytes:?}");
    }
}

#[test]
fn a_length_of_2_to_the_63_allocates_nothing() {
    let bytes = [0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 127];
    assert_eq!(fields(&bytes, 99), Err(WireError::Length { at: 0, claimed: (1 << 63) - 1, left: 0 }));
}

#[test]
fn the_depth_of_groups_is_limited() {
    let deep = [0x0b; 1000];
    assert_eq!(fields(&deep, 99), Err(WireError::TooDeep { at: 100 }));
    let mut closed = vec![0x0b; 100];
    closed.extend([0x0c; 100]);
    assert_eq!(fields(&closed, 99).unwrap().len(), 1);
}
