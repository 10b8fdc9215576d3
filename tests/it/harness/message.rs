//! An HTTP/1.1 message as bytes, read minimally: a first line, fields, a body by length, chunks or close.
//!
//! Never here: leniency that would hide what was sent; the raw head is kept as it came.

use std::io::{self, BufRead};

/// A request an upstream received, or an answer a client did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The bytes of the head, with the empty line.
    pub(crate) head: String,
    /// The request line or the status line.
    pub(crate) first_line: String,
    /// Names as they were written, values without the white space around them.
    pub(crate) fields: Vec<(String, String)>,
    /// The content, without any transfer coding.
    pub(crate) body: Vec<u8>,
    /// What came behind the last chunk.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Message {
    /// Reads a head; `None` at the end of the stream.
    pub(crate) fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut message = Self::default();
        loop {
            let line = read_line(stream)?;
            message.head.push_str(&line);
            match line.trim_end_matches(['\r', '\n']) {
                "" if line.is_empty() => {
                    let cut = !message.head.is_empty();
                    return if cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
                }
                "" => return Ok(Some(message)),
                text if message.first_line.is_empty() => text.clone_into(&mut message.first_line),
                text => message.fields.push(field(text)),
            }
        }
    }

    /// Reads the content of a message whose head is read, as its framing fields say. Content that is
    /// ended by the close of the connection is read for answers only.
    pub(crate) fn read_body(&mut self, stream: &mut impl BufRead) -> io::Result<()> {
        let is_chunked = self.field("transfer-encoding").is_some_and(|value| value == "chunked");
        if is_chunked {
            while let Some(chunk) = self.read_chunk(stream)? {
                self.body.extend(chunk);
            }
        } else if let Some(length) = self.field("content-length") {
            self.body = vec![0; length.parse().map_err(io::Error::other)?];
            stream.read_exact(&mut self.body)?;
        } else if self.first_line.starts_with("HTTP/") {
            stream.read_to_end(&mut self.body)?;
        }
        Ok(())
    }

    /// Reads one chunk; `None` after the last, when the trailers are read too.
    pub(crate) fn read_chunk(&mut self, stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
        let line = read_line(stream)?;
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        if size > 0 {
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk)?;
            read_line(stream)?;
            return Ok(Some(chunk));
        }
        loop {
            match read_line(stream)?.trim_end_matches(['\r', '\n']) {
                "" => return Ok(None),
                text => self.trailers.push(field(text)),
            }
        }
    }

    /// Every value of the fields called `name`, in order.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let is_it = |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        self.fields.iter().filter(is_it).map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of the field called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).first().copied()
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let code = self.first_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no status line: {:?}", self.first_line))
    }

    /// The target of a request, as it stands in its first line.
    pub(crate) fn target(&self) -> &str {
        self.first_line.split(' ').nth(1).unwrap_or_default()
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> &str {
        self.first_line.split(' ').next().unwrap_or_default()
    }

    /// The content as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `code` of a problem document; empty for any other answer.
    pub(crate) fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether an answer to `method` has no content whatever its fields say, RFC 9112 §6.3.
    pub(crate) fn has_no_content(&self, method: &str) -> bool {
        method == "HEAD" || matches!(self.status(), 100..=199 | 204 | 304)
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

/// One line with its end; empty at the end of the stream. Bytes that are no UTF-8 become U+FFFD.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}
