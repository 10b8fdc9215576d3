//! The configuration as it is written: a serde mirror of the TOML file, which is also its JSON Schema.
//!
//! The doc comments of the fields are what an editor shows while one types. Every field may be missing
//! or wrong; `validate` says what that means.
//!
//! Never here: defaults, limits, or what fits with what.

mod auth;
mod lenient;
mod requests;
mod upstreams;

pub(super) use auth::{Auth, FailureRule, Failures, KeySource};
pub(super) use lenient::{Field, Given, Named, Table};
pub(super) use requests::RequestLimits;
pub(super) use upstreams::{Ejection, Endpoint, Health, Retries, Upstream, UpstreamTls};

use std::fmt::{self, Formatter};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use toml::de::DeTable;

use crate::diagnostics::Fault;

/// Most faults of the syntax that are told: one bracket left open makes every line behind it look wrong.
const SYNTAX_FAULTS_MAX: usize = 10;

/// Reads a file; what is wrong with its values is kept beside them.
///
/// # Errors
/// The faults of its syntax, one a line.
pub(super) fn parse(text: &str) -> Result<Table<Root>, Vec<Fault>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        // Every value of the mirror takes whatever there is, so this fails for no document.
        return Table::deserialize(toml::Deserializer::from(document))
            .map_err(|error| vec![syntax_fault(&error)]);
    }
    let mut faults: Vec<Fault> = errors.iter().map(syntax_fault).collect();
    faults.sort_by_key(start);
    faults.dedup_by(|fault, earlier| {
        !text.get(start(earlier)..start(fault)).is_some_and(|between| between.contains('\n'))
    });
    faults.truncate(SYNTAX_FAULTS_MAX);
    Err(faults)
}

fn start(fault: &Fault) -> usize {
    fault.span.as_ref().map_or(0, |span| span.start)
}

fn syntax_fault(error: &toml::de::Error) -> Fault {
    let (message, help) = match error.message().split_once(", expected ") {
        Some((message, "nothing")) => (message, None),
        Some((message, expected)) => (message, Some(format!("expected {expected}"))),
        None if error.message() == "duplicate key" => {
            (error.message(), Some("join it with the earlier one of this name".to_owned()))
        }
        None => (error.message(), None),
    };
    Fault { span: error.span(), message: message.to_owned(), help }
}

/// A part of the file that has fields of its own.
pub(super) type Section<T> = Field<Table<T>>;

/// The configuration of keyward.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "keyward")]
#[schemars(extend("required" = ["upstreams"]))]
pub(super) struct Root {
    /// Named in WWW-Authenticate and in problem bodies. Default: "keyward".
    pub(super) realm: Field<String>,
    /// Where and how clients are served.
    pub(super) server: Section<Server>,
    /// Where keys are kept and what new ones look like.
    pub(super) keys: Section<Keys>,
    /// Where changes of keys are told.
    pub(super) audit: Section<Audit>,
    /// Where a request carries its key.
    pub(super) auth: Section<Auth>,
    /// The headers in which the upstream learns who called.
    pub(super) identity: Section<Identity>,
    /// The roles a key may have, by name.
    pub(super) roles: Field<Named<Table<Role>>>,
    /// The services behind keyward, by name.
    pub(super) upstreams: Field<Named<Table<Upstream>>>,
    /// Who may pass where. Without any, every path takes any valid key.
    pub(super) routes: Field<Vec<Given<Table<Route>>>>,
    /// Where keys are managed. Default: nowhere.
    pub(super) admin: Section<Admin>,
    /// Where the access log goes, and how.
    pub(super) log: Section<Log>,
    /// What is measured.
    pub(super) metrics: Section<Metrics>,
}

/// Where and how clients are served.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Server {
    /// Addresses to listen on, "ADDRESS:PORT". Default: ["127.0.0.1:8080"].
    pub(super) listen: Field<Vec<Given<String>>>,
    /// Threads that serve requests. Default: the cores this process may use.
    pub(super) workers: Field<i64>,
    /// Peers whose Forwarded, X-Forwarded-* and x-request-id are believed: networks or addresses. Default: nobody.
    pub(super) trusted_proxies: Field<Vec<Given<String>>>,
    /// Connections from trusted_proxies begin with a header of the PROXY protocol. Default: false.
    pub(super) proxy_protocol: Field<bool>,
    /// Whether a core dump may be written, which holds keys, and the process be looked into by its own user: to find a
    /// fault. Default: false.
    pub(super) core_dumps: Field<bool>,
    /// With it, TLS is spoken on every address of listen. Its files are read again when they change.
    pub(super) tls: Section<Tls>,
    /// Where plain HTTP is answered with a redirect to https.
    pub(super) redirect: Section<Redirect>,
    /// The longest waits for a next step, such as "30s" or "500ms".
    pub(super) timeouts: Section<Timeouts>,
    /// The most that one client, or all of them, may take.
    pub(super) limits: Section<Limits>,
}

/// TLS to clients. Its files are in PEM, and read again when they change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["certificate", "private_key"]))]
pub(super) struct Tls {
    /// The server's certificate, followed by those between it and its authority.
    pub(super) certificate: Field<String>,
    /// The key of the first certificate.
    pub(super) private_key: Field<String>,
    /// Further certificates, for clients that ask for a host that one of these names.
    pub(super) certificates: Field<Vec<Given<Table<Pair>>>>,
    /// The certificates of the authorities that vouch for clients. Default: clients show no certificate.
    pub(super) client_ca: Field<String>,
    /// Whether clients must show a certificate when there is a client_ca. Default: "required".
    #[schemars(extend("enum" = ["optional", "required"]))]
    pub(super) client_certificates: Field<String>,
    /// The oldest version of TLS that is spoken. Default: "1.2".
    #[schemars(extend("enum" = ["1.2", "1.3"]))]
    pub(super) min_version: Field<String>,
}

/// A certificate for the hosts it names, and its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["certificate", "private_key"]))]
pub(super) struct Pair {
    /// The server's certificate, followed by those between it and its authority.
    pub(super) certificate: Field<String>,
    /// The key of the first certificate.
    pub(super) private_key: Field<String>,
}

/// Where plain HTTP is answered with a redirect to https.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["listen"]))]
pub(super) struct Redirect {
    /// Addresses to listen on, "ADDRESS:PORT".
    pub(super) listen: Field<Vec<Given<String>>>,
    /// Where clients reach keyward by https. Default: 443.
    pub(super) port: Field<i64>,
}

/// The longest waits for a next step, such as "30s" or "500ms".
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Timeouts {
    /// From the connection to the end of the TLS handshake. Default: "10s".
    pub(super) tls_handshake: Field<String>,
    /// From the first byte of a request to the end of its head. Default: "10s".
    pub(super) request_header: Field<String>,
    /// Between two pieces of a request body. Default: "30s".
    pub(super) request_body_idle: Field<String>,
    /// Between two pieces of an answer that the client takes. Default: "60s".
    pub(super) response_body_idle: Field<String>,
    /// An idle connection of a client. Default: "75s".
    pub(super) keep_alive: Field<String>,
    /// A whole request, from its head to the last byte of its answer; not tunnels. Default: no limit.
    pub(super) request: Field<String>,
    /// Connecting to an endpoint. Default: "5s".
    pub(super) upstream_connect: Field<String>,
    /// From the end of the request to the head of the upstream's answer. Default: "60s".
    pub(super) upstream_response: Field<String>,
    /// Between two pieces of the upstream's answer. Default: "5m".
    pub(super) upstream_body_idle: Field<String>,
    /// An idle connection to an endpoint. Default: "60s".
    pub(super) upstream_keep_alive: Field<String>,
    /// A tunnel that an upgrade made, over which nothing goes. Default: "10m".
    pub(super) tunnel_idle: Field<String>,
    /// From SIGTERM until what still runs is cut. Default: "30s".
    pub(super) shutdown: Field<String>,
    /// From the takeover by a new process until what still runs in the old one is cut. Default: "10m".
    pub(super) takeover: Field<String>,
}

/// The most that one client, or all of them, may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    /// Open client connections in all; at the limit accepting waits. Default: 16384.
    pub(super) connections: Field<i64>,
    /// Open connections of one client address; one more is closed at once. Default: 1024.
    pub(super) connections_per_client: Field<i64>,
    /// Tunnels that upgrades made, in all; one more is refused with 503. Default: 4096.
    pub(super) tunnels: Field<i64>,
    /// A request's head; above it 431. Default: "32KiB".
    pub(super) header_bytes: Field<Size>,
    /// Fields in a request's head; above it 431. Default: 100.
    pub(super) headers: Field<i64>,
    /// A request's body; above it 413. Default: no limit.
    pub(super) body_bytes: Field<Size>,
    /// Bytes a second that a request body comes at least, such as "500B/s"; 0 for any rate. Default: "500B/s".
    pub(super) request_body_min_rate: Field<Size>,
    /// Bytes a second that a client takes of an answer at least; 0 for any rate. Default: "500B/s".
    pub(super) response_body_min_rate: Field<Size>,
    /// Requests at once on one connection of HTTP/2. Default: 100.
    pub(super) h2_streams: Field<i64>,
    /// Idle connections kept to one endpoint, by each worker. Default: 256.
    pub(super) upstream_idle: Field<i64>,
}

/// A number of bytes, or a text such as "32KiB".
#[derive(Debug, JsonSchema)]
#[schemars(inline, untagged)]
pub(super) enum Size {
    /// Bytes.
    Bytes(i64),
    /// A number and a unit: "32KiB", "10MB".
    Text(String),
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherForm;
        impl Visitor<'_> for EitherForm {
            type Value = Size;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"32KiB\" or a number of bytes")
            }

            fn visit_i64<E>(self, bytes: i64) -> Result<Size, E> {
                Ok(Size::Bytes(bytes))
            }

            fn visit_str<E>(self, text: &str) -> Result<Size, E> {
                Ok(Size::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(EitherForm)
    }
}

/// Where keys are kept and what new ones look like.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    /// The key file, relative to this file. Default: "keys.toml".
    pub(super) store: Field<String>,
    /// What keys made here begin with: 1 to 16 lower-case letters and digits. Default: "kw".
    pub(super) prefix: Field<String>,
    /// Keep keys as HMAC-SHA-256 with this secret, which must come from the environment: "${NAME}".
    pub(super) pepper: Field<String>,
    /// Where the usage of keys is kept, relative to this file, or "off". Default: beside the store, keys.usage.jsonl.
    pub(super) usage: Field<String>,
    /// How often it is written. Default: "30s".
    pub(super) usage_interval: Field<String>,
}

/// Where changes of keys are told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Audit {
    /// The audit log, relative to this file. Default: beside the key file, "keys.audit.jsonl" for "keys.toml".
    pub(super) file: Field<String>,
}

/// The headers in which the upstream learns who called.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Identity {
    /// Carries the user. Default: "x-auth-user".
    pub(super) user: Field<String>,
    /// Carries the role. Default: "x-auth-role".
    pub(super) role: Field<String>,
    /// Carries the key's id. Default: "x-auth-key-id".
    pub(super) key_id: Field<String>,
}

/// A role a key may have.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Role {
    /// Roles whose routes this one may use as well.
    pub(super) inherits: Field<Vec<Given<String>>>,
    /// Whose keys it may manage: those of its "own" user, or "all". Default: nobody's.
    #[schemars(extend("enum" = ["own", "all"]))]
    pub(super) admin: Field<String>,
    /// How many requests each of its keys may send, unless the key file says otherwise of one.
    pub(super) limits: Section<RequestLimits>,
}

/// Who may pass on a path.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(super) struct Route {
    /// The path: "/orders", "/orders/{id}" or "/orders/{*rest}", which matches "/orders" too.
    pub(super) path: Field<String>,
    /// The methods this entry is for; GET covers HEAD. Default: all that no other entry of the path names.
    pub(super) methods: Field<Vec<Given<String>>>,
    /// Who may pass: keys of these roles, and of roles that inherit from them. Default: any valid key.
    pub(super) roles: Field<Vec<Given<String>>>,
    /// Whether requests without a key pass. Default: false.
    pub(super) public: Field<bool>,
    /// Names, one of which the client's certificate must bear, beside the key: its common name, a DNS name, an e-mail address or a URI, letter for letter. Default: any client.
    pub(super) client_subject: Field<Vec<Given<String>>>,
    /// Protocols that a request may change its connection to, such as "websocket": a tunnel, which is not looked into. Default: none.
    pub(super) upgrades: Field<Vec<Given<String>>>,
    /// The upstream's name; may be left out while there is one.
    pub(super) upstream: Field<String>,
    /// How many requests each key may send here, or each client address that came without one.
    pub(super) limits: Section<RequestLimits>,
    /// "allow" takes paths that two parsers could read in two ways, such as those with %2F. Default: "refuse".
    #[schemars(extend("enum" = ["allow", "refuse"]))]
    pub(super) ambiguous_paths: Field<String>,
}

/// Where keys are managed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["listen"]))]
pub(super) struct Admin {
    /// The address to listen on, "ADDRESS:PORT": a loopback address, unless there is [admin.tls].
    pub(super) listen: Field<String>,
    /// Names under which it may be reached, such as "keys.example.com", beside localhost and the address itself: a page under any other name is refused. Default: none.
    pub(super) hosts: Field<Vec<Given<String>>>,
    /// How long whoever has signed in to the web page may do nothing there before they have to sign in again. Default: "30m".
    pub(super) session_idle: Field<String>,
    /// With it, TLS is spoken there. Its files are read again when they change.
    pub(super) tls: Section<Tls>,
}

/// Where the access log goes, and how.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    /// "stdout", "stderr", "off" or the path of a file. Default: "stdout".
    pub(super) access: Field<String>,
    /// "auto" is text on a terminal and JSON elsewhere. Default: "auto".
    #[schemars(extend("enum" = ["auto", "json", "text"]))]
    pub(super) format: Field<String>,
    /// When the log cannot be written as fast as requests come: "block" makes them wait, "drop" drops lines and counts them. Default: "block".
    #[schemars(extend("enum" = ["block", "drop"]))]
    pub(super) on_overflow: Field<String>,
}

/// What is measured.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Metrics {
    /// Whether requests are counted by key id, too: as many series as keys in use. Default: false.
    pub(super) per_key: Field<bool>,
}

/// The JSON Schema of the configuration file. Draft 7: the newest that every TOML editor reads.
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<Root>().to_value()
}
