//! Reads archives of arrays that NumPy has saved (`.npz`): the keys are the inputs.
use std::fs::File;
use std::io::{BufReader, Read};

use flate2::bufread::DeflateDecoder;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};

use super::Fault;
use super::collect::Collector;
use super::input::Counted;

/// Reads each array of an archive, compressed or not. Checksums are compared.
pub(super) fn read(
    file: File,
    collector: &mut Collector,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Fault> {
    let broken = |error: rawzip::Error| Fault::new(format!("the archive cannot be read: {error}"));
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(broken)?;
    let mut entries = archive.entries(&mut buffer);
    let mut before = 0;
    while let Some(entry) = entries.next_entry().map_err(broken)? {
        let path = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
        let Some(name) = path.strip_suffix(".npy") else { continue };
        let in_array = |fault: Fault| Fault::new(format!("`{}`: {fault}", name.escape_debug()));
        let (method, position) = (entry.compression_method(), entry.wayfinder());
        let stored = archive.get_entry(position).map_err(broken)?;
        let (start, end) = stored.compressed_data_range();
        let (done, progress) = (before, &mut *progress);
        let mut tell = move |read: u64| progress(done + read);
        let bytes =
            BufReader::with_capacity(RECOMMENDED_BUFFER_SIZE, Counted::new(stored.reader(), &mut tell));
        let plain: Box<dyn Read + '_> = match method {
            CompressionMethod::STORE => Box::new(bytes),
            CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(bytes)),
            _ => return Err(in_array(Fault::new("compressed by a method other than DEFLATE"))),
        };
        let mut verified = stored.verifying_reader(plain);
        let mut array = BufReader::with_capacity(RECOMMENDED_BUFFER_SIZE, &mut verified);
        super::npy::read(&mut array, name, collector).map_err(in_array)?;
        // The checksum is compared at the end of the array.
        if array.read(&mut [0]).map_err(|error| in_array(error.into()))? > 0 {
            return Err(in_array(Fault::new("there are bytes after the last element")));
        }
        before += end - start;
    }
    Ok(())
}
