//! What only HTTP/2 can say: fields with bytes in them that end a line of HTTP/1, fields about a connection, lengths that
//! the frames belie, and frames out of order (RFC 9113 §8.1.1, §8.3). CVE-2023-27491, CVE-2023-27493.
//!
//! Never here: what HTTP/1.1 can say, too; the other tables run over both.

use super::case::{Expected, KEY, inner, passes, passes_as, refused};
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Field, Frame, HEADERS, PADDED, RST_STREAM,
    SETTINGS, block, head,
};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

#[derive(Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) frames: Vec<Frame>,
    /// `None` where the stream, or the connection, ends.
    pub(super) expected: Option<Expected>,
}

/// The head of a sound request of alice.
fn sound() -> Vec<Field> {
    fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/x"),
        (":authority", "app.example"),
        ("x-api-key", KEY),
    ])
}

fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
    let field =
        |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    fields.iter().map(field).collect()
}

/// The same with `field` at its end.
fn with(field: (&str, &str)) -> Vec<Field> {
    [sound(), fields(&[field])].concat()
}

/// The same with another value of the pseudo field `name`; with none of it for `None`.
fn pseudo(name: &str, value: Option<&str>) -> Vec<Field> {
    let mut all = sound();
    match value {
        Some(value) => {
            for (_, old) in all.iter_mut().filter(|field| field.0 == name.as_bytes()) {
                *old = value.as_bytes().to_vec();
            }
        }
        None => all.retain(|field| field.0 != name.as_bytes()),
    }
    all
}

pub(super) fn cases() -> Vec<Case> {
    [fields_cases(), pseudo_cases(), body_cases(), connect_cases(), frame_cases()].concat()
}

/// A head alone.
fn alone(name: impl Into<String>, fields: &[Field], expected: Option<Expected>) -> Case {
    Case { name: name.into(), frames: head(1, END_STREAM, fields), expected }
}

fn fields_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for field in [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("connection", "close"),
        ("connection", "x-auth-user"),
        ("connection", "upgrade"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, chunked"),
        // What ends a line of HTTP/1, and begins another.
        ("x-a", "1\r\nx-auth-user: evil"),
        ("x-a", "1\nx-auth-user: evil"),
        ("x-a", "1\rx-auth-user: evil"),
        ("x-a", "1\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("x-a", "\0"),
        ("x-a", "1\0evil"),
        ("x-a", "\u{1}"),
        ("x-a", "\u{7f}"),
        ("cookie", "a=1\r\nx-auth-user: evil"),
        ("x-api-key", "a\r\nx-auth-user: evil"),
        ("x-a\r\nx-auth-user", "evil"),
        ("x-a\nx-auth-user", "evil"),
        ("x-a: 1\r\nx-auth-user", "evil"),
        ("x-a\0", "1"),
        ("x-a\t", "1"),
        ("x-a ", "1"),
        (" x-a", "1"),
        ("x a", "1"),
        ("x-a:", "1"),
        ("x:a", "1"),
        ("X-Auth-User", "evil"),
        ("x-Auth-user", "evil"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "5"),
        ("x-\u{e9}", "1"),
        ("", "1"),
        ("x(a)", "1"),
        ("x\"a", "1"),
        ("x/a", "1"),
    ] {
        let (name, value) = field;
        cases.push(alone(format!("the field {name:?} of {value:?}"), &with(field), None));
    }
    for byte in (0..0x20_u8).chain([0x7f]).filter(|byte| *byte != b'\t') {
        let mut all = sound();
        all.push((b"x-a".to_vec(), vec![b'a', byte, b'b']));
        cases.push(alone(format!("{byte:#04x} in a value"), &all, None));
    }
    for byte in (0..=0x20_u8).chain([0x7f, 0x80, 0xff]).chain(*b"\"(),/;<=>?@[\\]{}A") {
        let mut all = sound();
        all.push((vec![b'x', byte, b'b'], b"1".to_vec()));
        cases.push(alone(format!("{byte:#04x} in a name"), &all, None));
    }
    for (name, field) in [
        ("trailers are taken", ("te", "trailers")),
        ("a spoof", ("x-auth-user", "evil")),
        ("an alias", ("x_auth_user", "evil")),
        ("a cookie", ("cookie", "a=1")),
        ("a length of nothing", ("content-length", "0")),
    ] {
        cases.push(alone(name, &with(field), Some(passes())));
    }
    let pieces = [sound(), fields(&[("cookie", "a=1"), ("cookie", "b=2")])].concat();
    cases.push(alone("a cookie in pieces", &pieces, Some(passes().with("cookie: a=1; b=2\r\n"))));
    cases
}

fn pseudo_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in [
        (":path", ""),
        (":path", "x"),
        (":path", "/x y"),
        (":path", "/x HTTP/1.1\r\nx-auth-user: evil"),
        (":path", "/x\tHTTP/1.1"),
        (":path", "/x\r\n"),
        (":path", "/x\0"),
        (":path", "/x\u{7f}"),
        (":path", "\\x"),
        (":path", "http://evil/x"),
        (":path", "//evil/x y"),
        (":method", ""),
        (":method", "GET /evil HTTP/1.1\r\nx:"),
        (":method", "GET /evil"),
        (":method", "G T"),
        (":method", "GET\0"),
        (":method", "GET\r\n"),
        (":method", "G:T"),
        (":method", "G\u{e9}T"),
        (":scheme", "http\r\nx"),
        (":scheme", "http://evil/?"),
        (":scheme", "h t"),
        (":authority", ""),
        (":authority", "a b"),
        (":authority", "a/b"),
        (":authority", "evil@app.example"),
        (":authority", "a, b"),
        (":authority", "a:b"),
        (":authority", "a\r\nx-auth-user: evil"),
        (":authority", "a\0"),
        (":authority", "[::1"),
        (":authority", "a?b"),
        (":authority", "a#b"),
        (":authority", "a\\b"),
        (":authority", "a:123456"),
    ] {
        cases.push(alone(format!("{name} is {value:?}"), &pseudo(name, Some(value)), None));
    }
    for name in [":method", ":scheme", ":path"] {
        cases.push(alone(format!("no {name}"), &pseudo(name, None), None));
    }
    cases.push(alone("neither :authority nor host", &pseudo(":authority", None), None));
    for (name, value) in
        [(":method", "POST"), (":scheme", "http"), (":path", "/evil"), (":authority", "evil")]
    {
        let first = [fields(&[(name, value)]), sound()].concat();
        cases.push(alone(format!("{name} twice"), &first, None));
        cases.push(alone(format!("{name} behind a field"), &with((name, value)), None));
        let mut late = pseudo(name, None);
        late.extend(fields(&[(name, value)]));
        cases.push(alone(format!("{name} behind fields, and only there"), &late, None));
    }
    for (name, value) in [
        (":status", "200"),
        (":evil", "1"),
        (":", "1"),
        (":Path", "/evil"),
        (":host", "evil"),
        (":protocol", "websocket"),
    ] {
        let first = [fields(&[(name, value)]), sound()].concat();
        cases.push(alone(format!("{name} in a request"), &first, None));
    }
    for host in
        ["evil", "", "app.example:80", "app.example, evil", "app.example ", "evil@app.example"]
    {
        cases.push(alone(
            format!(":authority is not the host {host:?}"),
            &with(("host", host)),
            None,
        ));
    }
    let twice = [sound(), fields(&[("host", "app.example"), ("host", "app.example")])].concat();
    cases.push(alone("two hosts", &twice, None));
    let same = with(("host", "APP.example"));
    cases.push(alone("the same host", &same, Some(passes().with("host: app.example\r\n"))));
    let mut host = pseudo(":authority", None);
    host.extend(fields(&[("host", "app.example")]));
    cases.push(alone("a host in the place of :authority", &host, Some(passes())));
    let other = pseudo(":scheme", Some("https"));
    cases.push(alone(
        "another scheme than the connection's",
        &other,
        Some(passes().with("x-forwarded-proto: http\r\n")),
    ));
    let path = pseudo(":path", Some("//evil/x"));
    cases.push(alone(
        "a path that looks like a host",
        &path,
        Some(refused(&[400], "ambiguous_path")),
    ));
    let asterisk = pseudo(":path", Some("*"));
    cases.push(alone("an asterisk", &asterisk, Some(refused(&[400], "ambiguous_path"))));
    for path in ["/\u{e9}", "?x", "?/x", "?"] {
        let name = format!(":path is {path:?}");
        let expected = Some(refused(&[400], "ambiguous_path"));
        cases.push(alone(name, &pseudo(":path", Some(path)), expected));
    }
    // Nothing is decided by it, and nothing of it is passed on.
    for scheme in ["", "1", "ftp"] {
        let name = format!(":scheme is {scheme:?}");
        cases.push(alone(name, &pseudo(":scheme", Some(scheme)), Some(passes())));
    }
    cases
}

/// Lengths that the frames belie, and trailers.
fn body_cases() -> Vec<Case> {
    let post = |length: Option<&str>| {
        let mut all = pseudo(":method", Some("POST"));
        all.extend(length.into_iter().flat_map(|length| fields(&[("content-length", length)])));
        all
    };
    let data = |flags, text: &str| Frame::new(DATA, flags, 1, text);
    let mut cases = Vec::new();
    for (length, body) in [
        ("5", "hell"),
        ("5", "hello!"),
        ("0", "hello"),
        ("1", "hello"),
        ("1000", "hello"),
        ("5", ""),
    ] {
        let frames = [head(1, 0, &post(Some(length))), vec![data(END_STREAM, body)]].concat();
        cases.push(Case {
            name: format!("a length of {length}, and {body:?}"),
            frames,
            expected: None,
        });
    }
    for length in [
        "+5",
        "-5",
        "5, 5",
        "5,",
        "0x5",
        "5.0",
        "",
        "five",
        "18446744073709551621",
        "99999999999999999999",
        " 5",
        "5 ",
    ] {
        let frames = [head(1, 0, &post(Some(length))), vec![data(END_STREAM, "hello")]].concat();
        cases.push(Case { name: format!("the length {length:?}"), frames, expected: None });
    }
    let inside = inner();
    for (name, length) in [("nothing", "0"), ("one", "1")] {
        let frames = [head(1, 0, &post(Some(length))), vec![data(END_STREAM, &inside)]].concat();
        cases.push(Case {
            name: format!("a request behind a length of {name}"),
            frames,
            expected: None,
        });
    }
    cases.push(alone("a length and no body", &post(Some("5")), None));
    let twice = [post(Some("5")), fields(&[("content-length", "5")])].concat();
    let frames = [head(1, 0, &twice), vec![data(END_STREAM, "hello")]].concat();
    // RFC 9110 §8.6 has them be one if they are the same.
    let one = Some(passes().with("content-length: 5\r\n"));
    cases.push(Case { name: "two lengths that agree".into(), frames, expected: one });
    let twice = [post(Some("5")), fields(&[("content-length", "0")])].concat();
    let frames = [head(1, 0, &twice), vec![data(END_STREAM, "hello")]].concat();
    cases.push(Case { name: "two lengths that differ".into(), frames, expected: None });
    let frames = [head(1, 0, &post(Some("5"))), vec![data(END_STREAM, "hello")]].concat();
    cases.push(Case { name: "a length that is right".into(), frames, expected: Some(passes()) });
    let frames = [head(1, 0, &post(None)), vec![data(END_STREAM, &inside)]].concat();
    cases.push(Case { name: "a body that is a request".into(), frames, expected: Some(passes()) });
    let frames = [
        head(1, 0, &post(None)),
        vec![data(0, "5\r\nhello\r\n0\r\n\r\n"), data(END_STREAM, &inside)],
    ]
    .concat();
    cases.push(Case {
        name: "a body that is chunks and a request".into(),
        frames,
        expected: Some(passes()),
    });
    for (name, trailers) in [
        ("a line of HTTP/1", ("x-a", "1\r\nx-auth-user: evil")),
        ("capitals", ("X-A", "1")),
        (":status", (":status", "evil")),
        ("transfer-encoding", ("transfer-encoding", "chunked")),
        ("connection", ("connection", "close")),
        ("a NUL", ("x-a", "\0")),
    ] {
        let end = head(1, END_STREAM, &fields(&[trailers]));
        let frames = [head(1, 0, &post(None)), vec![data(0, "hello")], end].concat();
        cases.push(Case { name: format!("{name} in trailers"), frames, expected: None });
    }
    for name in [":path", ":method", ":authority"] {
        let end = head(1, END_STREAM, &fields(&[(name, "evil"), ("x-sum", "1")]));
        let frames = [head(1, 0, &post(None)), vec![data(0, "hello")], end].concat();
        // The parser drops them.
        let name = format!("{name} in trailers");
        cases.push(Case { name, frames, expected: Some(passes()) });
    }
    let end = head(1, 0, &fields(&[("x-a", "1")]));
    let frames = [head(1, 0, &post(None)), vec![data(0, "hello")], end].concat();
    cases.push(Case { name: "trailers that do not end the stream".into(), frames, expected: None });
    cases
}

fn connect_cases() -> Vec<Case> {
    let refusal = || Some(refused(&[501], "method_not_supported"));
    let plain = |target: &str, key: bool| {
        let all = fields(&[(":method", "CONNECT"), (":authority", target), ("x-api-key", KEY)]);
        all[..if key { 3 } else { 2 }].to_vec()
    };
    let mut cases = Vec::new();
    for target in ["app.example:443", "127.0.0.1:22", "169.254.169.254:80"] {
        cases.push(alone(format!("CONNECT {target}"), &plain(target, true), refusal()));
        cases.push(alone(
            format!("CONNECT {target} without a key"),
            &plain(target, false),
            refusal(),
        ));
        let open = Case {
            name: format!("CONNECT {target} that stays open"),
            frames: head(1, 0, &plain(target, true)),
            expected: refusal(),
        };
        cases.push(open);
        let body =
            [head(1, 0, &plain(target, true)), vec![Frame::new(DATA, END_STREAM, 1, inner())]]
                .concat();
        cases.push(Case {
            name: format!("CONNECT {target} with a request as its body"),
            frames: body,
            expected: refusal(),
        });
    }
    cases.push(alone("CONNECT with a path", &pseudo(":method", Some("CONNECT")), None));
    cases.push(alone(
        "CONNECT without :authority",
        &fields(&[(":method", "CONNECT"), ("x-api-key", KEY)]),
        refusal(),
    ));
    let by = |protocol: &str| {
        [fields(&[(":protocol", protocol)]), pseudo(":method", Some("CONNECT"))].concat()
    };
    let not_here = || Some(refused(&[501], "upgrade_not_supported"));
    for protocol in ["websocket", "h2c", "connect-udp", "connect-tcp", "evil"] {
        cases.push(alone(
            format!("CONNECT by {protocol} where none may be"),
            &by(protocol),
            not_here(),
        ));
    }
    cases.push(alone("CONNECT by a list", &by("evil, websocket"), refusal()));
    for protocol in ["a\r\nx-auth-user: evil", "a\0"] {
        cases.push(alone(format!("CONNECT by {protocol:?}"), &by(protocol), refusal()));
    }
    cases.push(alone("CONNECT by nothing", &by(""), not_here()));
    let twice = [fields(&[(":protocol", "websocket")]), by("websocket")].concat();
    cases.push(alone("CONNECT by two protocols", &twice, None));
    cases
}

/// Frames that no request is made of, or not in this order.
fn frame_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, frames: Vec<Frame>| {
        cases.push(Case { name: name.to_owned(), frames, expected: None });
    };
    let block = block(&sound());
    let whole = |stream| Frame::new(HEADERS, END_STREAM | END_HEADERS, stream, block.clone());
    let cut = Frame::new(HEADERS, END_STREAM, 1, &block[..20]);
    add("a head on stream 0", vec![whole(0)]);
    add("a head on a server's stream", vec![whole(2)]);
    add("a head that DATA interrupts", vec![cut.clone(), Frame::new(DATA, END_STREAM, 1, inner())]);
    add("a head that another interrupts", vec![cut.clone(), whole(3)]);
    add(
        "a head that goes on on another stream",
        vec![cut.clone(), Frame::new(CONTINUATION, END_HEADERS, 3, &block[20..])],
    );
    add("a head that settings interrupt", vec![cut, Frame::new(SETTINGS, 0, 0, [])]);
    add(
        "a head that goes on out of nothing",
        vec![Frame::new(CONTINUATION, END_HEADERS, 1, block.clone())],
    );
    add("a body on a stream that is idle", vec![Frame::new(DATA, END_STREAM, 1, inner())]);
    add("a body on stream 0", vec![Frame::new(DATA, END_STREAM, 0, inner())]);
    add("a reset of a stream that is idle", vec![Frame::new(RST_STREAM, 0, 1, [0, 0, 0, 8])]);
    add(
        "padding that is longer than its frame",
        vec![Frame::new(
            HEADERS,
            END_STREAM | END_HEADERS | PADDED,
            1,
            [&[255], &block[..]].concat(),
        )],
    );
    add(
        "an index that is none",
        vec![Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, [0xff, 0xff, 0xff, 0x7f])],
    );
    add("the index 0", vec![Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, [0x80])]);
    add(
        "a block that ends within a field",
        vec![Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, &block[..block.len() - 3])],
    );
    add(
        "a number without an end",
        vec![Frame::new(
            HEADERS,
            END_STREAM | END_HEADERS,
            1,
            [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        )],
    );
    add(
        "a table of 4 GiB",
        vec![Frame::new(
            HEADERS,
            END_STREAM | END_HEADERS,
            1,
            [&[0x3f, 0xe1, 0xff, 0xff, 0xff, 0x0f], &block[..]].concat(),
        )],
    );
    add("settings of five bytes", vec![Frame::new(SETTINGS, 0, 0, [0; 5])]);
    add("settings on a stream", vec![Frame::new(SETTINGS, 0, 1, [0; 6])]);
    add("a ping of seven bytes", vec![Frame::new(PING, 0, 0, [0; 7])]);
    add("a window that grows by nothing", vec![Frame::new(WINDOW_UPDATE, 0, 0, [0; 4])]);
    add(
        "a window of more than there can be",
        vec![Frame::new(WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0xff, 0xff])],
    );
    add(
        "a promise of a client",
        vec![Frame::new(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2], &block[..]].concat())],
    );
    add(
        "a priority of four bytes, and a head on stream 0",
        vec![Frame::new(PRIORITY, 0, 1, [0; 4]), whole(0)],
    );
    add("a frame of more than 16 KiB", vec![Frame::new(DATA, 0, 1, vec![b'x'; 16_385])]);
    let public =
        [(":method", "GET"), (":scheme", "http"), (":path", "/public/x"), (":authority", "a")];
    cases.push(alone("a sound request", &fields(&public), Some(passes_as(None))));
    let split: Vec<Frame> = block
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            let flags = if at == 0 { END_STREAM } else { 0 };
            let last = if at + 1 == block.len() { END_HEADERS } else { 0 };
            Frame::new(kind, flags | last, 1, [*byte])
        })
        .collect();
    // As many pieces as there are bytes are a flood, whatever they say.
    cases.push(Case { name: "a head in pieces of one byte".into(), frames: split, expected: None });
    cases
}
