//! keyward as the benches run it: `peers/keyward.toml` filled in, in a folder of its own.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::Failure;
use super::child::{self, Child};
use super::keyring::{self, Key};

/// The program, built with the bench profile by cargo.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_keyward");
const TEMPLATE: &str = include_str!("../peers/keyward.toml");

/// What the rendered configuration is called.
pub(crate) const CONFIG: &str = "keyward.toml";

/// Starts keyward in front of `upstream`, with a new `folder` for all that it reads and writes and `more`
/// behind its configuration, and waits until it listens.
pub(crate) fn start(
    folder: &Path,
    core: Option<usize>,
    upstream: SocketAddr,
    keys: &[Key],
    more: &str,
) -> Result<(Child, SocketAddr), Failure> {
    fs::create_dir(folder)?;
    let address = child::free_address()?;
    let config = folder.join(CONFIG);
    render(&(TEMPLATE.to_owned() + more), address, upstream, &config)?;
    keyring::write_store(&folder.join("keys.toml"), keys)?;
    let arguments = ["serve".as_ref(), "--config".as_ref(), config.as_os_str()];
    let output = folder.join("output.log");
    let mut child = Child::start("keyward", core, PROGRAM, &arguments, &output)?;
    child.wait_until_listening(address)?;
    Ok((child, address))
}

/// Fills in a template of `peers/`: `@LISTEN@` and `@UPSTREAM@` are addresses with their ports, and
/// `@FOLDER@` is where the rendered file lies.
pub(crate) fn render(
    template: &str,
    listen: SocketAddr,
    upstream: SocketAddr,
    to: &Path,
) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("/")).display().to_string();
    let text = template
        .replace("@LISTEN@", &listen.to_string())
        .replace("@UPSTREAM@", &upstream.to_string())
        .replace("@FOLDER@", &folder);
    fs::write(to, text)
}
