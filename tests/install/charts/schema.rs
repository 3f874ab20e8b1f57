//! The schema of each chart: it knows the values there are, and no others.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;
use support::release::Chart;
use support::render::Renderer;
use support::tools::Tool;

fn read(chart: Chart, file: &str) -> Result<Value> {
    let path = chart.path().join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// Paths of the objects and leaves of `values`, as far down as the schema has properties.
fn paths_of_values(values: &Value, schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    let fields = values.as_object().filter(|fields| !fields.is_empty());
    let (Some(fields), true) = (fields, schema["properties"].is_object()) else {
        into.insert(path.to_owned());
        return;
    };
    for (name, value) in fields {
        paths_of_values(value, &schema["properties"][name], &format!("{path}/{name}"), into);
    }
}

fn paths_of_schema(schema: &Value, values: &Value, path: &str, into: &mut BTreeSet<String>) {
    // What the defaults leave empty is the user's: its fields stand in the schema alone.
    let is_empty = values.as_object().is_some_and(serde_json::Map::is_empty);
    let (Some(properties), false) = (schema["properties"].as_object(), is_empty) else {
        into.insert(path.to_owned());
        return;
    };
    for (name, schema) in properties {
        paths_of_schema(schema, &values[name], &format!("{path}/{name}"), into);
    }
}

fn open_objects(schema: &Value, path: &str, into: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        if schema["additionalProperties"] != false {
            into.push(path.to_owned());
        }
        for (name, schema) in properties {
            open_objects(schema, &format!("{path}/{name}"), into);
        }
    }
    if schema["items"].is_object() {
        open_objects(&schema["items"], &format!("{path}/items"), into);
    }
}

#[test]
fn schema_has_each_value_and_no_other() -> Result<()> {
    for chart in [Chart::Hub, Chart::Agent] {
        let (values, schema) = (read(chart, "values.yaml")?, read(chart, "values.schema.json")?);
        let (mut given, mut known) = (BTreeSet::new(), BTreeSet::new());
        paths_of_values(&values, &schema, "", &mut given);
        paths_of_schema(&schema, &values, "", &mut known);
        known.remove("/global");
        // Fields of Kubernetes' own types that have no default.
        known.retain(|path| given.contains(path) || !path.starts_with("/resources/"));
        assert_eq!(given, known, "{}", chart.name());
    }
    Ok(())
}

#[test]
fn schema_is_strict_in_every_object() -> Result<()> {
    for chart in [Chart::Hub, Chart::Agent] {
        let mut open = Vec::new();
        open_objects(&read(chart, "values.schema.json")?, "", &mut open);
        assert_eq!(open, [""; 0], "{}", chart.name());
    }
    Ok(())
}

/// A value of another type for each leaf of the hub's chart: no leaf takes both a list and a number.
#[test]
fn value_of_another_type_is_refused_by_its_name() -> Result<()> {
    let helm = Renderer::new(Tool::Helm)?;
    let (values, schema) = (
        read(Chart::Hub, "values.yaml")?,
        read(Chart::Hub, "values.schema.json")?,
    );
    let mut paths = BTreeSet::new();
    paths_of_values(&values, &schema, "", &mut paths);
    for path in paths {
        let names: Vec<&str> = path.split('/').skip(1).collect();
        let wrong = match values.pointer(&path) {
            Some(Value::Array(_)) => serde_json::json!(7),
            _ => serde_json::json!([7]),
        };
        let given = names
            .iter()
            .rev()
            .fold(wrong, |inner, name| serde_json::json!({ *name: inner }));
        let said = helm.template(Chart::Hub, "istio-system", &given.to_string(), &[])?;
        assert_ne!(said.code, 0, "{given} is taken");
        let (dots, slashes) = (names.join("."), names.join("/"));
        assert!(
            said.err.contains(&dots) || said.err.contains(&slashes),
            "{given}: {}",
            said.err
        );
    }
    Ok(())
}
