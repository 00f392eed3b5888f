//! Published files by name: a small hub on this machine, the cache it fills, and what is said where something is missing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use candle_core::Device;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use vlp_bench::models::checkpoint::Opened;
use vlp_bench::models::checkpoint::hub::{Hub, Part, Place};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NAME: &str = "hub:owner/name";

/// What the hub says to whoever asks.
#[derive(Clone, Default)]
struct Says {
    files: BTreeMap<String, Vec<u8>>,
    /// A status instead of an answer.
    refuses: Option<u16>,
    /// Sends no more than so many bytes of a file, though it announces all.
    stops_after: Option<usize>,
    /// Announces no length of what it sends.
    without_length: bool,
    /// A hash that is announced for every file.
    etag: Option<String>,
}

/// Answers on 127.0.0.1 until it is dropped.
struct Server {
    address: String,
    says: Arc<Mutex<Says>>,
    /// The path and the range of each request.
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (says, asked, stop) = (Arc::new(Mutex::new(says)), Arc::default(), Arc::<AtomicBool>::default());
        let shared = (says.clone(), Arc::<Mutex<Vec<String>>>::clone(&asked), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.2.load(Ordering::SeqCst) {
                    return;
                }
                let says = shared.0.lock().unwrap().clone();
                answer(stream.unwrap(), &says, &shared.1);
            }
        });
        Self { address, says, asked, stop, thread: Some(thread) }
    }

    fn hub(&self, cache: &TempDir) -> Hub {
        let endpoint = format!("http://{}", self.address);
        Hub { endpoint, cache: cache.path().to_owned(), token: None, offline: false }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(mut stream: TcpStream, says: &Says, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut path, mut from, mut to) = (String::new(), String::new(), 0, None);
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap().to_owned();
        } else if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            let (first, last) = range.trim().split_once('-').unwrap();
            (from, to) = (first.parse().unwrap(), last.parse::<usize>().ok());
        }
        line.clear();
    }
    asked.lock().unwrap().push(format!("{path} {from}-"));
    if let Some(status) = says.refuses {
        return drop(
            stream.write_all(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").as_bytes()),
        );
    }
    if path == "/api/models/owner/name/revision/main" {
        let files: Vec<String> =
            says.files.keys().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
        let body = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", files.join(", "));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        return drop(stream.write_all((head + &body).as_bytes()));
    }
    let name = path.strip_prefix("/owner/name/resolve/main/").unwrap_or_default();
    let Some(content) = says.files.get(name) else {
        return drop(stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    };
    let end = to.map_or(content.len(), |last| (last + 1).min(content.len()));
    let etag = says.etag.clone().unwrap_or_else(|| sha256(content));
    let length = format!("Content-Length: {}\r\n", end - from);
    let head = format!(
        "HTTP/1.1 206 Partial\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n{}\
         Content-Range: bytes {from}-{}/{}\r\nConnection: close\r\n\r\n",
        if says.without_length && to.is_none() { "" } else { &length },
        end.max(1) - 1,
        content.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let sent = says.stops_after.map_or(end, |most| end.min(from + most));
    drop(stream.write_all(&content[from..sent]));
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clip/gelu")
}

/// A whole checkpoint with a tokenizer, as `(name, content)`.
fn files() -> BTreeMap<String, Vec<u8>> {
    let read = |name: &str| (name.to_owned(), fs::read(golden().join(name)).unwrap());
    let made = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    [
        read("config.json"),
        read("model.safetensors"),
        made("tokenizer.json", "{}"),
        made("preprocessor_config.json", "{}"),
        made("pytorch_model.bin", "the same again"),
        made("onnx/model.onnx", "something else"),
    ]
    .into()
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn refused(hub: &Hub, part: Part) -> String {
    hub.open(&place(NAME), part).unwrap_err().to_string()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_place_is_a_path_or_a_repository_with_a_revision() {
    let hub =
        |name: &str, revision: &str| Place::Hub { name: name.to_owned(), revision: revision.to_owned() };
    assert_eq!(place("hub:a/b-c.d_e"), hub("a/b-c.d_e", "main"));
    assert_eq!(place("hub:a/b@refs/pr/1"), hub("a/b", "refs/pr/1"));
    assert_eq!(place("weights/a"), Place::Path("weights/a".into()));
    assert_eq!(place("hub:a/b@v1").to_string(), "hub:a/b@v1");
    for wrong in
        ["hub:", "hub:a", "hub:a/b/c", "hub:a/../b", "hub:../b", "hub:a/b@", "hub:a/b@../x", "hub:a b/c"]
    {
        let message = wrong.parse::<Place>().unwrap_err().to_string();
        assert!(message.contains("hub:OWNER/NAME@REVISION") && message.starts_with(wrong), "{message}");
    }
}

#[test]
fn a_repository_is_fetched_once_and_then_read_from_the_cache() {
    let (server, cache) =
        (Server::start(Says { files: files(), ..Says::default() }), tempfile::tempdir().unwrap());
    let hub = server.hub(&cache);
    let folder = hub.open(&place(NAME), Part::Weights).unwrap();
    assert_eq!(folder, cache.path().join("models--owner--name/snapshots").join(COMMIT));
    let expected = ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"];
    assert_eq!(names(&folder), expected);
    let opened = Opened::read(&folder, &Device::Cpu).unwrap();
    assert_eq!(opened.config, Opened::read(&golden(), &Device::Cpu).unwrap().config);

    server.asked();
    let offline = Hub { offline: true, ..hub.clone() };
    for (hub, name) in [(&hub, NAME), (&offline, NAME), (&offline, &format!("{NAME}@{COMMIT}"))] {
        for part in [Part::Weights, Part::Tokenizer] {
            assert_eq!(hub.open(&place(name), part).unwrap(), folder);
        }
    }
    assert!(server.asked().is_empty());
}

#[test]
fn a_checkpoint_in_several_files_is_fetched_whole() {
    let mut files = files();
    let whole = files.remove("model.safetensors").unwrap();
    files.remove("tokenizer.json");
    files.insert("part-1.safetensors".to_owned(), whole);
    let index = "{\"weight_map\": {\"logit_scale\": \"part-1.safetensors\", \"x\": \"../../../x\"}}";
    files.insert("model.safetensors.index.json".to_owned(), index.as_bytes().to_vec());
    let (server, cache) = (Server::start(Says { files, ..Says::default() }), tempfile::tempdir().unwrap());
    let folder = server.hub(&cache).open(&place(NAME), Part::Weights).unwrap();
    assert!(folder.join("part-1.safetensors").exists() && !folder.join("pytorch_model.bin").exists());
    assert_eq!(names(cache.path()), ["models--owner--name"]);
    let message = refused(&server.hub(&cache), Part::Tokenizer);
    assert!(message.contains("holds neither tokenizer.json nor vocab.txt"), "{message}");
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_stopped() {
    for without_length in [false, true] {
        let says = Says { files: files(), stops_after: Some(3000), without_length, ..Says::default() };
        let (server, cache) = (Server::start(says), tempfile::tempdir().unwrap());
        let hub = server.hub(&cache);
        let message = refused(&hub, Part::Weights);
        assert!(
            message.starts_with("hub:owner/name: model.safetensors broke off after 3000 of"),
            "{message}"
        );
        assert!(message.contains("run again: it goes on from there"), "{message}");
        server.says.lock().unwrap().stops_after = None;
        server.asked();
        let folder = hub.open(&place(NAME), Part::Weights).unwrap();
        let range = "/owner/name/resolve/main/model.safetensors 3000-".to_owned();
        assert!(server.asked().contains(&range));
        let got = fs::read(folder.join("model.safetensors")).unwrap();
        assert_eq!(got, fs::read(golden().join("model.safetensors")).unwrap());
    }
}

#[test]
fn a_file_of_another_content_than_announced_is_not_kept() {
    let says = Says { files: files(), etag: Some("0".repeat(64)), ..Says::default() };
    let (server, cache) = (Server::start(says), tempfile::tempdir().unwrap());
    let message = refused(&server.hub(&cache), Part::Tokenizer);
    assert!(message.contains("tokenizer.json is not the file that the hub announced"), "{message}");
    server.says.lock().unwrap().etag = None;
    server.hub(&cache).open(&place(NAME), Part::Tokenizer).unwrap();
}

#[test]
fn what_the_hub_refuses_is_said_in_one_message_with_what_to_do() {
    for (refuses, files, words) in [
        (Some(404), files(), ["has no such thing: the repository, revision main", "check owner"]),
        (Some(401), files(), ["refuses the repository (401): it is private", "HF_TOKEN"]),
        (Some(403), files(), ["refuses the repository (403)", "HF_TOKEN"]),
        (Some(503), files(), ["answers 503 for the repository", "try again later"]),
        (None, BTreeMap::new(), ["holds no config.json with model.safetensors", "name a repository"]),
    ] {
        let (server, cache) =
            (Server::start(Says { files, refuses, ..Says::default() }), tempfile::tempdir().unwrap());
        let message = refused(&server.hub(&cache), Part::Weights);
        assert!(message.starts_with("hub:owner/name: "), "{message}");
        assert_eq!(message.matches("help: ").count(), 1, "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
    let cache = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = Hub {
        endpoint: format!("http://{free}"),
        cache: cache.path().to_owned(),
        token: None,
        offline: false,
    };
    let message = refused(&hub, Part::Weights);
    for words in [&format!("http://{free} cannot be reached"), "HF_ENDPOINT", "HF_HUB_OFFLINE=1"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn without_a_connection_the_cache_is_all_there_is() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub {
        endpoint: "http://127.0.0.1:9".to_owned(),
        cache: cache.path().to_owned(),
        token: None,
        offline: true,
    };
    let repository = cache.path().join("models--owner--name");
    let message = refused(&hub, Part::Weights);
    for words in
        ["HF_HUB_OFFLINE is set", &format!("of this revision in {}", repository.display()), "HF_HOME"]
    {
        assert!(message.contains(words), "{message}");
    }
    let folder = repository.join("snapshots").join(COMMIT);
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), COMMIT).unwrap();
    fs::copy(golden().join("config.json"), folder.join("config.json")).unwrap();
    let message = refused(&hub, Part::Weights);
    let lacking = format!("nothing of model.safetensors or pytorch_model.bin in {}", folder.display());
    assert!(message.contains(&lacking), "{message}");
    fs::copy(golden().join("model.safetensors"), folder.join("model.safetensors")).unwrap();
    assert_eq!(hub.open(&place(NAME), Part::Weights).unwrap(), folder);
    assert!(refused(&hub, Part::Tokenizer).contains("nothing of tokenizer.json or vocab.txt"));
}

#[test]
fn the_environment_says_where_the_hub_and_the_cache_are() {
    let hub = |variables: &[(&str, &str)]| {
        Hub::from_variables(|name| {
            let known = variables.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        })
    };
    let plain = hub(&[("HOME", "/h")]);
    assert_eq!((plain.endpoint.as_str(), plain.offline), ("https://huggingface.co", false));
    assert_eq!(plain.cache, Path::new("/h/.cache/huggingface/hub"));
    let set = [("HF_HOME", "/f"), ("HF_ENDPOINT", "http://m/"), ("HF_HUB_OFFLINE", "1"), ("HF_TOKEN", "t")];
    let set = hub(&set);
    assert_eq!((set.endpoint.as_str(), set.offline, set.token.as_deref()), ("http://m", true, Some("t")));
    assert_eq!(set.cache, Path::new("/f/hub"));
    assert_eq!(hub(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")]).cache, Path::new("/c"));
    assert!(!hub(&[("HF_HUB_OFFLINE", "0")]).offline);
}
