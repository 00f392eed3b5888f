//! What the head of a source file says about the part in it: the `//!` lines at its top are the manual that `vlp list`,
//! the checks and the reports quote.

/// The first sentence of the head.
pub fn description(source: &str) -> String {
    let paragraph = head(source).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let end = paragraph.match_indices(['.', '?', '!']).map(|(at, _)| at + 1);
    let end = end.into_iter().find(|&end| paragraph[end..].starts_with(' '));
    paragraph[..end.unwrap_or(paragraph.len())].to_owned()
}

/// What differs from the paper on purpose: each `Deviation:` line of the head with the lines that continue it.
pub fn deviations(source: &str) -> Vec<String> {
    let mut deviations: Vec<String> = Vec::new();
    let mut continues = false;
    for line in head(source) {
        if let Some(first) = line.strip_prefix("Deviation:") {
            deviations.push(first.trim().to_owned());
            continues = true;
        } else if line.is_empty() {
            continues = false;
        } else if let (true, Some(deviation)) = (continues, deviations.last_mut()) {
            deviation.push(' ');
            deviation.push_str(line);
        }
    }
    deviations
}

fn head(source: &str) -> impl Iterator<Item = &str> {
    source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim)
}
