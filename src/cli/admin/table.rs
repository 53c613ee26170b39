//! Tables that fit the terminal: one line a row, whatever is in it.
//!
//! The crates for tables wrap rows or squeeze every column alike. An id that is
//! cut cannot be copied and a wrapped row cannot be scanned, so here columns
//! say how much they can spare and which of them go first.

use std::io::{self, Write};

use anstyle::Style;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::screen::{HEADING, PLAIN, clean};

/// Between two columns.
const GAP: usize = 2;

/// What cut texts end with.
const ELLIPSIS: &str = "…";

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    /// It is at least this wide where there is room.
    least: usize,
    /// It is cut to the first width rather than that another column is left
    /// out, and to the second where none can be; `None` where it is never cut.
    spare: Option<(usize, usize)>,
    /// Those with the lowest number go first; `None` never goes.
    rank: Option<u8>,
    to_the_right: bool,
}

impl Column {
    /// A column that is shown whole.
    pub const fn whole(title: &'static str) -> Self {
        Self {
            title,
            least: 0,
            spare: None,
            rank: None,
            to_the_right: false,
        }
    }

    /// A column of numbers.
    pub const fn number(title: &'static str) -> Self {
        Self {
            to_the_right: true,
            ..Self::whole(title)
        }
    }

    /// The same, and it may be cut: to `good`, and to `least` before columns
    /// that are never left out would not fit.
    pub const fn cut_to(self, good: usize, least: usize) -> Self {
        Self {
            spare: Some((good, least)),
            ..self
        }
    }

    /// The same, and at least this wide where there is room, so that rows that
    /// are written one by one stand under each other.
    pub const fn at_least(self, width: usize) -> Self {
        Self {
            least: width,
            ..self
        }
    }

    /// The same, and it is left out where there is no room; the column with the
    /// lowest rank goes first.
    pub const fn rank(self, rank: u8) -> Self {
        Self {
            rank: Some(rank),
            ..self
        }
    }
}

/// A cell: pieces of text, each in its style. Texts are cleaned.
#[derive(Debug, Clone, Default)]
pub struct Cell(Vec<(String, Style)>);

impl Cell {
    /// One text in one style.
    pub fn new(text: &str, style: Style) -> Self {
        Self::default().and(text, style)
    }

    /// The same with another piece.
    pub fn and(mut self, text: &str, style: Style) -> Self {
        self.0.push((clean(text), style));
        self
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(text, _)| text.width()).sum()
    }

    /// Writes it in `width` columns, the last of a row without what fills it up.
    fn write(&self, out: &mut dyn Write, width: usize, right: bool, last: bool) -> io::Result<()> {
        let own = self.width();
        let fill = width.saturating_sub(own);
        if right {
            write!(out, "{:fill$}", "")?;
        }
        if own <= width {
            for (text, style) in &self.0 {
                write!(out, "{style}{text}{style:#}")?;
            }
        } else {
            self.write_cut(out, width)?;
        }
        if !right && !last {
            write!(out, "{:fill$}", "")?;
        }
        Ok(())
    }

    fn write_cut(&self, out: &mut dyn Write, width: usize) -> io::Result<()> {
        let mut room = width.saturating_sub(1);
        for (text, style) in &self.0 {
            let mut end = 0;
            let mut full = false;
            for (position, c) in text.char_indices() {
                let columns = c.width().unwrap_or(0);
                if columns > room {
                    full = true;
                    break;
                }
                room -= columns;
                end = position + c.len_utf8();
            }
            write!(out, "{style}{}{style:#}", &text[..end])?;
            if full {
                break;
            }
        }
        if width == 0 {
            return Ok(());
        }
        // A wide character that did not fit leaves a column.
        write!(out, "{ELLIPSIS}{:room$}", "")
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, PLAIN)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(&text, PLAIN)
    }
}

/// Rows under titles.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, which has a cell for each column.
    pub fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// Writes titles and rows for a terminal of `width` columns; `None` cuts
    /// nothing.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&self, out: &mut dyn Write, width: Option<usize>) -> io::Result<()> {
        let titles = self.columns.iter().map(|c| Cell::new(c.title, HEADING));
        let titles: Vec<Cell> = titles.collect();
        self.write_these(std::iter::once(&titles).chain(&self.rows), out, width)
    }

    /// The same without titles.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write_rows(&self, out: &mut dyn Write, width: Option<usize>) -> io::Result<()> {
        self.write_these(self.rows.iter(), out, width)
    }

    fn write_these<'t>(
        &self,
        rows: impl Iterator<Item = &'t Vec<Cell>>,
        out: &mut dyn Write,
        width: Option<usize>,
    ) -> io::Result<()> {
        let layout = self.layout(width);
        for row in rows {
            for (position, (column, width)) in layout.iter().enumerate() {
                let last = position + 1 == layout.len();
                let right = self.columns[*column].to_the_right;
                row[*column].write(out, *width, right, last)?;
                if !last {
                    write!(out, "{:GAP$}", "")?;
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// The columns that are shown, each with its width.
    fn layout(&self, width: Option<usize>) -> Vec<(usize, usize)> {
        let natural = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].width()).max();
            let Column { title, least, .. } = self.columns[column];
            title.width().max(cells.unwrap_or(0)).max(least)
        };
        let mut shown: Vec<(usize, usize)> =
            (0..self.columns.len()).map(|c| (c, natural(c))).collect();
        let Some(room) = width else {
            return shown;
        };
        loop {
            let mut layout = shown.clone();
            self.shrink(&mut layout, room, |(good, _)| good);
            if total(&layout) <= room {
                return layout;
            }
            let ranked = shown.iter().enumerate();
            let ranked = ranked.filter_map(|(i, (c, _))| Some((self.columns[*c].rank?, i)));
            match ranked.min() {
                Some((_, leaves)) => drop(shown.remove(leaves)),
                None => {
                    self.shrink(&mut layout, room, |(_, least)| least);
                    return layout;
                }
            }
        }
    }

    /// Takes from the widest column that can spare something until all fit.
    fn shrink(
        &self,
        layout: &mut [(usize, usize)],
        room: usize,
        to: impl Fn((usize, usize)) -> usize,
    ) {
        while total(layout) > room {
            let over = total(layout) - room;
            let spare = |(column, width): &(usize, usize)| {
                let least = to(self.columns[*column].spare?);
                width.checked_sub(least).filter(|spare| *spare > 0)
            };
            let widest = layout.iter_mut().filter(|entry| spare(entry).is_some());
            let Some(widest) = widest.max_by_key(|(_, width)| *width) else {
                return;
            };
            // Not all at once: the next widest gives its part.
            let part = over.div_ceil(2).min(spare(widest).unwrap_or(0));
            widest.1 -= part;
        }
    }
}

fn total(layout: &[(usize, usize)]) -> usize {
    let widths: usize = layout.iter().map(|(_, width)| width).sum();
    widths + GAP * layout.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::super::screen::BAD;
    use super::*;

    fn shown(table: &Table, width: Option<usize>) -> Vec<String> {
        let mut out = anstream::StripStream::new(Vec::new());
        table.write(&mut out, width).unwrap();
        let text = String::from_utf8(out.into_inner()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn table() -> Table {
        let mut table = Table::new([
            Column::whole("ID"),
            Column::whole("TYPE").cut_to(9, 6),
            Column::number("N").rank(1),
            Column::whole("REASON").cut_to(8, 8).rank(0),
        ]);
        table.push(vec![
            "0193-aaaa".into(),
            "ProduceMediaComplete".into(),
            "5".into(),
            Cell::new("status 500", BAD).and(", and again", PLAIN),
        ]);
        table.push(vec![
            "0193-bbbb".into(),
            "片头片尾".into(),
            "1234".into(),
            "".into(),
        ]);
        table
    }

    #[test]
    fn a_program_gets_everything() {
        assert_eq!(
            shown(&table(), None),
            [
                "ID         TYPE                     N  REASON",
                "0193-aaaa  ProduceMediaComplete     5  status 500, and again",
                "0193-bbbb  片头片尾              1234  ",
            ]
        );
    }

    #[test]
    fn rows_fit_the_terminal_and_ids_stay_whole() {
        for width in 17..80 {
            for line in shown(&table(), Some(width)) {
                assert!(line.width() <= width, "{width}: {line}");
            }
            let lines = shown(&table(), Some(width));
            assert!(lines[1].starts_with("0193-aaaa  P"), "{lines:?}");
        }
        assert_eq!(
            shown(&table(), Some(40)),
            [
                "ID         TYPE            N  REASON",
                "0193-aaaa  ProduceMed…     5  status 50…",
                "0193-bbbb  片头片尾     1234  ",
            ]
        );
        // The reason goes first, the number next.
        let narrow = shown(&table(), Some(28));
        assert_eq!(narrow[0], "ID         TYPE            N");
        assert_eq!(shown(&table(), Some(20))[1], "0193-aaaa  ProduceM…");
    }

    #[test]
    fn what_drives_a_terminal_is_escaped() {
        let mut table = Table::new([Column::whole("X")]);
        table.push(vec!["a\u{1b}[2J\r\nb".into()]);
        assert_eq!(shown(&table, None)[1], "a\\u{1b}[2J\\r\\nb");
        assert_eq!(shown(&table, None).len(), 2);
    }
}
