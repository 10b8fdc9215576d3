//! A look at the raw head of a request, for what the parser hides.
//!
//! hyper drops a `Content-Length` that stands beside a `Transfer-Encoding` before anybody can see both. A
//! request that has both was made to be read in two ways (RFC 9112 §6.1), so the field names of each head are
//! noted as the bytes come in.
//!
//! Never here: bytes changed, or a judgement on anything but these two fields.

/// The longest name looked for.
const LONGEST: usize = "transfer-encoding".len();

/// Which framing fields the head that is being received has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    /// The beginning of the current line, as far as a name could reach.
    start: [u8; LONGEST + 1],
    start_len: usize,
    has_request_line: bool,
    has_ended: bool,
    has_content_length: bool,
    has_transfer_encoding: bool,
    /// Whether bytes came behind the head: a body, or the beginning of another head that is not scanned.
    has_more: bool,
}

impl HeadScan {
    /// Notes what is in `bytes`, which follow those of the last call.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.has_ended && !bytes.is_empty() {
            let (line, is_whole, rest) = match memchr::memchr(b'\n', bytes) {
                Some(at) => (&bytes[..at], true, &bytes[at + 1..]),
                None => (bytes, false, &bytes[bytes.len()..]),
            };
            let room = self.start.len() - self.start_len;
            let seen = &line[..line.len().min(room)];
            self.start[self.start_len..self.start_len + seen.len()].copy_from_slice(seen);
            self.start_len += seen.len();
            if is_whole {
                self.end_line();
            }
            bytes = rest;
        }
        self.has_more |= !bytes.is_empty();
    }

    fn end_line(&mut self) {
        let line = &self.start[..self.start_len];
        match line.first() {
            None | Some(b'\r') => self.has_ended = self.has_request_line,
            Some(b'c' | b'C') => self.has_content_length |= is_field(line, b"content-length"),
            Some(b't' | b'T') => self.has_transfer_encoding |= is_field(line, b"transfer-encoding"),
            Some(_) => {}
        }
        self.has_request_line |= !matches!(line.first(), None | Some(b'\r'));
        self.start_len = 0;
    }

    /// Whether the head has both framing fields.
    pub(super) fn has_both(&self) -> bool {
        self.has_content_length && self.has_transfer_encoding
    }

    /// Whether a head that begins with the next bytes received would be seen whole.
    pub(super) fn leaves_nothing_behind(&self) -> bool {
        !self.has_more
    }
}

fn is_field(line: &[u8], name: &[u8]) -> bool {
    line.len() > name.len()
        && line[..name.len()].eq_ignore_ascii_case(name)
        && line[name.len()] == b':'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, has_both: bool, leaves_nothing: bool) {
        // However the bytes are cut.
        for size in 1..=head.len() {
            let mut scan = HeadScan::default();
            head.as_bytes().chunks(size).for_each(|piece| scan.feed(piece));
            let seen = (scan.has_both(), scan.leaves_nothing_behind());
            assert_eq!(seen, (has_both, leaves_nothing), "{head:?} in pieces of {size}");
        }
    }

    #[test]
    fn both_framing_fields_are_found_in_the_head_alone() {
        check(
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            true,
            true,
        );
        check(
            "\r\nPOST / HTTP/1.1\r\nx: y\r\ntransfer-ENCODING:chunked\r\ncontent-length:5\r\n\r\n",
            true,
            true,
        );
        check("POST / HTTP/1.1\ncontent-length: 1\ntransfer-encoding: chunked\n\n", true, true);
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
            false,
            false,
        );
        check("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", false, false);
        check(
            "POST / HTTP/1.1\r\nx-content-length: 5\r\ntransfer-encodings: a\r\n\r\n",
            false,
            true,
        );
        check("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", false, false);
    }
}
