//! What is refused in `[server]`, `[keys]`, `[auth]`, `[identity]` and `[log]`.

use super::check;

#[test]
fn realm() {
    for realm in [r#""a\"b""#, r"'a\b'", "'é'", "''", r#""a\nb""#] {
        check(&format!("realm = {realm}"), &["1:9: the realm "]);
    }
    check(&format!("realm = '{}'", "x".repeat(129)), &["1:9: the realm is too long"]);
}

#[test]
fn listen() {
    for (address, help) in [
        (":8080", r#"write "127.0.0.1:8080" for this machine only, or "0.0.0.0:8080" or "#),
        ("8080", r#"write "127.0.0.1:8080" for this machine only"#),
        ("*:81", r#"write "127.0.0.1:81" for this machine only"#),
        ("localhost:8080", r#"write "127.0.0.1:8080""#),
        ("127.0.0.1", r#"add the port: "127.0.0.1:8080""#),
        ("::1", r#"add the port: "[::1]:8080""#),
        ("127.0.0.1:99999", "write an address and a port"),
        ("", "write an address and a port"),
    ] {
        let expected = format!("1:18: {address:?} is no address to listen on; {help}");
        check(&format!("server.listen = ['{address}']"), &[&expected]);
    }
    check("server.listen = []", &["1:17: there is no address to listen on; write ["]);
    check(
        "server.listen = ['[::1]:80', '[0:0::1]:80', '[::1]:0', '[::1]:0']",
        &[r#"1:30: "[0:0::1]:80" is listed twice"#],
    );
}

#[test]
fn trusted_proxies() {
    check(
        "server.trusted_proxies = ['10.1.2.3/8', '10.0.0.0/33', 'proxy']",
        &[
            r#"1:27: "10.1.2.3/8" has bits beyond its prefix; write "10.0.0.0/8" for the network, or "10.1.2.3""#,
            r#"1:41: "10.0.0.0/33" is no network"#,
            r#"1:56: "proxy" is no network"#,
        ],
    );
    check("server.proxy_protocol = true", &["1:25: nobody is trusted to send a PROXY header"]);
    check("server.trusted_proxies = ['10.0.0.0/8']\nserver.proxy_protocol = true", &[]);
    check("server.trusted_proxies = ['::/0']", &["1:27: warning: everybody's Forwarded"]);
}

#[test]
fn numbers_at_their_edges() {
    for (field, good, bad) in [
        ("server.workers", vec!["1", "1024"], vec!["0", "-1", "1025"]),
        ("server.limits.connections", vec!["1", "1000000"], vec!["0", "1000001"]),
        ("server.limits.connections_per_client", vec!["1", "1000000"], vec!["0", "1000001"]),
        ("server.limits.tunnels", vec!["1", "1000000"], vec!["0", "1000001"]),
        (
            "server.limits.header_bytes",
            vec!["8192", "1048576", "'8KiB'", "'1MiB'"],
            vec!["8191", "1048577", "'8KB'", "'2MiB'"],
        ),
        ("server.limits.headers", vec!["16", "1000"], vec!["15", "1001"]),
        ("server.limits.body_bytes", vec!["0", "9223372036854775807", "'0'"], vec!["-1", "'9EiB'"]),
        (
            "server.limits.request_body_min_rate",
            vec!["0", "'500B/s'", "'1KiB'", "'1GiB/s'"],
            vec!["-1", "'2GiB/s'"],
        ),
        ("server.limits.response_body_min_rate", vec!["0", "1073741824"], vec!["1073741825"]),
        ("server.limits.h2_streams", vec!["1", "10000"], vec!["0", "10001"]),
        ("server.limits.upstream_idle", vec!["0", "65536"], vec!["-1", "65537"]),
    ] {
        for value in good {
            check(&format!("{field} = {value}"), &[]);
        }
        for value in bad {
            let column = field.len() + 4;
            let expected = format!("1:{column}: this number is too ");
            check(&format!("{field} = {value}"), &[&expected]);
        }
    }
    check("server.limits.body_bytes = '8 foo'", &[r#"1:28: "8 foo" is no size; write"#]);
    let expected = r#"1:39: "8 B/h" is no rate; write a number and a unit: "500B/s""#;
    check("server.limits.request_body_min_rate = '8 B/h'", &[expected]);
}

#[test]
fn durations_at_their_edges() {
    for (field, good, bad) in [
        ("tls_handshake", ["10ms", "5m"], ["9ms", "301s"]),
        ("request_header", ["10ms", "10m"], ["9ms", "601s"]),
        ("request_body_idle", ["10ms", "1h"], ["9ms", "3601s"]),
        ("response_body_idle", ["10ms", "1h"], ["9ms", "3601s"]),
        ("keep_alive", ["10ms", "1day"], ["9ms", "25h"]),
        ("request", ["10ms", "7days"], ["9ms", "8days"]),
        ("upstream_connect", ["10ms", "5m"], ["9ms", "301s"]),
        ("upstream_response", ["10ms", "1day"], ["9ms", "25h"]),
        ("upstream_body_idle", ["10ms", "1day"], ["9ms", "25h"]),
        ("upstream_keep_alive", ["10ms", "1day"], ["9ms", "25h"]),
        ("tunnel_idle", ["10ms", "1day"], ["9ms", "25h"]),
        ("shutdown", ["0s", "1h"], ["61m", "2h"]),
        ("takeover", ["0s", "7days"], ["8days", "9days"]),
    ] {
        for value in good {
            check(&format!("server.timeouts.{field} = '{value}'"), &[]);
        }
        for value in bad {
            let column = field.len() + 20;
            let expected = format!("1:{column}: {value:?} is too short or too long; write a dur");
            check(&format!("server.timeouts.{field} = '{value}'"), &[&expected]);
        }
    }
    for value in ["30", "", "-1s", "soon"] {
        let expected = format!("1:28: {value:?} is no duration; write a number and a unit");
        check(&format!("server.timeouts.shutdown = '{value}'"), &[&expected]);
    }
}

#[test]
fn keys() {
    let literal = ["2:10: a pepper must not stand in a file; take it from the environment"];
    check("[keys]\npepper = 'literal and long enough'", &literal);
    check("[keys]\npepper = 'x${PEPPER}'", &literal);
    check(
        "[keys]\npepper = '${SHORT}'",
        &["2:10: the pepper in ${SHORT} is shorter than 16 bytes; set it to random"],
    );
    check("[keys]\npepper = 12345", &["2:10: this must be a string"]);
    check("[keys]\nstore = ''", &[r#"2:9: "" is no path"#]);
    for prefix in ["", "Kw", "k_w", "kkkkkkkkkkkkkkkkk"] {
        check(&format!("keys.prefix = '{prefix}'"), &[&format!("1:15: the prefix {prefix:?} ")]);
    }
}

#[test]
fn key_sources() {
    check("auth.key_sources = []", &["1:20: there is no place for a key"]);
    check(
        "auth.key_sources = [{}, {header='a', query='b'}, {query='a', scheme='b'}, {header='a b'}]",
        &[
            "1:21: this key source names neither",
            "1:25: a key source is a header or a query parameter, not both",
            "1:69: a query parameter has no scheme",
            r#"1:83: "a b" cannot name a header"#,
            "1:57: warning: keys in a query end up in logs",
        ],
    );
    check(
        "auth.key_sources = [{header='a', scheme='x y'}, {header='Host'}, {query='a&b'}]",
        &[
            r#"1:41: "x y" is no authentication scheme"#,
            r#"1:57: a key cannot come in the header "Host""#,
            r#"1:73: "a&b" cannot name a query parameter"#,
        ],
    );
    check(
        "auth.key_sources = [{header='A', scheme='x'}, {header='a', scheme='X'}, {header='a'}]",
        &["1:47: this key source is listed twice"],
    );
}

#[test]
fn auth() {
    check("auth.hide_credentials = false", &["1:25: warning: the upstreams receive the keys"]);
    check(
        "auth.preflight = 'forwad'",
        &[r#"1:18: "forwad" is no choice here; did you mean "forward"?"#],
    );
    check("auth.preflight = 'x'", &[r#"1:18: "x" is no choice here; write "forward" or "refuse""#]);
    check("auth.failures = 'off'", &[]);
    check(
        "auth.failures = 'on'",
        &[r#"1:17: "on" is no choice here; write "off", or a table such as { limit = 20 }"#],
    );
    check(
        "auth.failures = 20",
        &[r#"1:17: this must be "off", or a table such as { limit = 20 }"#],
    );
    check(
        "auth.failures = { limit = 0, window = '0s', ban = 'x', addresses = 1, bann = 1 }",
        &[
            "1:27: this number is too small; write a number from 1 to 1000000",
            "1:39: \"0s\" is too short or too long",
            "1:51: \"x\" is no duration",
            "1:68: this number is too small; write a number from 1024 to 1000000",
            r#"1:71: unknown field "bann" in [auth.failures]; did you mean "ban"?"#,
        ],
    );
}

#[test]
fn identity() {
    for name in ["Connection", "transfer_encoding", "host", "X.Request.Id", "x-forwarded-foo"] {
        let expected = format!("1:17: the header {name:?} has another meaning");
        check(&format!("identity.user = '{name}'"), &[&expected]);
    }
    for name in ["x_api_key", "Authorization"] {
        let expected = format!("1:17: the header {name:?} is one that keys come in");
        check(&format!("identity.role = '{name}'"), &[&expected]);
    }
    check("identity.user = 'a:b'", &[r#"1:17: "a:b" cannot name a header"#]);
    check(
        "identity.user = 'X_Auth.Key-Id'",
        &[r#"1:17: "user" and "key_id" would go into the same header"#],
    );
    check(
        "identity = { user = 'a-b', role = 'a_b', key_id = 'x' }",
        &[r#"1:35: "user" and "role" would go into the same header"#],
    );
}

#[test]
fn log() {
    check(
        "log.access = 'stdot'",
        &[r#"1:14: "stdot" is probably meant to be "stdout"; write "stdout"; a file"#],
    );
    check("log.access = 'OFF'", &[r#"1:14: "OFF" is probably meant to be "off""#]);
    check("log.access = 'keys.toml'", &["1:14: the log would be written into a file"]);
    check("log.access = 'keyward.toml'", &["1:14: the log would be written into a file"]);
    check("log.access = 'keys.audit.jsonl'", &["1:14: the log would be written into a file"]);
    check("audit.file = 'keys.toml'", &["1:14: the audit log would be written into a file"]);
    check("log.format = 'xml'", &[r#"1:14: "xml" is no choice here; write "auto" or "json" or"#]);
    check("log.on_overflow = 'x'", &[r#"1:19: "x" is no choice here; write "block" or "drop""#]);
}
