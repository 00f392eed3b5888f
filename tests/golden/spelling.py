"""Small tokenizers in the form of published ones, and what transformers makes of odd sentences with them.

`vocab.txt` as BERT's, with unused entries before the special tokens; `clip.json`, byte-level BPE with `</w>` and lower case;
`t5.json`, a Unigram with a sentinel; `opt.json`, byte-level BPE that begins a text and does not end it. Where a word begins
follows from the spelling of tokens alone (`##`, `</w>`, `▁`), but for OPT's, whose words transformers counts.
Made with transformers 5 and tokenizers.
"""

import json
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, CLIPTokenizer, PreTrainedTokenizerFast

HERE = Path(__file__).parent
FOLDER = HERE / "spelling"
SENTENCES = [
    "", " ", "a", "A red star over the café", "two  spaces\tand a\nline", "  leading and trailing  ",
    "don't stop, it's we'll they've I'm you'd", "Hello, world!!! (really?)", "state-of-the-art", "3.14159 and 1,000,000",
    "ÀÉÎÕÜ ñ ç ß ø å", "e\u0301 combining and é composed", "ﬁne ligature, ２ full width", "日本語の文章です", "中文 mixed with English",
    "한국어 문장", "Привет, мир", "γειά σου κόσμε", "مرحبا بالعالم", "שלום עולם", "emoji 😀 and 👩‍👩‍👧‍👦 family", "flags 🇩🇪🇯🇵",
    "zero\u200bwidth\u200djoiner", "soft\u00adhyphen", "no\u00a0break space", "a\u2028line separator", "tab\x00nul\x07bell",
    "pneumonoultramicroscopicsilicovolcanoconiosis", "x" * 120, "aaa " * 40, "http://example.org/a?b=c&d=e#f", "user@example.com",
    "#hashtag @mention $5 50% ^_^ <tag> [brackets] {braces}", "\"quotes\" 'single' “curly” ‘both’ «guillemets»", "dash – em — minus −",
    "UPPER lower MiXeD", "İstanbul DIŞ ı", "ǅ Ǆ ǆ titlecase", "½ ⅓ ² ³ № ™ ©", "math ∑∫√ ≤≥ ∞", "ends with hash ##ing and ▁bar",
    "\ufffd\ufffd replacement", "a.b.c...d", "¿Qué? ¡Sí!",
]


def corpus():
    """The words of the shipped vocabulary and the sentences' own letters, in lines."""
    words = [word for word in (HERE / "../../data/packs/vocab.txt").read_text().split() if word.isalpha()]
    lines = [" ".join(words[start : start + 8]) for start in range(0, 1600, 8)]
    return lines + [sentence for sentence in SENTENCES if sentence.isascii()] + ["don't it's Hello World A The"] * 4


def bert():
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=[], show_progress=False)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(corpus(), trainer)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    head = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused2]"]
    pieces = head + [piece for piece in pieces + ["日", "本", "中", "é", "ñ"] if piece not in head]
    path = FOLDER / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in dict.fromkeys(pieces)))
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return [BertTokenizer(vocab=vocabulary, do_lower_case=lower) for lower in (True, False)]


def byte_pairs(normalizer, cut, **suffix):
    tokenizer = Tokenizer(models.BPE(**suffix))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = cut
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, **suffix
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def clip():
    expression = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
    cut = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(expression), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    lower = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    vocabulary, merges = byte_pairs(lower, cut, end_of_word_suffix="</w>")
    # As in CLIP's own, each byte stands also as the end of a word, and the special tokens come last.
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(f"{byte}</w>", len(vocabulary))
    for special in ["<|startoftext|>", "<|endoftext|>"]:
        vocabulary[special] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


def t5():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken("<extra_id_0>", special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def opt():
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary, merges = byte_pairs(None, byte_level)
    vocabulary = {piece: number + 4 for piece, number in vocabulary.items()}
    vocabulary.update({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3})
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def saved(tokenizer, name):
    """Kept as `name`; whatever transformers sets up on loading is set up again from that file."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (FOLDER / name).write_text((Path(folder) / "tokenizer.json").read_text())
    return tokenizer


def encoded(tokenizer, begins):
    """Of each sentence the tokens and where words begin; `begins(token, before)` decides of two neighbours."""
    rows = []
    for sentence in SENTENCES:
        ids = tokenizer(sentence)["input_ids"]
        bare = tokenizer(sentence, add_special_tokens=False)
        tokens = tokenizer.convert_ids_to_tokens(bare["input_ids"])
        before = len(tokenizer("")["input_ids"]) > 0 and ids[0] == tokenizer("")["input_ids"][0] and ids[1:][: len(tokens)] == bare["input_ids"]
        words = bare.word_ids()
        inner = [
            int(begins(token, tokens[at - 1] if at else None, words[at], words[at - 1] if at else None))
            for at, token in enumerate(tokens)
        ]
        front = [0] if before else []
        starts = front + inner
        starts += [0] * (len(ids) - len(starts))
        rows.append({"text": sentence, "ids": ids, "word_starts": starts})
    return rows


def main():
    FOLDER.mkdir(exist_ok=True)
    uncased, cased = bert()
    pieces = lambda token, *_: not token.startswith("##")
    ends = lambda _, before, *__: before is None or before.endswith("</w>")
    spaces = lambda token, *_: token.startswith("▁")
    counted = lambda _, __, word, before: word != before
    rows = {
        "vocab.txt": encoded(uncased, pieces),
        "vocab.txt cased": encoded(cased, pieces),
        "clip.json": encoded(saved(clip(), "clip.json"), ends),
        "t5.json": encoded(saved(t5(), "t5.json"), spaces),
        "opt.json": encoded(saved(opt(), "opt.json"), counted),
    }
    (FOLDER / "encodings.json").write_text(json.dumps(rows, ensure_ascii=True, separators=(",", ":")) + "\n")
    for name, all in rows.items():
        print(name, all[3], all[5])


main()
