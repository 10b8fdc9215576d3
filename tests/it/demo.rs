//! `keyward demo`: every line it prints gives what it promises, and Ctrl-C leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::harness::wait_for;

/// A running demo and what it printed; interrupted when dropped, so that it removes its folder.
struct Demo {
    process: Child,
    /// Open, so that the access log has somewhere to go.
    _stdout: BufReader<ChildStdout>,
    printed: String,
}

impl Demo {
    fn start(port: u16) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .args(["demo", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut printed = String::new();
        while !printed.contains("Ctrl-C") {
            let length = stdout.read_line(&mut printed).expect("it prints UTF-8");
            assert!(length > 0, "ended early, after printing:\n{printed}");
        }
        Self { process, _stdout: stdout, printed }
    }

    /// The printed lines to copy, each with its promise.
    fn steps(&self) -> Vec<(String, String)> {
        let lines: Vec<_> = self.printed.lines().collect();
        let pairs =
            lines.windows(2).filter_map(|pair| Some((pair[0].strip_prefix("# ")?, pair[1])));
        pairs.map(|(promise, command)| (promise.to_owned(), command.to_owned())).collect()
    }

    /// The folder of the configuration it names.
    fn folder(&self) -> PathBuf {
        let file =
            self.printed.lines().find_map(|line| line.strip_prefix("Configuration and keys: "));
        Path::new(file.expect("it says where its files are")).parent().expect("a file").to_owned()
    }

    /// Sends SIGINT, as Ctrl-C does, and gives back the exit code.
    fn interrupt(&mut self) -> Option<i32> {
        self.send_interrupt();
        wait_for("the end of the demo", || self.process.try_wait().expect("our own child")).code()
    }

    fn send_interrupt(&self) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        sent.expect("every system has kill");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.send_interrupt();
            let _ = self.process.wait();
        }
    }
}

/// What a shell prints for `command`.
fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("every system has sh");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}\nended with {}:\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_printed_line_gives_what_it_promises() {
    let demo = Demo::start(0);
    let steps = demo.steps();
    let mut promised = Vec::new();
    for (promise, command) in &steps {
        let Some((_, status)) = promise.split_once("→ ") else {
            run(command);
            continue;
        };
        let status = &status[..3];
        // A disabled key is refused as soon as the key file is read again, which nobody waits for.
        let answer = wait_for(&format!("{promise:?} from {command}"), || {
            let answer = run(command);
            answer.starts_with(&format!("HTTP/1.1 {status} ")).then_some(answer)
        });
        promised.push(status);
        if command.contains("/orders") && status == "200" {
            let user = if promise.contains("admin") { "ada" } else { "vera" };
            assert!(answer.contains(&format!("\n  x-auth-user: {user}\n")), "{answer}");
            assert!(!answer.contains("x-api-key") && !answer.contains("root"), "{answer}");
        }
    }
    let (_, usage) = steps.iter().find(|(_, command)| command.contains("/usage")).expect("a line");
    let usage: serde_json::Value =
        serde_json::from_str(&run(&usage.replace("-i ", "-s "))).expect("JSON");
    // Let through, and refused by the role; and perhaps one that was under way when its key was disabled.
    let seen = [&usage["requests"]["2xx"], &usage["requests"]["4xx"]];
    assert!(seen[0].as_u64() >= Some(2) && seen[1].as_u64() >= Some(1), "{usage}");
    let as_json =
        run(&format!("{} -s -H 'accept: application/json'", steps[5].1.replace("-i ", "")));
    let as_json: serde_json::Value =
        serde_json::from_str(&as_json).expect("JSON, as was asked for");
    assert_eq!(as_json["target"], "/health");
    assert_eq!(promised, ["401", "200", "200", "403", "200", "200", "200", "401", "200"]);
    assert_eq!(steps.len(), promised.len() + 1, "one line disables a key: {}", demo.printed);
}

#[test]
fn the_end_of_the_demo_leaves_nothing_behind() {
    let mut demo = Demo::start(0);
    let folder = demo.folder();
    assert!(folder.join("keyward.toml").exists(), "{}", demo.printed);
    assert_eq!(demo.interrupt(), Some(0));
    assert!(!folder.exists(), "{} is still there", folder.display());
}

#[test]
fn a_taken_port_is_said_and_another_used() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = other.local_addr().expect("it is bound").port();
    let demo = Demo::start(port);
    assert!(demo.printed.contains(&format!("Port {port} is taken; using ")), "{}", demo.printed);
    assert!(!demo.printed.contains(&format!("http://127.0.0.1:{port}/")), "{}", demo.printed);
}
