//! The commands that change one key: `disable`, `enable`, `rotate`, `update` and `delete`.
//!
//! Never here: a key printed but by `rotate`, once, on standard output alone.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use http::Method;
use ipnet::IpNet;
use jiff::Timestamp;

use super::super::failure::Failure;
use super::super::making::{Drawn, draw};
use super::super::operator::operator;
use super::input::{self, Expiry};
use super::limits::Relimited;
use super::{Keys, One, view, write_one};
use crate::identity::{Label, RoleName};
use crate::keys::KeyRecord;
use crate::keys::change::{Change, Changed, Rotation, Update};
use crate::keys::store::{Terms, Which};
use crate::paths::patterns::PathPattern;
use crate::scopes;

#[derive(Debug, Args)]
pub(in crate::cli) struct Disable {
    #[command(flatten)]
    one: One,
    /// Why, for those who find it disabled.
    #[arg(long, value_parser = Label::new)]
    reason: Option<Label>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    one: One,
    /// How long the old key still works beside the new one; 0 ends it at once.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_grace)]
    grace: Duration,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Edit {
    #[command(flatten)]
    one: One,
    /// What people call it from now on.
    #[arg(long, value_parser = Label::new)]
    label: Option<Label>,
    /// What it may do from now on: a role of the configuration.
    #[arg(long, value_parser = RoleName::new)]
    role: Option<RoleName>,
    /// When it ends: after a time such as 90d, at one such as 2027-01-01T00:00:00Z, or never.
    #[arg(long, value_name = "WHEN", value_parser = parse_end)]
    expires: Option<End>,
    /// The methods it may use, instead of those it could; may be given more than once.
    #[arg(long = "method", value_name = "METHOD", value_parser = scopes::method)]
    methods: Vec<Method>,
    /// The paths it may ask for, instead of those it could; may be given more than once.
    #[arg(long = "path", value_name = "PATTERN", value_parser = scopes::path)]
    paths: Vec<PathPattern>,
    /// The networks it may be used from, instead of those it could; may be given more than once.
    #[arg(long = "cidr", value_name = "NETWORK", value_parser = scopes::network)]
    networks: Vec<IpNet>,
    #[command(flatten)]
    limits: Relimited,
    /// It may use every method that its role may.
    #[arg(long, conflicts_with = "methods")]
    any_method: bool,
    /// It may ask for every path that its role may.
    #[arg(long, conflicts_with = "paths")]
    any_path: bool,
    /// It may be used from everywhere.
    #[arg(long, conflicts_with = "networks")]
    any_address: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Delete {
    #[command(flatten)]
    one: One,
    /// Delete it even if it is enabled.
    #[arg(long)]
    force: bool,
}

/// When a key is to end.
#[derive(Clone, Copy, Debug)]
enum End {
    Never,
    At(Expiry),
}

fn parse_end(text: &str) -> Result<End, String> {
    match text {
        "never" => Ok(End::Never),
        _ => Expiry::parse(text).map(End::At),
    }
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => humantime::parse_duration(text)
            .map_err(|_| "write a time such as 24h or 30m, or 0".to_owned()),
    }
}

impl Keys {
    pub(super) fn disable(&self, disable: Disable) -> Result<(), Failure> {
        let changed = self.change(&disable.one, &Change::Disable { reason: disable.reason })?;
        write_done(&disable.one, &changed, "is disabled")
    }

    pub(super) fn enable(&self, one: &One) -> Result<(), Failure> {
        let changed = self.change(one, &Change::Enable)?;
        write_done(one, &changed, "is enabled")
    }

    pub(super) fn update(&self, edit: Edit) -> Result<(), Failure> {
        let (one, update) = edit.read()?;
        let changed = self.change(&one, &Change::Update(Box::new(update)))?;
        write_done(&one, &changed, "is changed")
    }

    pub(super) fn delete(&self, delete: &Delete) -> Result<(), Failure> {
        let changed = self.change(&delete.one, &Change::Delete { force: delete.force })?;
        write_done(&delete.one, &changed, "is deleted")
    }

    pub(super) fn rotate(&self, rotate: &Rotate) -> Result<(), Failure> {
        let now = input::now();
        let until = now.checked_add(rotate.grace);
        let until = until.map_err(|_| Failure::Usage("--grace is too long".to_owned()))?;
        let Drawn { secret, hash, start } = draw(&self.hasher, &self.format)?;
        let change = Change::Rotate(Rotation {
            hash,
            start: Some(start),
            old_until: (until > now).then_some(until),
        });
        let changed = self.change(&rotate.one, &change)?;
        let record = changed.record();
        let id = &record.id;
        view::write_made(&secret, record, rotate.one.format.json).map_err(|error| {
            Failure::Failed(format!(
                "{id} was rotated, but the new key could not be printed ({error}) and is lost; \
                 rotate it once more"
            ))
        })?;
        let old = match record.previous {
            Some((_, until)) => format!("the old one works until {until}"),
            None => "the old one has ended".to_owned(),
        };
        let KeyRecord { user, role, label, .. } = record;
        let mut stderr = anstream::stderr().lock();
        // The key is rotated and printed: that these lines cannot be is no failure.
        let _ = writeln!(
            stderr,
            "rotated {id} of {user} ({role}, \"{label}\"): keep the new key now, it is not shown \
             again; {old}"
        );
        if let Some(until) = changed.cut_short(now) {
            let _ = writeln!(
                stderr,
                "the one before, which would have worked until {until}, has ended"
            );
        }
        Ok(())
    }

    /// Makes a change to one key. Who has the file may do anything; that nobody is left who may manage
    /// everybody's keys is only said.
    fn change(&self, one: &One, change: &Change) -> Result<Changed, Failure> {
        let actor = operator();
        let terms = Terms { by: &actor, expected: None, may_leave_no_admin: true };
        let changed = self.store().change(Which::Beginning(&one.id), change, terms)?;
        if changed.leaves_no_admin {
            let style = anstyle::AnsiColor::Yellow.on_default().bold();
            // The change is made: that this line cannot be is no failure.
            let _ = writeln!(
                anstream::stderr(),
                "{style}warning{style:#}: no key is left that may manage everybody's keys \
                 (a role with admin = \"all\")"
            );
        }
        Ok(changed)
    }
}

impl Edit {
    fn read(self) -> Result<(One, Update), Failure> {
        super::check_counts(&self.methods, &self.paths, &self.networks)?;
        let has_methods = self.any_method || !self.methods.is_empty();
        let has_paths = self.any_path || !self.paths.is_empty();
        let has_networks = self.any_address || !self.networks.is_empty();
        let expires_at = match self.expires {
            None => None,
            Some(End::Never) => Some(None),
            Some(End::At(expiry)) => {
                Some(Some(expiry.after(Timestamp::now()).map_err(Failure::Usage)?))
            }
        };
        let update = Update {
            label: self.label,
            role: self.role,
            expires_at,
            methods: has_methods.then_some(self.methods),
            paths: has_paths.then_some(self.paths),
            networks: has_networks.then_some(self.networks),
            limits: self.limits.change(),
        };
        if update.is_empty() {
            let message = "say what is to change: --label, --role, --expires, --method, --path, \
                           --cidr, --rate, --burst, --concurrent, --daily, or --any-method, \
                           --any-path, --any-address";
            return Err(Failure::Usage(message.to_owned()));
        }
        Ok((self.one, update))
    }
}

fn write_done(one: &One, changed: &Changed, done: &str) -> Result<(), Failure> {
    let record = changed.record();
    if one.format.json {
        return write_one(record, record.state(Timestamp::now()), one.format);
    }
    let KeyRecord { id, user, label, .. } = record;
    Ok(writeln!(anstream::stdout(), "{id} ({user}, \"{label}\") {done}")?)
}
