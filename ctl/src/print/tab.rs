//! Elastic tab stops: columns of contiguous lines are aligned, as Go's tabwriter does it.
//!
//! A cell is text that a tab ends; the last cell of a line belongs to no column.

/// Formats text with cells ended by tabs.
pub fn format(text: &str, min_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|l| l.split('\t').collect()).collect();
    let mut layout = Layout {
        lines: &lines,
        min_width,
        padding,
        widths: Vec::new(),
        out: String::with_capacity(text.len() * 2),
    };
    layout.block(0, lines.len());
    // Splitting at newlines gives one line too many.
    layout.out.pop();
    layout.out
}

/// Descriptions: two spaces between columns.
pub fn describe(text: &str) -> String {
    format(text, 0, 2)
}

struct Layout<'a> {
    lines: &'a [Vec<&'a str>],
    min_width: usize,
    padding: usize,
    widths: Vec<usize>,
    out: String,
}

impl Layout<'_> {
    fn cell(&self, line: usize, column: usize) -> Option<&str> {
        let cells = self.lines.get(line)?;
        (column + 1 < cells.len())
            .then(|| cells.get(column).copied())
            .flatten()
    }

    fn block(&mut self, mut start: usize, end: usize) {
        let column = self.widths.len();
        let mut this = start;
        while this < end {
            if self.cell(this, column).is_none() {
                this += 1;
                continue;
            }
            self.write(start, this);
            start = this;
            let mut width = self.min_width;
            while this < end {
                let Some(cell) = self.cell(this, column) else {
                    break;
                };
                width = width.max(cell.chars().count() + self.padding);
                this += 1;
            }
            self.widths.push(width);
            self.block(start, this);
            self.widths.pop();
            start = this;
        }
        self.write(start, end);
    }

    fn write(&mut self, start: usize, end: usize) {
        for line in self.lines.get(start..end).unwrap_or(&[]) {
            for (at, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if at + 1 < line.len()
                    && let Some(width) = self.widths.get(at)
                {
                    let used = cell.chars().count();
                    self.out
                        .extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
                }
            }
            self.out.push('\n');
        }
    }
}

/// A table whose columns keep the widths they had, for output that goes on as a watch brings more.
#[derive(Default)]
pub struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// Lays out rows; widths only ever grow.
    pub fn format(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            let inner = row.len().saturating_sub(1);
            for (at, cell) in row.iter().take(inner).enumerate() {
                let width = (cell.chars().count() + 3).max(6);
                match self.widths.get_mut(at) {
                    Some(w) => *w = (*w).max(width),
                    None => self.widths.push(width),
                }
            }
        }
        let mut out = String::new();
        for row in rows {
            for (at, cell) in row.iter().enumerate() {
                out.push_str(cell);
                if at + 1 < row.len() {
                    let width = self.widths.get(at).copied().unwrap_or(0);
                    out.extend(std::iter::repeat_n(
                        ' ',
                        width.saturating_sub(cell.chars().count()),
                    ));
                }
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_blocks_of_contiguous_lines() {
        assert_eq!(
            describe("Name:\tx\nNamespace:\ty\nContainers:\n  a:\n    Port:\t80\n    Image ID:\tz\n"),
            "Name:       x\nNamespace:  y\nContainers:\n  a:\n    Port:      80\n    Image ID:  z\n"
        );
    }

    #[test]
    fn inner_columns_align_within_their_block() {
        assert_eq!(describe("a\tb\tc\nlong\tx\ty\n"), "a     b  c\nlong  x  y\n");
    }

    #[test]
    fn tables_keep_their_widths() {
        let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        let mut columns = Columns::default();
        assert_eq!(
            columns.format(&[row(&["NAME", "AGE"]), row(&["longer-name", "5s"])]),
            "NAME          AGE\nlonger-name   5s\n"
        );
        assert_eq!(columns.format(&[row(&["x", "1s"])]), "x             1s\n");
    }
}
