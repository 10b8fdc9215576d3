//! `keyward keys …`: the commands, and what each does with the key file.
//!
//! Never here: a key printed anywhere but by `create`, once, on standard output alone.

mod changes;
mod input;
mod limits;
mod usage;
pub(super) mod view;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use http::Method;
use ipnet::IpNet;
use jiff::Timestamp;

use super::failure::Failure;
use super::json;
use super::making::{Made, Wanted, make};
use super::operator::operator;
use crate::config::{self, Config};
use crate::identity::{Label, RoleName, UserName};
use crate::keys::format::{Hasher, KeyFormat};
use crate::keys::import::{self, Defaults};
use crate::keys::store::{self, Adding, Run, Store, StoreError};
use crate::keys::{KeyRecord, KeyState};
use crate::paths::patterns::PathPattern;
use crate::scopes::{self, SCOPES_MAX, Scopes};
use input::Expiry;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key and print it, once, on standard output.
    Create(Create),
    /// List the keys.
    List {
        /// Only those of this user.
        #[arg(long, value_parser = UserName::new)]
        user: Option<UserName>,
        #[command(flatten)]
        format: Format,
    },
    /// Show one key, and when it was last used.
    Show(One),
    /// List enabled keys that nobody has used for long.
    ///
    /// A key that was never used counts from when it was made.
    Unused(usage::Unused),
    /// Switch a key off at once; all others stay as they are.
    Disable(changes::Disable),
    /// Switch a key on again.
    Enable(One),
    /// Give a key another secret and print it, once, on standard output.
    ///
    /// Id, label and limits stay; the old key works until the grace ends.
    Rotate(changes::Rotate),
    /// Change a key's label, role, end, limits, or what it is narrowed to.
    Update(changes::Edit),
    /// Delete a disabled key for good.
    Delete(changes::Delete),
    /// Read a key from standard input and say whose it is. Exit code 1 if it lets nobody in.
    Verify {
        #[command(flatten)]
        format: Format,
        /// A key given here by mistake; refused without being shown.
        #[arg(hide = true)]
        misplaced: Option<String>,
    },
    /// Take over keys made elsewhere.
    ///
    /// Reads one key or `sha256:` digest a line, or CSV whose header names `key` or `hash`, and `label`,
    /// `user` and `role` as far as they differ. All keys are stored, or none.
    Import(Import),
}

/// Which key, and how to show it.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The key's id, or a beginning that no other id has.
    id: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Format {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Whose key it is.
    #[arg(long, value_parser = UserName::new)]
    user: UserName,
    /// What it may do: a role of the configuration.
    #[arg(long, value_parser = RoleName::new)]
    role: RoleName,
    /// What people call it, "billing export" say.
    #[arg(long, value_parser = Label::new)]
    label: Label,
    /// When it ends: after a time such as 90d, or at one such as 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = Expiry::parse)]
    expires: Option<Expiry>,
    #[command(flatten)]
    narrowed: Narrowed,
    #[command(flatten)]
    limited: limits::Limited,
    #[command(flatten)]
    format: Format,
}

/// What a key is narrowed to, within what its role may.
#[derive(Debug, Args)]
struct Narrowed {
    /// A method it may use; may be given more than once. All, unless given; GET covers HEAD.
    #[arg(long = "method", value_name = "METHOD", value_parser = scopes::method)]
    methods: Vec<Method>,
    /// A path it may ask for, as in routes: "/orders/{*rest}"; may be given more than once.
    #[arg(long = "path", value_name = "PATTERN", value_parser = scopes::path)]
    paths: Vec<PathPattern>,
    /// A network, or an address, that it may be used from: 10.0.0.0/8; may be given more than once.
    #[arg(long = "cidr", value_name = "NETWORK", value_parser = scopes::network)]
    networks: Vec<IpNet>,
}

impl Narrowed {
    fn scopes(self) -> Result<Option<Arc<Scopes>>, Failure> {
        check_counts(&self.methods, &self.paths, &self.networks)?;
        Ok(Scopes::new(self.methods, self.paths, self.networks))
    }
}

fn check_counts(
    methods: &[Method],
    paths: &[PathPattern],
    networks: &[IpNet],
) -> Result<(), Failure> {
    if methods.len().max(paths.len()).max(networks.len()) > SCOPES_MAX {
        let message = format!("a key takes at most {SCOPES_MAX} of --method, --path and --cidr");
        return Err(Failure::Usage(message));
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file to read; standard input unless given.
    file: Option<PathBuf>,
    /// Whose keys they are, where no column says it.
    #[arg(long, value_parser = UserName::new)]
    user: Option<UserName>,
    /// What they may do, where no column says it.
    #[arg(long, value_parser = RoleName::new)]
    role: Option<RoleName>,
    /// What they are called, where no column says it; several keys get their line's number behind it.
    #[arg(long, value_parser = Label::new)]
    label: Option<Label>,
    /// Check everything and store nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
}

/// Runs one command on the key file that the configuration at `config` names.
pub(super) fn run(command: Command, config: &Path) -> Result<(), Failure> {
    if let Command::Verify { misplaced: Some(_), .. } = command {
        let message = "give the key on standard input: an argument stays in the shell's history \
                       and is seen by every user of this machine";
        return Err(Failure::Usage(message.to_owned()));
    }
    let keys = Keys::new(config::load(config)?);
    match command {
        Command::Create(create) => keys.create(create),
        Command::List { user, format } => keys.list(user.as_ref(), format),
        Command::Show(one) => keys.show(&one),
        Command::Unused(unused) => keys.unused(&unused),
        Command::Disable(disable) => keys.disable(disable),
        Command::Enable(one) => keys.enable(&one),
        Command::Rotate(rotate) => keys.rotate(&rotate),
        Command::Update(edit) => keys.update(edit),
        Command::Delete(delete) => keys.delete(&delete),
        Command::Verify { format, .. } => keys.verify(format),
        Command::Import(import) => keys.import(import),
    }
}

/// The key file of a configuration.
struct Keys {
    config: Config,
    hasher: Hasher,
    format: KeyFormat,
}

impl Keys {
    fn new(config: Config) -> Self {
        let hasher = Hasher::new(config.keys.pepper.clone());
        let format = KeyFormat::new(config.keys.prefix.clone());
        Self { config, hasher, format }
    }

    fn store(&self) -> Store<'_> {
        let Config { keys, audit, roles, .. } = &self.config;
        Store::new(&keys.store, &audit.file, roles, &self.hasher, &self.format)
    }

    fn create(&self, create: Create) -> Result<(), Failure> {
        let Create { user, role, label, expires, narrowed, limited, format } = create;
        let now = Timestamp::now();
        let expires_at = expires.map(|expiry| expiry.after(now)).transpose();
        let expires_at = expires_at.map_err(Failure::Usage)?;
        let (scopes, limits) = (narrowed.scopes()?, limited.limits());
        let wanted = Wanted { user, role, label, expires_at, scopes, limits };
        let Made { secret, record } = make(&self.config, wanted)?;
        let printed = view::write_made(&secret, &record, format.json);
        let id = &record.id;
        printed.map_err(|error| {
            Failure::Failed(format!(
                "{id} was made, but the key could not be printed ({error}) and is lost; remove it \
                 with `keyward keys delete --force {id}`"
            ))
        })?;
        let mut stderr = anstream::stderr().lock();
        let KeyRecord { user, role, label, .. } = record;
        // The key is made and printed: that this line cannot be is no failure.
        let _ = writeln!(
            stderr,
            "made {id} for {user} ({role}, \"{label}\"): keep the key now, it \
                                  is not shown again"
        );
        Ok(())
    }

    fn list(&self, user: Option<&UserName>, format: Format) -> Result<(), Failure> {
        let keys = self.store().load()?.records;
        let is_asked_for = |record: &&KeyRecord| user.is_none_or(|user| record.user == *user);
        let records: Vec<_> = keys.iter().filter(is_asked_for).cloned().collect();
        let now = Timestamp::now();
        if format.json {
            let views: Vec<_> =
                records.iter().map(|record| view::Key::new(record, record.state(now))).collect();
            return Ok(json::write(&mut io::stdout().lock(), &views)?);
        }
        if records.is_empty() {
            writeln!(anstream::stderr(), "there are no keys; make one with `keyward keys create`")?;
            return Ok(());
        }
        Ok(view::write_table(&mut anstream::stdout().lock(), &records, now)?)
    }

    fn verify(&self, format: Format) -> Result<(), Failure> {
        let records = self.store().load()?.records;
        let key = input::read_key()?;
        let bytes = key.expose().trim_ascii();
        let digest = self.hasher.digest(bytes);
        let now = Timestamp::now();
        let found =
            records.iter().find_map(|record| Some((record, record.state_of(&digest, now)?)));
        let Some((record, state)) = found else {
            let message = match bytes {
                _ if self.format.is_mistyped(bytes) => {
                    "this is no key: its checksum does not fit, so a character is wrong or missing"
                }
                _ => "this key is not known here",
            };
            return Err(Failure::Failed(message.to_owned()));
        };
        write_one(record, state, format)?;
        match state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled | KeyState::Expired => Err(Failure::No),
        }
    }

    fn import(&self, import: Import) -> Result<(), Failure> {
        let Import { file, user, role, label, dry_run, format } = import;
        let text = input::read_import(file.as_deref())?;
        let defaults = Defaults { user, role, label };
        let found = import::parse(text.expose(), &defaults, &self.hasher, &self.format);
        let found = found.map_err(|faults| nothing_imported(&faults))?;
        let (lines, new): (Vec<_>, Vec<_>) =
            found.into_iter().map(|found| (found.line, found.key)).unzip();
        let run = if dry_run { Run::Dry } else { Run::Real };
        let by = operator();
        let adding = Adding { by: &by, action: "import", run };
        let stored = self.store().add(&new, adding).map_err(|error| match error {
            StoreError::Refused(faults) => {
                let on_line = |(place, fault): &(usize, store::AddFault)| import::LineFault {
                    line: lines[*place],
                    message: fault.to_string(),
                };
                nothing_imported(&faults.iter().map(on_line).collect::<Vec<_>>())
            }
            error => error.into(),
        })?;
        if format.json {
            let view = |(line, record)| view::ImportedKey::new(line, record, run);
            let views: Vec<_> = lines.into_iter().zip(&stored).map(view).collect();
            return Ok(json::write(&mut io::stdout().lock(), &views)?);
        }
        let done = if dry_run { "would be imported; nothing was stored" } else { "imported" };
        let keys = if stored.len() == 1 { "key" } else { "keys" };
        Ok(writeln!(anstream::stdout(), "{} {keys} {done}", stored.len())?)
    }
}

fn nothing_imported(faults: &[import::LineFault]) -> Failure {
    let lines: Vec<_> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    Failure::Failed(format!("nothing was imported:{}", lines.concat()))
}

fn write_one(record: &KeyRecord, state: KeyState, format: Format) -> Result<(), Failure> {
    if format.json {
        return Ok(json::write(&mut io::stdout().lock(), &view::Key::new(record, state))?);
    }
    Ok(view::write_fields(&mut anstream::stdout().lock(), record, state)?)
}
