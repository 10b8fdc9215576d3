//! What goes on, three parsers read as the same request: ours, httparse, and h11 in a process of its own. So an endpoint
//! sees the request that was decided on, and no other behind it.
//!
//! Input: a byte that says who sends it, and what comes over the connection.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bytes::Bytes;
use http::HeaderMap;
use keyward::http1::decode::Decoded;
use serde_json::{Value, json};

use super::reading::{Field, fields_of, unchunked};
use super::worker::{Forwarded, PEERS, Worker};

thread_local! {
    static PARSERS: (Worker, RefCell<H11>) = (Worker::new(), RefCell::new(H11::start()));
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let Some((&peer, wire)) = data.split_first() else { return };
    PARSERS.with(|(worker, h11)| {
        let mut unread = Bytes::copy_from_slice(wire);
        // What stands behind a request is another one.
        while !unread.is_empty() {
            let peer = usize::from(peer) % PEERS.len();
            let Some(forwarded) = worker.forward(peer, &mut unread) else { break };
            check(worker, &mut h11.borrow_mut(), forwarded);
        }
    });
}

fn check(worker: &Worker, h11: &mut H11, Forwarded { mut head, body, content }: Forwarded) {
    let Some(body) = body else { return };
    head.extend_from_slice(&body);
    let ours = by_us(worker, &head);
    assert_eq!(ours["body"], latin1(&content.data), "the body is another one");
    assert_eq!(ours["trailers"].as_array().map(Vec::len), Some(content.trailers.len()));
    assert_eq!(by_httparse(&head), ours, "httparse reads another request");
    // A query passes byte for byte, even one that holds what no URI does (RFC 3986 §2).
    if ours["target"].as_str().is_some_and(str::is_ascii) {
        assert_eq!(h11.read(&head), ours, "h11 reads another request: {:?}", latin1(&head));
    }
}

/// Each byte as the character of its number.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn shown(fields: &HeaderMap) -> Value {
    let mut fields: Vec<Field> = fields
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    listed(&mut fields)
}

/// Fields by their names; those of one name in their order.
fn listed(fields: &mut [Field]) -> Value {
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields.iter().map(|(name, value)| json!([name, latin1(value)])).collect()
}

fn by_us(worker: &Worker, wire: &[u8]) -> Value {
    let mut unread = Bytes::copy_from_slice(wire);
    let received = worker.read_as_endpoint(&mut unread);
    let received = received.expect("a head that is sound").expect("and whole");
    let mut body = received.body.expect("a body that is sound");
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Decoded::Frame(frame) = body.decode(&mut unread).expect("a sound body") {
        match frame.into_data() {
            Ok(piece) => data.extend_from_slice(&piece),
            Err(frame) => trailers = frame.into_trailers().expect("data or trailers"),
        }
    }
    assert!(body.has_ended(), "there is more to come");
    json!({
        "method": received.head.method.as_str(),
        "target": latin1(received.head.uri.to_string().as_bytes()),
        "fields": shown(&received.head.headers),
        "body": latin1(&data),
        "trailers": shown(&trailers),
        "behind": latin1(&unread),
    })
}

fn by_httparse(wire: &[u8]) -> Value {
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(wire).expect("a head that is sound");
    let end = parsed.unwrap();
    let (method, target) = (request.method.expect("a method"), request.path.expect("a target"));
    let mut fields: Vec<Field> = request
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
        .collect();
    let value = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
    let length = value("content-length")
        .map(|value| String::from_utf8_lossy(value).parse::<usize>().expect("a length in digits"));
    let is_chunked = value("transfer-encoding").is_some();
    let (data, behind) = match length {
        None if is_chunked => unchunked(&wire[end..]).expect("a chunked body that is whole"),
        length => {
            let (data, behind) = wire[end..].split_at(length.unwrap_or(0));
            (data.to_vec(), behind)
        }
    };
    let body = &wire[end..wire.len() - behind.len()];
    let mut trailers = if is_chunked { trailers_of(body) } else { Vec::new() };
    json!({
        "method": method,
        "target": latin1(target.as_bytes()),
        "fields": listed(&mut fields),
        "body": latin1(&data),
        "trailers": listed(&mut trailers),
        "behind": latin1(behind),
    })
}

/// The trailers of a chunked body that we wrote: behind the last chunk, whose line says nothing but 0.
fn trailers_of(body: &[u8]) -> Vec<Field> {
    let mut rest = body;
    loop {
        let end = rest.iter().position(|&byte| byte == b'\r').expect("a line");
        let size = std::str::from_utf8(&rest[..end]).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("digits and nothing else");
        if size == 0 {
            return fields_of(rest).1;
        }
        rest = &rest[end + 2 + size + 2..];
    }
}

/// The process that has h11; it ends with ours.
struct H11 {
    _process: Child,
    requests: ChildStdin,
    answers: ChildStdout,
}

impl H11 {
    fn start() -> Self {
        let python = python();
        let script = "targets/h11_reader.py";
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = [here.join(script), here.join("fuzz").join(script)];
        let script = script.iter().find(|path| path.exists()).expect("targets/h11_reader.py");
        let mut process = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run `make test-tools`", python.display()));
        let requests = process.stdin.take().expect("it is piped");
        let answers = process.stdout.take().expect("it is piped");
        Self { _process: process, requests, answers }
    }

    fn read(&mut self, wire: &[u8]) -> Value {
        let framed = [&(wire.len() as u32).to_be_bytes(), wire].concat();
        self.requests.write_all(&framed).expect("h11 reads");
        let mut length = [0; 4];
        self.answers.read_exact(&mut length).expect("h11 answers");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.answers.read_exact(&mut answer).expect("h11 answers");
        let mut request: Value = serde_json::from_slice(&answer).expect("JSON");
        for list in ["fields", "trailers"] {
            if let Some(fields) = request.get_mut(list).and_then(Value::as_array_mut) {
                fields.sort_by(|one, other| one[0].as_str().cmp(&other[0].as_str()));
            }
        }
        request
    }
}

/// The Python that `make test-tools` gives h11 to.
fn python() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = Path::new(".tools/h11/bin/python");
    [here.join(python), here.join("..").join(python)]
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("h11 is not there: run `make test-tools`"))
}
