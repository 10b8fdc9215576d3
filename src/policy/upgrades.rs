//! The protocols that the connection of a request may be handed over to (`Upgrade`, RFC 9110 §7.8).
//!
//! What follows an upgrade is a tunnel, which nobody looks into. So a route names each protocol that it allows,
//! and none may be one that carries further requests: those would go past every check.
//!
//! Never here: whether a request is fit for the protocol, or what becomes of one that is not allowed.

use std::sync::Arc;

/// Protocols that requests, or TLS with requests in it, could come over.
const OF_REQUESTS: [&str; 6] = ["h2", "h2c", "h3", "http", "https", "tls"];

/// A protocol as a route names it: `websocket`, `NAME` or `NAME/VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol(Arc<str>);

/// Why a text is no protocol that a route may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// It is not of the form `NAME` or `NAME/VERSION`.
    Malformed,
    /// Requests could come over it.
    CarriesRequests,
}

impl Protocol {
    /// Reads a name, and a version if there is one.
    ///
    /// # Errors
    /// It is none, or one that is never allowed.
    pub fn new(text: &str) -> Result<Self, ProtocolError> {
        let (name, version) = text.split_once('/').unwrap_or((text, "1"));
        if !is_token(name) || !is_token(version) {
            return Err(ProtocolError::Malformed);
        }
        if OF_REQUESTS.iter().any(|refused| refused.eq_ignore_ascii_case(name)) {
            return Err(ProtocolError::CarriesRequests);
        }
        Ok(Self(text.into()))
    }

    /// As the route names it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a member of an `Upgrade` field names it; the case does not count.
    pub fn is(&self, member: &[u8]) -> bool {
        self.0.as_bytes().eq_ignore_ascii_case(member)
    }

    /// Whether it is that of RFC 6455.
    pub fn is_websocket(&self) -> bool {
        self.is(b"websocket")
    }
}

/// The protocols that a route allows; none, unless it names some.
#[derive(Clone, Debug, Default)]
pub struct Upgrades(Option<Arc<Vec<Protocol>>>);

impl Upgrades {
    /// Those that are named.
    pub fn new(protocols: Vec<Protocol>) -> Self {
        Self((!protocols.is_empty()).then(|| Arc::new(protocols)))
    }

    /// All of them, as they were named.
    pub fn iter(&self) -> impl Iterator<Item = &Protocol> {
        self.0.iter().flat_map(|protocols| protocols.iter())
    }

    /// The first that is allowed of those a client asks for, which it puts in the order of its liking.
    pub fn choose<'a>(&self, mut asked: impl Iterator<Item = &'a [u8]>) -> Option<Protocol> {
        asked.find_map(|member| self.iter().find(|protocol| protocol.is(member)).cloned())
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_a_name_or_a_name_with_a_version() {
        for good in ["websocket", "tcp", "SPDY/3.1", "h2o", "tls-psk"] {
            assert_eq!(Protocol::new(good).map(|p| p.as_str().to_owned()), Ok(good.to_owned()));
        }
        for bad in ["", " ", "/", "/1", "foo/", "a b", "a,b", "a/b/c", "ä"] {
            assert_eq!(Protocol::new(bad), Err(ProtocolError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn what_carries_requests_is_never_one() {
        for bad in ["h2c", "H2C", "h2", "HTTP/2.0", "http", "TLS/1.0", "h3"] {
            assert_eq!(Protocol::new(bad), Err(ProtocolError::CarriesRequests), "{bad:?}");
        }
    }

    #[test]
    fn the_first_that_is_allowed_is_chosen() {
        let protocol = |text| Protocol::new(text).expect("a protocol");
        let upgrades = Upgrades::new(vec![protocol("websocket"), protocol("foo/2")]);
        let choose = |asked: &[&str]| {
            let chosen = upgrades.choose(asked.iter().map(|member| member.as_bytes()));
            chosen.map(|protocol| protocol.as_str().to_owned())
        };
        assert_eq!(choose(&["WebSocket"]).as_deref(), Some("websocket"));
        assert_eq!(choose(&["h2c", "foo/2", "websocket"]).as_deref(), Some("foo/2"));
        assert_eq!(choose(&["foo", "foo/1", "h2c"]), None);
        assert!(Upgrades::default().choose([&b"websocket"[..]].into_iter()).is_none());
    }
}
