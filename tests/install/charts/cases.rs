//! Values that the charts are rendered with: the table that all tests of rendering go through.

mod agent;
mod hub;

use anyhow::Result;
use support::release::Chart;
use support::render::Renderer;

/// One way to install a chart.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The chart.
    pub chart: Chart,
    /// What it shows; also the name of its golden file.
    pub name: &'static str,
    /// The release's namespace.
    pub namespace: &'static str,
    /// Values, as YAML.
    pub values: &'static str,
    /// Flags of `helm template`, for what a cluster would say of itself.
    pub flags: &'static [&'static str],
}

impl Case {
    const fn hub(name: &'static str, values: &'static str) -> Self {
        Self::of(Chart::Hub, name, values)
    }

    const fn agent(name: &'static str, values: &'static str) -> Self {
        Self::of(Chart::Agent, name, values)
    }

    const fn of(chart: Chart, name: &'static str, values: &'static str) -> Self {
        Self {
            chart,
            name,
            namespace: "istio-system",
            values,
            flags: &[],
        }
    }

    const fn in_namespace(self, namespace: &'static str) -> Self {
        Self { namespace, ..self }
    }

    const fn with_flags(self, flags: &'static [&'static str]) -> Self {
        Self { flags, ..self }
    }

    /// The golden file's name without its ending.
    pub fn file(&self) -> String {
        let chart = match self.chart {
            Chart::Hub => "hub",
            Chart::Agent => "agent",
        };
        format!("{chart}-{}", self.name)
    }

    /// What helm prints for it.
    pub fn render(&self, helm: &Renderer) -> Result<String> {
        let said = helm.template(self.chart, self.namespace, self.values, self.flags)?;
        said.success(&format!("helm template for {}", self.file()))?;
        Ok(said.out)
    }
}

/// All cases of both charts.
pub fn all() -> impl Iterator<Item = &'static Case> {
    hub::CASES.iter().chain(agent::CASES)
}
