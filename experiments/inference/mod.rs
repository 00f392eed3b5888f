//! What is asked of a trained model: pictures and texts embedded, matched, captioned and retrieved.
//!
//! Each verb takes a run's directory or a folder of published weights ([`Subject::open`]). Pictures are decoded a few at a
//! time; one that cannot be read is named and passed over.

mod caption;
mod embed;
mod matching;
mod pictures;
mod retrieve;
mod score;
mod subject;

pub use caption::{Captions, caption};
pub use embed::{Embeds, embed};
pub use matching::{Matches, matching};
pub use pictures::Pictures;
pub use retrieve::{Ranking, Wanted, retrieve};
pub use score::{Scores, score};
pub use subject::Subject;

use super::failure::Result;
use super::fault::Fault;

/// What a verb found: as a table and as JSON.
pub trait Answer {
    /// For people.
    fn table(&self) -> String;
    /// For programs.
    fn json(&self) -> serde_json::Value;
}

/// The text of a file.
fn text(file: &std::path::Path) -> Result<String> {
    Ok(std::fs::read_to_string(file)
        .map_err(|fault| Fault::new(format!("{}: cannot be read: {fault}", file.display())))?)
}

/// Lines of a file, without empty ones.
///
/// # Errors
/// When it cannot be read or has none.
pub fn lines(file: &std::path::Path) -> Result<Vec<String>> {
    let text = text(file)?;
    let lines: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(Fault::new(format!("{}: holds no text", file.display())).into());
    }
    Ok(lines)
}
