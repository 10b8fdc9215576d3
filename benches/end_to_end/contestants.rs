//! Who is measured: no proxy, the relay, and all who check keys.

use std::env;
use std::net::SocketAddr;
use std::path::Path;

use crate::peers::options::Options;
use crate::peers::{CONNECTIONS, Contestant, Job, PROXY_CORE};
use crate::support::Failure;
use crate::support::child::{self, Child};
use crate::support::keyring::Key;

/// Names by which `ONLY` and the report know them.
const DIRECT: &str = "direct";
pub(crate) const RELAY: &str = "relay";

/// Starts all that are wanted and installed, in the order in which they are measured.
pub(crate) fn start(
    options: &Options,
    folder: &Path,
    upstream: SocketAddr,
    keys: &[Key],
) -> Result<Vec<Contestant>, Failure> {
    let mut contestants = Vec::new();
    if options.wants(DIRECT) {
        contestants.push(direct(upstream));
    }
    if options.wants(RELAY) {
        contestants.push(relay(folder, upstream)?);
    }
    let job = Job { folder, upstream, keys, pair: None, connections: CONNECTIONS };
    contestants.extend(job.start(options)?);
    Ok(contestants)
}

fn direct(upstream: SocketAddr) -> Contestant {
    let version = "no proxy".to_owned();
    Contestant { name: DIRECT, version, address: upstream, child: None, access_log: None }
}

fn relay(folder: &Path, upstream: SocketAddr) -> Result<Contestant, Failure> {
    let address = child::free_address()?;
    let arguments = ["relay".to_owned(), address.to_string(), upstream.to_string()];
    let output = folder.join("relay.log");
    let mut child =
        Child::start(RELAY, Some(PROXY_CORE), env::current_exe()?, &arguments, &output)?;
    child.wait_until_listening(address)?;
    let version = "L4, epoll, no HTTP".to_owned();
    Ok(Contestant { name: RELAY, version, address, child: Some(child), access_log: None })
}
