//! What every guarantee is tested with: the real binary, a raw client, a raw upstream, and actors.
//!
//! Never here: an HTTP library, but for HTTP/2, which nobody writes by hand. Both sides of the proxy see the very
//! bytes, so that a test can send what no library would, and look at what really arrived.

pub(crate) mod actor;
pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod keyward;
pub(crate) mod message;
pub(crate) mod setup;
pub(crate) mod socket;
pub(crate) mod stage;
pub(crate) mod streams;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod wait;

pub(crate) use actor::Actor;
pub(crate) use browser::Browser;
pub(crate) use client::Client;
pub(crate) use keyward::Keyward;
pub(crate) use message::Message;
pub(crate) use setup::Setup;
pub(crate) use socket::{Socket, TlsService};
pub(crate) use stage::Stage;
pub(crate) use streams::{Http2, Http2Stream};
pub(crate) use upstream::{Connection, Upstream};
pub(crate) use wait::{DEADLINE, wait_for};
