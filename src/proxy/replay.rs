//! A copy of a request's head, to send it again when it got lost with a connection.
//!
//! A copy is made for nearly every request and hardly ever used, so making it must be cheap: the fields are
//! written into one buffer, which costs a third of cloning a header map.
//!
//! Never here: whether sending again is safe.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// The head of a request.
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    /// For each field the lengths of its name and value, two bytes each, then both.
    fields: Vec<u8>,
}

impl Replay {
    /// Copies the head of `request`; `None` for a field too long to be copied, which no limit of ours allows.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let headers = request.headers();
        let bytes: usize =
            headers.iter().map(|(name, value)| 4 + name.as_str().len() + value.len()).sum();
        let mut fields = Vec::with_capacity(bytes);
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), value.as_bytes()] {
                fields.extend_from_slice(&u16::try_from(part.len()).ok()?.to_be_bytes());
            }
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.extend_from_slice(value.as_bytes());
        }
        Some(Self { method: request.method().clone(), uri: request.uri().clone(), fields })
    }

    /// The request again, with `body`.
    pub(super) fn with_body<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.headers_mut() = self.headers();
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        request
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut rest = self.fields.as_slice();
        while let [a, b, c, d, behind @ ..] = rest {
            let name_len = usize::from(u16::from_be_bytes([*a, *b]));
            let value_len = usize::from(u16::from_be_bytes([*c, *d]));
            let (name, behind) = behind.split_at(name_len);
            let (value, behind) = behind.split_at(value_len);
            let name = HeaderName::from_bytes(name).expect("it was a name");
            headers.append(name, HeaderValue::from_bytes(value).expect("it was a value"));
            rest = behind;
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_the_request() {
        let mut request = Request::new(());
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() = Uri::from_static("/a%2Fb?c=d");
        for (name, value) in [("host", "a"), ("x-one", ""), ("accept", "b"), ("accept", "c")] {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let copy = Replay::of(&request).expect("short fields").with_body(());
        assert_eq!(copy.headers(), request.headers());
        assert_eq!((copy.method(), copy.uri()), (request.method(), request.uri()));
    }

    #[test]
    fn a_field_that_is_too_long_is_not_copied() {
        let mut request = Request::new(());
        let long = HeaderValue::from_str(&"a".repeat(1 << 16)).expect("a value");
        request.headers_mut().insert("x-long", long);
        assert!(Replay::of(&request).is_none());
    }
}
