//! keyward as the benches run it: `peers/keyward.toml` filled in, in a folder of its own; and how every template of
//! `peers/` is filled in.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::Failure;
use super::child::{self, Child};
use super::keyring::{self, Key};

/// The program: the one that `KEYWARD` names, or else what cargo has built with the bench profile.
pub(crate) fn program() -> OsString {
    env::var_os("KEYWARD").unwrap_or_else(|| env!("CARGO_BIN_EXE_keyward").into())
}

/// The configuration, with places to fill in.
pub(crate) const TEMPLATE: &str = include_str!("../peers/keyward.toml");

/// What the rendered configuration is called.
pub(crate) const CONFIG: &str = "keyward.toml";

/// Starts keyward in front of `upstream`, configured as `template` says, with a new `folder` for all that it reads and
/// writes, and waits until it listens. It speaks TLS if there is the folder of a `pair`.
pub(crate) fn start(
    template: &str,
    folder: &Path,
    core: Option<usize>,
    upstream: SocketAddr,
    keys: &[Key],
    pair: Option<&Path>,
) -> Result<(Child, SocketAddr), Failure> {
    fs::create_dir(folder)?;
    let address = child::free_address()?;
    let config = folder.join(CONFIG);
    render(template, address, upstream, pair, &config)?;
    keyring::write_store(&folder.join("keys.toml"), keys)?;
    let arguments = ["serve".as_ref(), "--config".as_ref(), config.as_os_str()];
    let output = folder.join("output.log");
    let mut child = Child::start("keyward", core, program(), &arguments, &output)?;
    child.wait_until_listening(address)?;
    Ok((child, address))
}

/// Fills in a template of `peers/`: `@LISTEN@` and `@UPSTREAM@` are addresses with their ports, and
/// `@FOLDER@` is where the rendered file lies. A line behind `@TLS@` stands there only with the folder of a `pair`,
/// which is `@PAIR@` (`server.pem`, and its key in `server.pem.key`); one behind `@CLEAR@` only without.
pub(crate) fn render(
    template: &str,
    listen: SocketAddr,
    upstream: SocketAddr,
    pair: Option<&Path>,
    to: &Path,
) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    let (here, elsewhere) = match pair {
        Some(_) => ("@TLS@", "@CLEAR@"),
        None => ("@CLEAR@", "@TLS@"),
    };
    let text = choose(template, here, elsewhere)
        .replace("@LISTEN@", &listen.to_string())
        .replace("@UPSTREAM@", &upstream.to_string())
        .replace("@PAIR@", &pair.unwrap_or(folder).display().to_string())
        .replace("@FOLDER@", &folder.display().to_string());
    fs::write(to, text)
}

/// The template without the lines behind `elsewhere`, and without the mark of those behind `here`.
pub(crate) fn choose(template: &str, here: &str, elsewhere: &str) -> String {
    let lines = template.lines().filter(|line| !line.trim_start().starts_with(elsewhere));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    text.replace(&format!("{here} "), "")
}
