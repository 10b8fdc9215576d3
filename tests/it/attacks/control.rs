//! Control runs: the same tables against others, so that it is known that they bite. A case fails there when the service
//! got a request, or bytes in one, that the table says it must not see, or when somebody else got another answer than
//! their own. Statuses, what a proxy adds, and keys that pass are not counted. Some of it is our contract and no danger: an
//! `Upgrade` that is ignored where we refuse it.
//!
//! Never here: HTTP/2, which the service behind does not speak.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::case::{Case, KEY, ROOT_KEY};
use super::recorder::Recorder;
use super::{check_safe, http1, tables};
use crate::harness::{DEADLINE, wait_for};

/// How long an answer to a case is waited for: some servers wait for more than we send. What counts is what they did.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many cases fail with `address` in front of `app`, and how many there are; shows which.
#[expect(clippy::print_stderr, reason = "a control run shows its table")]
fn run(title: &str, address: SocketAddr, app: &Recorder) -> (usize, usize) {
    let (mut failures, mut all) = (0, 0);
    eprintln!("{title}");
    for (class, cases) in tables() {
        let failed: Vec<&Case> = cases.iter().filter(|case| !holds(address, app, case)).collect();
        eprintln!("  {class:18} {:3} of {:3} fail", failed.len(), cases.len());
        for case in &failed {
            eprintln!("    {}", case.name.chars().take(100).collect::<String>());
        }
        failures += failed.len();
        all += cases.len();
    }
    eprintln!("  {:18} {failures:3} of {all:3} fail", "all");
    (failures, all)
}

fn holds(address: SocketAddr, app: &Recorder, case: &Case) -> bool {
    http1::run(address, case, "/next/1", PATIENCE);
    let mut faults = Vec::new();
    faults.extend(http1::is_served(address, "/else/1", DEADLINE).err());
    check_safe(&app.take(), &case.expected.upstream, &mut faults);
    faults.is_empty()
}

/// The service alone: it answers everything, as a lenient one would, and it sees the very bytes that are sent.
#[test]
fn without_a_proxy_at_least_half_of_the_cases_fail() {
    let app = Recorder::start();
    let (failures, all) = run("no proxy", app.address(), &app);
    assert!(failures * 2 >= all, "{failures} of {all}");
}

/// nginx as Debian has it, with what it takes to pass requests on and to check keys: no more.
#[test]
fn behind_nginx_at_least_ten_of_the_cases_fail() {
    let app = Recorder::start();
    let nginx = Nginx::start(app.address());
    let (failures, all) = run("nginx", nginx.address, &app);
    assert!((10..all / 2).contains(&failures), "{failures} of {all}");
}

struct Nginx {
    child: Child,
    address: SocketAddr,
    /// Removed after the process has gone.
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start(app: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("loopback has free ports");
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;
             events {{}}
             http {{
               access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
               uwsgi_temp_path uwsgi; scgi_temp_path scgi;
               map $http_x_api_key $user {{ default ''; {KEY} alice; {ROOT_KEY} root; }}
               map $user $role {{ default ''; alice viewer; root admin; }}
               proxy_set_header X-Auth-User $user; proxy_set_header X-Auth-Role $role;
               proxy_set_header X-Auth-Key-Id ''; proxy_set_header X-Api-Key '';
               server {{
                 listen {address};
                 location / {{ if ($user = '') {{ return 401; }} proxy_pass http://{app}; }}
                 location /public/ {{ proxy_pass http://{app}; }}
                 location /read/ {{ if ($user = '') {{ return 401; }} limit_except GET {{ deny all; }} proxy_pass http://{app}; }}
                 location /admin {{ if ($role != admin) {{ return 403; }} proxy_pass http://{app}; }}
               }}
             }}"
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("a new file");
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`make test` installs nginx");
        let mut nginx = Self { child, address, _folder: folder };
        wait_for("nginx", || {
            let ended = nginx.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "nginx ended with {ended:?}");
            TcpStream::connect(address).ok()
        });
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
