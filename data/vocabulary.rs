//! How texts become tokens: by the vocabulary that ships with the program, or by one that comes with published weights.
//!
//! The shipped one is WordPiece: a text is lower-cased, stripped of accents and control characters, cut at spaces and
//! punctuation (as BERT does: Devlin et al., arXiv:1810.04805), and each word is spelt with the longest pieces that fit;
//! `##` begins a piece inside a word. `data/packs/vocab.txt` has one piece a line in the order of their ids, as BERT's own
//! file, and `data/packs/vocabulary.py` trains it on the captions and tags of the training splits.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use super::collate::{Encode, Encoding};
use super::pack::hexadecimal;
use super::{Error, Result};
use crate::token::{SPECIAL, Specials};

mod published;

use published::Spelling;

/// How many texts are remembered as they were spelt; further ones are spelt each time.
const TEXTS: usize = 1 << 16;

const SHIPPED: &str = include_str!("packs/vocab.txt");

/// Spells texts with the pieces of one vocabulary.
pub struct Vocabulary {
    tokenizer: Tokenizer,
    specials: Specials,
    entries: usize,
    /// Of the file, and of what lies beside it and decides the tokens; none for what is part of the program.
    fingerprint: String,
    /// Texts as they were spelt before, up to [`TEXTS`].
    known: Mutex<HashMap<String, Arc<Encoding>>>,
}

impl Vocabulary {
    /// The vocabulary that is part of the program.
    ///
    /// # Errors
    /// If it was damaged before the program was built.
    pub fn shipped() -> Result<Self> {
        Ok(Self { fingerprint: String::new(), ..Self::new(SHIPPED)? })
    }

    /// The vocabulary in a file, or in a folder with one: `tokenizer.json` as the tokenizers library writes it, or BERT's
    /// `vocab.txt`. What `tokenizer_config.json` beside it says of letters' case and of special tokens is heeded.
    ///
    /// # Errors
    /// If the file cannot be read, repeats a piece or lacks special tokens.
    pub fn read(place: &Path) -> Result<Self> {
        published::read(place)
    }

    /// The vocabulary with these pieces, one a line, as in BERT's `vocab.txt`, of lower-case letters.
    ///
    /// # Errors
    /// As [`Vocabulary::read`].
    pub fn new(text: &str) -> Result<Self> {
        Self::spelt(text, Spelling::default())
    }

    fn spelt(text: &str, spelling: Spelling) -> Result<Self> {
        let mut ids = BTreeMap::new();
        for (piece, id) in text.lines().zip(0u32..) {
            if let Some(earlier) = ids.insert(piece, id) {
                return Err(fault(
                    format!("lines {} and {} are both `{piece}`", earlier + 1, id + 1),
                    "let each line be a piece of its own",
                ));
            }
        }
        let lacking: Vec<&str> = SPECIAL.into_iter().filter(|special| !ids.contains_key(special)).collect();
        let [Some(pad), unknown, begin, end, mask] = SPECIAL.map(|special| ids.get(special).copied()) else {
            return Err(lacks(&lacking));
        };
        if !lacking.is_empty() {
            return Err(lacks(&lacking));
        }
        let tokenizer = spelling
            .tokenizer(text)
            .map_err(|error| fault(format!("cannot be used: {error}"), "take the shipped vocabulary"))?;
        let specials = Specials { pad, begin, end, mask, unknown, others: Vec::new() };
        Ok(Self::with(tokenizer, specials, &[text.as_bytes(), format!("{spelling:?}").as_bytes()]))
    }

    /// A vocabulary that the bytes of `sources` decide.
    fn with(tokenizer: Tokenizer, specials: Specials, sources: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for source in sources {
            hash.update((source.len() as u64).to_le_bytes());
            hash.update(source);
        }
        let ids = tokenizer.get_vocab(true).into_values();
        let entries = ids.max().map_or(0, |last| last as usize + 1);
        let (fingerprint, known) = (hexadecimal(&hash.finalize()), Mutex::default());
        Self { tokenizer, specials, entries, fingerprint, known }
    }

    /// V: how many tokens there are, the special ones included.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Gives word tables `rows` rows: published ones may have more than there are tokens. No word is spelt with the others.
    ///
    /// # Errors
    /// If there are more tokens than that.
    pub fn lengthen(&mut self, rows: usize) -> Result<()> {
        if rows < self.entries {
            let problem = format!("is {rows}, and the tokenizer has {} tokens", self.entries);
            return Err(Error::setting("data.entries", problem, "give as many or more, or leave it out"));
        }
        self.specials.others.extend(self.entries as u32..rows as u32);
        self.entries = rows;
        Ok(())
    }

    /// Whether there are none; never so.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The whole text without the tokens that begin and end it.
    fn pieces(&self, text: &str) -> Result<Arc<Encoding>> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pieces) = known().get(text) {
            return Ok(pieces.clone());
        }
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|error| fault(format!("cannot spell `{text}`: {error}"), "remove the pair"))?;
        let (words, tokens) = (encoding.get_word_ids(), encoding.get_tokens());
        let before = [None].into_iter().chain(words.iter().copied());
        // A tokenizer that cuts nothing beforehand counts one word and marks where words begin by this sign alone.
        let begins = words.iter().zip(before).zip(tokens);
        let starts = begins.map(|((word, before), token)| *word != before || token.starts_with('▁'));
        let word_starts = starts.map(u8::from).collect();
        let pieces = Arc::new(Encoding { ids: encoding.get_ids().to_vec(), word_starts });
        let mut known = known();
        if known.len() < TEXTS {
            known.insert(text.to_owned(), pieces.clone());
        }
        Ok(pieces)
    }
}

impl Encode for Vocabulary {
    fn encode(&self, text: &str, most: usize) -> Result<Encoding> {
        let pieces = self.pieces(text)?;
        let Specials { begin, end, .. } = self.specials;
        let room = most.saturating_sub(begin.iter().len() + end.iter().len());
        let mut word_starts = vec![0; begin.iter().len()];
        word_starts.extend(pieces.word_starts.iter().take(room));
        word_starts.extend(end.iter().map(|_| 0));
        let ids = pieces.ids.iter().copied().take(room);
        Ok(Encoding { ids: begin.into_iter().chain(ids).chain(end).collect(), word_starts })
    }

    fn specials(&self) -> &Specials {
        &self.specials
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Others, such as `[UNK]` and `[MASK]`, stand as they are.
    fn text(&self, ids: &[u32]) -> String {
        let Specials { pad, begin, end, .. } = self.specials;
        let silent = [Some(pad), begin, end];
        let ids: Vec<u32> = ids.iter().copied().filter(|id| !silent.contains(&Some(*id))).collect();
        // Byte-level decoders leave the mark that CLIP's pieces have at the end of a word.
        let text = self.tokenizer.decode(&ids, false).unwrap_or_default().replace("</w>", " ");
        text.trim().to_owned()
    }
}

fn lacks(tokens: &[&str]) -> Error {
    fault(format!("lacks the special tokens {}", tokens.join(", ")), "give each a line of its own")
}

fn fault(problem: String, help: &str) -> Error {
    Error::Vocabulary { problem, help: help.to_owned() }
}
