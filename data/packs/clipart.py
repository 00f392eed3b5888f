"""The public-domain part of the Open Clip Art Library: drawings by many hands with the texts that their authors gave."""

import collections
import re
import xml.etree.ElementTree as xml

from PIL import Image

import pack

TEXTS = "openclipart-svg=1:0.18+dfsg-19"
PICTURES = "openclipart-png=1:0.18+dfsg-19"
MANIFEST = {
    "title": "Public-domain drawings of the Open Clip Art Library with titles, descriptions, keywords and folders",
    "licence": "CC-PDDC (public domain)",
    "attribution": [
        "Open Clip Art Library 0.18 and its authors, public domain (Debian openclipart-png and openclipart-svg "
        "1:0.18+dfsg-19), scaled to 64 x 64 pixels.",
    ],
    "packages": [TEXTS, PICTURES],
}
PUBLIC = {
    "http://web.resource.org/cc/PublicDomain",
    "http://creativecommons.org/licenses/publicdomain/",
    "Public Domain",
}
# Some files have some 600 million pixels; they would take gigabytes.
MOST_PIXELS = 50_000_000
# What a faulty upload script wrote in place of keywords and descriptions.
ARTEFACT = re.compile(r"hash(\(0x[0-9a-f]+\))?|0x[0-9a-f]+", re.IGNORECASE)
Image.MAX_IMAGE_PIXELS = None


def text(element):
    """The text of an XML element with single spaces, or nothing where it says nothing."""
    words = " ".join("".join(element.itertext()).split()) if element is not None else ""
    return "" if ARTEFACT.fullmatch(words) else words


def described(path):
    """Title, description, keywords and licences that an SVG file states about itself."""
    tree = xml.parse(path)
    work = next((element for element in tree.iter() if element.tag.endswith("}Work")), None)
    if work is None:
        return "", "", [], set()
    part = {element.tag.split("}")[-1]: element for element in work}
    subject = part.get("subject")
    items = [] if subject is None else [item for item in subject.iter() if item.tag.endswith("}li")]
    words = [text(item).replace("_", " ") for item in items]
    licences = {
        value
        for element in tree.iter()
        if element.tag.split("}")[-1] == "license"
        for name, value in element.attrib.items()
        if name.endswith("resource")
    }
    words = list(dict.fromkeys(filter(None, words)))
    return text(part.get("title")), text(part.get("description")), words, licences


def complete(path):
    """Whether the drawing shows no picture from a file that is not there."""
    links = re.findall(r'<image\b[^>]*?xlink:href\s*=\s*"(.{5})', path.read_text(errors="replace"), re.DOTALL)
    return all(link == "data:" for link in links)


def drawing(path):
    """The picture without empty margins, or nothing if it is too large or shows nothing."""
    image = Image.open(path)
    if image.width * image.height > MOST_PIXELS:
        return None
    image = image.convert("RGBA")
    box = image.getchannel("A").getbbox()
    if box is None:
        return None
    image = image.crop(box)
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, image)
    least, most = flat.convert("L").getextrema()
    return image if most - least > 16 else None


def stem(path):
    """The file's name without numbers and marks, and the folder in front where less than three letters are left."""
    letters = " ".join(re.findall(r"[a-z]+", path.stem.lower()))
    return letters if len(letters) > 2 else f"{path.parent} {letters}"


def rows(fetch):
    """One row for each drawing that has a text of its own and is no copy of an earlier one."""
    texts = fetch(TEXTS) / "usr/share/openclipart/svg"
    pictures = fetch(PICTURES) / "usr/share/openclipart/png"
    left_out = collections.Counter()
    kept = {}
    for file in sorted(texts.rglob("*.svg")):
        if file.is_symlink():
            continue
        path = file.relative_to(texts)
        title, description, words, licences = described(file)
        captions = list(dict.fromkeys(filter(None, [title, description])))
        picture = drawing(pictures / path.with_suffix(".png")) if complete(file) else None
        if not licences or not licences <= PUBLIC:
            left_out["licence"] += 1
        elif not captions:
            left_out["text"] += 1
        elif picture is None:
            left_out["picture"] += 1
        else:
            webp = pack.on_white(picture)
            if kept.setdefault((webp, captions[0]), path) != path:
                left_out["difference to an earlier one"] += 1
                continue
            folders = [folder.replace("_", " ") for folder in path.parts[:-1]]
            yield {
                "id": str(path.with_suffix("")),
                "captions": captions,
                "tags": words or folders,
                "category": folders[0],
                "stem": stem(path),
                "hash": pack.perceptual_hash(webp),
                "webp": webp,
            }
    print(f"clipart: left out for want of {dict(left_out)}")


def keys(row):
    """What pairs of one split share: the stem of the file's name and the title."""
    return ["clipart stem " + row["stem"], "clipart title " + row["captions"][0].lower()]
