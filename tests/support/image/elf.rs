//! Reads of a program what an image must know: its architecture, and that it needs no loader.

use anyhow::{Context as _, Result, bail, ensure};

/// The program header that names a loader.
const INTERPRETER: u32 = 3;

/// The architecture of a static 64-bit program, as the image specification names it.
pub(super) fn architecture(program: &[u8]) -> Result<&'static str> {
    ensure!(
        program.starts_with(b"\x7fELF\x02\x01"),
        "it is not a 64-bit little-endian ELF program"
    );
    let number = |at: usize, bytes: usize| -> Result<u64> {
        let field = program.get(at..at + bytes).context("its ELF header is cut short")?;
        Ok(field
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let architecture = match number(18, 2)? {
        62 => "amd64",
        183 => "arm64",
        other => bail!("its machine type {other} is neither amd64 nor arm64"),
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let at = usize::try_from(table.saturating_add(size * index)).unwrap_or(usize::MAX);
        let end = at.checked_add(4).context("its ELF header is wrong")?;
        let kind = program.get(at..end).context("its program headers are cut short")?;
        ensure!(
            kind != INTERPRETER.to_le_bytes(),
            "it is linked dynamically: an image with nothing else in it could not start it, link it statically"
        );
    }
    Ok(architecture)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The least that counts as a program: a header, one program header of a kind.
    pub(in super::super) fn program(machine: u16, kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.resize(120, 0);
        bytes
    }

    #[test]
    fn architecture_is_named_as_images_name_it() -> Result<()> {
        assert_eq!(architecture(&program(62, 1))?, "amd64");
        assert_eq!(architecture(&program(183, 1))?, "arm64");
        Ok(())
    }

    #[test]
    fn what_cannot_start_alone_is_refused() {
        let said = |bytes: &[u8]| format!("{:#}", architecture(bytes).expect_err("it must be refused"));
        assert!(said(&program(62, INTERPRETER)).contains("linked dynamically"));
        assert!(said(&program(40, 1)).contains("machine type 40"));
        assert!(said(b"#!/bin/sh\n").contains("not a 64-bit"));
        assert!(said(&program(62, 1)[..60]).contains("cut short"));
        assert!(said(&program(62, 1)[..66]).contains("cut short"));
    }
}
