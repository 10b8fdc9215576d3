//! Faults of a file as a whole: syntax, types, unknown fields, variables; and what a report never shows.

use super::{PEPPER, check, good, read};

#[test]
fn unknown_fields() {
    check("relm = 'x'", &[r#"1:1: unknown field "relm"; did you mean "realm"?"#]);
    check(
        "[server]\nx = 1",
        &[r#"2:1: unknown field "x" in [server]; write one of: listen, workers, "#],
    );
    check(
        "[roles.a]\nInherits = []",
        &[r#"2:1: unknown field "Inherits" in [roles.a]; did you mean "inherits"?"#],
    );
    check(
        "auth.key_sources = [{ heder = 'x', header = 'y' }]\n[[routes]]\npath = '/'\nrole = 1",
        &[
            r#"1:23: unknown field "heder" in [auth.key_sources]; did you mean "header"?"#,
            r#"4:1: unknown field "role" in [routes]; did you mean "roles"?"#,
        ],
    );
}

#[test]
fn an_admin_listener_that_is_hardly_meant() {
    check("[admin]\nlisten = 'x'", &[r#"2:10: "x" is no address to listen on; write"#]);
    check(
        "[admin]\nhosts = ['a b', 'https://a', 'a:1']",
        &[
            r#"1:1: it is not said where keys are managed; write listen = "127.0.0.1:9901""#,
            r#"2:10: "a b" is no name under which keyward could be reached; write a host"#,
            r#"2:17: "https://a" is no name"#,
            r#"2:30: "a:1" is no name"#,
        ],
    );
    for address in ["0.0.0.0:9901", "[::]:9901", "192.0.2.1:9901"] {
        check(
            &format!("[admin]\nlisten = '{address}'"),
            &[&format!(
                "2:10: \"{address}\" can be reached by others, and keys would go there in clear"
            )],
        );
    }
    check(
        "[server]\nlisten = ['127.0.0.1:1']\n[admin]\nlisten = '127.0.0.1:1'",
        &[r#"4:10: "127.0.0.1:1" is where clients are served; choose another port"#],
    );
    check(
        "[admin]\nlisten = '0.0.0.0:1'\ntls = { certificate = 'a.pem' }",
        &["3:7: there is no private_key; write"],
    );
}

#[test]
fn an_admin_listener() {
    assert_eq!(good("").admin, None);
    let admin = good("[admin]\nlisten = '[::1]:9901'\nhosts = ['Keys.example.com']").admin;
    let admin = admin.expect("it was given");
    assert_eq!(admin.listen, "[::1]:9901".parse().expect("an address"));
    assert_eq!(admin.hosts, ["keys.example.com"]);
    let pair = "certificate = 'a.pem'\nprivate_key = 'b.pem'";
    let config = good(&format!("[admin]\nlisten = '0.0.0.0:1'\n[admin.tls]\n{pair}"));
    let files: Vec<_> = config.tls_files().map(|path| path.display().to_string()).collect();
    assert_eq!(files, ["etc/a.pem", "etc/b.pem"]);
}

#[test]
fn values_of_the_wrong_type_hide_no_other_fault() {
    check(
        "realm = 1\nserver = []\nroles = 2\n[keys]\nstore = { a = 1 }\n[auth]\nkey_sources = 'x'\n\
         hide_credentials = 'no'\n[log]\nformat = 2026-01-01\n",
        &[
            "1:9: this must be a string; put it in quotes",
            "2:10: this must be a table; ",
            "3:9: this must be a table; ",
            "5:9: this must be a string; ",
            "7:15: this must be an array; put it in brackets",
            "8:20: this must be true or false",
            "10:10: this must be a string; ",
        ],
    );
    check(
        "[server]\nlisten = [1, '127.0.0.1:1', true]\nworkers = 1.5\nlimits.body_bytes = []\n",
        &[
            "2:11: this must be a string; ",
            "2:29: this must be a string; ",
            "3:11: this must be a whole number",
            r#"4:21: this must be a size such as "32KiB" or a number of bytes"#,
        ],
    );
    check(
        "routes = [1]\nauth.key_sources = [2]\nupstreams.a = 3\nroles.b = 4\n",
        &[
            "1:11: this must be a table",
            "2:21: this must be a table",
            "3:15: this must be a table",
            "4:11: this must be a table",
        ],
    );
}

#[test]
fn syntax() {
    check(
        "realm = \nx = 'a\n[server\n",
        &[
            "1:9: string values must be quoted; expected literal string",
            "2:7: invalid literal string; expected `'`",
            "3:8: unclosed table; expected `]`",
        ],
    );
    check("realm = 'a'\nrealm = 'b'\n", &["2:1: duplicate key; join it with the earlier one"]);
    check("a b c\n", &["1:3: key with no value; expected `=`"]);
    let many: String = (0..50).map(|i| format!("k{i} = \n")).collect();
    let expected: Vec<String> = (1..=10).map(|line| format!("{line}:")).collect();
    check(&many, &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn variables() {
    check(
        "realm = '$${NONE} ${NONE} b ${HOST} ${NO-NAME} ${'",
        &[
            "1:19: the environment has no variable ${NONE}; ",
            "1:37: this reference names no variable",
            "1:48: no brace closes",
        ],
    );
    check("realm = \"\\u0024{NONE}\"", &["1:9: the environment has no variable ${NONE}"]);
    check("[keys]\npepper = '${NONE}'", &["2:11: the environment has no variable ${NONE}"]);
}

#[test]
fn no_report_shows_a_pepper_or_a_variable() {
    for toml in [
        "[keys]\npepper = 'a pepper that nobody may see'",
        "[keys]\npeper = 'a pepper that nobody may see'",
        "[keys]\npepper = 'a pepper that nobody may see",
        "[keys]\npepper = '''\na pepper that nobody may see'''\nx=",
        "keys = { pepper = 'a pepper that nobody may see', store = 1 }",
        "upstreams.a.endpoints = ['http://me:a-pepper-that-nobody-may-see@host']",
        "realm = '${PEPPER}\\'\nkeys.prefix = '${PEPPER}'\nlog.access = \"${SHORT}\\u0000\"",
        "server.listen = ['${PEPPER}', '${HOST}']\nserver.trusted_proxies = ['${HOST}/8']",
        "server.timeouts.shutdown = '${PEPPER}'\nserver.limits.body_bytes = '${SHORT}'",
        "auth.preflight = '${SHORT}'\nauth.key_sources = [{header='${PEPPER}'}, {query='${PEPPER}'}]",
        "identity = {user='${SHORT}', role='${SHORT}', key_id='${PEPPER}'}",
        "upstreams.a.endpoints = ['${HOST}', 'http://${PEPPER}', 'http://${HOST}/x']",
        "[[routes]]\npath='${PEPPER}'\nroles=['${SHORT}']\nmethods=['${PEPPER}', '${LOWER}']",
        "[[routes]]\npath='/${SHORT}'\nmethods=['${SHORT}']\n[[routes]]\npath='/${SHORT}'\n\
         methods=['${SHORT}']",
    ] {
        let report = read(toml).expect_err("each has a fault");
        for view in [report.to_string(), report.lines().collect(), format!("{report:?}")] {
            for hidden in [PEPPER, "nobody", "quatsch", "10.1.2.3", "10.0.0.0", "PATCH"] {
                assert!(!view.contains(hidden), "{hidden:?} in {view}");
            }
        }
    }
}

#[test]
fn a_report_is_to_be_read_by_people() {
    let toml = "[servr]\n[server]\nlisten = [\":8080\"]\n[keys]\npepper = \"mine\"\n[[routes]]\n\
                path = \"/{*rest}\"\nroles = [\"admin\", \"user\"]\n[roles.admin]\n";
    let report = read(toml).expect_err("it is full of faults");
    insta::assert_snapshot!(report, @r#"
    error: unknown field "servr"
     --> etc/keyward.toml:1:2
      |
    1 | [servr]
      |  ^^^^^
      |
      = help: did you mean "server"?

    error: ":8080" is no address to listen on
     --> etc/keyward.toml:3:11
      |
    3 | listen = [":8080"]
      |           ^^^^^^^
      |
      = help: write "127.0.0.1:8080" for this machine only, or "0.0.0.0:8080" or "[::]:8080" for everybody

    error: a pepper must not stand in a file
     --> etc/keyward.toml:5:10
      |
    5 | pepper = ******
      |          ^^^^^^
      |
      = help: take it from the environment: pepper = "${KEYWARD_PEPPER}"

    error: no role is called "user"
     --> etc/keyward.toml:8:19
      |
    8 | roles = ["admin", "user"]
      |                   ^^^^^^
      |
      = help: write one of: admin; or declare it: a line [roles.NAME] is enough
    "#);
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("keyward.toml");
    let message = |expected: &str| {
        let report = crate::config::load(&path).expect_err("there is no good file");
        let line = report.lines().next().expect("a fault");
        assert!(line.contains(expected), "{line}");
    };
    message("the configuration cannot be read: No such file");
    std::fs::write(&path, b"realm = '\xff'").expect("the folder can be written to");
    message("the file is not UTF-8");
    std::fs::write(&path, vec![b' '; 4 << 20 | 1]).expect("the folder can be written to");
    message("the file is larger than 4194304 bytes");
    std::fs::write(&path, vec![b' '; 4 << 20]).expect("the folder can be written to");
    message("there is no upstream");
}
