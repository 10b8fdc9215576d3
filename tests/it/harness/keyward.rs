//! The program under test: the real binary as a process of its own, its files, and all it says.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::{Actor, Client, Message, Setup, wait_for};

/// What a process says that another one has taken over from.
const TAKEN_OVER: &str = "a new process has taken over; requests in flight end here";

/// A running proxy; killed when dropped, with all that took over from it.
pub(crate) struct Keyward {
    child: Mutex<Child>,
    /// The process that serves: the child, or the last that took over.
    serving: AtomicU32,
    address: SocketAddr,
    setup: Setup,
    events: Mutex<Events>,
}

/// The events on standard error, as far as they were read.
#[derive(Default)]
struct Events {
    read: u64,
    events: Vec<Value>,
}

impl Keyward {
    /// Starts the binary on the files of `setup` and waits until it says that it listens.
    pub(crate) fn start(setup: Setup, config: &str) -> Self {
        let folder = setup.folder.path();
        // Apart from the configuration: a folder in which something always happens is harder to watch.
        fs::create_dir(folder.join("logs")).expect("a new folder");
        let create = |name: &str| File::create(folder.join(name)).expect("a temporary file");
        let mut words =
            setup.launcher.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_keyward")]);
        let child = Command::new(words.next().expect("the binary at least"))
            .args(words)
            .arg("--config")
            .arg(folder.join(config))
            .arg("serve")
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(create("logs/stdout"))
            .stderr(create("logs/stderr"))
            .spawn()
            .expect("the binary is built");
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut keyward = Self {
            serving: AtomicU32::new(child.id()),
            child: Mutex::new(child),
            address,
            setup,
            events: Mutex::default(),
        };
        keyward.address = wait_for("the event `listening`", || {
            let ended = keyward.lock().try_wait().expect("our own child");
            assert!(ended.is_none(), "ended with {ended:?}:\n{}", keyward.stderr());
            keyward.listening_address()
        });
        keyward
    }

    /// What the line `listening` says, as JSON or as text.
    fn listening_address(&self) -> Option<SocketAddr> {
        let stderr = self.stderr();
        let line = complete_lines(&stderr).find(|line| line.contains("listening"))?;
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let text = line.split_whitespace().find_map(|word| word.strip_prefix("address="));
        let address = field(&event, "address").as_str().or(text)?;
        Some(address.parse().expect("the line `listening` carries an address"))
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where keys are managed, if it is said in the configuration where.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        let event = self.wait_for_event("managing keys", |_| true);
        let address = field(&event, "address").as_str().and_then(|address| address.parse().ok());
        address.expect("the event says where")
    }

    /// The folder of the configuration, the keys and the logs.
    pub(crate) fn folder(&self) -> &Path {
        self.setup.folder.path()
    }

    /// What it was started with; to derive changed files from.
    pub(crate) fn setup(&mut self) -> &mut Setup {
        &mut self.setup
    }

    /// The path of one of its files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends `request` on a new connection and reads the answer.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        let mut client = self.connect();
        client.send(&request);
        let method = request.as_ref().split(|&byte| byte == b' ').next().unwrap_or_default();
        client.answer_to(&String::from_utf8_lossy(method))
    }

    /// GETs `target` as `actor`.
    pub(crate) fn get(&self, target: &str, actor: &Actor) -> Message {
        self.ask(get(target, &actor.header()))
    }

    /// The process id of the one that serves.
    pub(crate) fn pid(&self) -> u32 {
        self.serving.load(Ordering::Relaxed)
    }

    /// Sends a signal to the process that serves, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        self.signal_to(self.pid(), name);
    }

    /// The same to `pid`, which was the one that served.
    pub(crate) fn signal_to(&self, pid: u32, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid.to_string()])
            .status()
            .expect("every system has kill");
        assert!(status.success(), "the process is there to receive SIG{name}");
    }

    /// Has a new process take over, and waits for that; gives back its process id.
    pub(crate) fn take_over(&self) -> u32 {
        let before = self.count_events(TAKEN_OVER);
        self.signal("USR2");
        let event = self.wait_for_another(TAKEN_OVER, before);
        let pid = field(&event, "pid").as_u64().and_then(|pid| pid.try_into().ok());
        let pid = pid.expect("the event names the process");
        self.serving.store(pid, Ordering::Relaxed);
        pid
    }

    /// How many bytes of memory it holds now: the resident set.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most bytes of memory it has held since the last call of [`Keyward::forget_memory_peak`].
    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Starts the measurement of the peak again, proc_pid_clear_refs(5).
    pub(crate) fn forget_memory_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("our own child");
    }

    fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("our own child runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a Linux kernel");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    /// Waits for the process that was started here to end by itself.
    pub(crate) fn wait_for_exit(&self) -> ExitStatus {
        wait_for("the end of the process", || self.lock().try_wait().expect("our own child"))
    }

    /// What it wrote to standard output.
    pub(crate) fn stdout(&self) -> String {
        self.read("logs/stdout")
    }

    /// What it wrote to standard error.
    pub(crate) fn stderr(&self) -> String {
        self.read("logs/stderr")
    }

    /// The records of the access log.
    pub(crate) fn access_log(&self) -> Vec<Value> {
        complete_lines(&self.read("logs/access.log"))
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
            })
            .collect()
    }

    /// Waits for the access record that `is_it` accepts.
    pub(crate) fn wait_for_record(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.access_log().into_iter().find(|record| is_it(record)))
    }

    /// Waits for an event on standard error with this message.
    pub(crate) fn wait_for_event(&self, message: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("the event `{message}`"), || {
            self.find_event(|event| has_message(event, message) && is_it(event))
        })
    }

    /// How many events with this message there are.
    pub(crate) fn count_events(&self, message: &str) -> usize {
        self.with_events(|events| events.iter().filter(|event| has_message(event, message)).count())
    }

    /// Waits until there are more than `before` events with this message; gives back the last.
    pub(crate) fn wait_for_another(&self, message: &str, before: usize) -> Value {
        wait_for(&format!("event {} of `{message}`", before + 1), || {
            if self.count_events(message) <= before {
                return None;
            }
            self.with_events(|events| events.iter().rfind(|e| has_message(e, message)).cloned())
        })
    }

    /// Every event with this message.
    pub(crate) fn events_with(&self, message: &str) -> Vec<Value> {
        self.with_events(|events| {
            events.iter().filter(|event| has_message(event, message)).cloned().collect()
        })
    }

    /// The first event that `is_it` accepts.
    pub(crate) fn find_event(&self, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
        self.with_events(|events| events.iter().find(|event| is_it(event)).cloned())
    }

    /// Reads what is new on standard error, and gives all events to `look`.
    fn with_events<T>(&self, look: impl FnOnce(&[Value]) -> T) -> T {
        let mut state = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = File::open(self.path("logs/stderr")).expect("it was made at the start");
        file.seek(SeekFrom::Start(state.read)).expect("a file can be sought");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("a temporary file");
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(&bytes[..whole]);
        state.events.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        state.read += whole as u64;
        look(&state.events)
    }

    fn read(&self, name: &str) -> String {
        // The access log is made when the process starts to serve: until then it is empty.
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keyward {
    fn drop(&mut self) {
        let mut child = self.lock();
        // Both fail only for a process that is gone already.
        let _ = child.kill();
        let _ = child.wait();
        let first = child.id();
        drop(child);
        if self.pid() != first {
            let _ = Command::new("kill").args(["-KILL", &self.pid().to_string()]).status();
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "a failed test shows what the proxy said")]
            {
                eprintln!("--- standard error of keyward ---\n{}", self.stderr());
            }
        }
    }
}

fn has_message(event: &Value, message: &str) -> bool {
    field(event, "message").as_str() == Some(message)
}

/// A field of an event, wherever the JSON form puts it.
pub(crate) fn field<'a>(event: &'a Value, name: &str) -> &'a Value {
    event.get(name).or_else(|| event["fields"].get(name)).unwrap_or(&Value::Null)
}

/// A GET request with `lines` of further fields.
pub(crate) fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n{lines}\r\n")
}

/// Lines with their end; the last may still be being written.
fn complete_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter(|line| line.ends_with('\n'))
}
