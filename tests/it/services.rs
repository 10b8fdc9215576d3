//! In front of services that are not ours: nginx serving files, and a Python application.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::harness::keyward::get;
use crate::harness::{Actor, Keyward, Setup, wait_for};

const ROUTES: &str = r#"
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/{*rest}"
methods = ["GET", "POST"]
roles = ["viewer"]
[[routes]]
path = "/public/{*rest}"
public = true
[[routes]]
path = "/fail"
"#;

/// A service as a process of its own; killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Removed after the process has gone.
    _folder: Option<TempDir>,
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx serving files, and saying at `/public/whoami` and `/whoami` what headers it received.
pub(crate) fn nginx(files: &[(&str, &[u8])]) -> Service {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    for (name, content) in files {
        let path = root.join("files").join(name);
        fs::create_dir_all(path.parent().expect("inside the folder")).expect("a new folder");
        fs::write(path, content).expect("a new file");
    }
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("loopback has free ports");
    let config = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
         events {{}}\n\
         http {{\n\
           access_log off; types {{ text/plain txt; }} default_type application/octet-stream;\n\
           client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
           uwsgi_temp_path uwsgi; scgi_temp_path scgi; underscores_in_headers on;\n\
           server {{ listen {address}; root files;\n\
             location ~ /whoami$ {{\n\
               return 200 \"$http_x_auth_user $http_x_auth_role [$http_x_api_key]\";\n\
             }}\n\
           }}\n\
         }}\n",
    );
    fs::write(root.join("nginx.conf"), config).expect("a new file");
    let child = Command::new("nginx")
        .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
        .arg(root)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("`make test` installs nginx");
    let mut service = Service { child, address, _folder: Some(folder) };
    wait_for("nginx", || {
        let ended = service.child.try_wait().expect("our own child");
        assert!(ended.is_none(), "nginx ended with {ended:?}");
        TcpStream::connect(address).ok()
    });
    service
}

/// The application in `apps/whoami.py`.
pub(crate) fn python() -> Service {
    let mut child = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/apps/whoami.py"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make test` installs python3");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    stdout.read_line(&mut line).expect("the application says its port");
    let port: u16 = line.trim().parse().expect("a port");
    Service { child, address: SocketAddr::from(([127, 0, 0, 1], port)), _folder: None }
}

/// A proxy in front of `service`, with a viewer and an admin.
fn in_front_of(service: &Service) -> (Keyward, Actor, Actor) {
    let mut setup = Setup::with_endpoint(service.address);
    setup.routes(ROUTES);
    let people = (setup.key("alice", "viewer"), setup.key("root", "admin"));
    (setup.start(), people.0, people.1)
}

#[test]
fn nginx_serves_its_files_to_holders_of_a_key() {
    let large: Vec<u8> =
        (0..50_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let files: [(&str, &[u8]); 4] = [
        ("index.txt", b"hello from nginx"),
        ("large.bin", &large),
        ("admin/secret.txt", b"for admins"),
        ("public/open.txt", b"for everybody"),
    ];
    let service = nginx(&files);
    let (kw, alice, root) = in_front_of(&service);

    let answer = kw.get("/index.txt", &alice);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello from nginx"));
    let etag = answer.field("etag").expect("nginx sends one").to_owned();
    let conditional = format!("If-None-Match: {etag}\r\n{}", alice.header());
    assert_eq!(kw.ask(get("/index.txt", &conditional)).status(), 304);
    let range = kw.ask(get("/index.txt", &format!("Range: bytes=6-9\r\n{}", alice.header())));
    assert_eq!((range.status(), range.text().as_str()), (206, "from"));
    let head = kw.ask(format!("HEAD /large.bin HTTP/1.1\r\nHost: a\r\n{}\r\n", alice.header()));
    assert_eq!(head.field("content-length"), Some("50000000"));
    let whole = kw.get("/large.bin", &alice).body;
    assert_eq!(Sha256::digest(&whole), Sha256::digest(&large));

    assert_eq!(kw.ask(get("/index.txt", "")).code(), "missing_key");
    assert_eq!(kw.get("/admin/secret.txt", &alice).code(), "forbidden");
    assert_eq!(kw.get("/admin/secret.txt", &root).text(), "for admins");
    assert_eq!(kw.ask(get("/public/open.txt", "")).text(), "for everybody");
    let missing = kw.get("/missing.txt", &alice);
    assert_eq!((missing.status(), missing.code().as_str()), (404, ""), "nginx's own 404");
    assert_eq!(kw.get("/whoami", &alice).text(), "alice viewer []");
    let spoof = "X-Auth-User: root\r\nX_Auth_User: root\r\nX_Auth_Role: admin\r\n";
    assert_eq!(kw.ask(get("/public/whoami", spoof)).text(), "  []");
}

#[test]
fn a_python_application_learns_who_called_and_cannot_be_fooled() {
    let service = python();
    let (kw, alice, _root) = in_front_of(&service);
    let ask = |request: String| -> Value {
        let answer = kw.ask(request);
        assert_eq!(answer.status(), 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("the application answers JSON")
    };
    let spoof = "X_Auth_User: root\r\nx.auth.user: root\r\nX-AUTH_ROLE: admin\r\n\
                 Connection: X-Auth-User\r\n";
    let lines = alice.header() + spoof + "Content-Length: 7\r\nContent-Type: text/plain\r\n";
    let seen =
        ask(format!("POST /orders?a=%20b&c HTTP/1.1\r\nHost: app.example\r\n{lines}\r\ncontent"));
    let headers = &seen["headers"];
    assert_eq!(headers["HTTP_X_AUTH_USER"], "alice");
    assert_eq!(headers["HTTP_X_AUTH_ROLE"], "viewer");
    assert_eq!(headers["HTTP_X_AUTH_KEY_ID"], *alice.id);
    assert_eq!(headers["HTTP_X_API_KEY"], Value::Null);
    assert_eq!(headers["HTTP_HOST"], "app.example");
    assert_eq!(headers["HTTP_X_FORWARDED_FOR"], "127.0.0.1");
    assert_eq!(seen["query"], "a=%20b&c");
    assert_eq!(seen["body"], "content");

    let anonymous = ask(get("/public/x", spoof));
    for name in ["HTTP_X_AUTH_USER", "HTTP_X_AUTH_ROLE", "HTTP_X_AUTH_KEY_ID"] {
        assert_eq!(anonymous["headers"][name], Value::Null, "{name}");
    }
    let failed = kw.get("/fail", &alice);
    assert_eq!((failed.status(), failed.text().as_str()), (500, "the application failed"));
    assert_eq!(kw.ask(get("/orders", "")).code(), "missing_key");
    let delete = format!("DELETE /orders HTTP/1.1\r\nHost: a\r\n{}\r\n", alice.header());
    assert_eq!(kw.ask(delete).code(), "forbidden");
}
