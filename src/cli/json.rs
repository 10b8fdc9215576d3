//! Results as JSON, for scripts.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

/// Writes `value` as indented JSON and a line end.
pub(super) fn write(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    // Standard output alone would write line by line.
    let mut to = BufWriter::new(to);
    serde_json::to_writer_pretty(&mut to, value)?;
    writeln!(to)?;
    to.flush()
}
