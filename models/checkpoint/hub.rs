//! Where published files lie: in a folder here, or on the Hugging Face hub under the name `hub:OWNER/NAME[@REVISION]`.
//!
//! What was fetched once stays in the cache that other programs share (`HF_HUB_CACHE`, `HF_HOME`), and is taken from there
//! without asking again: a revision that is a branch, such as `main`, stays at the commit that was fetched. `HF_ENDPOINT`
//! names a mirror, `HF_TOKEN` opens private repositories, and with `HF_HUB_OFFLINE=1` the cache is all there is.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

use super::file::{INDEX, ONE, PICKLE, shards};

const CONFIG: &str = "config.json";
/// What says how words become tokens; either of the first two suffices.
const TOKENIZER: [&str; 4] =
    ["tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"];
/// What may lie beside weights and is fetched with them.
const BESIDE: &str = "preprocessor_config.json";

/// Files that could not be had: what, where, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}\n  help: {help}")]
pub struct Fault {
    /// The place as it was asked for.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub help: String,
}

impl From<Fault> for candle_core::Error {
    fn from(fault: Fault) -> Self {
        Self::Msg(fault.to_string())
    }
}

/// Where files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a folder here, or in one file.
    Path(PathBuf),
    /// In a repository of the hub.
    Hub {
        /// `OWNER/NAME`.
        name: String,
        /// A branch, a tag or a commit.
        revision: String,
    },
}

impl FromStr for Place {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let Some(asked) = text.strip_prefix("hub:") else { return Ok(Self::Path(text.into())) };
        let (name, revision) = asked.split_once('@').unwrap_or((asked, "main"));
        let plain = |part: &str| {
            let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
        };
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| plain(part)) || !revision.split('/').all(plain) {
            return Err(Fault {
                place: text.to_owned(),
                problem: "is no name of a repository".to_owned(),
                help: "write hub:OWNER/NAME or hub:OWNER/NAME@REVISION".to_owned(),
            });
        }
        Ok(Self::Hub { name: name.to_owned(), revision: revision.to_owned() })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(formatter, "{}", path.display()),
            Self::Hub { name, revision } if revision == "main" => write!(formatter, "hub:{name}"),
            Self::Hub { name, revision } => write!(formatter, "hub:{name}@{revision}"),
        }
    }
}

/// What is wanted of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `config.json` and tensors, with what says how to feed them where that is there.
    Weights,
    /// `tokenizer.json` or `vocab.txt`.
    Tokenizer,
}

/// How the hub is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// The address, without a slash at its end.
    pub endpoint: String,
    /// The folder that keeps what was fetched.
    pub cache: PathBuf,
    /// Opens private repositories.
    pub token: Option<String>,
    /// Whether the cache is all there is.
    pub offline: bool,
}

impl Hub {
    /// As the environment says, under the names that Hugging Face's own programs read.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`Hub::from_env`], of variables that are looked up otherwise.
    pub fn from_variables(look_up: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| look_up(name).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let user = || path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
        let home = path("HF_HOME").unwrap_or_else(|| user().unwrap_or_default().join("huggingface"));
        let kept = || {
            let text = fs::read_to_string(home.join("token")).ok()?;
            Some(text.trim().to_owned()).filter(|token| !token.is_empty())
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let offline = variable("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()));
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            token: variable("HF_TOKEN").or_else(kept),
            offline,
        }
    }

    /// The folder (or, of a path to one, the file) that holds `part`; of the hub it is fetched unless the cache has it.
    ///
    /// # Errors
    /// When the place holds no such part, or the hub cannot be reached or refuses.
    pub fn open(&self, place: &Place, part: Part) -> Result<PathBuf, Fault> {
        match place {
            Place::Path(path) if path.exists() => Ok(path.clone()),
            Place::Path(path) => Err(Fault {
                place: path.display().to_string(),
                problem: "is not there".to_owned(),
                help: "name a folder, or a repository as hub:OWNER/NAME".to_owned(),
            }),
            Place::Hub { name, revision } => {
                let repo = Repo::with_revision(name.clone(), RepoType::Model, revision.clone());
                Repository { hub: self, place, repo }.open(part)
            }
        }
    }
}

/// The folder or file that holds `part`, where `path` is one or names a repository, as the environment says.
///
/// # Errors
/// As [`Hub::open`].
pub fn find(path: &Path, part: Part) -> Result<PathBuf, Fault> {
    // What is no text is no name.
    let Some(text) = path.to_str() else { return Ok(path.to_owned()) };
    Hub::from_env().open(&text.parse()?, part)
}

/// One repository of the hub.
struct Repository<'a> {
    hub: &'a Hub,
    place: &'a Place,
    repo: Repo,
}

impl Repository<'_> {
    fn open(&self, part: Part) -> Result<PathBuf, Fault> {
        let cached = self.cached();
        let lacking = match &cached {
            Some(folder) => match lacking(folder, part) {
                None => return Ok(folder.clone()),
                Some(file) => format!("of {file} in {}", folder.display()),
            },
            None => format!("of this revision in {}", self.folder().display()),
        };
        if self.hub.offline {
            return Err(self.fault(
                format!("HF_HUB_OFFLINE is set, and the cache holds nothing {lacking}"),
                "fetch it once without HF_HUB_OFFLINE, or point HF_HOME to the cache that has it",
            ));
        }
        self.fetch(part)
    }

    /// What the cache keeps of the repository.
    fn folder(&self) -> PathBuf {
        self.hub.cache.join(self.repo.folder_name())
    }

    /// The cached files of the revision: of the commit that a branch or tag stood for when it was fetched.
    fn cached(&self) -> Option<PathBuf> {
        let revision = self.repo.revision();
        let commit = fs::read_to_string(self.folder().join("refs").join(revision));
        let commit = commit.map_or_else(|_| revision.to_owned(), |commit| commit.trim().to_owned());
        Some(self.folder().join("snapshots").join(commit)).filter(|folder| folder.is_dir())
    }

    /// Fetches every file of the part; the folder they lie in.
    fn fetch(&self, part: Part) -> Result<PathBuf, Fault> {
        let builder = ApiBuilder::from_cache(Cache::new(self.hub.cache.clone()));
        let builder = builder.with_endpoint(self.hub.endpoint.clone()).with_token(self.hub.token.clone());
        let api = builder.build().map_err(|fault| self.explained("the repository", fault))?;
        let known = api.repo(self.repo.clone()).info();
        let known = known.map_err(|fault| self.explained("the repository", fault))?;
        let mut names: Vec<String> = known.siblings.into_iter().map(|file| file.rfilename).collect();
        names.retain(|name| plain(name));
        let has = |name: &str| names.iter().any(|known| known == name);

        let mut wanted: Vec<&str> = TOKENIZER.into_iter().filter(|name| has(name)).collect();
        if part == Part::Weights {
            let weights = [ONE, INDEX, PICKLE].into_iter().find(|name| has(name));
            let Some(weights) = weights.filter(|_| has(CONFIG)) else {
                let problem = format!("holds no {CONFIG} with {ONE}, {INDEX} or {PICKLE} beside it");
                return Err(self.fault(problem, "name a repository of weights as transformers saves them"));
            };
            wanted.extend([CONFIG, weights]);
            wanted.extend(Some(BESIDE).filter(|name| has(name)));
        } else if !has(TOKENIZER[0]) && !has(TOKENIZER[1]) {
            let problem = format!("holds neither {} nor {}", TOKENIZER[0], TOKENIZER[1]);
            return Err(self.fault(problem, "name a repository with one of them, or a file here"));
        }
        let mut folders = BTreeSet::new();
        for name in wanted {
            let folder = self.file(&api, name)?;
            if name == INDEX {
                let shards = shards(&folder.join(INDEX))
                    .map_err(|fault| self.fault(fault.to_string(), "ask its owner for a whole one"))?;
                for shard in shards.iter().filter(|shard| plain(shard)) {
                    folders.insert(self.file(&api, shard)?);
                }
            }
            folders.insert(folder);
        }
        match folders.pop_first() {
            Some(folder) if folders.is_empty() => Ok(folder),
            _ => Err(self.fault("changed while it was fetched".to_owned(), "run again, or name a commit")),
        }
    }

    /// Fetches one file, goes on with what was fetched of it before, and compares it with what the hub announces; the
    /// folder it lies in.
    fn file(&self, api: &Api, name: &str) -> Result<PathBuf, Fault> {
        let repository = api.repo(self.repo.clone());
        let about = api.metadata(&repository.url(name)).map_err(|fault| self.explained(name, fault))?;
        let cache = Cache::new(self.hub.cache.clone()).repo(self.repo.clone());
        let blob = cache.blob_path(about.etag());
        let folder = cache.pointer_path(about.commit_hash());
        let length = |path: &Path| fs::metadata(path).map_or(0, |about| about.len());
        if folder.join(name).exists() {
            let noted = cache.create_ref(about.commit_hash());
            return noted.map(|()| folder).map_err(|fault| self.explained(name, fault.into()));
        }
        let (partial, whole) = (blob.with_extension("part"), about.size() as u64);
        if length(&partial) >= whole {
            // A longer one is none of this file, and of a complete one the hub has nothing more to give.
            drop(fs::remove_file(&partial));
        }
        let fetched = repository.download(name);
        let place = folder.join(name);
        let broken = |problem: String, help: &str| {
            drop(fs::remove_file(&place));
            Err(self.fault(problem, help))
        };
        match fetched {
            Err(ApiError::IoError(fault)) if partial.exists() => broken(
                format!("{name} broke off after {} of {whole} bytes ({fault})", length(&partial)),
                "run again: it goes on from there",
            ),
            Err(fault) => Err(self.explained(name, fault)),
            Ok(_) if length(&blob) < whole => {
                let problem = format!("{name} broke off after {} of {whole} bytes", length(&blob));
                drop(fs::rename(&blob, &partial));
                broken(problem, "run again: it goes on from there")
            }
            Ok(_) if length(&blob) > whole || !announced(&blob, about.etag()) => {
                drop(fs::remove_file(&blob));
                broken(format!("{name} is not the file that the hub announced"), "run again to fetch it anew")
            }
            Ok(_) => Ok(folder),
        }
    }

    /// What a failed request means.
    fn explained(&self, what: &str, fault: ApiError) -> Fault {
        let (endpoint, revision) = (&self.hub.endpoint, self.repo.revision());
        let reach = format!(
            "set HF_ENDPOINT to a mirror, or HF_HUB_OFFLINE=1 if {} has the files",
            self.hub.cache.display()
        );
        let ApiError::RequestError(fault) = fault else {
            return match fault {
                ApiError::LockAcquisition(path) => self.fault(
                    format!("another process is fetching {what}"),
                    &format!("wait for it; if there is none, delete {}", path.display()),
                ),
                ApiError::IoError(fault) => self.fault(
                    format!("{what} cannot be kept in {}: {fault}", self.hub.cache.display()),
                    "point HF_HOME to a folder with room that can be written",
                ),
                fault => {
                    self.fault(format!("{endpoint} answers for {what} not as a hub does: {fault}"), &reach)
                }
            };
        };
        match *fault {
            ureq::Error::StatusCode(404) => self.fault(
                format!("{endpoint} has no such thing: {what}, revision {revision}"),
                "check owner, name and revision",
            ),
            ureq::Error::StatusCode(code @ (401 | 403)) => self.fault(
                format!("{endpoint} refuses {what} ({code}): it is private, or there is no such repository"),
                "check the name; set HF_TOKEN to a token that may read it",
            ),
            ureq::Error::StatusCode(code) => {
                self.fault(format!("{endpoint} answers {code} for {what}"), "try again later")
            }
            fault => self.fault(format!("{endpoint} cannot be reached: {fault}"), &reach),
        }
    }

    fn fault(&self, problem: String, help: &str) -> Fault {
        Fault { place: self.place.to_string(), problem, help: help.to_owned() }
    }
}

/// Whether a name is one of a file in the repository's own folder, where what we read lies.
fn plain(name: &str) -> bool {
    !name.contains(['/', '\\']) && !name.starts_with('.')
}

/// The file that a folder lacks to hold a part.
fn lacking(folder: &Path, part: Part) -> Option<String> {
    let has = |name: &&str| folder.join(name).exists();
    if part == Part::Tokenizer {
        let either = format!("{} or {}", TOKENIZER[0], TOKENIZER[1]);
        return Some(either).filter(|_| !TOKENIZER[..2].iter().any(has));
    }
    if !has(&CONFIG) {
        return Some(CONFIG.to_owned());
    }
    match [ONE, INDEX, PICKLE].iter().copied().find(has) {
        None => Some(format!("{ONE} or {PICKLE}")),
        Some(INDEX) => match shards(&folder.join(INDEX)) {
            Ok(shards) => shards.into_iter().find(|shard| !folder.join(shard).exists()),
            Err(_) => Some(INDEX.to_owned()),
        },
        Some(_) => None,
    }
}

/// Whether a file is what its etag says; only that of a large file is a hash of the content.
fn announced(path: &Path, etag: &str) -> bool {
    if etag.len() != 64 || !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return true;
    }
    let hash = || -> std::io::Result<String> {
        let (mut file, mut hash, mut buffer) = (fs::File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    };
    hash().is_ok_and(|hash| hash == etag.to_lowercase())
}
