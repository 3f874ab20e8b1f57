//! Files of the tree that are made from the charts: the page of their values, and the roles for those who do without helm.

mod roles;
mod values;

use anyhow::Result;

/// One generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it lies, from the root of the tree.
    pub path: &'static str,
    /// What stands in it.
    pub text: String,
}

/// All of them.
///
/// # Errors
/// A chart cannot be read or rendered, or a value has no words about it.
pub fn all() -> Result<Vec<Page>> {
    let mut pages = vec![values::page()?];
    pages.extend(roles::pages()?);
    Ok(pages)
}
