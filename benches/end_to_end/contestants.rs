//! Who is measured, and how each is started: its template of `peers/` filled in, in a folder of its
//! own, pinned to the proxy's core. A peer that is not installed is left out, and said.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::PROXY_CORE;
use crate::options::Options;
use crate::support::Failure;
use crate::support::child::{self, Child};
use crate::support::keyring::Key;
use crate::support::keyward;

const NGINX_TEMPLATE: &str = include_str!("../peers/nginx.conf");
const HAPROXY_TEMPLATE: &str = include_str!("../peers/haproxy.cfg");
/// Names by which `ONLY` and the report know them.
pub(crate) const NGINX: &str = "nginx";
pub(crate) const RELAY: &str = "relay";

/// A running proxy, or none ("direct").
pub(crate) struct Contestant {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    /// What it says of itself.
    pub(crate) version: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its process; none for "direct".
    pub(crate) child: Option<Child>,
    /// Its access log, if it is one that logs.
    pub(crate) access_log: Option<PathBuf>,
    /// Whether it is to do the job, or only to carry bytes.
    pub(crate) checks_keys: bool,
}

/// Starts all that are wanted and installed, in the order in which they are measured.
pub(crate) fn start(
    options: &Options,
    folder: &Path,
    upstream: SocketAddr,
    keys: &[Key],
) -> Result<Vec<Contestant>, Failure> {
    let mut contestants = Vec::new();
    if options.wants("direct") {
        contestants.push(direct(upstream));
    }
    if options.wants(RELAY) {
        contestants.push(relay(folder, upstream)?);
    }
    if options.wants("keyward") {
        contestants.push(keyward(folder, upstream, keys)?);
    }
    if options.wants(NGINX)
        && let Some(version) = version_of("nginx", "nginx", &["-v"])?
    {
        contestants.push(nginx(folder, upstream, keys, version)?);
    }
    if options.wants("haproxy")
        && let Some(version) = version_of("haproxy", "haproxy", &["-v"])?
    {
        contestants.push(haproxy(folder, upstream, keys, version)?);
    }
    Ok(contestants)
}

fn direct(upstream: SocketAddr) -> Contestant {
    Contestant {
        name: "direct",
        version: "no proxy".to_owned(),
        address: upstream,
        child: None,
        access_log: None,
        checks_keys: false,
    }
}

fn relay(folder: &Path, upstream: SocketAddr) -> Result<Contestant, Failure> {
    let address = child::free_address()?;
    let arguments = ["relay".to_owned(), address.to_string(), upstream.to_string()];
    let output = folder.join("relay.log");
    let mut child =
        Child::start(RELAY, Some(PROXY_CORE), env::current_exe()?, &arguments, &output)?;
    child.wait_until_listening(address)?;
    let version = "L4, epoll, no HTTP".to_owned();
    let child = Some(child);
    Ok(Contestant { name: RELAY, version, address, child, access_log: None, checks_keys: false })
}

fn keyward(folder: &Path, upstream: SocketAddr, keys: &[Key]) -> Result<Contestant, Failure> {
    let folder = folder.join("keyward");
    let (child, address) = keyward::start(&folder, Some(PROXY_CORE), upstream, keys, "")?;
    Ok(Contestant {
        name: "keyward",
        version: format!("keyward {}", env!("CARGO_PKG_VERSION")),
        address,
        child: Some(child),
        access_log: Some(folder.join("access.log")),
        checks_keys: true,
    })
}

fn nginx(
    folder: &Path,
    upstream: SocketAddr,
    keys: &[Key],
    version: String,
) -> Result<Contestant, Failure> {
    let folder = folder.join(NGINX);
    fs::create_dir(&folder)?;
    let map = |file: &str, value: fn(&Key) -> &str| {
        let line = |key: &Key| format!("\"{}\" \"{}\";", key.secret, value(key));
        write_lines(&folder.join(file), keys, line)
    };
    map("users.map", |key| &key.user)?;
    map("roles.map", |key| key.role)?;
    map("key_ids.map", |key| &key.id)?;
    let address = child::free_address()?;
    let config = folder.join("nginx.conf");
    keyward::render(NGINX_TEMPLATE, address, upstream, &config)?;
    let errors = folder.join("error.log");
    let arguments = ["-c".as_ref(), config.as_os_str(), "-e".as_ref(), errors.as_os_str()];
    let output = folder.join("output.log");
    let mut child = Child::start(NGINX, Some(PROXY_CORE), NGINX, &arguments, &output)?;
    child.wait_until_listening(address)?;
    Ok(Contestant {
        name: NGINX,
        version,
        address,
        child: Some(child),
        access_log: Some(folder.join("access.log")),
        checks_keys: true,
    })
}

fn haproxy(
    folder: &Path,
    upstream: SocketAddr,
    keys: &[Key],
    version: String,
) -> Result<Contestant, Failure> {
    let folder = folder.join("haproxy");
    fs::create_dir(&folder)?;
    write_lines(&folder.join("keys.map"), keys, |key| {
        format!("{} {}:{}:{}", key.secret, key.user, key.role, key.id)
    })?;
    let address = child::free_address()?;
    let config = folder.join("haproxy.cfg");
    keyward::render(HAPROXY_TEMPLATE, address, upstream, &config)?;
    // `-db`: in the foreground, one process. What it logs to its standard output is the access log.
    let arguments = ["-db".as_ref(), "-f".as_ref(), config.as_os_str()];
    let access_log = folder.join("access.log");
    let mut child = Child::start("haproxy", Some(PROXY_CORE), "haproxy", &arguments, &access_log)?;
    child.wait_until_listening(address)?;
    Ok(Contestant {
        name: "haproxy",
        version,
        address,
        child: Some(child),
        access_log: Some(access_log),
        checks_keys: true,
    })
}

/// A line for each key: what both nginx's and HAProxy's maps are made of.
fn write_lines(path: &Path, keys: &[Key], line: impl Fn(&Key) -> String) -> io::Result<()> {
    let lines: Vec<String> = keys.iter().map(line).collect();
    fs::write(path, lines.join("\n") + "\n")
}

/// The first line of what a program says of its version; `None` where it is not installed.
fn version_of(name: &str, program: &str, arguments: &[&str]) -> Result<Option<String>, Failure> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            Ok(Some(text.lines().next().unwrap_or(name).trim().to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            writeln!(io::stderr(), "{name} is not installed: left out (`make bench` installs it)")?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
