//! What `[server.tls]`, `[server.redirect]` and `client_subject` mean, and what of them is refused.

use std::path::Path;

use super::{check, good};
use crate::config::{TlsVersion, UpstreamTls};

const PAIR: &str = "[server.tls]\ncertificate = 'a.pem'\nprivate_key = 'a.key'\n";

#[test]
fn what_is_written_arrives() {
    let server = good(&format!(
        "{PAIR}client_ca = '/ca.pem'\nclient_certificates = 'optional'\nmin_version = '1.3'\n\
         [[server.tls.certificates]]\ncertificate = '/b.pem'\nprivate_key = '${{HOST}}/b.key'\n\
         [server.redirect]\nlisten = ['0.0.0.0:80']\nport = 8443\n\
         [[routes]]\npath = '/'\nclient_subject = ['billing', 'urn:x']\n"
    ));
    let rule = &server.routes.routes()[0].rules()[0];
    assert_eq!(rule.client_subjects, ["billing", "urn:x"]);
    let redirect = server.server.redirect.expect("it is written");
    assert_eq!((redirect.listen[0].port(), redirect.port), (80, 8443));
    let tls = server.server.tls.expect("it is written");
    assert_eq!(tls.min_version, TlsVersion::V1_3);
    assert!(tls.clients.as_ref().is_some_and(|clients| !clients.are_required));
    let files: Vec<_> = tls.files().collect();
    let expected = ["etc/a.pem", "etc/a.key", "/b.pem", "etc/10.1.2.3/b.key", "/ca.pem"];
    assert_eq!(files, expected.map(Path::new));
}

#[test]
fn what_is_left_out_has_a_default() {
    assert!(good("").server.tls.is_none());
    let tls = good(&format!("{PAIR}client_ca = 'ca.pem'")).server.tls.expect("it is written");
    assert_eq!((tls.pairs.len(), tls.min_version), (1, TlsVersion::V1_2));
    assert!(tls.clients.is_some_and(|clients| clients.are_required));
}

#[test]
fn a_pair_is_two_files() {
    check(
        "[server.tls]",
        &["1:1: there is no certificate; write certificate = ", "1:1: there is no private_key"],
    );
    check(
        &format!("{PAIR}[[server.tls.certificates]]\ncertificate = 'b.pem'\nkey = 'b.key'"),
        &[
            "4:1: there is no private_key",
            r#"6:1: unknown field "key" in [server.tls.certificates]"#,
        ],
    );
}

#[test]
fn a_key_in_the_place_of_its_file_is_not_shown() {
    for key in
        ["'-----BEGIN PRIVATE KEY-----'", "\"\"\"\n-----BEGIN EC PRIVATE KEY-----\nMII\n\"\"\""]
    {
        check(
            &format!("[server.tls]\ncertificate = 'a.pem'\nprivate_key = {key}"),
            &["3:15: this is no name of a file, but what belongs into one; put it into a file"],
        );
    }
}

#[test]
fn clients_are_vouched_for() {
    check(
        &format!("{PAIR}client_certificates = 'optional'"),
        &["4:23: nobody vouches for the certificates of clients; write client_ca"],
    );
    check(
        &format!("{PAIR}client_ca = 'ca.pem'\nclient_certificates = 'yes'\nmin_version = '1.1'"),
        &[
            r#"5:23: "yes" is no choice here; write "required" or "optional""#,
            r#"6:15: "1.1" is no choice here; "#,
        ],
    );
    for tls in ["", PAIR] {
        let line = 3 + tls.lines().count();
        check(
            &format!("{tls}[[routes]]\npath = '/'\nclient_subject = ['billing']"),
            &[&format!("{line}:18: no client shows a certificate, so none could pass; write")],
        );
    }
    check(
        &format!("{PAIR}client_ca = 'ca.pem'\n[[routes]]\npath = '/'\nclient_subject = []"),
        &["7:18: no client may pass this route; name some"],
    );
}

#[test]
fn tls_to_endpoints() {
    let config = good(
        "[upstreams.a]\nendpoints = ['https://a', 'https://[::1]:8443', 'http://a']\n\
         [upstreams.a.tls]\nca = 'ca.pem'\nserver_name = 'app.internal'\n\
         certificate = 'c.pem'\nprivate_key = '/c.key'\n\
         [upstreams.b]\nendpoints = ['https://b']\n[upstreams.c]\nendpoints = ['http://c']\n\
         [[routes]]\npath = '/'\nupstream = 'a'",
    );
    let [a, b, c] = &config.upstreams[..] else { panic!("three upstreams") };
    let shown: Vec<_> = a.endpoints.iter().map(|one| one.address.to_string()).collect();
    assert_eq!(shown, ["https://a:443", "https://[::1]:8443", "http://a:80"]);
    assert_eq!(a.tls.as_ref().and_then(|tls| tls.server_name.as_deref()), Some("app.internal"));
    let files: Vec<_> = config.tls_files().collect();
    assert_eq!(files, ["etc/ca.pem", "etc/c.pem", "/c.key"].map(Path::new));
    assert_eq!(b.tls, Some(UpstreamTls::default()));
    assert_eq!(c.tls, None);
}

#[test]
fn tls_to_endpoints_is_whole_and_meant() {
    let upstream = "[upstreams.a]\nendpoints = ['https://a']\n[upstreams.a.tls]\n";
    check(
        &format!("{upstream}certificate = 'c.pem'\nserver_name = 'a/b'\ninsecure = true"),
        &[
            "3:1: there is no private_key; write private_key = ",
            r#"5:15: "a/b" is no name that a certificate could be for; write a host"#,
            r#"6:1: unknown field "insecure" in [upstreams.a.tls]"#,
        ],
    );
    for endpoint in ["http://a", "unix:/run/a.sock"] {
        check(
            &format!("[upstreams.a]\nendpoints = ['{endpoint}']\n[upstreams.a.tls]\nca = 'a.pem'"),
            &[r#"3:1: TLS is spoken to no endpoint of the upstream "a"; write "https://HOST" for"#],
        );
    }
    check(
        &format!("{upstream}ca = 'ca.pem'\n[log]\naccess = 'ca.pem'"),
        &["6:10: the log would be written into a file that keyward reads"],
    );
    check(
        "[upstreams.a]\nendpoints = ['http://a']\nproxy_protocol = 'v3'",
        &[r#"3:18: "v3" is no choice here"#],
    );
}

#[test]
fn redirect() {
    check(
        "[server.redirect]\nlisten = ['0.0.0.0:80']",
        &["1:1: there is no https to redirect to; write [server.tls]"],
    );
    check(
        &format!("{PAIR}[server.redirect]"),
        &["4:1: it is not said where plain HTTP is to be redirected; write listen"],
    );
    check(
        &format!("{PAIR}[server.redirect]\nlisten = ['127.0.0.1:8080', ':80']\nport = 0"),
        &[
            r#"5:11: "127.0.0.1:8080" is listed twice"#,
            r#"5:29: ":80" is no address to listen on"#,
            "6:8: this number is too small",
        ],
    );
}

#[test]
fn the_log_is_not_written_into_a_certificate() {
    check(
        &format!("{PAIR}[log]\naccess = 'a.key'"),
        &["5:10: the log would be written into a file that keyward reads"],
    );
}
