"""A WordPiece vocabulary trained on the texts of the packs' training splits and on the words of the scenes.

As byte-pair encoding does: the most frequent pair of neighbouring pieces becomes one piece, again and again. Of pairs
equally frequent the alphabetically last wins, which is one at the beginning of a word; so equal texts give an equal
file (the trainer of the `tokenizers` package depends on the order of a hash table).
"""

import collections
import string

from tokenizers import normalizers, pre_tokenizers

SIZE = 4096
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Every word of the captions and tags of `data/scenes`, as often as makes each of them one piece.
SCENES = 200 * [
    "circle square triangle diamond star cross ring heart moon",
    "circles squares triangles diamonds stars crosses rings hearts moons",
    "red orange yellow green blue purple pink brown black white",
    "small little large big plain striped dotted shiny a an one two three four five six shape shapes :",
    "to the left of right of above over below under in front of partly covering behind partly hidden by , with and",
    "a picture of there are there is we see untitled image various shapes clip art collection some objects",
    "new drawing image for sale part of a set of icons",
]
# Every letter and digit at the beginning and inside of a word, and every mark of ASCII, so that any word can be spelt.
LETTERS = [2 * letter for letter in string.ascii_lowercase + string.digits] + list(string.punctuation)


def words(texts):
    """How often each word occurs, cut as the program cuts texts."""
    lower, cut = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    return collections.Counter(
        word for text in texts for word, _ in cut.pre_tokenize_str(lower.normalize_str(text))
    )


def train(counts):
    """The pieces: first the special ones, then all letters, then the merges from frequent to rare."""
    spelt = {word: [word[0], *("##" + letter for letter in word[1:])] for word in sorted(counts)}
    pieces = SPECIAL + sorted({piece for spelling in spelt.values() for piece in spelling})
    pairs, where = collections.Counter(), collections.defaultdict(set)

    def count(word, sign):
        for pair in zip(spelt[word], spelt[word][1:]):
            pairs[pair] += sign * counts[word]
            where[pair].add(word)

    for word in spelt:
        count(word, 1)
    while len(pieces) < SIZE:
        first, second = max(pairs, key=lambda pair: (pairs[pair], pair))
        joined = first + second.removeprefix("##")
        for word in where[first, second]:
            count(word, -1)
            old, new = spelt[word], []
            while old:
                merges = old[:2] == [first, second]
                new.append(joined if merges else old[0])
                old = old[2 if merges else 1:]
            spelt[word] = new
            count(word, 1)
        del pairs[first, second]
        if joined not in pieces:
            pieces.append(joined)
    return pieces


def make(folder, rows):
    """Writes vocab.txt: one piece a line, in the order of their ids."""
    texts = [text for row in rows if row["split"] == "train" for text in row["captions"] + row["tags"]]
    pieces = train(words(texts + SCENES + LETTERS))
    path = folder / "vocab.txt"
    path.write_text("\n".join(pieces) + "\n")
    print(f"{path}: {len(pieces)} pieces")
