//! Pictures by the names of their files, a few at a time.

use std::fs;
use std::path::{Path, PathBuf};

use super::Subject;
use super::subject::BATCH;
use crate::data::picture;
use crate::experiments::failure::Result;
use crate::experiments::fault::Fault;
use crate::experiments::progress::{Progress, Show};
use crate::models::{Image, View};

const ENDS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Files of pictures.
pub struct Pictures {
    files: Vec<PathBuf>,
    show: Show,
    /// Those that could not be read.
    pub skipped: Vec<PathBuf>,
}

impl Pictures {
    /// Files as they are, and of folders all pictures below them, in order of their names.
    ///
    /// # Errors
    /// When a folder cannot be read, or there is no picture.
    pub fn find(places: &[PathBuf], show: Show) -> Result<Self> {
        let mut files = Vec::new();
        for place in places {
            if place.is_dir() { walk(place, &mut files)? } else { files.push(place.clone()) }
        }
        if files.is_empty() {
            let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
            let fault = Fault::new(format!("{}: no picture there ({})", places.join(", "), ENDS.join(", ")));
            return Err(fault.into());
        }
        Ok(Self { files, show, skipped: Vec::new() })
    }

    /// Shows all of them to `see`, with their names, a batch at a time.
    ///
    /// # Errors
    /// Whatever `see` fails with, or when none can be read.
    pub fn each(
        &mut self,
        subject: &Subject,
        mut see: impl FnMut(&[String], &View<Image>) -> Result<()>,
    ) -> Result<()> {
        let mut progress = Progress::new(self.show, &subject.name, 0, self.files.len() as u64);
        let (mut done, mut seen) = (0, 0);
        for files in self.files.chunks(BATCH) {
            let (mut names, mut pictures) = (Vec::new(), Vec::new());
            for file in files {
                match picture::open(file) {
                    Ok(picture) => {
                        names.push(file.display().to_string());
                        pictures.push(picture);
                    }
                    Err(problem) => {
                        self.show.line(&format!("{}: {problem}; passed over", file.display()));
                        self.skipped.push(file.clone());
                    }
                }
            }
            seen += names.len();
            if !names.is_empty() {
                see(&names, &subject.image(pictures)?)?;
            }
            done += files.len() as u64;
            progress.count(done, "pictures");
        }
        progress.end();
        if seen == 0 {
            return Err(Fault::new("none of the pictures can be read".to_owned()).into());
        }
        Ok(())
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |fault| Fault::new(format!("{}: cannot be read: {fault}", folder.display()));
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?);
    }
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        // Links are not followed: a loop would have no end.
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let end = path.extension().and_then(|end| end.to_str()).map(str::to_lowercase);
        if folder {
            walk(&path, files)?;
        } else if end.is_some_and(|end| ENDS.contains(&end.as_str())) {
            files.push(path);
        }
    }
    Ok(())
}
