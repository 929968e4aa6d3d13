//! A line on stderr that says how much of a file is read, if stderr is a terminal.
use std::io::{IsTerminal as _, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cli::render;

/// Often enough to see that it moves.
const EVERY: Duration = Duration::from_millis(100);
const CELLS: u64 = 20;

pub(super) struct Progress {
    name: String,
    size: u64,
    /// When the line was last written; `None` if nobody looks.
    last: Option<Instant>,
    shown: bool,
}

impl Progress {
    pub(super) fn new(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Self { name, size, last: stderr().is_terminal().then(Instant::now), shown: false }
    }

    /// So many bytes are read.
    pub(super) fn tell(&mut self, read: u64) {
        let Some(last) = self.last.filter(|last| last.elapsed() >= EVERY) else { return };
        self.last = Some(last + last.elapsed());
        self.shown = true;
        render::progress(&line(&self.name, read, self.size));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            render::progress("");
        }
    }
}

/// `train.npz  [#######.......]  50 %  0.5 of 1.0 GB`.
fn line(name: &str, read: u64, size: u64) -> String {
    let name: String = name.chars().take(24).collect();
    let part = if size == 0 { 0.0 } else { read.min(size) as f64 / size as f64 };
    let share = (part * CELLS as f64) as u64;
    let bar: String = (0..CELLS).map(|cell| if cell < share { '#' } else { '.' }).collect();
    let percent = (part * 100.0) as u64;
    format!("{name}  [{bar}] {percent:3} %  {:.1} of {:.1} GB", read as f64 / 1e9, size as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_with_what_is_read() {
        let expected = "train.npz  [##########..........]  50 %  1.0 of 2.0 GB";
        assert_eq!(line("train.npz", 1_000_000_000, 2_000_000_000), expected);
        assert!(line("a device", 5, 0).contains("  0 %"));
        assert!(line(&"long ".repeat(9), 1 << 40, 1 << 40).len() <= 80);
        assert!(line("a file that grows", u64::MAX, u64::MAX).contains("100 %"));
    }
}
