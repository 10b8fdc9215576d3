//! `keyward init`: a configuration to begin with, and the first key, which may do everything.
//!
//! Never here: a file that is written over, or the key anywhere but once on standard output.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::keys::view;
use super::making::{Made, Wanted, make};
use super::operator::operator;
use crate::config::{self, Config};
use crate::diagnostics::Source;
use crate::identity::{Label, RoleName, UserName};
use crate::keys::KeyRecord;

/// What is written, but for the endpoint.
const TEMPLATE: &str = include_str!("init/keyward.toml");
/// The endpoint in it.
const ENDPOINT: &str = "\"http://127.0.0.1:3000\"";
/// Where a configuration is looked for when nobody says where it is.
const USUAL: &str = "config/keyward.toml";

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The folder for both files; that of --config unless given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Whose the first key is; whoever runs this, unless given.
    #[arg(long, value_parser = UserName::new)]
    user: Option<UserName>,
    /// The service behind, as an endpoint is written: "http://HOST:PORT", "unix:/run/app.sock".
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    upstream: String,
    /// Print the key as JSON, with all that is known of it.
    #[arg(long)]
    json: bool,
}

/// Makes both files; the configuration at `path`, unless a folder is named.
pub(super) fn run(init: Init, path: &Path) -> Result<(), Failure> {
    let path = init.dir.as_ref().map_or_else(|| path.to_owned(), |dir| dir.join("keyward.toml"));
    let endpoint = toml_edit::Value::from(&*init.upstream).to_string();
    let text = TEMPLATE.replace(ENDPOINT, &endpoint);
    // Read before anything is written: an upstream that is none leaves nothing behind.
    let source = Source { path: path.clone(), text: text.clone() };
    let config = config::parse(source, |_| None)?;
    for file in [&path, &config.keys.store, &config.audit.file] {
        if file.try_exists()? {
            return Err(Failure::Failed(format!(
                "{} is there already, and nothing is written over; name another folder with --dir",
                file.display()
            )));
        }
    }
    write_config(&path, &text)?;
    let made = make(&config, wanted(init.user)).inspect_err(|_| {
        // Ours, and of no use without a key. What is left over is said by the next try.
        let _ = fs::remove_file(&path);
    })?;
    print(&made, &path, &config, init.json)
}

fn wanted(user: Option<UserName>) -> Wanted {
    let user = user.or_else(|| UserName::new(operator().user.as_str()).ok());
    Wanted {
        user: user.unwrap_or_else(|| UserName::new("admin").expect("it prints")),
        role: RoleName::new("admin").expect("it is a name"),
        label: Label::new("first admin key").expect("it prints"),
        expires_at: None,
        scopes: None,
        limits: Default::default(),
    }
}

fn write_config(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::Failed(format!("{} is there already", path.display())),
        _ => Failure::Failed(format!("cannot write {}: {error}", path.display())),
    })
}

fn print(made: &Made, path: &Path, config: &Config, as_json: bool) -> Result<(), Failure> {
    let Made { secret, record } = made;
    let KeyRecord { id, user, role, label, .. } = record;
    let keys = &config.keys.store;
    view::write_made(secret, record, as_json).map_err(|error| {
        Failure::Failed(format!(
            "{id} was made, but the key could not be printed ({error}) and is lost; give it another \
             with `keyward keys rotate --grace 0 {id}`"
        ))
    })?;
    let option = match path == Path::new(USUAL) {
        true => String::new(),
        false => format!(" --config {}", path.display()),
    };
    let (path, keys) = (path.display(), keys.display());
    // The key is made and printed: that these lines cannot be is no failure.
    let _ = writeln!(
        anstream::stderr(),
        "made {path} and {keys}\n\
         made {id} for {user} ({role}, \"{label}\"): keep the key now, it is not shown again\n\
         say in {path} where your service is, and who may pass where; then\n    \
         keyward{option} check\n    keyward{option} serve"
    );
    Ok(())
}
