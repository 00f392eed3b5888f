//! The WordPiece vocabulary that ships with the program: lower-case pieces of the words of its own data sets.
//!
//! A text is lower-cased, stripped of accents and control characters, cut at spaces and punctuation (as BERT does:
//! Devlin et al., arXiv:1810.04805), and each word is spelt with the longest pieces that fit; `##` begins a piece
//! inside a word. `data/packs/vocab.txt` has one piece a line in the order of their ids, as BERT's own file, and
//! `data/packs/vocabulary.py` trains it on the captions and tags of the training splits.

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{Tokenizer, TokenizerBuilder};

use super::collate::{Encode, Encoding};
use super::{Error, Result};
use crate::token::{CLS, SEP, SPECIAL};

const SHIPPED: &str = include_str!("packs/vocab.txt");

/// Spells texts with the pieces of one vocabulary.
pub struct Vocabulary {
    tokenizer: Tokenizer,
    pieces: Vec<String>,
}

impl Vocabulary {
    /// The vocabulary that is part of the program.
    ///
    /// # Errors
    /// If it was damaged before the program was built.
    pub fn shipped() -> Result<Self> {
        Self::new(SHIPPED)
    }

    /// The vocabulary in a file of one piece a line, as BERT's `vocab.txt`.
    ///
    /// # Errors
    /// If the file cannot be read, repeats a piece or does not begin with the special tokens.
    pub fn read(file: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
        Self::new(&text)
    }

    /// The vocabulary with these pieces, one a line.
    ///
    /// # Errors
    /// As [`Vocabulary::read`].
    pub fn new(text: &str) -> Result<Self> {
        let pieces: Vec<String> = text.lines().map(str::to_owned).collect();
        if pieces.iter().zip(SPECIAL).filter(|(piece, special)| piece == special).count() < SPECIAL.len() {
            return Err(fault(
                "does not begin with the special tokens".to_owned(),
                format!("let its first lines be {}", SPECIAL.join(", ")),
            ));
        }
        let mut ids = BTreeMap::new();
        for (piece, id) in pieces.iter().zip(0u32..) {
            if let Some(earlier) = ids.insert(piece.as_str(), id) {
                return Err(fault(
                    format!("lines {} and {} are both `{piece}`", earlier + 1, id + 1),
                    "let each line be a piece of its own".to_owned(),
                ));
            }
        }
        let tokenizer = tokenizer(text).map_err(|error| {
            fault(format!("cannot be used: {error}"), "take the shipped vocabulary".to_owned())
        })?;
        Ok(Self { tokenizer, pieces })
    }

    /// V: how many tokens there are, the special ones included.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are none; never so.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl Encode for Vocabulary {
    fn encode(&self, text: &str, most: usize) -> Result<Encoding> {
        let encoding = self.tokenizer.encode(text, false).map_err(|error| {
            fault(format!("cannot spell `{text}`: {error}"), "remove the pair".to_owned())
        })?;
        let room = most.saturating_sub(2);
        let mut ids = vec![CLS];
        ids.extend(encoding.get_ids().iter().take(room));
        ids.push(SEP);
        let mut word_starts = vec![0];
        let words = encoding.get_word_ids();
        let before = [None].into_iter().chain(words.iter().copied());
        word_starts
            .extend(words.iter().zip(before).map(|(word, before)| u8::from(*word != before)).take(room));
        word_starts.push(0);
        Ok(Encoding { ids, word_starts })
    }

    /// `[UNK]` and `[MASK]` stand as they are.
    fn text(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        for id in ids {
            let piece = self.pieces.get(*id as usize).map_or("[UNK]", String::as_str);
            match piece.strip_prefix("##") {
                Some(inner) => text.push_str(inner),
                None if [SPECIAL[0], SPECIAL[2], SPECIAL[3]].contains(&piece) => {}
                None if text.is_empty() => text.push_str(piece),
                None => text.extend([" ", piece]),
            }
        }
        text
    }
}

fn tokenizer(text: &str) -> tokenizers::Result<Tokenizer> {
    let model = WordPiece::builder().vocab(WordPiece::read_bytes(text.as_bytes())?).build()?;
    let tokenizer = TokenizerBuilder::new()
        .with_model(model)
        .with_normalizer(Some(BertNormalizer::new(true, true, None, true)))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
        .with_decoder(None::<tokenizers::DecoderWrapper>)
        .build()?;
    Ok(tokenizer.into())
}

fn fault(problem: String, help: String) -> Error {
    Error::Vocabulary { problem, help }
}
