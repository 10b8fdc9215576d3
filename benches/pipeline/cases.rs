//! Requests as they come, and the proxy of one worker that decides about them, over a configuration with many keys.

use std::fs;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use http::request::Parts;
use http_body::SizeHint;
use keyward::keys::format::Hasher;
use keyward::proxy::Proxy;
use keyward::proxy::forwarded::Proto;
use keyward::reload::{self, Loaded};
use keyward::server::connection::ConnectionInfo;
use keyward::snapshot::Shared;
use keyward::telemetry::Format;
use keyward::telemetry::access_log::{AccessLog, Overflow, Sink};
use keyward::usage::recorder::Reports;

use crate::Failure;

const KEYS: usize = 10_000;

const CONFIG: &str = r#"
[keys]
store = "keys.toml"
[roles.viewer]
[roles.admin]
[upstreams.app]
endpoints = ["http://127.0.0.1:3000"]
[[routes]]
path = "/health"
public = true
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/{*rest}"
roles = ["viewer"]
"#;

/// A request, and what is to become of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    path: &'static str,
    key: Option<&'static str>,
    pub(crate) passes: bool,
}

const KNOWN: &str = "bench-key-00005000-abcdefghijklmnop";
const UNKNOWN: &str = "wrong-key-00005000-abcdefghijklmnop";

/// One for each way that most requests go.
pub(crate) const CASES: [Case; 5] = [
    Case { name: "allowed", path: "/orders/1007", key: Some(KNOWN), passes: true },
    Case { name: "public", path: "/health", key: None, passes: true },
    Case { name: "missing_key", path: "/orders/1007", key: None, passes: false },
    Case { name: "unknown_key", path: "/orders/1007", key: Some(UNKNOWN), passes: false },
    Case { name: "forbidden", path: "/admin/report", key: Some(KNOWN), passes: false },
];

impl Case {
    /// The head of the request as a browser's program sends it.
    pub(crate) fn head(&self) -> Parts {
        let mut request = Request::get(self.path)
            .header("host", "orders.example.com")
            .header("user-agent", "billing/1.4 (linux)")
            .header("accept", "application/json")
            .header("accept-encoding", "gzip");
        if let Some(key) = self.key {
            request = request.header("x-api-key", key);
        }
        request.body(()).expect("the parts are valid").into_parts().0
    }
}

/// A worker's proxy, and a connection to it.
pub(crate) struct Stage {
    proxy: Rc<Proxy>,
    connection: Rc<ConnectionInfo>,
    /// Writes what the worker logs, until it is dropped.
    _log: AccessLog,
}

impl Stage {
    /// One whose configuration is in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self, Failure> {
        let hasher = Hasher::default();
        let entry = |number: usize| {
            let hash = hasher.digest(key(number).as_bytes());
            format!(
                "[[keys]]\nid = \"key_{number}\"\nhash = \"{hash}\"\nlabel = \"bench {number}\"\n\
                 user = \"user{number}\"\nrole = \"viewer\"\n"
            )
        };
        let config = folder.join("keyward.toml");
        fs::write(&config, CONFIG)?;
        fs::write(folder.join("keys.toml"), (0..KEYS).map(entry).collect::<String>())?;
        let Loaded { config, keys, handshakes } = reload::load(&config)?;
        let shared = Shared::new(config, keys, handshakes);
        let log = AccessLog::start(&Sink::File("/dev/null".into()), Format::Json, Overflow::Block)?;
        let proxy = Proxy::new(&shared, Arc::default(), log.worker(), Reports::off());
        let connection = ConnectionInfo::new("127.0.0.1:4711".parse()?, Proto::Http);
        Ok(Self {
            proxy: Rc::new(proxy.map_err(io::Error::other)?),
            connection: Rc::new(connection),
            _log: log,
        })
    }

    /// All that is done with a request but sending it; whether it would be.
    pub(crate) fn rehearse(&self, head: Parts) -> bool {
        self.proxy.rehearse(&self.connection, head, SizeHint::with_exact(0)).is_ok()
    }
}

fn key(number: usize) -> String {
    format!("bench-key-{number:08}-abcdefghijklmnop")
}
