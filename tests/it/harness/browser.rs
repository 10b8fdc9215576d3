//! A real browser, headless Chromium, told by its DevTools protocol what a person would do.
//!
//! Never here: what a page should say.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message as Frame, WebSocket};

use super::Message;
use super::wait::{DEADLINE, wait_for};

/// A browser without a window; killed when dropped.
pub(crate) struct Browser {
    child: Child,
    /// What it keeps.
    folder: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    /// Starts it with a page at `url`.
    pub(crate) fn open(url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--hide-scrollbars"])
            .args(["--disable-component-update", "--disable-sync", "--ignore-certificate-errors"])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg(url)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`make test` installs chromium");
        Self { child, folder }
    }

    /// A new, empty page of it, to be told what to do.
    pub(crate) fn page(&self) -> Page {
        let port_file = self.folder.path().join("profile/DevToolsActivePort");
        let port = wait_for("the browser", || {
            let text = std::fs::read_to_string(&port_file).ok()?;
            text.lines().next()?.parse::<u16>().ok()
        });
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the browser listens");
        write!(socket, "PUT /json/new HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")
            .expect("the browser reads");
        // It keeps the connection, whatever it is asked for.
        let mut answer = BufReader::new(socket);
        let head = Message::read_head(&mut answer).expect("the browser answers");
        let mut message = head.expect("a whole head");
        message.read_body(&mut answer).expect("a whole body");
        let target: Value = serde_json::from_slice(&message.body).expect("JSON");
        let address = target["webSocketDebuggerUrl"].as_str().expect("a page can be told");
        let (socket, _) = tungstenite::connect(address).expect("the page listens");
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(DEADLINE)).expect("an open socket takes options");
        }
        let mut page = Page { socket, calls: 0, loads: 0 };
        page.call("Page.enable", json!({}));
        page
    }
}

/// A page, and the person in front of it.
pub(crate) struct Page {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    calls: u64,
    /// Pages that were loaded.
    loads: u64,
}

impl Page {
    /// One command of the protocol, and what came of it.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let call = json!({ "id": self.calls, "method": method, "params": parameters });
        self.socket.send(Frame::text(call.to_string())).expect("the browser listens");
        loop {
            let answer = self.hear(method);
            if answer["id"] == call["id"] {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The next thing that the browser says.
    fn hear(&mut self, what: &str) -> Value {
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{what}: {error}"));
            let Frame::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).expect("the protocol is JSON");
            self.loads += u64::from(message["method"] == "Page.loadEventFired");
            return message;
        }
    }

    /// Waits until another page than the first `before` was loaded.
    fn loaded(&mut self, before: u64) {
        while self.loads == before {
            self.hear("a page that loads");
        }
    }

    /// Goes to `url`.
    pub(crate) fn go(&mut self, url: &str) {
        let before = self.loads;
        self.call("Page.navigate", json!({ "url": url }));
        self.loaded(before);
    }

    /// What `script` comes to in the page.
    #[track_caller]
    pub(crate) fn eval(&mut self, script: &str) -> Value {
        let parameters =
            json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// The text of what `selector` selects.
    #[track_caller]
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?})?.innerText"));
        text.as_str().unwrap_or_else(|| panic!("there is no {selector}")).to_owned()
    }

    /// Where it is, without the address of the server.
    pub(crate) fn path(&mut self) -> String {
        let path = self.eval("location.pathname + location.search");
        path.as_str().expect("a path is a text").to_owned()
    }

    /// Types `text` into the field that `selector` selects, in place of what is there.
    #[track_caller]
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        self.eval(&format!("document.querySelector({selector:?}).focus()"));
        self.eval(&format!("document.querySelector({selector:?}).select?.()"));
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Clicks on what `selector` selects, which does not lead away.
    #[track_caller]
    pub(crate) fn click(&mut self, selector: &str) {
        self.eval(&format!("document.querySelector({selector:?}).click()"));
    }

    /// Clicks on what `selector` selects, which leads to another page.
    #[track_caller]
    pub(crate) fn follow(&mut self, selector: &str) {
        let before = self.loads;
        self.click(selector);
        self.loaded(before);
    }

    /// Looks as a reader with these preferences sees it: `dark` or `light`, in a window of this width.
    pub(crate) fn look(&mut self, scheme: &str, width: u32) {
        let scheme = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": scheme }));
        let window =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", window);
    }

    /// Takes a picture of the whole page.
    pub(crate) fn picture(&mut self, file: &Path) {
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.call("Page.captureScreenshot", parameters);
        let picture = picture["data"].as_str().expect("a picture");
        let picture = BASE64_STANDARD.decode(picture).expect("base64");
        std::fs::write(file, picture).expect("the folder can be written");
    }
}
