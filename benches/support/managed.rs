//! keyward with an admin listener, for the benches in which keys are managed.

use std::net::SocketAddr;
use std::path::Path;

use crate::support::Failure;
use crate::support::child::{self, Child};
use crate::support::keyring::Key;
use crate::support::keyward::{self, TEMPLATE};

/// Starts it in front of `upstream` as the other benches do. The keys of the role `admin` manage all, at the second of
/// the addresses.
pub(crate) fn start(
    folder: &Path,
    upstream: SocketAddr,
    keys: &[Key],
) -> Result<(Child, SocketAddr, SocketAddr), Failure> {
    let admin = child::free_address()?;
    let managed = TEMPLATE.replace("[roles.admin]", "[roles.admin]\nadmin = \"all\"");
    let template = format!("{managed}\n[admin]\nlisten = \"{admin}\"\n");
    let (child, address) = keyward::start(&template, folder, None, upstream, keys, None)?;
    Ok((child, address, admin))
}
