//! A reader of requests that takes nothing but what RFC 9112 says a sender must send: what it reads, nobody reads in
//! another way.
//!
//! Never here: code of the proxy, or of a library. It is there to be of another opinion.

use std::str;

/// A request that is whole and clean.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// Its first line and its fields, as they came.
    pub(super) head: String,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
}

impl Request {
    /// Every value of what some server would take for the field `name`: CGI, WSGI and PHP fold `_` and `.` to `-`.
    pub(super) fn folded(&self, name: &str) -> Vec<&str> {
        let both = self.fields.iter().chain(&self.trailers);
        let is_it = |field: &&(String, String)| field.0.replace(['_', '.'], "-") == name;
        both.filter(is_it).map(|(_, value)| value.as_str()).collect()
    }

    fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Reads the request at the beginning of `bytes`, and how long it is; `None` if it is clean so far, and not whole.
///
/// # Errors
/// What is not clean about it.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let mut rest = bytes;
    let mut request = Request::default();
    let Some(first) = line(&mut rest)? else { return Ok(None) };
    let words: Vec<&str> = first.split(' ').collect();
    match words[..] {
        [method, target, "HTTP/1.1" | "HTTP/1.0"] if is_token(method) && is_target(target) => {
            (request.method, request.target) = (method.to_owned(), target.to_owned());
        }
        _ => return Err(format!("no request line: {first:?}")),
    }
    if !fields(&mut rest, &mut request.fields)? {
        return Ok(None);
    }
    let head = &bytes[..bytes.len() - rest.len()];
    request.head = String::from_utf8_lossy(head).into_owned();
    if first.ends_with('1') && request.values("host").len() != 1 {
        return Err(format!("not one Host: {:?}", request.head));
    }
    let is_whole =
        match (&request.values("transfer-encoding")[..], &request.values("content-length")[..]) {
            ([], []) => true,
            ([], [length]) => {
                let is_number =
                    !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.parse().ok().filter(|_| is_number);
                let length: usize = length.ok_or(format!("no length: {:?}", request.head))?;
                take(&mut rest, length).map(|body| request.body = body.to_vec()).is_some()
            }
            (["chunked"], []) => chunks(&mut rest, &mut request)?,
            _ => return Err(format!("the body has two ends: {:?}", request.head)),
        };
    Ok(is_whole.then(|| (request, bytes.len() - rest.len())))
}

/// Fields to the empty line; whether that is there.
fn fields(rest: &mut &[u8], fields: &mut Vec<(String, String)>) -> Result<bool, String> {
    while let Some(text) = line(rest)? {
        if text.is_empty() {
            return Ok(true);
        }
        let (name, value) = text.split_once(':').ok_or(format!("no field: {text:?}"))?;
        if !is_token(name) {
            return Err(format!("no name of a field: {text:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(false)
}

/// Chunks and trailers; whether they are there whole.
fn chunks(rest: &mut &[u8], request: &mut Request) -> Result<bool, String> {
    while let Some(text) = line(rest)? {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(&text, 16).ok().filter(|_| is_number);
        match size.ok_or(format!("no size of a chunk: {text:?}"))? {
            0 => return fields(rest, &mut request.trailers),
            size => {
                let Some(data) = take(rest, size) else { return Ok(false) };
                request.body.extend_from_slice(data);
            }
        }
        match line(rest)?.as_deref() {
            None => return Ok(false),
            Some("") => {}
            Some(more) => return Err(format!("a chunk is longer than it says: {more:?}")),
        }
    }
    Ok(false)
}

/// A line, without its end; `None` if that is not there.
fn line(rest: &mut &[u8]) -> Result<Option<String>, String> {
    let (line, is_whole) = match rest.iter().position(|&byte| byte == b'\n') {
        Some(end) => (take(rest, end + 1).unwrap_or_default(), true),
        None => (*rest, false),
    };
    let shown = String::from_utf8_lossy(line).into_owned();
    let text = match line {
        [text @ .., b'\r', b'\n'] if is_whole => text,
        [text @ .., b'\r'] if !is_whole => text,
        text if !is_whole => text,
        _ => return Err(format!("a bare line feed: {shown:?}")),
    };
    if text.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(format!("a control character: {shown:?}"));
    }
    Ok(is_whole.then(|| String::from_utf8_lossy(text).into_owned()))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// A path and a query, or `*`, in one piece. RFC 3986 allows fewer characters than clients send; those that could end or
/// cut it are none of them.
fn is_target(text: &str) -> bool {
    let is_allowed = |byte: u8| byte > b' ' && !matches!(byte, b'#' | 0x7f);
    text == "*" || text.starts_with('/') && text.bytes().all(is_allowed)
}

#[test]
fn the_strict_reader_takes_what_is_clean() {
    let wire = "PUT /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX_y: 1\r\n\r\nGET";
    let (request, length) = read(wire.as_bytes()).expect("clean").expect("whole");
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/a?b"));
    assert_eq!((request.body, request.trailers.len()), (b"hi".to_vec(), 1));
    assert_eq!(&wire[length..], "GET");
    for end in 0..length {
        assert!(read(&wire.as_bytes()[..end]).expect("clean so far").is_none(), "{end}");
    }
}

#[test]
fn the_strict_reader_takes_nothing_else() {
    for wire in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    ] {
        assert!(read(wire.as_bytes()).is_err(), "{wire:?}");
    }
}
