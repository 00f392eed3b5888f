//! What a command lays over an experiment file, and how the command is spelt.

use std::path::Path;

/// What the command lays over the file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--profile smoke`
    pub profile: Option<String>,
    /// `--set train.steps=10`
    pub set: Vec<String>,
    /// `--seeds 0,1,2`
    pub seeds: Option<String>,
}

impl Options {
    /// The flags that say the same again.
    pub fn flags(&self) -> Vec<String> {
        let pair = |flag: &str, value: &String| [flag.to_owned(), value.clone()];
        let mut flags = Vec::new();
        flags.extend(self.profile.iter().flat_map(|name| pair("--profile", name)));
        flags.extend(self.set.iter().flat_map(|change| pair("--set", change)));
        flags.extend(self.seeds.iter().flat_map(|seeds| pair("--seeds", seeds)));
        flags
    }

    /// The command that runs a file with them, as its records name it.
    pub fn command(&self, file: &Path) -> String {
        spelt(
            ["vlp".to_owned(), "run".to_owned(), file.display().to_string()].into_iter().chain(self.flags()),
        )
    }
}

/// A command as a shell takes it.
pub fn spelt(words: impl IntoIterator<Item = String>) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_=.,/+:".contains(letter);
    let quoted = |word: String| match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}
