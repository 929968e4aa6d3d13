//! Targets `tfrecord` and `npy`: reads arbitrary bytes as training data. There is no panic, and
//! what is read is a profile.
use tfs_sidecar::dataset::{Collector, Format, Options, read_stream, tfrecord};

use super::profile_file::is_written_and_read;

/// The first byte says how the rest is read: as a file of records or of statistics, or as one
/// record of either with the right checksums, or as lines.
pub fn tfrecord(data: &[u8]) {
    let [how, rest @ ..] = data else { return };
    let framed = || tfrecord::framed(rest);
    match how % 6 {
        0 => read(rest, Format::Tfrecord),
        1 => read(&framed(), Format::Tfrecord),
        2 => read(rest, Format::Tfdv),
        3 => read(&framed(), Format::Tfdv),
        4 => read(rest, Format::Csv),
        _ => read(rest, Format::JsonLines),
    }
}

/// If the first byte is even, the rest is a file; if it is odd, the rest is a header and values.
pub fn npy(data: &[u8]) {
    let [how, rest @ ..] = data else { return };
    if how % 2 == 0 {
        return read(rest, Format::Npy);
    }
    let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (header, values) = rest.split_at(length);
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len().min(65_535) as u16).to_le_bytes());
    file.extend(header);
    file.extend(values);
    read(&file, Format::Npy);
}

fn read(mut bytes: &[u8], format: Format) {
    let options = Options { input: Some("x".to_owned()), ..Options::default() };
    let mut collector = Collector::new(options);
    match read_stream(&mut bytes, format, &mut collector) {
        Ok(()) => is_written_and_read(&collector.finish()),
        Err(fault) => assert!(!fault.text.is_empty()),
    }
}
