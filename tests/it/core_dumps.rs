//! The memory of the process holds keys: no core dump of it is written, and nobody else looks into it, unless the operator
//! says so.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use crate::harness::{Actor, Keyward, Setup, Upstream};
use crate::takeover::free_address;

/// With `lines` in its `[server]`, from a folder of its own, with as large a dump allowed as may be asked for.
fn start(lines: &str) -> (Upstream, Keyward, Actor) {
    let app = Upstream::hello();
    let mut setup = Setup::new(&app);
    // One that the next process finds again.
    setup.replace("server", &format!("listen = [\"{}\"]\n{lines}", free_address()));
    let folder = setup.folder.path().to_str().expect("a path in UTF-8").to_owned();
    let script = "cd \"$1\"; shift; ulimit -S -c \"$(ulimit -H -c)\"; exec \"$@\"";
    setup.start_through(&["sh", "-c", script, "sh", &folder]);
    let alice = setup.key("alice", "viewer");
    (app, setup.start(), alice)
}

/// The soft and the hard limit of a core dump of `process`.
fn limits(process: &str) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).expect("it runs");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let mut words = line.expect("a limit").split_whitespace().map(str::to_owned);
    (words.next().expect("a soft one"), words.next().expect("a hard one"))
}

/// Who owns what the kernel says of the process: its own user, or root alone where it may not be looked into.
fn owner(kw: &Keyward) -> u32 {
    fs::metadata(format!("/proc/{}/mem", kw.pid())).expect("it runs").uid()
}

fn dumps(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("our own folder").map(|entry| entry.expect("a name"));
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("core")).collect()
}

#[test]
fn no_core_dump_is_written() {
    for signal in ["ABRT", "ILL"] {
        let (_app, kw, _alice) = start("");
        assert_eq!(limits(&kw.pid().to_string()), ("0".to_owned(), "0".to_owned()));
        assert_eq!(owner(&kw), 0);
        kw.signal(signal);
        let status = kw.wait_for_exit();
        assert!(status.signal().is_some() && !status.core_dumped(), "{status}");
        assert_eq!(dumps(kw.folder()), Vec::<String>::new());
    }
}

#[test]
fn a_core_dump_is_written_where_the_operator_allows_it() {
    let (_app, kw, _alice) = start("core_dumps = true");
    let (_, hard) = limits("self");
    assert_eq!(limits(&kw.pid().to_string()), (hard.clone(), hard.clone()));
    let ours = fs::metadata("/proc/self/mem").expect("we run").uid();
    assert_eq!(owner(&kw), ours);
    kw.wait_for_event("configuration", |event| {
        event["warning"].as_str().is_some_and(|warning| warning.contains("core dumps are allowed"))
    });
    kw.signal("ABRT");
    // Where it goes is the machine's affair; a limit of nothing forbids it.
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let is_dumped = kw.wait_for_exit().core_dumped();
    assert!(
        is_dumped || hard == "0" || pattern.trim().is_empty() || pattern.contains('/'),
        "{pattern}"
    );
}

#[test]
fn a_process_that_cannot_be_looked_into_is_taken_over_from() {
    let (_app, kw, alice) = start("");
    let pid = kw.take_over();
    assert_eq!(limits(&pid.to_string()).0, "0");
    assert_eq!(kw.get("/", &alice).text(), "hello");
}
