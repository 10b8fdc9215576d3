//! The text of a key file, cut into its entries.
//!
//! An entry that stands alone is read in a fraction of the time and of the memory that it takes as a part of a large
//! document. A cut that is none (`[[keys]]` within a text of several lines) leaves a piece that cannot be read alone.
//!
//! Never here: what an entry says.

use std::io::{self, BufRead};
use std::iter;
use std::ops::Range;

use memchr::memmem;

/// How an entry begins, at the beginning of a line.
const HEADER: &str = "[[keys]]";

/// What stands before the first entry, and the pieces that seem to be entries, each up to the next one.
pub(super) fn split(text: &str) -> (&str, impl Iterator<Item = Range<usize>>) {
    let first = if text.starts_with(HEADER) { Some(0) } else { next(text, 0) };
    let mut at = first;
    let pieces = iter::from_fn(move || {
        let start = at?;
        at = next(text, start);
        Some(start..at.unwrap_or(text.len()))
    });
    (&text[..first.unwrap_or(text.len())], pieces)
}

/// Gives `take` the same parts of a text that is never in memory as a whole: what stands before the first entry, then
/// each that seems to be one. `None` as soon as `take` refuses one.
pub(super) fn each(
    mut text: impl BufRead,
    mut take: impl FnMut(&[u8]) -> Option<()>,
) -> io::Result<Option<()>> {
    let mut piece = Vec::new();
    loop {
        let line = piece.len();
        let is_over = text.read_until(b'\n', &mut piece)? == 0;
        if is_over || piece[line..].starts_with(HEADER.as_bytes()) {
            if take(&piece[..line]).is_none() {
                return Ok(None);
            }
            piece.drain(..line);
        }
        if is_over {
            return Ok(Some(()));
        }
    }
}

/// Where the next line begins behind `at` that begins an entry.
fn next(text: &str, at: usize) -> Option<usize> {
    let line = memmem::find(&text.as_bytes()[at..], b"\n[[keys]]")?;
    Some(at + line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_goes_from_header_to_header() {
        let check = |text: &str, head: &str, expected: &[&str]| {
            let (before, pieces) = split(text);
            let pieces: Vec<_> = pieces.map(|piece| &text[piece]).collect();
            assert_eq!((before, pieces.as_slice()), (head, expected), "{text:?}");
            let mut parts = Vec::new();
            let all = each(text.as_bytes(), |part| {
                parts.push(String::from_utf8_lossy(part).into_owned());
                Some(())
            });
            assert_eq!(all.unwrap(), Some(()));
            assert_eq!(parts, [&[head], expected].concat(), "{text:?}");
        };
        check("", "", &[]);
        check("keys = []\n", "keys = []\n", &[]);
        check("[[keys]]", "", &["[[keys]]"]);
        check("[[keys]]\na = 1\n[[keys]]\n", "", &["[[keys]]\na = 1\n", "[[keys]]\n"]);
        check("# Ours.\n\n[[keys]] # one\n# two:\n", "# Ours.\n\n", &["[[keys]] # one\n# two:\n"]);
        check("# a\r\n[[keys]]\r\n[[keys]]", "# a\r\n", &["[[keys]]\r\n", "[[keys]]"]);
        check(" [[keys]]\n[[keys]]\n", " [[keys]]\n", &["[[keys]]\n"]);
    }
}
