//! What is refused in `[roles]`, `[upstreams]` and `[[routes]]`.

use super::{check, good};
use crate::upstream::settings::{Address, Balance, Host, Limits, Settings, WhenNoneIsUp};

#[test]
fn roles() {
    check(
        "[roles.viewer]\n[roles.author]\ninherits = ['viewr', 'x']\nadmin = 'me'",
        &[
            r#"3:13: no role is called "viewr"; did you mean "viewer"? If not, declare it"#,
            r#"3:22: no role is called "x"; write one of: author, viewer; or declare it"#,
            r#"4:9: "me" is no choice here; write "own" or "all""#,
        ],
    );
    check(
        "[roles.a]\ninherits = ['b']\n[roles.b]\ninherits = ['a']\n[roles.c]\ninherits = ['a']",
        &[
            r#"1:8: the role "a" inherits, over some steps, from itself"#,
            r#"3:8: the role "b" inherits, over some steps, from itself"#,
        ],
    );
    check(
        "[roles.'a b']\n[roles.c]\ninherits = ['a b']\n[[routes]]\npath = '/'\nroles = ['a b']",
        &[r#"1:8: the role name "a b" holds ' '"#],
    );
    let many: String = (0..129).map(|i| format!("[roles.r{i}]\n")).collect();
    check(
        &format!("{many}[[routes]]\npath = '/'\nroles = ['r0', 'r9']"),
        &["1:2: there are 129 roles; declare 128"],
    );
}

#[test]
fn limits_of_requests() {
    let config = good(
        "[roles.viewer]\nlimits = { rate = '100/s', burst = 200, concurrent = 16, daily = 10000 }\n\
         [upstreams.app]\nendpoints = ['http://a']\n[[routes]]\npath = '/'\nlimits.rate = '30/m'",
    );
    let role = config.roles.find("viewer").expect("it is declared");
    assert_eq!(role.limits().to_string(), "100/s, 200 at once, 16 in flight, 10000 a day");
    let quota = config.routes.routes()[0].rules()[0].quota.as_ref().expect("it is limited");
    assert_eq!(quota.limits().to_string(), "30/m, 1 at once");
    check(
        "[roles.a]\nlimits = { rate = 'fast', burst = 0, concurent = 1, daily = -1 }\n\
         [roles.b]\nlimits = {}\n[[routes]]\npath = '/'\nlimits = { burst = 5 }",
        &[
            r#"2:19: "fast" is no rate; write a number from 1 to 1000000 and a unit: "100/s""#,
            "2:35: this number is too small; write a number from 1 to 1000000",
            r#"2:38: unknown field "concurent" in [roles.a.limits]; did you mean "concurrent"?"#,
            "2:61: this number is too small; write a number from 1 to 1000000000000",
            "4:10: these limits limit nothing; write rate, concurrent or daily, or remove limits",
            r#"7:20: a burst without a rate limits nothing; write rate = "100/s", say, beside it"#,
        ],
    );
}

#[test]
fn upstreams() {
    check(
        "# no upstreams",
        &["there is no upstream to forward requests to; write [upstreams.app] and below it"],
    );
    check("[upstreams]", &["1:1: there is no upstream to forward requests to"]);
    check("[upstreams.a]", &[r#"1:1: the upstream "a" has no endpoint; write endpoints = ["#]);
    check("upstreams.a.endpoints = []", &["1:25: there is no endpoint; write ["]);
    check("[upstreams.'a b']\nendpoints = ['http://a']", &[r#"1:12: "a b" cannot name an ups"#]);
    check(
        "upstreams.a.endpoints = ['http://a', 'http://b', 'http://a:80']",
        &[r#"1:50: "http://a:80" is listed twice"#],
    );
}

#[test]
fn endpoints_with_weights() {
    let config = good(
        "upstreams.a = { endpoints = ['http://a', { url = 'http://b', weight = 3 }], \
         balance = 'least_request' }",
    );
    let [upstream] = &config.upstreams[..] else { panic!("one upstream") };
    let weights: Vec<u32> = upstream.endpoints.iter().map(|endpoint| endpoint.weight).collect();
    assert_eq!(weights, [1, 3]);
    assert_eq!(upstream.settings.balance, Balance::LeastRequest);
    check(
        "[upstreams.a]\nendpoints = [1, {}, { url = 'http://a', weight = 0 }, { url = 'b' },\n\
         { url = 'http://c', weigth = 1, weight = 101 }]\nbalance = 'roundrobin'",
        &[
            "2:14: this must be a string such as",
            "2:17: this endpoint does not say where it is; write url = ",
            "2:50: this number is too small; write a number from 1 to 100",
            r#"2:63: "b" does not begin with http:// or https://; write "http://b""#,
            r#"3:21: unknown field "weigth" in [upstreams.endpoints]; did you mean "weight"?"#,
            "3:42: this number is too large",
            r#"4:11: "roundrobin" is no choice here; did you mean "round_robin"?"#,
        ],
    );
}

#[test]
fn how_endpoints_are_used() {
    let config = good(
        "[upstreams.a]\nendpoints = ['http://a']\nslow_start = '0s'\nwhen_none_is_up = 'refuse'\n\
         ejection = { after = 0, back_off = '2m' }\nretries = { attempts = 1, budget_min = 0 }",
    );
    let Settings { when_none_is_up, slow_start, ejection, retries, .. } =
        &config.upstreams[0].settings;
    assert_eq!((*when_none_is_up, slow_start.as_secs()), (WhenNoneIsUp::Refuse, 0));
    assert_eq!((ejection.after, ejection.max_back_off.as_secs()), (0, 120));
    assert_eq!((retries.attempts, retries.budget_percent, retries.budget_min), (1, 20, 0));
    check(
        "[upstreams.a]\nendpoints = ['http://a']\nslow_start = '11m'\nwhen_none_is_up = 'ask'\n\
         dns_refresh = '999ms'\n[upstreams.a.ejection]\nafter = 1001\nback_off = '2s'\nmax_back_off = '1s'\nfor = 1\n\
         [upstreams.a.retries]\nattempts = 0\nbudget_percent = 101\nbudget_min = -1",
        &[
            r#"3:14: "11m" is too short or too long; write a duration from 0s to 10m"#,
            r#"4:19: "ask" is no choice here; write "try" or "refuse""#,
            "5:15: \"999ms\" is too short or too long; write a duration from 1s to 1day",
            "7:9: this number is too large; write a number from 0 to 1000",
            "9:16: the longest back-off is shorter than the first; write 2s or more",
            r#"10:1: unknown field "for" in [upstreams.a.ejection]; write one of: after, "#,
            "12:12: this number is too small; write a number from 1 to 10",
            "13:18: this number is too large; write a number from 0 to 100",
            "14:14: this number is too small",
        ],
    );
}

#[test]
fn how_much_may_be_asked_of_an_upstream() {
    let limits = |lines: &str| {
        let config = good(&format!("[upstreams.a]\nendpoints = ['http://a']\n{lines}"));
        let Limits { connections, pending, in_flight } = config.upstreams[0].settings.limits;
        (connections, pending, in_flight)
    };
    assert_eq!(limits(""), (None, 100, None));
    let lines = "max_connections = 1\nmax_pending = 0\nmax_in_flight = 1000000";
    assert_eq!(limits(lines), (Some(1), 0, Some(1_000_000)));
    check(
        "[upstreams.a]\nendpoints = ['http://a']\nmax_connections = 0\nmax_pending = -1\n\
         max_in_flight = 1000001",
        &[
            "3:19: this number is too small; write a number from 1 to 1000000",
            "4:15: this number is too small; write a number from 0 to 1000000",
            "5:17: this number is too large",
        ],
    );
}

#[test]
fn unix_sockets() {
    let path = |socket: &str| {
        let config = good(&format!("upstreams.a.endpoints = ['unix:{socket}']"));
        config.upstreams[0].endpoints[0].address.clone()
    };
    assert_eq!(path("/run/app.sock"), Address::Unix("/run/app.sock".into()));
    assert_eq!(path("app.sock"), Address::Unix("etc/app.sock".into()));
    path(&format!("/{}", "a".repeat(106)));
    let long = format!("/{}", "a".repeat(107));
    check(
        &format!("upstreams.a.endpoints = ['unix:{long}', 'unix:/x', 'unix:/x']"),
        &[
            &format!("1:26: \"unix:{long}\" names no Unix socket"),
            r#"1:154: "unix:/x" is listed twice"#,
        ],
    );
}

#[test]
fn what_an_endpoint_is_told_as_host() {
    let host = |host: &str| {
        let config =
            good(&format!("upstreams.a = {{ endpoints = ['http://a'], host = '{host}' }}"));
        config.upstreams[0].settings.host.clone()
    };
    assert_eq!((host("keep"), host("endpoint")), (Host::Keep, Host::Endpoint));
    for literal in ["app.example", "app.example:8080", "[::1]:80"] {
        assert_eq!(host(literal), Host::Literal(literal.parse().expect("a value")));
    }
    for wrong in ["", "a b", "http://a", "a/b", "me@a"] {
        check(
            &format!("upstreams.a = {{ endpoints = ['http://a'], host = '{wrong}' }}"),
            &[&format!("1:50: {wrong:?} cannot stand in Host; write \"keep\", \"endpoint\", or")],
        );
    }
}

#[test]
fn health_checks() {
    let config = good("upstreams.a = { endpoints = ['http://a'], health = { path = '/up?a=b' } }");
    let health = config.upstreams[0].settings.health.as_ref().expect("the section is there");
    assert_eq!(
        (&*health.path, health.interval.as_secs(), health.timeout.as_secs()),
        ("/up?a=b", 5, 2)
    );
    assert_eq!((health.healthy_after, health.unhealthy_after), (2, 3));
    assert_eq!(good("").upstreams[0].settings.health, None);
    for path in ["up", "", "/a b", "/a#b", "http://a/", "/\u{e9}"] {
        check(
            &format!("upstreams.a = {{ endpoints = ['http://a'], health.path = '{path}' }}"),
            &[&format!("1:57: {path:?} cannot be asked for; write a path such as")],
        );
    }
    check(
        "[upstreams.a]\nendpoints = ['http://a']\n[upstreams.a.health]\ninterval = '1ms'\n\
         timeout = '6m'\nhealthy_after = 0\nunhealthy_after = 101\nurl = '/'",
        &[
            "3:1: it is not said what the health checks ask for; write path = ",
            "4:12: ",
            "5:11: ",
            "6:17: this number is too small; write a number from 1 to 100",
            "7:19: this number is too large",
            r#"8:1: unknown field "url" in [upstreams.a.health]"#,
        ],
    );
}

#[test]
fn endpoints() {
    for (endpoint, message) in [
        (
            "127.0.0.1:3000",
            r#""127.0.0.1:3000" does not begin with http:// or https://; write "http://127"#,
        ),
        (
            "localhost",
            r#""localhost" does not begin with http:// or https://; write "http://localhost""#,
        ),
        ("ftp://a", r#""ftp://a" does not begin with http:// or https://; write "http://HOST""#),
        ("https://u:p@a", "an endpoint takes no user and password"),
        ("https://a/", r#""https://a/" says more than host and port"#),
        ("/run/a", r#""/run/a" names no Unix socket; write "unix:/run/app.sock""#),
        ("unix:", r#""unix:" names no Unix socket"#),
        ("unix:///run/a", r#""unix:///run/a" names no Unix socket"#),
        ("http://u:p@a", "an endpoint takes no user and password"),
        ("u:p@a", "an endpoint takes no user and password"),
        ("http://a/", r#""http://a/" says more than host and port"#),
        ("http://a?b", r#""http://a?b" says more than host and port"#),
        ("http://a#b", r#""http://a#b" says more than host and port"#),
        ("http://", r#""http://" names no host"#),
        ("http://:80", r#""http://:80" names no host"#),
        ("http://a..b", r#""http://a..b" names no host"#),
        ("http://a b", r#""http://a b" names no host"#),
        ("http://127.0.0.300", r#""http://127.0.0.300" names no host"#),
        ("http://0x7f.1", r#""http://0x7f.1" names no host"#),
        ("http://[::1", r#""http://[::1" names no host"#),
        ("http://[a]", r#""http://[a]" names no host"#),
        ("http://::1", r#""http://::1" names no host"#),
        ("http://[::1]80", r#""http://[::1]80" names no host"#),
        ("http://a:0", r#""http://a:0" has no port from 1 to 65535"#),
        ("http://a:+80", r#""http://a:+80" has no port from 1 to 65535"#),
        ("http://a:65536", r#""http://a:65536" has no port from 1 to 65535"#),
        ("http://a:", r#""http://a:" has no port from 1 to 65535"#),
    ] {
        let expected = format!("1:26: {message}");
        check(&format!("upstreams.a.endpoints = ['{endpoint}']"), &[&expected]);
    }
}

#[test]
fn routes() {
    check(
        "[roles.viewer]\n[[routes]]\nmethods = []\nroles = []\n[[routes]]\npath = 'x'\npublic = true\n\
         roles = ['viewer']\nupstream = 'ap'\n",
        &[
            "2:1: this route has no path",
            "3:11: this route is for no method",
            "4:9: no role may pass this route",
            r#"6:8: "x" cannot be the path of a route; the pattern does not begin with '/'"#,
            "8:9: a public route lets everybody pass",
            r#"9:12: no upstream is called "ap"; did you mean "app"?"#,
        ],
    );
    check(
        "[[routes]]\npath = '/'\nroles = ['viewer']\nambiguous_paths = 'yes'",
        &[
            r#"3:10: no role is called "viewer"; declare it: a line [roles.NAME] is enough"#,
            r#"4:19: "yes" is no choice here; write "allow" or "refuse""#,
        ],
    );
}

#[test]
fn methods() {
    check(
        "[[routes]]\npath = '/'\nmethods = ['get', 'CONNECT', 'TRACE', 'A B', '', 'PUT', 'PUT', 'purge']",
        &[
            r#"3:12: "get" is not GET: the case of a method counts; write "GET""#,
            r#"3:19: "CONNECT" is never forwarded"#,
            r#"3:30: "TRACE" is never forwarded"#,
            r#"3:39: "A B" is no method"#,
            r#"3:46: "" is no method"#,
            r#"3:57: "PUT" is listed twice"#,
        ],
    );
}

#[test]
fn upgrades() {
    check(
        "[[routes]]\npath = '/'\nupgrades = ['websocket', 'WebSocket', 'h2c', 'TLS/1.0', 'a b', 'foo/2']",
        &[
            r#"3:26: "WebSocket" is listed twice"#,
            r#"3:39: "h2c" is never allowed; remove it: requests that came over it"#,
            r#"3:46: "TLS/1.0" is never allowed"#,
            r#"3:57: "a b" is no protocol; write "websocket", or a name such as"#,
        ],
    );
    check(
        "[[routes]]\npath = '/'\nupgrades = []",
        &["3:12: no protocol is allowed here; name some, or leave upgrades out"],
    );
    check("[[routes]]\npath = '/'\nmethods = ['GET']\nupgrades = ['websocket']", &[]);
    check(
        "[[routes]]\npath = '/'\nmethods = ['POST']\nupgrades = ['foo', 'websocket']",
        &[r#"4:20: this entry is not for GET, with which every WebSocket begins; add "GET" to"#],
    );
}

#[test]
fn nothing_is_changed_to_over_http2() {
    let two = "upstreams.a.endpoints = ['http://a']\nupstreams.b = { endpoints = ['http://b'], http2 = true }\n";
    let route = "[[routes]]\npath = '/'\nupgrades = ['websocket']\nupstream = ";
    check(&format!("{two}{route}'a'"), &[]);
    check(
        &format!("{two}{route}'b'"),
        &[r#"5:12: the upstream "b" is spoken to in HTTP/2; remove upgrades, or http2 from"#],
    );
}

#[test]
fn entries_that_decide_twice_name_the_earlier_line() {
    check(
        "[[routes]]\npath = '/x/{id}'\nmethods = ['GET']\n[[routes]]\npath = 'bad'\n[[routes]]\n\
         path = '/x/{name}'\nmethods = ['PUT', 'GET']\n[[routes]]\npath = '/y'\n[[routes]]\npath = '/y'",
        &[
            r#"5:8: "bad" cannot be the path"#,
            r#"8:19: line 2 already says who may use "GET" on "/x/{name}""#,
            r#"12:8: line 10 already says who may use every other method on "/y""#,
        ],
    );
}

#[test]
fn several_upstreams_have_to_be_told_apart() {
    let two = "upstreams.a.endpoints = ['http://a']\nupstreams.b.endpoints = ['http://b']\n";
    check(two, &["without routes it is not said which upstream requests go to"]);
    check(
        &format!("{two}[[routes]]\npath = '/'\n[[routes]]\npath = '/b'\nupstream = 'b'"),
        &["3:1: this route does not say which upstream it goes to; write upstream = "],
    );
}
