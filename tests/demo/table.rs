//! A plain-text table with aligned columns; long cells wrap between words.
use std::fmt::Write as _;

pub(crate) struct Table<const N: usize> {
    widths: [usize; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(head: [&str; N], widths: [usize; N]) -> Self {
        Self { widths, rows: vec![head.map(str::to_owned)] }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    pub(crate) fn render(&self) -> String {
        let rule = self.widths.map(|width| "-".repeat(width)).join("-+-");
        let mut out = String::new();
        for row in &self.rows {
            let cells: Vec<Vec<String>> =
                row.iter().zip(self.widths).map(|(cell, width)| wrap(cell, width)).collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or_default();
            for line in 0..height {
                let parts = cells.iter().zip(self.widths).map(|(cell, width)| {
                    let text = cell.get(line).map(String::as_str).unwrap_or_default();
                    format!("{text:width$}")
                });
                let _ = writeln!(out, "{}", parts.collect::<Vec<_>>().join(" | ").trim_end());
            }
            let _ = writeln!(out, "{rule}");
        }
        out.trim_end().to_owned()
    }
}

/// Breaks at newlines and between words, and splits words that are too long.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let mut word: Vec<char> = word.chars().collect();
            let free = width.saturating_sub(line.chars().count() + usize::from(!line.is_empty()));
            if !line.is_empty() && word.len() > free {
                lines.push(std::mem::take(&mut line));
            }
            while word.len() > width {
                lines.push(word.drain(..width).collect());
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend(word);
        }
        lines.push(line);
    }
    lines
}
