//! What the upstream is told, and what a client cannot make it believe: identity headers in any spelling,
//! fields for one hop, forwarding fields, the request id, the host.

use crate::harness::keyward::get;
use crate::harness::{Actor, Message, Stage, Upstream, wait_for};

const ROUTES: &str = r#"
[[routes]]
path = "/public/{*rest}"
public = true
[[routes]]
path = "/{*rest}"
"#;

fn stage() -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| {
        setup.routes(ROUTES);
        setup.key("alice", "viewer")
    })
}

fn stage_that_trusts_loopback() -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| {
        setup.set("server", "trusted_proxies = [\"127.0.0.0/8\", \"::1/128\"]");
        setup.key("alice", "viewer")
    })
}

/// The value of every field whose name some server would read as `name`.
fn folded<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let fold = |name: &str| name.to_lowercase().replace(['_', '.'], "-");
    fields.iter().filter(|(n, _)| fold(n) == name).map(|(_, value)| value.as_str()).collect()
}

#[track_caller]
fn check_identity(received: &Message, actor: &Actor) {
    let told = [("x-auth-user", &actor.user), ("x-auth-role", &actor.role)];
    for (name, value) in told.into_iter().chain([("x-auth-key-id", &actor.id)]) {
        assert_eq!(folded(&received.fields, name), [value], "{}", received.head);
    }
}

#[track_caller]
fn check_anonymous(received: &Message) {
    for name in ["x-auth-user", "x-auth-role", "x-auth-key-id"] {
        assert_eq!(folded(&received.fields, name), [""; 0], "{}", received.head);
    }
}

const SPOOFS: [&str; 16] = [
    "X-Auth-User: root\r\n",
    "x-auth-user: root\r\nX-AUTH-USER: root\r\n",
    "X-Auth-User: \r\nX-Auth-User: root\r\n",
    "X_Auth_User: root\r\n",
    "x.auth.user: root\r\n",
    "X-Auth_User: root\r\n",
    "X.AUTH-user: root\r\n",
    "X_AUTH.USER: root\r\nx-auth_user: root\r\n",
    "X-Auth-Role: admin\r\nX_Auth_Role: admin\r\n",
    "x.auth_role: admin\r\n",
    "X-Auth-Key-Id: key_root\r\nX_Auth_Key_Id: key_root\r\nX-Auth-Key_Id: key_root\r\n",
    "x.auth.key.id: key_root\r\n",
    "Connection: X-Auth-User\r\nX-Auth-User: root\r\n",
    "Connection: x-auth-user, x-auth-role, x-auth-key-id\r\n",
    "Connection: x-auth-user\r\nConnection: close, X-Auth-Role\r\nX-Auth-Role: admin\r\n",
    "Connection: x_auth_user, x.auth.role\r\nX_Auth_User: root\r\n",
];

#[test]
fn identity_headers_of_the_client_never_arrive_and_ours_always_do() {
    let (stage, alice) = stage();
    for spoof in SPOOFS {
        for target in ["/x", "/public/x"] {
            let before = get(target, &(spoof.to_owned() + &alice.header()));
            check_identity(&stage.passes(before), &alice);
            let behind = get(target, &(alice.header() + spoof));
            check_identity(&stage.passes(behind), &alice);
        }
        check_anonymous(&stage.passes(get("/public/x", spoof)));
        stage.refuses(get("/x", spoof), 401, "missing_key");
    }
}

#[test]
fn identity_headers_have_the_names_the_configuration_gives_them() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        let names = "user = \"remote-user\"\nrole = \"remote-role\"\nkey_id = \"remote-key\"";
        setup.set("identity", names);
        setup.key("alice", "viewer")
    });
    let spoof = "Remote_User: root\r\nRemote.Role: admin\r\nX-Auth-User: not-ours-any-more\r\n";
    let received = stage.passes(get("/", &(alice.header() + spoof)));
    assert_eq!(folded(&received.fields, "remote-user"), ["alice"]);
    assert_eq!(folded(&received.fields, "remote-role"), ["viewer"]);
    assert_eq!(folded(&received.fields, "remote-key"), [&alice.id]);
    assert_eq!(received.field("x-auth-user"), Some("not-ours-any-more"));
}

#[test]
fn a_trailer_carries_neither_identity_nor_key_nor_framing() {
    let (stage, alice) = stage();
    let trailers = format!(
        "X-Auth-User: root\r\nX_Auth_Role: admin\r\nx.auth.key.id: key_root\r\n{}\
         Authorization: Bearer {}\r\nContent-Length: 3\r\nHost: evil\r\nX-Checksum: 42\r\n",
        alice.header(),
        alice.key,
    );
    for target in ["/x", "/public/x"] {
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\n{}Transfer-Encoding: chunked\r\n\
             Trailer: X-Checksum, X-Auth-User, X_Auth_Role, X.Auth.Key.Id, X-Api-Key, Authorization, Host\r\n\
             \r\n5\r\nhello\r\n0\r\n{trailers}\r\n",
            alice.header(),
        );
        let received = stage.passes(request);
        assert_eq!(received.text(), "hello");
        let expected = [("x-checksum".to_owned(), "42".to_owned())];
        let lower: Vec<_> =
            received.trailers.iter().map(|(n, v)| (n.to_lowercase(), v.clone())).collect();
        assert_eq!(lower, expected);
        check_identity(&received, &alice);
    }
}

#[test]
fn fields_for_one_hop_stay_on_their_hop() {
    let (stage, alice) = stage();
    let lines = "Connection: keep-alive, X-Hop, x-other\r\nConnection: X-Third\r\n\
                 X-Hop: 1\r\nX-Other: 2\r\nx-third: 3\r\nX-End: 4\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Connection: keep-alive\r\nTE: gzip\r\n";
    let received = stage.passes(get("/", &(alice.header() + lines)));
    for name in ["x-hop", "x-other", "x-third", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(received.field(name), None, "{name}: {}", received.head);
    }
    assert_eq!(received.field("x-end"), Some("4"));
    for value in received.fields("connection") {
        assert!(!value.to_lowercase().contains("x-"), "{}", received.head);
    }
}

#[test]
fn what_a_connection_field_names_cannot_undo_what_we_set_or_decide() {
    let (stage, alice) = stage();
    for name in ["x-forwarded-for", "x-request-id", "forwarded", "host", "x-api-key"] {
        let lines = format!("Connection: {name}\r\n{}", alice.header());
        let received = stage.passes(get("/", &lines));
        assert_eq!(received.fields("x-forwarded-for"), ["127.0.0.1"], "{name}");
        assert_eq!(received.fields("x-request-id").len(), 1, "{name}");
        assert_eq!(received.fields("host").len(), 1, "{name}");
    }
    let post = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 5\r\n{}\r\nhello",
        alice.header(),
    );
    assert_eq!(stage.passes(post).text(), "hello");
}

#[test]
fn a_connection_field_that_is_no_text_does_no_harm() {
    let (stage, alice) = stage();
    let mut request =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: \xff\xfe, x-auth-user\r\n".to_vec();
    request.extend(alice.header().as_bytes());
    request.extend(b"X-Auth-User: root\r\n\r\n");
    let answer = stage.kw.ask(&request);
    match answer.status() {
        200 => check_identity(&stage.app.only_request(), &alice),
        status => assert_eq!((status, stage.app.requests().len()), (400, 0), "{}", answer.head),
    }
    check_identity(&stage.passes(get("/alive", &alice.header())), &alice);
}

#[test]
fn te_trailers_passes_and_no_other_te() {
    let (stage, alice) = stage();
    for (sent, received) in [("trailers", Some("trailers")), ("gzip", None), ("gzip;q=0.5", None)] {
        let lines = format!("TE: {sent}\r\nConnection: TE\r\n{}", alice.header());
        assert_eq!(stage.passes(get("/", &lines)).field("te"), received, "{sent}");
    }
}

#[test]
fn fields_for_one_hop_of_the_upstream_do_not_reach_the_client() {
    let app = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Internal, keep-alive\r\nX-Internal: secret\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-Open: 1\r\nSet-Cookie: a=1\r\n\
         Set-Cookie: b=2\r\nX-Request-Id: theirs\r\nContent-Length: 2\r\n\r\nok",
    );
    let (stage, alice) = Stage::new(app, |setup| setup.key("alice", "viewer"));
    let answer = stage.kw.get("/", &alice);
    for name in ["x-internal", "keep-alive", "proxy-connection"] {
        assert_eq!(answer.field(name), None, "{}", answer.head);
    }
    assert_eq!(answer.field("x-open"), Some("1"));
    assert_eq!(answer.fields("set-cookie"), ["a=1", "b=2"]);
    let sent = stage.app.only_request();
    assert_eq!(answer.fields("x-request-id"), sent.fields("x-request-id"), "{}", answer.head);
}

const CLAIMS: &str = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n\
                      Forwarded: for=192.0.2.1;proto=https;host=evil\r\nX-Forwarded-Proto: https\r\n\
                      X-Forwarded-Host: evil\r\n";

#[test]
fn forwarding_fields_of_a_client_are_replaced_by_ours() {
    let (stage, alice) = stage();
    let aliases = "X_Forwarded_For: 192.0.2.3\r\nX.Forwarded.Proto: https\r\n";
    let lines = alice.header() + CLAIMS + aliases + "X-Forwarded-Uri: /evil\r\n";
    for lines in [lines.clone(), lines + "Connection: x-forwarded-for, forwarded\r\n"] {
        let received = stage.passes(get("/", &lines));
        assert_eq!(folded(&received.fields, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(folded(&received.fields, "x-forwarded-proto"), ["http"]);
        assert_eq!(folded(&received.fields, "x-forwarded-host"), ["app.example"]);
        let forwarded = received.fields("forwarded").join(", ");
        assert!(forwarded.to_lowercase().contains("for=127.0.0.1"), "{forwarded}");
        assert!(!received.head.contains("192.0.2."), "{}", received.head);
        assert!(!received.head.contains("evil"), "{}", received.head);
    }
}

#[test]
fn forwarding_fields_of_a_trusted_proxy_are_appended_to() {
    let (stage, alice) = stage_that_trusts_loopback();
    let received = stage.passes(get("/", &(alice.header() + CLAIMS)));
    let chain = received.fields("x-forwarded-for").join(", ");
    assert_eq!(chain, "192.0.2.1, 192.0.2.2, 127.0.0.1");
    let forwarded = received.fields("forwarded").join(", ").to_lowercase();
    assert!(forwarded.starts_with("for=192.0.2.1;"), "{forwarded}");
    assert!(forwarded.contains(", for=127.0.0.1"), "{forwarded}");
    assert_eq!(received.fields("x-forwarded-proto"), ["https"]);
    assert_eq!(received.fields("x-forwarded-host"), ["evil"]);
}

#[test]
fn every_request_has_an_id_of_its_own_that_client_and_upstream_both_see() {
    let (stage, alice) = stage();
    let mut ids = Vec::new();
    for _ in 0..10 {
        let lines = format!("X-Request-Id: chosen-by-the-client\r\n{}", alice.header());
        let answer = stage.kw.ask(get("/", &lines));
        let sent = stage.app.requests().pop().expect("the request has arrived");
        assert_eq!(answer.fields("x-request-id"), sent.fields("x-request-id"));
        ids.extend(answer.field("x-request-id").map(str::to_owned));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 10, "{ids:?}");
    assert!(!ids.iter().any(|id| id == "chosen-by-the-client"), "{ids:?}");
    let record = stage.kw.wait_for_record("the last request", |record| {
        ids.iter().any(|id| record["request_id"] == **id)
    });
    assert_eq!(record["status"], 200);
}

#[test]
fn a_request_id_is_kept_if_a_trusted_proxy_made_it_and_it_is_well_formed() {
    let (stage, alice) = stage_that_trusts_loopback();
    for (sent, is_kept) in [
        ("X-Request-Id: 4bf92f35-77b3.4da6_a3ce", true),
        ("X-Request-Id: one two", false),
        ("X-Request-Id: <script>alert(1)</script>", false),
        ("X-Request-Id:", false),
        ("X-Request-Id: one\r\nX-Request-Id: two", false),
        (&format!("X-Request-Id: {}", "x".repeat(2000)), false),
    ] {
        let received = stage.passes(get("/", &format!("{sent}\r\n{}", alice.header())));
        let ids = received.fields("x-request-id");
        assert_eq!(ids.len(), 1, "{}", received.head);
        assert_eq!(sent.ends_with(&format!(" {}", ids[0])), is_kept, "{sent}: {ids:?}");
    }
}

#[test]
fn a_missing_doubled_or_malformed_host_is_a_bad_request() {
    let (stage, alice) = stage();
    for lines in [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a/b\r\n",
        "Host: a@b\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: a:b\r\n",
        "Host: [::1\r\n",
        "Host: [::1]x\r\n",
        "Host: []\r\n",
        "Host: [a]\r\n",
        "Host: a\0\r\n",
        "Host: http://a\r\n",
    ] {
        for key in ["", &alice.header()] {
            let answer = stage.refuses(
                format!("GET /public/x HTTP/1.1\r\n{lines}{key}\r\n"),
                400,
                "bad_request",
            );
            assert_eq!(answer.fields("www-authenticate"), [""; 0]);
        }
    }
}

#[test]
fn a_well_formed_host_reaches_the_upstream_as_it_was_sent() {
    let (stage, alice) = stage();
    for host in
        ["a", "APP.example", "app.example:8080", "127.0.0.1", "[::1]", "[::1]:80", "a_b", "a."]
    {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{}\r\n", alice.header());
        assert_eq!(stage.passes(request).fields("host"), [host]);
    }
    let old = format!("GET / HTTP/1.0\r\n{}\r\n", alice.header());
    assert_eq!(stage.passes(old).fields("host").len(), 1);
}

#[test]
fn an_ordinary_field_arrives_as_it_was_sent() {
    let (stage, alice) = stage();
    let lines = "Cookie: a=1; b=\"2\"\r\nX-Empty:\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
                 Accept: */*;q=0.1\r\nX-Latin: \u{e9}\r\nX_Odd.Name: kept\r\n";
    let received = stage.passes(get("/", &(alice.header() + lines)));
    assert_eq!(received.fields("cookie"), ["a=1; b=\"2\""]);
    assert_eq!(received.fields("x-empty"), [""]);
    assert_eq!(received.fields("x-twice"), ["1", "2"]);
    assert_eq!(received.fields("accept"), ["*/*;q=0.1"]);
    assert_eq!(received.fields("x-latin"), ["\u{e9}"]);
    assert_eq!(received.fields("x_odd.name"), ["kept"]);
    assert_eq!(received.field("user-agent"), None, "nothing is added that the client did not say");
}

#[test]
fn expect_is_answered_only_once_the_request_is_authorized() {
    let (stage, alice) = stage();
    let head = |lines: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n{lines}\r\n"
        )
    };
    for (lines, status) in [("", 401), ("X-Api-Key: unknown-key\r\n", 401)] {
        let mut client = stage.kw.connect();
        client.send(head(lines));
        assert_eq!(client.answer().status(), status, "the first answer is the refusal");
    }
    assert_eq!(stage.app.requests().len(), 0);
    let mut client = stage.kw.connect();
    client.send(head(&alice.header()));
    assert_eq!(client.answer().status(), 100);
    client.send("hello");
    assert_eq!(client.answer().status(), 200);
    wait_for("the request upstream", || {
        stage.app.requests().pop().filter(|request| request.text() == "hello")
    });
    assert_eq!(stage.app.only_request().field("expect"), None);
}
