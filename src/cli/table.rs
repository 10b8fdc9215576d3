//! Tables for people: aligned columns below a bold heading.
//!
//! Never here: what a row says, or a control character of what it says.

use std::io::{self, Write};

use anstyle::Style;

/// A line of a table, in a style of its own.
pub(super) struct Row {
    pub(super) style: Style,
    pub(super) cells: Vec<String>,
}

impl Row {
    /// A line without colour.
    pub(super) fn plain(cells: Vec<String>) -> Self {
        Self { style: Style::new(), cells }
    }
}

/// Writes `rows` below `heading`.
pub(super) fn write(
    to: &mut impl Write,
    heading: &[&str],
    rows: impl IntoIterator<Item = Row>,
) -> io::Result<()> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(heading.iter().copied());
    let mut styles = vec![Style::new().bold()];
    for row in rows {
        table.add_row(row.cells.iter().map(|cell| printable(cell)));
        styles.push(row.style);
    }
    // No cell breaks a line, so there is one line a row.
    for (text, style) in table.lines().zip(styles) {
        let text = text.strip_prefix(' ').unwrap_or(&text).trim_end();
        writeln!(to, "{style}{text}{style:#}")?;
    }
    Ok(())
}

/// What a terminal would obey, escaped: a file's name may hold anything.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_escaped() {
        let rows = [["a", "long name", "x"], ["", "b\n\u{1b}[31m", "yy"]];
        let rows = rows.map(|cells| Row::plain(cells.map(str::to_owned).to_vec()));
        let mut text = Vec::new();
        write(&mut text, &["ONE", "TWO", ""], rows).expect("a Vec takes everything");
        let text = anstream::adapter::strip_bytes(&text).into_vec();
        assert_eq!(
            String::from_utf8(text).expect("made of text"),
            "ONE  TWO\na    long name      x\n     b\\n\\u{1b}[31m  yy\n"
        );
    }
}
