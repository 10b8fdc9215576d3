//! Keyward: an authenticating reverse proxy.
//!
//! Only requests that carry a valid API key for an allowed role are forwarded; the service behind learns who
//! called, never the key. The library holds everything; the binary parses arguments and gives an exit code.
//!
//! A request's way, and the type that carries what each step found out:
//!
//! ```text
//! socket            server      ConnectionInfo
//!   head            proxy       RequestContext: one Snapshot for the whole request; its Drop writes the log
//!   credential      auth        Secret: the key has left the request
//!   identity        keys        Arc<Identity>: whose key it is
//!   permit          policy      Permit: they may; nothing is forwarded without one
//!   strip, then set proxy
//! endpoint          upstream    Lease: one exchange on a kept connection
//! ```
//!
//! Beside it: `config` and `keys` read files and find every fault; `reload` builds a whole `snapshot` and only
//! then swaps it in; `telemetry` writes what operators read; `redact` is the only way to show what a client
//! sent. ARCHITECTURE.md follows a request file by file, and says who may import whom.
//!
//! Modules, in reading order:

// What everything speaks in.
pub mod identity;
pub mod paths;
pub mod redact;
pub mod scopes;

// Files.
pub mod config;
pub mod diagnostics;
pub mod keys;

// Decisions, free of I/O.
pub mod auth;
pub mod policy;
pub mod problem;

// The data plane.
pub mod clock;
pub mod deadline;
pub mod http1;
pub mod limit;
pub mod panics;
pub mod pipe;
pub mod proxy;
pub mod rate;
pub mod server;
pub mod snapshot;
pub mod tls;
pub mod upstream;
pub mod usage;

// Around it.
pub mod admin;
pub mod app;
pub mod cli;
pub mod core_dumps;
pub mod reload;
pub mod systemd;
pub mod takeover;
pub mod telemetry;
