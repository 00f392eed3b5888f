"""Writes a pack: one uncompressed zip with `pairs.jsonl` and a WebP a pair, and a manifest beside it."""

import collections
import hashlib
import io
import json
import random
import zipfile

import numpy
from PIL import Image

SIDE = 64
# Two pictures whose hashes differ in at most so many of 64 bits count as the same picture.
NEAR = 8
SHARES = {"test": 0.1, "val": 0.1}
# A group with more than this share of a pack belongs to the training split: a test split of one theme tests little.
LARGE = 0.01


def on_white(image):
    """The picture on a white square, as large as it fits, encoded as WebP."""
    image = image.convert("RGBA")
    image.thumbnail((SIDE, SIDE), Image.LANCZOS)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2), image)
    file = io.BytesIO()
    square.save(file, "WEBP", quality=75, method=6)
    return file.getvalue()


def perceptual_hash(webp):
    """64 bits: which of the 8 x 8 lowest frequencies of the grey picture lie above their median (Zauner's pHash).

    The constant and the purely horizontal and vertical frequencies are left out; grey is 0.299 R + 0.587 G + 0.114 B.
    """
    rgb = numpy.asarray(Image.open(io.BytesIO(webp)).convert("RGB"), dtype=numpy.float64)
    place = 2 * numpy.arange(SIDE) + 1
    cosine = numpy.cos(numpy.pi * numpy.outer(numpy.arange(1, 9), place) / (2 * SIDE))
    waves = (cosine @ (rgb @ [0.299, 0.587, 0.114]) @ cosine.T).ravel()
    return int("".join("1" if wave > numpy.median(waves) else "0" for wave in waves), 2)


def near_pairs(hashes):
    """All pairs of positions whose hashes differ in at most NEAR bits."""
    values = numpy.array(hashes, dtype=numpy.uint64)
    for first in range(len(values)):
        distance = numpy.bitwise_count(values[first] ^ values[first + 1:])
        for offset in numpy.nonzero(distance <= NEAR)[0]:
            yield first, first + 1 + int(offset)


def groups(rows, keys):
    """The number of each row's group: rows are joined by a near picture or by any equal key."""
    parent = list(range(len(rows)))

    def root(row):
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(one, other):
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    for one, other in near_pairs([row["hash"] for row in rows]):
        join(one, other)
    seen = {}
    for number, (row, own) in enumerate(zip(rows, keys)):
        for key in own:
            join(number, seen.setdefault(key, number))
    return [root(number) for number in range(len(rows))]


def split(packs):
    """Deals whole groups to the splits, in a random order that is always the same.

    `packs` has for each pack its rows with their keys. Pairs of different packs may share a group, so that a model
    may be trained on one pack and tested on another.
    """
    owners = [name for name, pairs in packs.items() for _ in pairs]
    rows = [row for pairs in packs.values() for row, _ in pairs]
    keys = [keys for pairs in packs.values() for _, keys in pairs]
    members = {}
    for number, group in enumerate(groups(rows, keys)):
        members.setdefault(group, []).append(number)
    wanted = {
        part: collections.Counter({name: int(share * len(pairs)) for name, pairs in packs.items()})
        for part, share in SHARES.items()
    }
    order = sorted(members)
    random.Random(0).shuffle(order)
    for group in order:
        needs = collections.Counter(owners[number] for number in members[group])
        few = all(count <= LARGE * len(packs[name]) for name, count in needs.items())
        fits = [part for part in wanted if few and needs <= wanted[part]]
        for number in members[group]:
            rows[number]["split"] = fits[0] if fits else "train"
        if fits:
            wanted[fits[0]] -= needs


def write(folder, name, rows, manifest):
    """Writes NAME.zip and NAME.json; rows carry their picture as `webp`.

    The lines are in random order, so that the first N of them are a fair sample.
    """
    rows = sorted(rows, key=lambda row: row["id"])
    random.Random(0).shuffle(rows)
    lines = []
    for row in rows:
        row = {**row, "hash": f"{row['hash']:016x}"}
        del row["webp"]
        lines.append(json.dumps(row, ensure_ascii=False))
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        def add(entry, content):
            archive.writestr(zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0)), content)

        add("pairs.jsonl", "\n".join(lines) + "\n")
        for row in rows:
            add(f"{row['id']}.webp", row["webp"])
    content = path.read_bytes()
    manifest = {
        "format": 1,
        "pairs": len(rows),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "near": NEAR,
        **manifest,
    }
    (folder / f"{name}.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")
    counts = {name: sum(row["split"] == name for row in rows) for name in ["train", "val", "test"]}
    print(f"{path}: {len(content)} bytes, {counts}")
