//! Credentials: the key that is taken out of a request is the one that its sources say, and nothing of them goes on; all
//! the rest stays as it was, byte for byte.
//!
//! Input: the head of a request in HTTP/1, without its empty line.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use keyward::auth::credentials::{KeySource, KeySources, Scheme};

use super::reading::{base64_decoded, cut, percent_decoded};
use super::worker::{SOURCES, Worker};

/// The parameters that keys come in; one name is another way to write the other.
const PARAMETERS: [&str; 2] = ["api_key", "the key&"];

thread_local! {
    static WORKER: Worker = Worker::new();
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::from([data, b"\r\n\r\n"].concat());
    let Ok(Some(received)) = WORKER.with(|worker| worker.read(&mut bytes)) else { return };
    let (uri, headers) = (received.head.uri, received.head.headers);
    let expected = keys_of(&uri, &headers);
    for hide in [true, false] {
        let (mut left_uri, mut left_headers) = (uri.clone(), headers.clone());
        let taken = sources(hide).take(&mut left_uri, &mut left_headers);
        let taken = taken.map(|key| key.map(|key| key.key().expose().clone()));
        match &expected[..] {
            [] => assert_eq!(taken, Ok(None)),
            [key] => assert_eq!(taken.as_ref(), Ok(&Some(key.clone()))),
            _ => assert!(taken.is_err(), "{taken:?} of {expected:?}"),
        }
        if hide {
            check_left(&uri, &headers, &left_uri, &left_headers);
        } else {
            assert_eq!((&left_uri, &left_headers), (&uri, &headers));
        }
    }
}

fn sources(hide: bool) -> KeySources {
    let header = |name, scheme| KeySource::Header { name: HeaderName::from_static(name), scheme };
    let [api_key, authorization, token] = SOURCES;
    let mut sources = vec![
        header(api_key, Scheme::Bare),
        header(authorization, Scheme::Token("Bearer".to_owned())),
        header(authorization, Scheme::Basic),
        header(token, Scheme::Token("Token".to_owned())),
    ];
    sources.extend(PARAMETERS.map(|name| KeySource::Query(name.to_owned())));
    KeySources::new(&sources, hide)
}

/// What stays is all that is no source, in its order.
fn check_left(uri: &Uri, headers: &HeaderMap, left_uri: &Uri, left_headers: &HeaderMap) {
    let is_kept = |name: &&HeaderName| !SOURCES.contains(&name.as_str());
    for name in headers.keys().filter(is_kept) {
        let values = |headers: &HeaderMap| -> Vec<HeaderValue> {
            headers.get_all(name).into_iter().cloned().collect()
        };
        assert_eq!(values(left_headers), values(headers));
    }
    assert!(left_headers.keys().all(|name| SOURCES.iter().all(|source| name != source)));
    assert_eq!(left_headers.keys_len(), headers.keys().filter(is_kept).count());

    assert_eq!((left_uri.scheme(), left_uri.authority()), (uri.scheme(), uri.authority()));
    assert_eq!(left_uri.path(), uri.path());
    let Some(query) = uri.query() else { return assert_eq!(left_uri, uri) };
    let kept: Vec<&str> = query.split('&').filter(|pair| key_in(pair).is_none()).collect();
    match left_uri.query() {
        Some(left) => assert_eq!(left, kept.join("&")),
        None => assert!(kept.is_empty(), "{kept:?} is gone"),
    }
}

/// The different keys that a request carries.
fn keys_of(uri: &Uri, headers: &HeaderMap) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let values = |name: &str| -> Vec<Vec<u8>> {
        headers.get_all(name).into_iter().map(|value| value.as_bytes().to_vec()).collect()
    };
    keys.extend(values("x-api-key"));
    keys.extend(values("x-token").iter().filter_map(|value| behind("token", value)));
    for value in values("authorization") {
        keys.extend(behind("bearer", &value));
        if let Some(decoded) = behind("basic", &value).and_then(|text| base64_decoded(&text)) {
            let (user, password) = cut(&decoded, b':');
            keys.push(if password.is_empty() { user } else { password }.to_vec());
        }
    }
    keys.extend(uri.query().unwrap_or_default().split('&').filter_map(key_in));
    keys.retain(|key| !key.is_empty());
    keys.sort();
    keys.dedup();
    keys
}

/// What stands behind a scheme, which is a word.
fn behind(scheme: &str, value: &[u8]) -> Option<Vec<u8>> {
    let (word, rest) = cut(value, b' ');
    let trim = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = rest.iter().position(|byte| !trim(byte)).unwrap_or(rest.len());
    let end = rest.iter().rposition(|byte| !trim(byte)).map_or(start, |last| last + 1);
    word.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest[start..end].to_vec())
}

/// The key in a pair of the query.
fn key_in(pair: &str) -> Option<Vec<u8>> {
    let decoded = |text: &[u8]| {
        let spaced: Vec<u8> =
            text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
        percent_decoded(&spaced, 1)
    };
    let (name, value) = cut(pair.as_bytes(), b'=');
    let is_ours = PARAMETERS.iter().any(|ours| decoded(name) == ours.as_bytes());
    is_ours.then(|| decoded(value))
}
