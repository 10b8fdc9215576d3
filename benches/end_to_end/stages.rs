//! Who takes part on a stage: each started with what the stage is about, and proven to do its job.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cases::{ALL, Case, DIRECT, RELAY, Stage};
use crate::peers::options::Options;
use crate::peers::{self, Contestant, Job, PROXY_CORE, tls, verify};
use crate::support::Failure;
use crate::support::child::{self, Child};
use crate::support::keyring::{self, Key};

/// Connections that a peer has room for: a thousand clients, and as many connections to the upstream, twice.
const ROOM: usize = 4096;

/// What all stages have in common.
pub(crate) struct Ground<'a> {
    folder: &'a Path,
    options: &'a Options,
    keys: Vec<Key>,
    upstream: SocketAddr,
    /// The folder of the certificate.
    pub(crate) pair: PathBuf,
    /// Ends with us.
    _upstream: Child,
}

/// A stage with all who take part on it.
pub(crate) struct Cast {
    stage: Stage,
    pub(crate) contestants: Vec<Contestant>,
    /// A key a line.
    pub(crate) key_file: PathBuf,
    /// Removed behind them: a million keys take hundreds of MiB.
    _folder: TempDir,
}

impl Ground<'_> {
    /// Prepares it below `folder`, with as many keys as any stage has.
    pub(crate) fn new<'a>(
        folder: &'a Path,
        keys: usize,
        options: &'a Options,
    ) -> Result<Ground<'a>, Failure> {
        let keys = keyring::make(keys)?;
        let pair = tls::make_pair(folder)?;
        let (child, upstream) = peers::start_upstream(folder)?;
        Ok(Ground { folder, options, keys, upstream, pair, _upstream: child })
    }
}

/// Starts all stages of a group of cases.
pub(crate) fn start(group: &[Case], ground: &Ground<'_>) -> Result<Vec<Cast>, Failure> {
    let mut casts: Vec<Cast> = Vec::new();
    for Case { stage, .. } in group {
        if !casts.iter().any(|cast| cast.stage == *stage) {
            casts.push(Cast::start(*stage, group, ground)?);
        }
    }
    Ok(casts)
}

/// The cast of a case's stage.
pub(crate) fn cast_of<'a>(case: &Case, casts: &'a [Cast]) -> Result<&'a Cast, Failure> {
    let cast = casts.iter().find(|cast| cast.stage == case.stage);
    cast.ok_or_else(|| format!("no stage was started for {}", case.name).into())
}

impl Cast {
    fn start(stage: Stage, group: &[Case], ground: &Ground<'_>) -> Result<Cast, Failure> {
        let temporary = tempfile::tempdir_in(ground.folder)?;
        let folder = temporary.path();
        let keys = &ground.keys[..stage.keys];
        let key_file = folder.join("keys.txt");
        let secrets: Vec<&str> = keys.iter().map(|key| key.secret.as_str()).collect();
        fs::write(&key_file, secrets.join("\n"))?;
        let on_it = |name: &&&str| {
            group.iter().any(|case| case.stage == stage && case.contestants.contains(name))
        };
        let names: Vec<&str> = ALL.iter().filter(on_it).copied().collect();
        let mut contestants = Vec::new();
        for name in names.iter().filter(|name| ground.options.wants(name)) {
            match *name {
                DIRECT => contestants.push(direct(ground.upstream)),
                RELAY => contestants.push(relay(folder, ground.upstream)?),
                _ => {}
            }
        }
        let job = Job {
            folder,
            upstream: ground.upstream,
            keys,
            pair: stage.is_tls.then_some(&ground.pair),
            connections: ROOM,
            workers: stage.workers,
            logs: stage.logs,
        };
        let who_check: Vec<&str> =
            names.into_iter().filter(|name| ![DIRECT, RELAY].contains(name)).collect();
        let checking = job.start(&who_check, ground.options)?;
        for contestant in &checking {
            verify(contestant, stage, keys, &ground.pair)?;
        }
        contestants.extend(checking);
        Ok(Cast { stage, contestants, key_file, _folder: temporary })
    }

    /// Those who take part in this case.
    pub(crate) fn taking_part(&self, case: &Case) -> impl Iterator<Item = &Contestant> {
        self.contestants.iter().filter(|contestant| case.contestants.contains(&contestant.name))
    }
}

fn verify(contestant: &Contestant, stage: Stage, keys: &[Key], pair: &Path) -> Result<(), Failure> {
    if !stage.is_tls {
        return verify::does_the_job(contestant, keys, Ok);
    }
    let client = tls::client(pair, b"http/1.1", false)?;
    verify::does_the_job(contestant, keys, |socket| tls::over(&client, socket))
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
