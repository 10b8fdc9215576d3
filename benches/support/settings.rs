//! What the environment asks of a bench, since cargo has its own arguments for benches, and where
//! the figures go. `SMOKE=1` shows that everything runs, for CI, and keeps no figures; `RESULT` names
//! another file for them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Failure;

/// Whether only a short run is asked for.
pub(crate) fn smoke() -> bool {
    flag("SMOKE")
}

/// Whether the variable `name` says yes.
pub(crate) fn flag(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
}

/// The number in the variable `name`, from 1 to `max` (every bench is bounded in time), or `usual`.
pub(crate) fn number(name: &str, usual: u64, max: u64) -> Result<u64, Failure> {
    let Ok(text) = env::var(name) else { return Ok(usual) };
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("{name}={text}: a number from 1 to {max} is expected").into()),
    }
}

/// The file for the figures: the one that `RESULT` names, else `benches/results/<bench>.json`; none in a short run.
pub(crate) fn path(bench: &str) -> Option<PathBuf> {
    match env::var_os("RESULT") {
        Some(path) => Some(PathBuf::from(path)),
        None if smoke() => None,
        None => {
            let path = format!("benches/results/{bench}.json");
            Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        }
    }
}

/// Keeps the figures there.
pub(crate) fn keep(bench: &str, figures: &Value) -> Result<(), Failure> {
    let Some(path) = path(bench) else { return Ok(()) };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(figures)? + "\n";
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}
