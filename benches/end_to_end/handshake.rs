//! What a handshake has agreed on, checked: the version, the cipher suite and the group that all contestants are measured
//! with (see [`peers::tls`](crate::peers::tls)), the protocol, and whether it was resumed.

use std::io;

use rustls::client::ClientConnection;
use rustls::{CipherSuite, HandshakeKind, NamedGroup, ProtocolVersion};

/// An error if a handshake was another than the case is about.
pub(crate) fn check(
    session: &ClientConnection,
    alpn: &[u8],
    kind: HandshakeKind,
) -> io::Result<()> {
    let group = session.negotiated_key_exchange_group().map(|group| group.name());
    let suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
    let agreed = (session.protocol_version(), suite, group, session.alpn_protocol());
    let expected = (
        Some(ProtocolVersion::TLSv1_3),
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256),
        Some(NamedGroup::X25519),
        Some(alpn),
    );
    if agreed == expected && session.handshake_kind() == Some(kind) {
        return Ok(());
    }
    let got = session.handshake_kind();
    Err(io::Error::other(format!(
        "a handshake ended as {got:?} with {agreed:?} instead of {kind:?} with {expected:?}"
    )))
}
