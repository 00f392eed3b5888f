"""Emoji in three drawing styles, named and tagged by the Unicode Common Locale Data Repository (CLDR)."""

import io
import json
import re

import resvg_py
from PIL import Image

import pack

LABELS = "emojibase-data@17.0.0"
STYLES = {
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "fluent": "@iconify-json/fluent-emoji-flat@1.2.6",
}
MANIFEST = {
    "title": "Emoji in the styles noto, twemoji and fluent with CLDR names and tags",
    "licence": "Apache-2.0, CC-BY-4.0, MIT (by style)",
    "attribution": [
        "Noto Emoji, copyright Google Inc., Apache-2.0 (npm @iconify-json/noto 1.2.9), rasterised to 64 x 64 pixels.",
        "Twemoji, copyright Twitter, Inc. and other contributors, CC-BY-4.0 "
        "(npm @iconify-json/twemoji 1.2.5), rasterised to 64 x 64 pixels.",
        "Fluent Emoji flat, copyright Microsoft Corporation, MIT "
        "(npm @iconify-json/fluent-emoji-flat 1.2.6), rasterised to 64 x 64 pixels.",
        "Emoji names and tags: Unicode CLDR through emojibase-data 17.0.0 by Miles Johnson, MIT.",
    ],
    "packages": [LABELS, *STYLES.values()],
}
# Who does it changes little in the drawing: `man running`, `woman running facing right` share the stem `running`.
PEOPLE = re.compile(
    r"\b(man|men|woman|women|person|people|boy|girl|adult|child|family|facing right|facing left|and)\b|[^\w ]"
)


def stem(label):
    """What a label says apart from who does it."""
    if label.startswith("family"):
        return "family"
    return " ".join(PEOPLE.sub(" ", label.lower()).split()) or label


def plain(hexcode):
    """A code sequence without the selector that asks for a coloured drawing."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def concepts(folder):
    """Every emoji except parts of others (skin tones, hair, single letters of flags)."""
    names = json.loads((folder / "en/messages.json").read_text())["groups"]
    readable = {group["order"]: group["message"].replace("&", "and") for group in names}
    for entry in json.loads((folder / "en/data.json").read_text()):
        group = readable.get(entry.get("group"))
        if group in (None, "components"):
            continue
        yield plain(entry["hexcode"]), entry["label"], entry.get("tags") or [entry["label"]], group


def captions(label, tags):
    """The label, and the label with those tags that say more."""
    words = set(re.findall(r"\w+", label.lower()))
    further = [tag for tag in tags if not words.issuperset(re.findall(r"\w+", tag.lower()))]
    return [label, ", ".join([label, *further])] if further else [label]


def drawn(icons, name):
    """An icon as a picture of twice the side that is kept."""
    icon = icons["icons"].get(name) or icons["icons"][icons["aliases"][name]["parent"]]
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'<svg {spaces} viewBox="{box}">{icon["body"]}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=2 * pack.SIDE, height=2 * pack.SIDE)
    return Image.open(io.BytesIO(bytes(png)))


def rows(fetch):
    """One row for each concept and style that draws it."""
    known = list(concepts(fetch(LABELS)))
    for style, package in STYLES.items():
        folder = fetch(package)
        icons = json.loads((folder / "icons.json").read_text())
        names = {plain(code): name for code, name in json.loads((folder / "chars.json").read_text()).items()}
        for code, label, tags, group in known:
            if code not in names:
                continue
            webp = pack.on_white(drawn(icons, names[code]))
            yield {
                "id": f"{style}/{code}",
                "captions": captions(label, tags),
                "tags": tags,
                "category": group,
                "style": style,
                "stem": stem(label),
                "hash": pack.perceptual_hash(webp),
                "webp": webp,
            }


def keys(row):
    """What pairs of one split share: the concept, whatever the style, and the stem of the name."""
    return ["emoji concept " + row["id"].split("/")[1], "emoji stem " + row["stem"]]
