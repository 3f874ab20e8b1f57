//! What the charts render is what it was, with both Helms, and lint finds no fault in it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;
use support::release::{Chart, repository};
use support::render::{Renderer, split};
use support::tools::Tool;

use super::cases::{self, Case};

fn path(case: &Case) -> PathBuf {
    repository()
        .join("tests/install/golden")
        .join(format!("{}.yaml", case.file()))
}

/// Without the definitions, which have files of their own.
fn golden(rendered: &str) -> Result<String> {
    let texts = split(rendered)?.into_iter().map(|document| {
        if document.kind() == "CustomResourceDefinition" {
            format!("---\n# CustomResourceDefinition {}\n", document.name())
        } else {
            format!("---\n{}", document.text)
        }
    });
    Ok(texts.collect())
}

#[test]
#[ignore = "writes the golden files: cargo test --package remote-istio-tests --test install -- --ignored golden_files_are_written"]
fn golden_files_are_written() -> Result<()> {
    let helm = Renderer::new(Tool::Helm)?;
    let folder = repository().join("tests/install/golden");
    for entry in fs::read_dir(&folder)? {
        fs::remove_file(entry?.path())?;
    }
    for case in cases::all() {
        fs::write(path(case), golden(&case.render(&helm)?)?)?;
    }
    Ok(())
}

fn is_golden(tool: Tool) -> Result<()> {
    let helm = Renderer::new(tool)?;
    for case in cases::all() {
        let kept = fs::read_to_string(path(case)).with_context(|| format!("{}: write it", case.file()))?;
        let rendered = golden(&case.render(&helm)?)?;
        let differing = rendered.lines().zip(kept.lines()).find(|(new, old)| new != old);
        assert!(
            rendered == kept,
            "{} is rendered otherwise by {tool:?}, first at {differing:?}; if that is meant, run the ignored test \
             golden_files_are_written",
            case.file()
        );
    }
    let kept = fs::read_dir(repository().join("tests/install/golden"))?.count();
    assert_eq!(kept, cases::all().count(), "a golden file without a case");
    Ok(())
}

#[test]
fn charts_are_rendered_as_before_by_helm_3() -> Result<()> {
    is_golden(Tool::Helm)
}

#[test]
fn charts_are_rendered_as_before_by_helm_4() -> Result<()> {
    is_golden(Tool::Helm4)
}

/// Helm writes 1.0 as 1.
fn same_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => *value = number.as_f64().into(),
        Value::Array(values) => values.iter_mut().for_each(same_numbers),
        Value::Object(fields) => fields.values_mut().for_each(same_numbers),
        _ => {}
    }
}

#[test]
fn definitions_are_rendered_as_they_lie_in_the_chart_and_are_kept() -> Result<()> {
    for tool in [Tool::Helm, Tool::Helm4] {
        let rendered = Renderer::new(tool)?.documents(Chart::Hub, "istio-system", "{}")?;
        let definitions: Vec<_> = rendered
            .iter()
            .filter(|document| document.kind() == "CustomResourceDefinition")
            .collect();
        assert_eq!(definitions.len(), 3);
        for definition in definitions {
            let plural = definition.object["spec"]["names"]["plural"]
                .as_str()
                .unwrap_or_default();
            let file = Chart::Hub.path().join(format!("files/crds/{plural}.yaml"));
            let kept: Value = serde_saphyr::from_str(&fs::read_to_string(file)?)?;
            let (mut rendered, mut kept) = (definition.object["spec"].clone(), kept["spec"].clone());
            same_numbers(&mut rendered);
            same_numbers(&mut kept);
            assert!(rendered == kept, "{plural} by {tool:?}");
            assert_eq!(
                definition.object["metadata"]["annotations"]["helm.sh/resource-policy"], "keep",
                "{plural}"
            );
        }
    }
    Ok(())
}

#[test]
fn lint_finds_no_fault() -> Result<()> {
    for tool in [Tool::Helm, Tool::Helm4] {
        let helm = Renderer::new(tool)?;
        for case in cases::all() {
            helm.lint(case.chart, case.values)?
                .success(&format!("helm lint of {} by {tool:?}", case.file()))?;
        }
    }
    Ok(())
}
