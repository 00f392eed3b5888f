//! The page that is part of the project: records in, the same files out, byte by byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::tempdir;
use vlp_bench::experiments::catalogue::catalogue;
use vlp_bench::reports::reproduction;

/// Every file below a folder by its path there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(
                files(&entry.path()).into_iter().map(|(rest, bytes)| (format!("{name}/{rest}"), bytes)),
            );
        } else {
            all.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    all
}

#[test]
fn the_published_page_is_what_its_records_give() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let published = root.join("reports/published");
    let out = tempdir().unwrap();
    let catalogue = catalogue(Path::new("experiments")).unwrap();
    reproduction(&catalogue, &[published.join("runs")], out.path()).unwrap();
    let (new, old) = (files(out.path()), files(&published.join("page")));
    assert_eq!(new.keys().collect::<Vec<_>>(), old.keys().collect::<Vec<_>>());
    let differs: Vec<&String> = new.keys().filter(|name| new[*name] != old[*name]).collect();
    assert!(
        new.contains_key("index.html") && differs.is_empty(),
        "draw them anew with tools/publish: {differs:?}"
    );
}
