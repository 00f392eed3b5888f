//! A caption as the words that caption metrics count: split, lower-cased, without punctuation.
//!
//! The published values of these metrics rest on the tokeniser of Stanford CoreNLP 3.4.1, called as Chen et al.,
//! arXiv:1504.00325, section 4.1 call it, and on their list of punctuation. That list knows neither lower-cased brackets
//! nor several exclamation marks in a row, so `-lrb-` and `!!` count as words. At every place the longest pattern that
//! fits makes the next token.
//!
//! Deviation: the patterns are those that captions need; accented letters written as entities of HTML, and file names that
//! begin with a digit, may be cut otherwise.

use regex::Regex;

use crate::experiments::failure::{Failure, Result};

/// Tokens that are left out.
const PUNCTUATION: [&str; 13] = ["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// What a token looks like. Where a pattern has a group, the group is the token and the rest what must follow it.
const PATTERNS: [&str; 31] = [
    // Addresses, names of files, marks of social networks.
    r#"(?i:https?)://[^\s"<>|(){}]+[^\s"'<>|.!?(){},-]"#,
    r#"(?:www\.(?:[^\s"`'<>|.!?(){},]+\.)+[a-zA-Z]{2,4}|(?:[^\s"`'<>|.!?(){},_$-]+\.)+(?:com|net|org|edu))(?:/[^\s"<>|()]+[^\s"<>|.!?(){},-])?"#,
    r#"[a-zA-Z0-9][^\s"<>|(){}]*@(?:[^\s"<>|(){}.]+\.)*[^\s"<>|(){}.,]+"#,
    r"[@#]\p{L}[\p{L}\d_]*",
    r"[\p{L}\d]+(?:[-_][\p{L}\d]+)+",
    // Markup.
    r#"<(?:[!?][A-Za-z-][^>\r\n]*|/?[A-Za-z][A-Za-z0-9:.-]*(?: +[A-Za-z][A-Za-z0-9:.-]*(?: *= *(?:"[^"]*"|'[^']*'))?)* */?)>"#,
    r"&(?:#\d+|amp|lt|gt|quot|nbsp|apos);",
    // Numbers.
    r"[-+]?(?:\d*(?:[.:,]\d+)+|\d+)",
    r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}",
    r"(?:\d{1,4}[- ])?\d{1,4}/\d{1,4}",
    r"['\u{2019}]\d\ds?",
    // Words.
    r"\p{L}[\p{L}\d]*(?:[.!?]\p{L}[\p{L}\d]*)*",
    r"(?:[dDoOlL]['\u{2019}]\p{L})?[\p{L}\d]+(?:-(?:[dDoOlL]['\u{2019}]\p{L})?[\p{L}\d]+)*",
    r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9]+))+",
    r"[A-Z]+(?:[+&][A-Z]+)+",
    r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}",
    r"(?i:c\+\+|[cf]#)",
    // A negation's own word begins with its n, which the word before it gives away.
    r"(?i)(\p{L}+)n['\u{2019}]t(?:[^\p{L}]|$)",
    r"(?i)(n['\u{2019}]t)(?:[^\p{L}]|$)",
    r"(?i)(['\u{2019}](?:[msd]|re|ve|ll))(?:[^\p{L}]|$)",
    r"(?i)ma['\u{2019}]am|c['\u{2019}]mon|['\u{2019}]n(?:['\u{2019}]|\b)|['\u{2019}]em|ol['\u{2019}]|y['\u{2019}]|d['\u{2019}]ye|['\u{2019}]tis|['\u{2019}]twas",
    // Abbreviations.
    r"\p{L}(?:\.\p{L})*\.|(?:Ed|Ph)\.D\.",
    r"(?i:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri|calif|conn|fla|colo|ga|kan|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt|wis|wyo|ala|ariz|mrs?|ms|drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|mt|capt|ste?|ave|pres|lieut|hon|brig|co?mdr|pfc|spc|supts?|det|inc|cos?|corp|pt[ey]s?|ltd|plc|bancorp|dept|bhd|assn|univ|intl|sys|ph|tel|est|ext|sq|ft|[js]r|bros|blvd|rd|esq|vs|etc|al|seq|cf|alex|wm|jos|cie|ct|bldg|mfg|elec|ens|adj|asst|insp|mlle|mme|rt|sfc|assoc)\.",
    r"(?:M(?i:ass)|D(?i:el)|I(?i:ll)|I(?i:nd)|L(?i:a)|M(?i:iss)|O(?i:re)|P(?i:a)|T(?i:ex)|W(?i:ash)|A(?i:rk))\.",
    r"((?i:nos?|prop|figs?|pp|ca|art|op)\.)\s*\d",
    // Before a sign within a sentence a full stop belongs to its word.
    r"(\p{L}[\p{L}\d]*(?:[.!?]\p{L}[\p{L}\d]*)*\.)[,;:\u{3001}]",
    r"((?:[dDoOlL]['\u{2019}]\p{L})?[\p{L}\d]+(?:-(?:[dDoOlL]['\u{2019}]\p{L})?[\p{L}\d]+)*\.)[,;:\u{3001}]",
    // Signs that stand together.
    r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])(?:[^A-Za-z]|$)",
    r"[?!]+|\*+|_+|##+|@@+|``|''|\.\.\.+|--+",
    r"(?i:us|a|c|hk|nz)\$",
    r"\S",
];

/// Tokens that are written otherwise.
const REWRITTEN: [(&str, &str); 27] = [
    ("(", "-lrb-"),
    (")", "-rrb-"),
    ("[", "-lsb-"),
    ("]", "-rsb-"),
    ("{", "-lcb-"),
    ("}", "-rcb-"),
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", "''"),
    ("&nbsp;", ""),
    ("\"", "''"),
    ("\u{ab}", "''"),
    ("\u{bb}", "''"),
    ("\u{201c}", "''"),
    ("\u{201d}", "''"),
    ("\u{2018}", "'"),
    ("\u{2013}", "--"),
    ("\u{2014}", "--"),
    ("\u{2026}", "..."),
    ("\u{20ac}", "$"),
    ("\u{a3}", "#"),
    ("\u{a2}", "cents"),
    ("\u{bc}", "1/4"),
    ("\u{bd}", "1/2"),
    ("\u{be}", "3/4"),
    ("\u{ad}", ""),
];

/// Words that are written as one and counted as two, with the length of the first.
const JOINED: [(&str, usize); 8] = [
    ("cannot", 3),
    ("gonna", 3),
    ("gotta", 3),
    ("lemme", 3),
    ("gimme", 3),
    ("wanna", 3),
    ("'tis", 2),
    ("'twas", 2),
];

/// Cuts captions into tokens.
pub struct Tokenizer(Vec<Regex>);

impl Tokenizer {
    /// # Errors
    /// Never, unless a pattern is wrong.
    pub fn new() -> Result<Self> {
        let compiled = PATTERNS.iter().map(|pattern| Regex::new(&format!("^(?:{pattern})")));
        let patterns = compiled.collect::<std::result::Result<_, _>>();
        Ok(Self(patterns.map_err(|fault| Failure::Compute(candle_core::Error::wrap(fault)))?))
    }

    /// The words of a caption, with one space between two.
    pub fn tokenize(&self, caption: &str) -> String {
        let mut tokens = Vec::new();
        // Characters without a form are left out; they part what they lie between.
        let caption = caption.replace(char::is_control, " ");
        let mut rest = caption.trim_start();
        while !rest.is_empty() {
            let (token, behind) = rest.split_at(self.longest(rest));
            rewrite(token, &mut tokens);
            rest = behind.trim_start();
        }
        tokens.retain(|token| !token.is_empty() && !PUNCTUATION.contains(&token.as_str()));
        tokens.join(" ")
    }

    /// Bytes of the next token.
    fn longest(&self, rest: &str) -> usize {
        let lengths = self.0.iter().filter_map(|pattern| {
            let found = pattern.captures(rest)?;
            let whole = found.get(0)?;
            // What must follow a token counts towards the length of its pattern.
            Some((whole.len(), found.get(1).unwrap_or(whole).len()))
        });
        lengths.max_by_key(|(reach, _)| *reach).map_or(rest.len(), |(_, token)| token)
    }
}

/// Adds a token in the form that it is counted in.
fn rewrite(token: &str, tokens: &mut Vec<String>) {
    let mut token = token.to_lowercase();
    if token.starts_with('\u{2019}') || token == "n\u{2019}t" {
        token = token.replace('\u{2019}', "'");
    }
    if let Some((_, first)) = JOINED.iter().find(|(joined, _)| *joined == token) {
        let (first, second) = token.split_at(*first);
        tokens.extend([first.to_owned(), second.to_owned()]);
    } else if let Some((_, written)) = REWRITTEN.iter().find(|(known, _)| *known == token) {
        tokens.push((*written).to_owned());
    } else if token.starts_with("--") || token.starts_with("...") {
        // However long, they are punctuation.
    } else if token.starts_with([':', ';', '=']) {
        tokens.push(token.replace('(', "-lrb-").replace(')', "-rrb-"));
    } else {
        tokens.push(token.replace(' ', "\u{a0}"));
    }
}
