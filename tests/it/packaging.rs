//! What operators put beside Keyward fits it: the dashboard and the alerts in `packaging/`, and the table of metrics in
//! README.md, know the metrics there are, with their labels. Prometheus itself is asked, by promtool.
//!
//! The page is that of a real process, behind requests that were really served.
//!
//! Never here: how a page comes to be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::keyward::get;
use crate::harness::{Client, Setup, Upstream, wait_for};
use crate::readme::{read, table};

const DASHBOARD: &str = "packaging/grafana/keyward.json";
const ALERTS: &str = "packaging/prometheus/alerts.yml";
const ALERTS_TEST: &str = "packaging/prometheus/alerts_test.yml";

/// What a scrape adds to every sample.
const SCRAPED: [&str; 2] = ["job", "instance"];

/// What a page says of one metric.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    has_help: bool,
    /// Names of labels, but for the `le` of buckets.
    labels: BTreeSet<String>,
}

/// A page with a sample of every metric: a proxy has let a request through and refused one.
fn page() -> String {
    let app = Upstream::hello();
    let mut setup = Setup::new(&app);
    setup.replace("log", "access = \"off\"").set("metrics", "per_key = true");
    setup.set("admin", "listen = \"127.0.0.1:0\"");
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    for (header, status) in [(alice.header(), 200), (String::new(), 401)] {
        assert_eq!(kw.ask(get("/", &header)).status(), status);
    }
    let mut scrape = Client::connect(kw.admin_address());
    // A request counts when it has ended, which may be just after its answer has come.
    wait_for("both requests in the page", || {
        scrape.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let page = scrape.answer().text();
        let begins = ["keyward_key_requests_total{", "keyward_refusals_total{"];
        begins.iter().all(|begin| page.contains(begin)).then_some(page)
    })
}

/// The samples of a page, without their values.
fn samples(page: &str) -> impl Iterator<Item = &str> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').expect("a sample has a value").0)
}

fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a name, and what it means");
            families.entry(name.to_owned()).or_default().has_help = help.ends_with('.');
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
        }
    }
    for sample in samples(page) {
        let (name, labels) = series(sample);
        let family = families.get_mut(family_of(&name, page)).expect("the page describes it");
        family.labels.extend(labels.into_iter().filter(|label| label != "le"));
    }
    families
}

/// The family that a sample called `name` is of.
fn family_of<'a>(name: &'a str, page: &str) -> &'a str {
    let of_histogram =
        ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
    let mut of_histogram =
        of_histogram.filter(|base| page.contains(&format!("# TYPE {base} histogram\n")));
    of_histogram.next().unwrap_or(name)
}

/// The name of a series, and those of its labels.
fn series(text: &str) -> (String, BTreeSet<String>) {
    let (name, labels) = text.split_once('{').unwrap_or((text, ""));
    // What stands between quotes, values, is every second piece.
    let outside = labels.split('"').step_by(2);
    let names = outside.map(|piece| piece.trim_matches([',', ' ', '=', '}']));
    (name.to_owned(), names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// Names of metrics of ours in an expression, or in any text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    words.filter(|word| word.starts_with("keyward_")).collect()
}

/// Asks promtool, and gives back what it says.
fn promtool(arguments: &[&str], folder: &Path, input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`make test` installs promtool");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("promtool reads all");
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("our own child");
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(status.success(), "promtool {}: {status}\n{said}", arguments.join(" "));
    said
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text under one of `keys` in a JSON document.
fn texts<'a>(value: &'a Value, keys: &[&str], found: &mut Vec<&'a str>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| texts(value, keys, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if keys.contains(&key.as_str()) => found.push(text),
                    _ => texts(value, keys, found),
                }
            }
        }
        _ => {}
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON")
}

#[test]
fn prometheus_takes_the_page_and_every_metric_is_described() {
    let page = page();
    promtool(&["check", "metrics"], root(), &page);
    for (name, Family { kind, has_help, .. }) in families(&page) {
        assert!(has_help, "{name} has no HELP that is a sentence");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name}: {kind}");
    }
}

#[test]
fn the_table_of_metrics_is_that_of_the_program() {
    let families = families(&page());
    let expected: BTreeSet<_> = families
        .into_iter()
        .map(|(name, Family { kind, labels, .. })| {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            (format!("`{name}`"), kind, labels.join(", "))
        })
        .collect();
    let rows = table("| metric | type | labels |").into_iter();
    let shown: BTreeSet<_> = rows
        .map(|row| {
            let mut labels: Vec<_> = row[2].split(", ").map(str::to_owned).collect();
            labels.sort_unstable();
            (row[0].clone(), row[1].clone(), labels.join(", "))
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn alerts_fire_when_they_should_on_metrics_there_are() {
    let folder = root().join("packaging/prometheus");
    promtool(&["check", "rules", "alerts.yml"], &folder, "");
    promtool(&["test", "rules", "alerts_test.yml"], &folder, "");

    let (alerts, test) = (read(ALERTS), read(ALERTS_TEST));
    let page = page();
    let mut known: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (name, labels) in samples(&page).map(series) {
        known.entry(name).or_default().extend(labels);
    }
    for name in names(&alerts) {
        assert!(known.contains_key(name), "{ALERTS} asks for {name}, which there is not");
    }
    // What the alerts were tested with is what a scrape really brings.
    let tested = test.lines().filter_map(|line| line.trim().strip_prefix("- series: '"));
    let tested: Vec<_> = tested.filter(|text| !text.starts_with("up{")).collect();
    assert!(tested.len() > 20, "the series of {ALERTS_TEST} are not found any more");
    for text in tested {
        let (name, labels) = series(text.trim_end_matches('\''));
        let mut expected = known.get(&name).cloned().unwrap_or_default();
        expected.extend(SCRAPED.map(str::to_owned));
        assert_eq!(labels, expected, "{ALERTS_TEST} has `{text}`, unlike the page");
    }
    let codes = read("src/proxy/error.rs");
    for code in quoted_codes(&alerts) {
        assert!(codes.contains(&format!("\"{code}\"")), "{ALERTS}: no refusal has the code {code}");
    }
    let rules: Vec<_> = alerts.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 10, "the rules of {ALERTS} are not found any more");
    for rule in rules {
        let name = rule.lines().next().unwrap_or_default();
        assert!(test.contains(&format!("alertname=\"{name}\"")), "{name} is never seen to fire");
        for field in ["for: ", "severity: ", "summary: ", "description: "] {
            assert!(rule.contains(field), "{name} lacks `{field}`");
        }
    }
}

#[test]
fn prometheus_takes_what_the_readme_tells_it() {
    let readme = read("README.md");
    let section = readme.split("\n### Metrics\n").nth(1).expect("a section");
    let text = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let text = text.expect("what to write into prometheus.yml");
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("prometheus.yml"), text).expect("a new file");
    fs::write(folder.path().join("alerts.yml"), read(ALERTS)).expect("a new file");
    let said = promtool(&["check", "config", "prometheus.yml"], folder.path(), "");
    assert!(said.contains("rules found"), "it does not name the alerts: {said}");
    // Who does not answer is known by the name of its job alone.
    assert!(text.contains("job_name: keyward\n") && read(ALERTS).contains("up{job=\"keyward\"}"));
}

const UNIT: &str = "packaging/systemd/keyward.service";

/// Asks systemd-analyze, and gives back what it says.
fn systemd_analyze(arguments: &[&str]) -> String {
    let mut command = Command::new("systemd-analyze");
    let output = command.args(arguments).output().expect("`make test` installs systemd-analyze");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}\n{said}", output.status);
    said
}

#[test]
fn the_unit_leaves_little_to_whoever_breaks_in() {
    let unit = root().join(UNIT);
    let unit = unit.to_str().expect("a path in UTF-8");
    // In tenths.
    let said =
        systemd_analyze(&["security", "--offline=true", "--no-pager", "--threshold=19", unit]);
    assert!(said.contains("Overall exposure level"), "{said}");
}

#[test]
fn systemd_understands_the_units() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = read(UNIT).replace("/usr/local/bin/keyward", env!("CARGO_BIN_EXE_keyward"));
    fs::write(folder.path().join("keyward.service"), text).expect("a new file");
    let socket = read("packaging/systemd/keyward.socket");
    fs::write(folder.path().join("keyward.socket"), socket).expect("a new file");
    for name in ["keyward.service", "keyward.socket"] {
        let path = folder.path().join(name);
        let said = systemd_analyze(&["verify", "--man=no", path.to_str().expect("UTF-8")]);
        // What it does not know it only warns of.
        let about_ours: Vec<_> = said.lines().filter(|line| line.contains("keyward")).collect();
        assert!(about_ours.is_empty(), "{said}");
    }
}

/// The codes that expressions ask for: `code="a"` and `code=~"a|b"`.
fn quoted_codes(text: &str) -> Vec<&str> {
    let begins = ["code=\"", "code=~\""];
    let values = begins.iter().flat_map(|begin| text.split(begin).skip(1));
    values.flat_map(|rest| rest.split('"').next().unwrap_or_default().split('|')).collect()
}

/// promtool is given the series of the page, growing, and evaluates what Grafana would ask for.
#[test]
fn every_query_of_the_dashboard_finds_something() {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    texts(&dashboard["panels"], &["expr"], &mut queries);
    assert!(queries.len() > 30, "the queries of {DASHBOARD} are not found any more");
    texts(&dashboard["annotations"], &["expr"], &mut queries);

    let page = page();
    let mut test =
        "rule_files: []\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n"
            .to_owned();
    for sample in samples(&page) {
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let comma = if labels == "}" { "" } else { "," };
        let series = format!("{name}{{job=\"keyward\",instance=\"a:9901\"{comma}{labels}");
        test.push_str(&format!("      - series: {}\n        values: 1+1x60\n", yaml(&series)));
    }
    test.push_str("    promql_expr_test:\n");
    for query in queries {
        let expr = format!("count({}) > bool 0", interpolate(query));
        test.push_str(&format!(
            "      - expr: {}\n        eval_time: 50m\n        exp_samples: [{{labels: '{{}}', value: 1}}]\n",
            yaml(&expr)
        ));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("test.yml"), test).expect("a new file");
    promtool(&["test", "rules", "test.yml"], folder.path(), "");
}

/// A text in YAML.
fn yaml(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Puts in what Grafana would for its variables when everything is chosen.
fn interpolate(query: &str) -> String {
    let mut query = query.replace("$__rate_interval", "5m");
    for name in ["job", "instance", "route", "upstream"] {
        query = query.replace(&format!("\"${name}\""), "\".*\"");
    }
    assert!(!query.contains('$'), "{DASHBOARD}: not every variable is known in {query}");
    query
}

#[test]
fn the_dashboard_shows_every_metric_and_says_what_each_panel_is() {
    let dashboard = dashboard();
    let (text, families) = (dashboard.to_string(), families(&page()));
    for name in families.keys() {
        assert!(text.contains(name), "{DASHBOARD} does not show {name}");
    }
    // What can be chosen is a label of what is there.
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        let query = variable["definition"].as_str().expect("a query");
        assert_eq!(variable["query"]["query"], query);
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = inner.and_then(|inner| inner.rsplit_once(", ")).expect("two parts");
        let (name, _) = series(selector);
        let known = &families[&name].labels;
        assert!(known.contains(label) || SCRAPED.contains(&label), "{query}");
    }
    let mut sources = Vec::new();
    texts(&dashboard, &["uid"], &mut sources);
    sources.retain(|&uid| uid != "keyward");
    assert!(
        sources.iter().all(|&uid| uid == "${datasource}"),
        "a data source is not the chosen one"
    );

    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "the id of {title} is another's, too");
        if panel["type"] == "row" {
            continue;
        }
        let said = panel["description"].as_str().unwrap_or_default();
        assert!(said.ends_with('.'), "{title} has no description that is a sentence");
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(unit.is_string() || panel["type"] == "heatmap", "{title} has no unit");
        for target in panel["targets"].as_array().expect("targets") {
            let (expr, legend) = (target["expr"].as_str(), target["legendFormat"].as_str());
            let labels = result_labels(expr.expect("a query"), &families);
            for label in legend.expect("a legend").split("{{").skip(1) {
                let label = label.split("}}").next().unwrap_or_default();
                assert!(labels.contains(label), "{title}: its query has no label {label}");
            }
        }
    }
}

/// Names of labels that what a query finds may have.
fn result_labels<'a>(expr: &'a str, families: &'a BTreeMap<String, Family>) -> BTreeSet<&'a str> {
    if let Some((_, by)) = expr.split_once(" by (") {
        return by.split(')').next().unwrap_or_default().split(", ").collect();
    }
    let found = names(expr).into_iter().filter_map(|name| families.get(name));
    let labels = found.flat_map(|family| family.labels.iter().map(String::as_str));
    labels.chain(SCRAPED).collect()
}
