//! What is made from the charts is current.

use std::fs;

use anyhow::Result;
use support::pages;
use support::release::repository;

#[test]
fn pages_made_from_the_charts_are_current() -> Result<()> {
    for page in pages::all()? {
        let kept = fs::read_to_string(repository().join(page.path)).unwrap_or_default();
        assert!(kept == page.text, "{} is not current, run: make docs", page.path);
    }
    Ok(())
}
