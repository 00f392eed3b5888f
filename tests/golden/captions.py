"""Tokens of captions and BLEU, ROUGE-L and CIDEr-D as COCO's caption evaluation computes them, for
experiments/evaluate/caption.

Run in this folder: JAVA_TOOL_OPTIONS=-Dfile.encoding=UTF-8 python captions.py. Needs Java and `pip install pycocoevalcap` (1.2, with its Stanford CoreNLP
3.4.1); made with Python 3.11, numpy 2.4, Java 17. Writes captions.json. Random sentences stand for a model's; the
captions that are cut are typed below or drawn from the packs of data/packs.
"""

import json
import random
import zipfile
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

HERE = Path(__file__).parent
TYPED = (HERE / "captions.txt").read_text().splitlines()
WORDS = "a the red blue small large circle square star dog's isn't of on above left-hand two 3 (big) and , .".split()


def drawn(count):
    captions = []
    for pack in ("clipart", "emoji"):
        rows = zipfile.ZipFile(HERE / f"../../data/packs/{pack}.zip").read("pairs.jsonl").decode().splitlines()
        captions += [caption for row in rows for caption in json.loads(row)["captions"]]
    # What is cut at spaces alone shows nothing.
    telling = sorted({c for c in captions if not c.replace(" ", "").isalpha() and "\n" not in c and "&uuml;" not in c})
    return random.Random(0).sample(telling, count)


def tokenize(captions):
    """Captions by image, as the evaluation cuts them."""
    return PTBTokenizer().tokenize({i: [{"caption": c} for c in of] for i, of in captions.items()})


def sentence(rng):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 14)))


def changed(rng, text):
    words = [rng.choice(WORDS) if rng.random() < 0.3 else word for word in text.split()]
    return " ".join(words[: rng.randint(1, len(words))])


def scored(seed, images, references, empty=False):
    rng = random.Random(seed)
    given = {i: [sentence(rng) for _ in range(rng.randint(1, references))] for i in range(images)}
    written = {i: [changed(rng, rng.choice(of)) if rng.random() < 0.7 else sentence(rng)] for i, of in given.items()}
    if empty:
        written[0] = ["."]
        written[1] = given[1][:1]
    gts, res = tokenize(given), tokenize(written)
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, rouges = Rouge().compute_score(gts, res)
    cider, ciders = Cider().compute_score(gts, res)
    return {
        "images": [{"written": written[i][0], "references": given[i]} for i in given],
        "bleu": bleu,
        "rouge_l": [rouge, *rouges],
        "cider_d": [cider, *ciders],
    }


cut = TYPED + drawn(200)
golden = {
    "tokens": [[c, t[0]] for c, t in zip(cut, tokenize({i: [c] for i, c in enumerate(cut)}).values())],
    "sets": [scored(0, 40, 5), scored(1, 12, 1), scored(2, 25, 3, empty=True), scored(3, 1, 2)],
}
(HERE / "captions.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
