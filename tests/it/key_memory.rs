//! What is left of keys in the memory of the process once their requests are answered.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use memchr::memmem;

use crate::harness::actor::basic;
use crate::harness::{Actor, Keyward, Stage, Upstream};

const SOURCES: &str = r#"
key_sources = [
    { header = "x-api-key" },
    { header = "authorization", scheme = "Bearer" },
    { header = "authorization", scheme = "Basic" },
    { query = "key" },
]"#;

/// All that the process may write, and so all that holds data.
fn memory(kw: &Keyward) -> Vec<Vec<u8>> {
    let process = format!("/proc/{}", kw.pid());
    let maps = fs::read_to_string(format!("{process}/maps")).expect("it runs");
    let memory = File::open(format!("{process}/mem")).expect("it lets itself be read");
    let region = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (range, rights) = (columns.next()?, columns.next()?);
        let (begin, end) = range.split_once('-')?;
        let place = |hex| u64::from_str_radix(hex, 16).expect("an address");
        let (begin, end) = (place(begin), place(end));
        let mut bytes = vec![0; (end - begin) as usize];
        // Some of the kernel's own cannot be read.
        (rights.starts_with("rw") && memory.read_exact_at(&mut bytes, begin).is_ok())
            .then_some(bytes)
    };
    maps.lines().filter_map(region).collect()
}

fn count(memory: &[Vec<u8>], text: &str) -> usize {
    memory.iter().map(|region| memmem::find_iter(region, text).count()).sum()
}

#[test]
fn nothing_is_left_of_a_key_that_came_in_clear_while_its_connection_is_still_open() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        setup.allow_guesses().set("server", "core_dumps = true");
        setup.set("auth", SOURCES);
        setup.key("alice-of-wonderland", "viewer")
    });
    let unknown = Actor::new("mallory", "viewer");
    let long = "x".repeat(9000);
    let mut open = Vec::new();
    for key in [&alice.key, &unknown.key] {
        for (target, lines) in [
            ("/".to_owned(), format!("X-Api-Key: {key}\r\n")),
            ("/".to_owned(), format!("Authorization: Bearer {key}\r\n")),
            ("/".to_owned(), format!("Authorization: {}\r\n", basic("user", key))),
            (format!("/?key={key}"), String::new()),
            ("/".to_owned(), format!("X-Long: {long}\r\nX-Api-Key: {key}\r\n")),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            for pieces in [1, 2, 5] {
                let mut client = stage.kw.connect();
                for piece in head.as_bytes().chunks(head.len().div_ceil(pieces)) {
                    client.send(piece);
                    // Each worker has had a turn then, and read it alone.
                    (0..2).for_each(|_| drop(stage.kw.get("/", &alice)));
                }
                let status = client.answer().status();
                assert_eq!(status, if key == &alice.key { 200 } else { 401 }, "{lines}");
                open.push(client);
            }
        }
    }
    let memory = memory(&stage.kw);
    assert!(count(&memory, "alice-of-wonderland") > 0, "the memory is not what was read");
    for key in [&alice.key, &unknown.key] {
        for trace in [key.as_str(), &basic("user", key)["Basic ".len()..]] {
            assert_eq!(count(&memory, trace), 0, "copies of {trace}");
        }
    }
}
