//! ROUGE-L: how long the longest sequence of words is that a caption and a reference have in the same order.
//!
//! Lin, ACL 2004 workshop, with the choices of Chen et al., arXiv:1504.00325, section 4.3: of the length l of the longest
//! common subsequence, P = max l / words of the caption and R = max l / words of the reference, each over all references
//! and apart from the other; the value is (1 + b^2) P R / (R + b^2 P) with b = 1.2.

use super::Judged;

const BETA: f64 = 1.2;

/// The value of one caption, from 0 to 1.
pub fn rouge_l(judged: &Judged) -> f64 {
    // An empty text counts as one word, which is empty.
    let written: Vec<&str> = judged.written.split(' ').collect();
    let (mut precision, mut recall) = (0f64, 0f64);
    for reference in &judged.references {
        let reference: Vec<&str> = reference.split(' ').collect();
        let common = longest_common(&written, &reference) as f64;
        precision = precision.max(common / written.len() as f64);
        recall = recall.max(common / reference.len() as f64);
    }
    if precision == 0.0 {
        return 0.0;
    }
    (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
}

/// The length of the longest common subsequence.
fn longest_common(one: &[&str], other: &[&str]) -> usize {
    let mut row = vec![0; other.len() + 1];
    for word in one {
        let mut diagonal = 0;
        for (at, against) in other.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == against { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row[other.len()]
}
