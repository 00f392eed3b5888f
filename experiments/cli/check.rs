//! `vlp check`: everything that is wrong with a file.

use vlp_bench::experiments::failure::Result;
use vlp_bench::experiments::file;

use super::meant::Asked;
use super::say;

/// Says what a file holds.
pub fn check(asked: &Asked) -> Result<u8> {
    say(&file::check(&asked.file, &asked.changes.options())?);
    Ok(0)
}
