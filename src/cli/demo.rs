//! `keyward demo`: the newcomer's two minutes. A small upstream of ours, a configuration and two keys in a
//! temporary folder, the proxy in front, and lines to copy that show what it does.
//!
//! What is shown is real: the proxy, the key file and the commands are those of `serve` and `keys`.
//!
//! Never here: a key that opens anything else. They are made here and end with the folder.

mod echo;

use std::env;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anstyle::Style;

use crate::config::{self, Config};
use crate::core_dumps::Inherited;
use crate::identity::{Label, RoleName, UserName};
use echo::Echo;

use super::failure::Failure;
use super::making::{Made, Wanted, make};
use super::serve;

/// Where the demo serves unless it is told otherwise.
pub(super) const PORT: u16 = 8080;
/// Where its keys are managed, if it may choose.
const ADMIN_PORT: u16 = 9901;

/// Serves the demo on `preferred`, or on a free port if it is taken, until SIGINT or SIGTERM; then removes
/// its folder.
pub(super) fn run(preferred: u16, inherited: Inherited) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("keyward-demo-").tempdir()?;
    let path = folder.path().join("keyward.toml");
    let upstream = Echo::start()?;
    let admin = choose_address(if preferred == 0 { 0 } else { ADMIN_PORT });
    fs::write(&path, configuration(choose_address(preferred), admin, upstream.address()))?;
    let config = config::load(&path)?;
    let viewer = make_key(&config, "vera", "viewer", "Vera's dashboard")?;
    let admin = make_key(&config, "ada", "admin", "Ada's scripts")?;
    let app = serve::start(&path, inherited)?;
    let program = env::current_exe().unwrap_or_else(|_| PathBuf::from("keyward"));
    let scene = Scene {
        proxy: app.addresses()[0],
        managing: app.admin_address().expect("the configuration says where"),
        program,
        config: path,
        viewer,
        admin,
    };
    introduce(&mut anstream::stdout().lock(), preferred, &scene)?;
    app.run()?;
    folder.close()?;
    Ok(())
}

/// Makes a key as `keyward keys create` does.
fn make_key(config: &Config, user: &str, role: &str, label: &str) -> Result<Made, Failure> {
    let wanted = Wanted {
        label: Label::new(label).expect("the demo's labels are printable"),
        user: UserName::new(user).expect("the demo's users have plain names"),
        role: RoleName::new(role).expect("the demo's configuration declares it"),
        expires_at: None,
        scopes: None,
        limits: Default::default(),
    };
    Ok(make(config, wanted)?)
}

/// One line to copy, and what to look for in what it gives.
struct Step {
    promise: &'static str,
    command: String,
}

/// What the lines to copy speak of.
struct Scene {
    /// Where the proxy listens.
    proxy: SocketAddr,
    /// Where keys are managed.
    managing: SocketAddr,
    /// How to run this program from a shell.
    program: PathBuf,
    config: PathBuf,
    viewer: Made,
    admin: Made,
}

impl Scene {
    fn steps(&self) -> Vec<Step> {
        let curl = |key: Option<&Made>, more: &str, path: &str| {
            let field = key.map(|key| format!("-H 'x-api-key: {}' ", key.secret.expose()));
            format!("curl -i {}{more}http://{}{path}", field.unwrap_or_default(), self.proxy)
        };
        let disable = format!(
            "{} --config {} keys disable {} --reason 'shown in the demo'",
            Quoted(&self.program),
            Quoted(&self.config),
            self.viewer.record.id
        );
        let usage = format!(
            "curl -i -H 'Authorization: Bearer {}' http://{}/api/v1/keys/{}/usage",
            self.admin.secret.expose(),
            self.managing,
            self.viewer.record.id
        );
        let (viewer, admin) = (Some(&self.viewer), Some(&self.admin));
        let step = |promise, command| Step { promise, command };
        vec![
            step("Without a key → 401", curl(None, "", "/orders")),
            step(
                "The viewer's key → 200; the service sees who called, never the key",
                curl(viewer, "", "/orders"),
            ),
            step(
                "Claiming to be somebody else → 200; the service still sees vera",
                curl(viewer, "-H 'x-auth-user: root' ", "/orders"),
            ),
            step("The viewer where only an admin may go → 403", curl(viewer, "", "/admin/users")),
            step("The admin's key there → 200", curl(admin, "", "/admin/users")),
            step("A public path needs no key → 200", curl(None, "", "/health")),
            step("What the viewer's key is used for, as the admin may know → 200", usage),
            step("Disable the viewer's key while everything runs", disable),
            step("The viewer's key now → 401", curl(viewer, "", "/orders")),
            step("The admin's key goes on → 200", curl(admin, "", "/orders")),
        ]
    }
}

/// The file the demo serves with.
fn configuration(proxy: SocketAddr, admin: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        r#"# Made by `keyward demo`. Edit it while the demo runs: it is read again when it changes.
realm = "demo"

[server]
listen = ["{proxy}"]

[keys]
store = "keys.toml"

[roles.viewer]
[roles.admin]
inherits = ["viewer"]
admin = "all"

[admin]
listen = "{admin}"

[upstreams.app]
endpoints = ["http://{upstream}"]

[[routes]]
path = "/health"
public = true

[[routes]]
path = "/admin/{{*rest}}"
roles = ["admin"]

[[routes]]
path = "/{{*rest}}"
roles = ["viewer"]
"#
    )
}

/// The address to listen on: `preferred`, or port 0 (any free one) when somebody else listens there.
fn choose_address(preferred: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, preferred));
    let is_free = TcpListener::bind(address).is_ok();
    SocketAddr::from((Ipv4Addr::LOCALHOST, if is_free { preferred } else { 0 }))
}

/// Writes what is served and the lines to copy.
fn introduce(out: &mut impl Write, preferred: u16, scene: &Scene) -> io::Result<()> {
    let (strong, quiet) = (Style::new().bold(), Style::new().dimmed());
    let proxy = scene.proxy;
    if preferred != 0 && proxy.port() != preferred {
        writeln!(out, "Port {preferred} is taken; using {} instead.\n", proxy.port())?;
    }
    writeln!(out, "{strong}Keyward serves http://{proxy}{strong:#}")?;
    writeln!(out, "in front of a small service that answers with what it received.")?;
    writeln!(out, "Keys are managed on http://{}, with the admin's key.", scene.managing)?;
    writeln!(out, "Configuration and keys: {}\n", scene.config.display())?;
    writeln!(out, "Copy these lines into another shell, one by one:\n")?;
    for Step { promise, command } in scene.steps() {
        writeln!(out, "{quiet}# {promise}{quiet:#}\n{command}\n")?;
    }
    writeln!(out, "Ctrl-C ends the demo and removes its folder. The access log follows.\n")?;
    out.flush()
}

/// A path as a word of a POSIX shell: plain when it can be, else in single quotes.
struct Quoted<'a>(&'a Path);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
        if !text.is_empty() && text.chars().all(is_plain) {
            f.write_str(&text)
        } else {
            write!(f, "'{}'", text.replace('\'', r"'\''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_the_shell() {
        let check = |path: &str, expect: &str| {
            assert_eq!(Quoted(Path::new(path)).to_string(), expect);
        };
        check("/usr/bin/keyward", "/usr/bin/keyward");
        check("/home/a b/keyward", "'/home/a b/keyward'");
        check("/tmp/$HOME", "'/tmp/$HOME'");
        check("it's", r"'it'\''s'");
        check("", "''");
    }
}
