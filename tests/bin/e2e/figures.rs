//! What was measured, for the reader at the end and for `docs/install.md`.

use std::cell::RefCell;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::terminal::{Terminal, root};

/// Figures by name.
#[derive(Default)]
pub(crate) struct Figures(RefCell<Map<String, Value>>);

impl Figures {
    /// Notes one; the name says the unit.
    pub(crate) fn note(&self, name: &str, value: impl Into<Value>) {
        self.0.borrow_mut().insert(name.to_owned(), value.into());
    }

    /// Shows all, and writes them to `target/e2e/figures.json`.
    pub(crate) fn write(&self, terminal: &Terminal) -> Result<()> {
        let figures = self.0.borrow();
        for (name, value) in figures.iter() {
            terminal.line(&format!("{name}: {value}"));
        }
        let folder = root().join("target/e2e");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let path = folder.join("figures.json");
        let text = serde_json::to_string_pretty(&*figures).context("writing JSON")?;
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}
