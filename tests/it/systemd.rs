//! Under systemd: sockets that are passed in, and what it is told.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;

use crate::harness::keyward::get;
use crate::harness::{Client, DEADLINE, Setup, Upstream, wait_for};

/// Does what systemd does with a socket unit: binds an address, and starts a program with the socket as its third
/// file descriptor.
const ACTIVATE: &str = "
import os, socket, sys
host, port = sys.argv[1].rsplit(':', 1)
bound = socket.create_server((host, int(port)), reuse_port=False)
os.dup2(bound.fileno(), 3)
os.set_inheritable(3, True)
os.environ['LISTEN_PID'] = str(os.getpid())
os.environ['LISTEN_FDS'] = '1'
os.execv(sys.argv[2], sys.argv[2:])
";

fn free_address() -> SocketAddr {
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    unused.expect("loopback has free ports")
}

/// The socket over which systemd is told.
struct Systemd {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Systemd {
    fn listen() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("an open socket takes options");
        Self { folder, socket }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").to_str().expect("a path in UTF-8").to_owned()
    }

    /// What it is told next.
    fn is_told(&self) -> String {
        let mut text = [0; 256];
        let len = self.socket.recv(&mut text).expect("it is told");
        String::from_utf8_lossy(&text[..len]).trim_end().to_owned()
    }
}

#[test]
fn a_socket_that_is_passed_in_serves_its_address() {
    let app = Upstream::hello();
    let address = free_address();
    let mut setup = Setup::new(&app);
    setup.replace("server", &format!("listen = [\"{address}\"]"));
    setup.start_through(&["python3", "-c", ACTIVATE, &address.to_string()]);
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    assert_eq!(kw.address(), address);
    assert_eq!(kw.get("/", &alice).text(), "hello");
}

#[test]
fn a_socket_for_an_address_that_is_not_served_is_an_error_that_names_it() {
    let address = free_address();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let config = folder.path().join("keyward.toml");
    let text = "[server]\nlisten = ['127.0.0.1:0']\n[keys]\nstore = 'keys.toml'\n[roles.a]\n\
                [upstreams.app]\nendpoints = ['http://127.0.0.1:1']\n";
    std::fs::write(&config, text).expect("a file");
    let keys = folder.path().join("keys.toml");
    crate::harness::setup::write(&keys, "keys = []\n");
    let output = std::process::Command::new("python3")
        .args(["-c", ACTIVATE, &address.to_string(), env!("CARGO_BIN_EXE_keyward"), "--config"])
        .arg(&config)
        .arg("serve")
        .output()
        .expect("python3 is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address.to_string()) && said.contains("[server] listen"), "{said}");
}

#[test]
fn connections_that_come_during_a_restart_wait_and_are_served() {
    // The socket outlives the first program, as it does under systemd.
    let app = Upstream::hello();
    let address = free_address();
    let script = ACTIVATE.replace(
        "os.execv(sys.argv[2], sys.argv[2:])",
        "while True:\n    \
             os.environ.pop('LISTEN_PID', None)\n    \
             child = os.fork()\n    \
             if not child:\n        \
                 os.environ['LISTEN_PID'] = str(os.getpid())\n        \
                 os.execv(sys.argv[2], sys.argv[2:])\n    \
             open(sys.argv[4] + '.pid', 'w').write(str(child))\n    \
             os.waitpid(child, 0)\n    \
             print('again', flush=True)\n    \
             sys.stdin.read(0)\n",
    );
    let mut setup = Setup::new(&app);
    setup.replace("server", &format!("listen = [\"{address}\"]"));
    setup.start_through(&["python3", "-c", &script, &address.to_string()]);
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    let pid = || std::fs::read_to_string(kw.path("keyward.toml.pid")).ok();
    let first = wait_for("the first program", || pid().filter(|pid| !pid.is_empty()));
    let mut client = Client::connect(address);
    client.send(get("/", &alice.header()));
    assert_eq!(client.answer().text(), "hello");
    let killed = std::process::Command::new("kill").args(["-TERM", &first]).status();
    assert!(killed.expect("kill is installed").success());
    // Whether it is the first program or the next that accepts: none is refused.
    for _ in 0..20 {
        let mut client = Client::connect(address);
        client.send(get("/", &alice.header()));
        assert_eq!(client.answer().text(), "hello");
    }
    let second = wait_for("the next program", || pid().filter(|pid| *pid != first));
    let killed = std::process::Command::new("kill").args(["-KILL", &second]).status();
    assert!(killed.expect("kill is installed").success());
}

#[test]
fn systemd_is_told_when_the_program_serves_and_when_it_stops() {
    let systemd = Systemd::listen();
    let app = Upstream::hello();
    let mut setup = Setup::new(&app);
    setup.env("NOTIFY_SOCKET", &systemd.path());
    let kw = setup.start();
    assert_eq!(systemd.is_told(), "READY=1");
    kw.signal("TERM");
    assert_eq!(systemd.is_told(), "STOPPING=1");
    assert!(kw.wait_for_exit().success());
}

#[test]
fn systemd_follows_the_process_that_takes_over() {
    let systemd = Systemd::listen();
    // Its socket is systemd's at first, and handed on.
    let app = Upstream::hello();
    let address = free_address();
    let mut setup = Setup::new(&app);
    setup.replace("server", &format!("listen = [\"{address}\"]"));
    setup.start_through(&["python3", "-c", ACTIVATE, &address.to_string()]);
    setup.env("NOTIFY_SOCKET", &systemd.path());
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    assert_eq!(systemd.is_told(), "READY=1");
    for _ in 0..2 {
        let pid = kw.take_over();
        assert_eq!(systemd.is_told(), format!("MAINPID={pid}"));
        assert_eq!(kw.get("/", &alice).text(), "hello");
    }
    assert_eq!(kw.wait_for_exit().code(), Some(0));
    kw.signal("TERM");
    assert_eq!(systemd.is_told(), "STOPPING=1");
}
