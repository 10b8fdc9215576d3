//! Who runs the command line, for the record.
//!
//! Never here: whether they may. Who can write the files may.

use std::os::unix::fs::MetadataExt;
use std::{env, fs};

use crate::identity::Label;
use crate::keys::actor::{Actor, Way};

/// Who runs this, for the record.
pub(super) fn operator() -> Actor {
    let user = Label::new(&os_user()).expect("what os_user takes is a label");
    Actor { way: Way::Cli, user, key_id: None, address: None }
}

/// The name under which the operating system knows who runs this.
fn os_user() -> String {
    let named = ["USER", "LOGNAME"].into_iter().filter_map(|name| env::var(name).ok());
    // An environment can hold anything; the key file cannot.
    let printable = |name: &String| Label::new(&format!("cli:{name}")).is_ok() && !name.is_empty();
    named.into_iter().find(printable).unwrap_or_else(|| match fs::metadata("/proc/self") {
        Ok(process) => format!("uid {}", process.uid()),
        Err(_) => "unknown".to_owned(),
    })
}
