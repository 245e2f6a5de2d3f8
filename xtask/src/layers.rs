//! Compares the dependencies that `cargo metadata` reports with the table in `layers.toml`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::shell;

/// Section → key → values, as much TOML as the table needs: `key = 3` and `key = ["a", "b"]`.
type Table = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// Reads both and gives the violations, one line each.
pub(crate) fn violations() -> Result<Vec<String>> {
    let text = fs::read_to_string(shell::root().join("xtask/layers.toml")).context("xtask/layers.toml")?;
    let done = shell::cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: Value = serde_json::from_slice(&done.stdout).context("cargo metadata")?;
    Ok(compare(&read(&text), &dependencies(&metadata)))
}

fn read(text: &str) -> Table {
    let mut table = Table::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, values)) = line.split_once('=') {
            let values = values.trim().trim_matches(['[', ']']).split(',');
            let values = values.map(|value| value.trim().trim_matches('"').to_owned()).collect();
            table.entry(section.clone()).or_default().insert(key.trim().to_owned(), values);
        }
    }
    table
}

/// Package → names of its dependencies, test-only ones left out.
fn dependencies(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let list =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let packages = list(metadata, "packages").into_iter();
    packages
        .filter_map(|package| {
            let wanted = list(&package, "dependencies").into_iter();
            let wanted = wanted.filter(|one| text(one, "kind").as_deref() != Some("dev"));
            Some((text(&package, "name")?, wanted.filter_map(|one| text(&one, "name")).collect()))
        })
        .collect()
}

fn compare(table: &Table, dependencies: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let level = |name: &str| -> Option<u32> {
        table.get("level").and_then(|level| level.get(name)).and_then(|value| value.first()?.parse().ok())
    };
    let listed = |section: &str, key: &str, value: &str| {
        let values = table.get(section).and_then(|section| section.get(key));
        values.is_some_and(|values| values.iter().any(|one| one == value))
    };
    let mut found = Vec::new();
    for (package, wanted) in dependencies {
        let Some(own) = level(package) else {
            found.push(format!("{package} has no level in xtask/layers.toml"));
            continue;
        };
        for dependency in wanted {
            if table.get("only").is_some_and(|only| only.contains_key(dependency))
                && !listed("only", dependency, package)
            {
                found.push(format!("{package} must not depend on {dependency}: others own it"));
            }
            let Some(below) = level(dependency) else { continue };
            if listed("never", package, dependency) {
                found.push(format!("{package} must never know {dependency}"));
            } else if below >= own && !listed("sideways", package, dependency) {
                found.push(format!("{package} (level {own}) must not know {dependency} (level {below})"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upward_sideways_and_foreign_dependencies_are_found() {
        let table = read(
            "[level]\na = 0\nb = 0\nc = 1\nd = 2\n[sideways]\nb = [\"a\"]\n[never]\nd = [\"c\"]\n[only]\nsql = [\"c\"]\n",
        );
        let one = |package: &str, wanted: &[&str]| {
            let wanted = wanted.iter().map(|name| (*name).to_owned()).collect();
            compare(&table, &BTreeMap::from([(package.to_owned(), wanted)])).len()
        };
        assert_eq!(one("b", &["a"]), 0, "an exception");
        assert_eq!(one("c", &["a", "b", "sql", "serde"]), 0, "downwards");
        assert_eq!(one("a", &["b"]), 1, "sideways");
        assert_eq!(one("a", &["c"]), 1, "upwards");
        assert_eq!(one("d", &["c"]), 1, "named as never");
        assert_eq!(one("d", &["sql"]), 1, "somebody else's dependency");
        assert_eq!(one("new", &[]), 1, "a crate without a level");
    }
}
