//! What `parse` takes and refuses, as tables.

use super::*;

#[test]
fn the_example_is_a_configuration() {
    let source = Source {
        path: "config/keyward.toml".into(),
        text: include_str!("../../config/keyward.toml").into(),
    };
    let config = parse(source, |_| None).unwrap_or_else(|report| panic!("{report}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    assert_eq!(config.keys.store, Path::new("config/keys.toml"));
}

/// The schema in the repository is the one editors load.
#[test]
fn the_committed_schema_is_that_of_the_mirror() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/keyward.schema.json");
    let schema = serde_json::to_string_pretty(&schema()).expect("a value can be written") + "\n";
    if std::env::var_os("KEYWARD_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).expect("the repository can be written to");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema,
        "config/keyward.schema.json is not up to date: run `KEYWARD_WRITE_SCHEMA=1 cargo test --lib \
         committed_schema` and commit it"
    );
}
