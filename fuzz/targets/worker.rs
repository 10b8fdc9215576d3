//! The path of a request as a worker has it, without sockets: the bytes of a client's request in, the bytes for the
//! endpoint out. All of it is the code that serves.

use std::fs;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use keyward::config::Limits;
use keyward::http1::decode::{Decoded, Decoder};
use keyward::http1::encode::{Encoder, Piece};
use keyward::keys::format::Hasher;
use keyward::proxy::Proxy;
use keyward::proxy::error::Refusal;
use keyward::proxy::forwarded::Proto;
use keyward::reload::{self, Loaded};
use keyward::server::connection::ConnectionInfo;
use keyward::server::request::{self, Received};
use keyward::snapshot::Shared;
use keyward::telemetry::Format;
use keyward::telemetry::access_log::{AccessLog, Overflow, Sink};
use keyward::upstream::head::Head;
use keyward::usage::recorder::Reports;

/// The key of alice, a viewer, and that of bob, an admin.
pub const KEYS: [&str; 2] = ["fuzz-key-alice", "fuzz-key-bob-b"];
/// What the endpoint is told of them.
pub const IDENTITIES: [[&str; 3]; 2] = [["alice", "viewer", "key_a"], ["bob", "admin", "key_b"]];
/// The headers it is told so in.
pub const IDENTITY_HEADERS: [&str; 3] = ["x-auth-user", "x-auth.role", "x-auth-key-id"];
/// The headers that keys come in.
pub const SOURCES: [&str; 3] = ["x-api-key", "authorization", "x-token"];
/// The peer whose `Forwarded` is believed, and one whose is not.
pub const PEERS: [&str; 2] = ["10.0.0.1:1", "192.0.2.1:1"];

const CONFIG: &str = r#"
[server]
trusted_proxies = ["10.0.0.0/8"]
[server.limits]
header_bytes = "8KiB"
headers = 32
[auth]
failures = "off"
key_sources = [
  { header = "x-api-key" },
  { header = "authorization", scheme = "Bearer" },
  { header = "authorization", scheme = "Basic" },
  { header = "x-token", scheme = "Token" },
  { query = "api_key" },
]
[identity]
role = "x-auth.role"
[roles.viewer]
[roles.admin]
inherits = ["viewer"]
[upstreams.app]
endpoints = ["http://127.0.0.1:3000"]
[[routes]]
path = "/{*rest}"
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/public/{*rest}"
public = true
upgrades = ["websocket"]
[[routes]]
path = "/odd/{*rest}"
public = true
ambiguous_paths = "allow"
"#;

/// A worker.
pub struct Worker {
    proxy: Rc<Proxy>,
    connections: [Rc<ConnectionInfo>; PEERS.len()],
    limits: Limits,
    /// Takes the lines of the log.
    _log: AccessLog,
}

/// A request as it goes on.
#[derive(Debug)]
pub struct Forwarded {
    /// The head, as bytes.
    pub head: Vec<u8>,
    /// The body and the trailers, as bytes; `None` if they are cut off or not sound.
    pub body: Option<Vec<u8>>,
    /// What was read of them.
    pub content: Content,
}

/// What a body holds.
#[derive(Debug, Default, PartialEq)]
pub struct Content {
    /// The data.
    pub data: Vec<u8>,
    /// The trailers.
    pub trailers: HeaderMap,
}

impl Worker {
    /// A new one.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("keyward.toml");
        let keys = KEYS.iter().zip(IDENTITIES).map(|(key, [user, role, id])| {
            let hash = Hasher::default().digest(key.as_bytes());
            format!(
                "[[keys]]\nid = \"{id}\"\nhash = \"{hash}\"\nlabel = \"l\"\nuser = \"{user}\"\nrole = \"{role}\"\n"
            )
        });
        fs::write(folder.path().join("keys.toml"), keys.collect::<String>()).expect("written");
        fs::write(&config, CONFIG).expect("written");
        let Loaded { config, keys, handshakes } =
            reload::load(&config).unwrap_or_else(|report| panic!("{report}"));
        let limits = config.server.limits.clone();
        let log = AccessLog::start(&Sink::File("/dev/null".into()), Format::Json, Overflow::Block)
            .expect("a log");
        let shared = Shared::new(config, keys, handshakes);
        let proxy = Proxy::new(&shared, Arc::default(), log.worker(), Reports::off());
        let connection = |peer: &str| {
            Rc::new(ConnectionInfo::new(peer.parse().expect("an address"), Proto::Http))
        };
        Self {
            proxy: Rc::new(proxy.expect("randomness")),
            connections: PEERS.map(connection),
            limits,
            _log: log,
        }
    }

    /// The head that `unread` begins with, taken from it.
    pub fn read(&self, unread: &mut Bytes) -> Result<Option<Received>, Refusal> {
        request::read_head(unread, &self.limits)
    }

    /// The same for an endpoint, that takes more than we do: our own fields came on top.
    pub fn read_as_endpoint(&self, unread: &mut Bytes) -> Result<Option<Received>, Refusal> {
        let limits = Limits { headers: 256, header_bytes: 1 << 20, ..self.limits.clone() };
        request::read_head(unread, &limits)
    }

    /// The request that `unread` begins with, from the peer at that place of [`PEERS`], as it goes on; nothing if it
    /// is refused. What is left unread stands behind it.
    pub fn forward(&self, peer: usize, unread: &mut Bytes) -> Option<Forwarded> {
        let received = self.read(unread).ok().flatten()?;
        let mut body = received.body.ok()?;
        let size = body.size_hint();
        let head = self.proxy.rehearse(&self.connections[peer], received.head, size).ok()?;
        let Head::Http1(head) = head else { panic!("the endpoint speaks HTTP/1") };
        let mut content = Content::default();
        let encoder = Encoder::new(head.framing());
        let body = self.pass(&mut body, unread, encoder, &mut content);
        Some(Forwarded { head: head.as_bytes().to_vec(), body, content })
    }

    fn pass(
        &self,
        body: &mut Decoder,
        unread: &mut Bytes,
        mut encoder: Encoder,
        content: &mut Content,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while !body.has_ended() {
            let Ok(Decoded::Frame(mut frame)) = body.decode(unread) else { break };
            if let Some(data) = frame.data_ref() {
                content.data.extend_from_slice(data);
            }
            if let Some(trailers) = frame.trailers_mut() {
                self.proxy.rehearse_trailers(trailers);
                content.trailers = trailers.clone();
            }
            let mut piece = Piece::default();
            encoder.frame(frame, &mut piece).expect("as long as the head says");
            out.extend(piece.parts().concat());
        }
        if !body.has_ended() {
            return None;
        }
        let mut piece = Piece::default();
        encoder.end(&mut piece).expect("as long as the head says");
        out.extend(piece.parts().concat());
        Some(out)
    }
}

/// The path and query of a target, as an endpoint is asked for it.
pub fn origin_form(target: &Uri) -> &str {
    target.path_and_query().map_or("/", |path| path.as_str())
}
