//! A folder with a configuration, and the real binary run on it.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const CONFIG: &str = r#"
[keys]
store = "keys.toml"
[roles.viewer]
[roles.manager]
[roles.admin]
[upstreams.app]
endpoints = ["http://127.0.0.1:9"]
"#;

/// Where one test keeps its keys.
pub(super) struct Home(TempDir);

impl Home {
    pub(super) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::write(home.config(), CONFIG).unwrap();
        home
    }

    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder().join("keyward.toml")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.folder().join("keys.toml")
    }

    pub(super) fn write_store(&self, text: &str) {
        fs::write(self.store(), text).unwrap();
        fs::set_permissions(self.store(), Permissions::from_mode(0o600)).unwrap();
    }

    /// The names of all files here.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    /// `keyward keys ARGS`, not started yet.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = keyward(&self.config());
        command.arg("keys").args(args);
        command
    }

    /// `keyward ARGS`
    pub(super) fn run(&self, args: &[&str]) -> Outcome {
        Outcome::after(keyward(&self.config()).args(args), "")
    }

    /// `keyward keys ARGS`
    pub(super) fn keys(&self, args: &[&str]) -> Outcome {
        self.keys_with_input(args, "")
    }

    /// `keyward keys ARGS`, with `input` on standard input.
    pub(super) fn keys_with_input(&self, args: &[&str], input: &str) -> Outcome {
        Outcome::of(&self.config(), args, input)
    }
}

fn keyward(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.arg("--config").arg(config);
    command
}

/// How a command ended, and all it said.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Outcome {
    /// Of `keyward --config CONFIG keys ARGS`.
    pub(super) fn of(config: &Path, args: &[&str], input: &str) -> Self {
        Self::after(keyward(config).arg("keys").args(args), input)
    }

    /// Of `command`, with `input` on standard input.
    pub(super) fn after(command: &mut Command, input: &str) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary is built");
        // A command that reads nothing may have ended; what it says then is what counts.
        let _ = child.stdin.take().expect("it is a pipe").write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks the exit code, and that `part` was said.
    #[track_caller]
    pub(super) fn expect(self, code: i32, part: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stdout.contains(part) || self.stderr.contains(part), "{part} in {self:?}");
        self
    }

    /// Checks the exit code; what was said on standard output.
    #[track_caller]
    pub(super) fn expect_json(self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{self:?}");
        serde_json::from_str(&self.stdout).expect("standard output is JSON")
    }
}
