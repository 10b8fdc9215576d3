//! JSON's strings and numbers, appended to a line.

use std::fmt::{self, Display, Write};

/// Appends `text` between quotes, escaped (RFC 8259 §7).
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends `text` between quotes, as it is: for what has nothing in it to escape.
pub(super) fn push_plain(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.bytes().any(is_special), "{text:?} is to be escaped");
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends what `value` displays, between quotes, escaped.
pub(super) fn push_display(out: &mut Vec<u8>, value: impl Display) {
    out.push(b'"');
    write!(Escaped(out), "{value}").expect("a buffer takes everything");
    out.push(b'"');
}

struct Escaped<'a>(&'a mut Vec<u8>);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    // Without a way out before the end, this first look is vectorized; it is nearly always the only one.
    if !rest.iter().fold(false, |found, &byte| found | is_special(byte)) {
        out.extend_from_slice(rest);
        return;
    }
    while let Some(at) = rest.iter().position(|&byte| is_special(byte)) {
        let byte = rest[at];
        out.extend_from_slice(&rest[..at]);
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => {
                let hex = |nibble: u8| HEX[usize::from(nibble)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends a decimal number.
pub(super) fn push_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_what_serde_json_reads(text in any::<String>()) {
            let (mut plain, mut displayed) = (Vec::new(), Vec::new());
            push_string(&mut plain, &text);
            push_display(&mut displayed, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&plain).ok(), Some(text));
            prop_assert_eq!(plain, displayed);
        }

        #[test]
        fn numbers_are_decimal(number in any::<u64>()) {
            let mut out = Vec::new();
            push_u64(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).ok(), Some(number.to_string()));
        }
    }
}
