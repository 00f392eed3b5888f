//! Vocabularies that come with published weights, in the files that transformers saves beside them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{Tokenizer, TokenizerBuilder, decoders};

use super::{Error, Result, Specials, Vocabulary, fault};

const JSON: &str = "tokenizer.json";
const PIECES: &str = "vocab.txt";
/// What may lie beside either; the first that knows a token's role decides.
const SETTINGS: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// What of a text a WordPiece vocabulary spells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spelling {
    /// Whether letters lose their case.
    lower: bool,
    /// Whether letters lose their accents; as their case, unless it is said.
    strip: Option<bool>,
    /// Whether each Chinese character is a word of its own.
    chinese: bool,
}

impl Default for Spelling {
    fn default() -> Self {
        Self { lower: true, strip: None, chinese: true }
    }
}

impl Spelling {
    pub(super) fn tokenizer(self, pieces: &str) -> tokenizers::Result<Tokenizer> {
        let model = WordPiece::builder().vocab(WordPiece::read_bytes(pieces.as_bytes())?).build()?;
        let normalizer = BertNormalizer::new(true, self.chinese, self.strip, self.lower);
        let tokenizer = TokenizerBuilder::new()
            .with_model(model)
            .with_normalizer(Some(normalizer))
            .with_pre_tokenizer(Some(BertPreTokenizer))
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
            .with_decoder(Some(decoders::wordpiece::WordPiece::new("##".to_owned(), false)))
            .build()?;
        Ok(tokenizer.into())
    }
}

pub(super) fn read(place: &Path) -> Result<Vocabulary> {
    let file = match place.is_dir() {
        false => place.to_owned(),
        true => {
            [JSON, PIECES].map(|name| place.join(name)).into_iter().find(|file| file.exists()).ok_or_else(
                || {
                    let problem = format!("{} holds neither {JSON} nor {PIECES}", place.display());
                    fault(problem, "name a folder with one of them, or such a file")
                },
            )?
        }
    };
    let bytes = fs::read(&file).map_err(|source| Error::Read { file: file.clone(), source })?;
    let settings = Settings::beside(&file)?;
    let vocabulary = if file.extension().is_some_and(|ending| ending == "json") {
        json(&bytes, &settings)
    } else {
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| fault(error.to_string(), "give a text of one piece a line"))?;
        Vocabulary::spelt(text, settings.spelling())
    };
    vocabulary.map_err(|error| match error {
        Error::Vocabulary { problem, help } => {
            Error::Vocabulary { problem: format!("{} {problem}", file.display()), help }
        }
        other => other,
    })
}

/// The vocabulary of a `tokenizer.json`. It puts its special tokens around a text as the file's own template says.
fn json(bytes: &[u8], settings: &Settings) -> Result<Vocabulary> {
    let unusable = |error: tokenizers::Error| {
        fault(format!("cannot be read: {error}"), "give a file that the tokenizers library wrote")
    };
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(unusable)?;
    let padding = tokenizer.get_padding().map(|padding| padding.pad_id);
    // Both depend on the batch and are done there.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(unusable)?;

    let sample = tokenizer.encode("a", true).map_err(unusable)?;
    let added = sample.get_special_tokens_mask();
    let around = |added: &mut dyn Iterator<Item = (&u32, &u32)>| -> Vec<u32> {
        added.take_while(|(_, added)| **added == 1).map(|(id, _)| *id).collect()
    };
    let mut front = around(&mut sample.get_ids().iter().zip(added));
    let mut back = around(&mut sample.get_ids().iter().zip(added).rev());
    if front.len() > 1 || back.len() > 1 {
        let problem = format!("puts {} tokens before and {} behind a text", front.len(), back.len());
        return Err(fault(problem, "one at most can stand there: change its `post_processor`"));
    }
    let (begin, end) = (front.pop(), back.pop());

    let role = |name: &str, usual: &[&str]| {
        let said = settings.token(name).and_then(|token| tokenizer.token_to_id(&token));
        said.or_else(|| usual.iter().find_map(|token| tokenizer.token_to_id(token)))
    };
    let pad = role("pad_token", &[]).or(padding).or_else(|| role("pad_token", &["[PAD]", "<pad>"]));
    let mut others: Vec<u32> = tokenizer
        .get_added_tokens_decoder()
        .into_iter()
        .filter(|(_, token)| token.special)
        .map(|(id, _)| id)
        .collect();
    others.sort_unstable();
    let specials = Specials {
        // What stands behind the end of a text is read by nothing.
        pad: pad.or(end).unwrap_or(0),
        begin,
        end,
        mask: role("mask_token", &["[MASK]", "<mask>"]),
        unknown: role("unk_token", &["[UNK]", "<unk>"]),
        others,
    };
    let roles = format!("{specials:?}");
    Ok(Vocabulary::with(tokenizer, specials, &[bytes, roles.as_bytes()]))
}

/// What transformers saves beside a vocabulary.
struct Settings(Vec<Json>);

impl Settings {
    fn beside(file: &Path) -> Result<Self> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let files: Vec<PathBuf> = SETTINGS.map(|name| folder.join(name)).into();
        let there = files.into_iter().filter(|file| file.exists());
        let read = |file: PathBuf| {
            let text =
                fs::read_to_string(&file).map_err(|source| Error::Read { file: file.clone(), source })?;
            serde_json::from_str(&text).map_err(|error| {
                fault(format!("{}: {error}", file.display()), "give the file that transformers saved")
            })
        };
        Ok(Self(there.map(read).collect::<Result<_>>()?))
    }

    /// The token in a role, which stands there as a text or as its description.
    fn token(&self, role: &str) -> Option<String> {
        let known = self.0.iter().filter_map(|settings| settings.get(role));
        let mut texts = known.filter_map(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
        texts.next().map(str::to_owned)
    }

    fn spelling(&self) -> Spelling {
        let flag = |key: &str| self.0.iter().find_map(|settings| settings.get(key)?.as_bool());
        let Spelling { lower, strip, chinese } = Spelling::default();
        Spelling {
            lower: flag("do_lower_case").unwrap_or(lower),
            strip: flag("strip_accents").or(strip),
            chinese: flag("tokenize_chinese_chars").unwrap_or(chinese),
        }
    }
}
