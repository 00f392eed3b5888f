//! What an experiment file says about papers, held against the published registry.

use super::node::Node;
use crate::experiments::failure::Failure;
use crate::experiments::fault::{Fault, suggest};
use crate::experiments::{PaperReference, published};

/// What is wrong with `paper:`.
pub fn paper(tree: &Node, reference: &PaperReference) -> Vec<Fault> {
    let papers = match published::papers() {
        Ok(papers) => papers,
        Err(failure) => return broken(failure),
    };
    let Some(paper) = papers.iter().find(|paper| paper.key == reference.key) else {
        let fault = Fault::new(format!("no paper `{}` is in the published registry", reference.key));
        let known = papers.iter().map(|paper| paper.key.as_str());
        return vec![fault.at(tree.locate("paper.key")).help(suggest(&reference.key, known))];
    };
    let numbers = || paper.tables.iter().map(|(_, table)| table.number.as_str());
    let unknown = reference.table.iter().filter(|table| !numbers().any(|known| known == table.as_str()));
    let refused = |table: &String| {
        let fault = Fault::new(format!("the registry has no `{table}` of `{}`", reference.key));
        fault.at(tree.locate("paper.table")).help(suggest(table, numbers()))
    };
    unknown.map(refused).collect()
}

/// What is wrong with a claim's `published:`.
pub fn effect(key: &str) -> Vec<Fault> {
    match published::keys() {
        Ok(keys) if keys.iter().any(|known| known == key) => Vec::new(),
        Ok(_) => published::unknown(key).map_or_else(broken, |fault| vec![fault]),
        Err(failure) => broken(failure),
    }
}

fn broken(failure: Failure) -> Vec<Fault> {
    match failure {
        Failure::Refused(faults) => faults,
        other => vec![Fault::new(other.to_string())],
    }
}
