//! Frames of HTTP/2 (RFC 9113 §4.1, §6), as bytes that no library would send.

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a connection begins with; `window` is how much of each answer is taken.
pub(crate) fn begin(window: u32) -> Vec<u8> {
    let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
    [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()
}

/// The head of a request; a key that is empty is left out.
pub(crate) fn request(stream: u32, flags: u8, method: &str, key: &str) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "https"),
        (":path", "/orders/42"),
        (":authority", "bench"),
        ("x-api-key", key),
    ];
    let sent = fields.iter().filter(|(_, value)| !value.is_empty());
    let block: Vec<u8> = sent.flat_map(|(name, value)| field(name, value)).collect();
    frame(HEADERS, flags, stream, &block)
}

/// A field that no table keeps (RFC 7541 §6.2.2), shorter than 127 bytes.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [&[0x00][..], &text(name), &text(value)].concat()
}
