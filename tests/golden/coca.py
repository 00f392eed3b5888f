"""What CoCa computes from random weights: `open_clip`'s CoCa where it has the part, and a transcription of the paper where
it has not.

Of `open_clip`: its published set-up (one pooler for both objectives, [CLS] masked one place off, here also with entry 0
within a text), its set-up without a pooler, and its cascaded and parallel poolers; the last with its corrected mask, which
is an attribute that no configuration sets. Of the paper: no class token, one feed-forward part a multimodal layer, several
[CLS], text embeddings with and without the words, no captioning pooler, texts cut to their length instead of masked.

Run in this folder: python coca.py. Made with torch 2.15, open_clip 3.3 and safetensors 0.8; writes coca/<case>/ as
published_models_equal_their_references in tests/models/published.rs reads it.
"""

import json
import os

import torch
from open_clip.coca_model import CoCa
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from drawn import fill, visible

VOCABULARY = 23


class Block(nn.Module):
    """A pre-norm layer, or half of one: attention to itself or to something else, then perhaps a feed-forward part."""

    def __init__(self, width, heads, mlp, seen=None):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True, kdim=seen, vdim=seen)
        if seen is not None:
            self.ln_1_kv = nn.LayerNorm(seen)
        if mlp is not None:
            self.ln_2 = nn.LayerNorm(width)
            self.mlp = nn.ModuleDict(dict(c_fc=nn.Linear(width, mlp), c_proj=nn.Linear(mlp, width)))

    def forward(self, x, seen=None, causal=False):
        q = self.ln_1(x)
        kv = q if seen is None else self.ln_1_kv(seen)
        hidden = torch.ones(x.shape[1], kv.shape[1]).triu(1).bool() if causal else None
        x = x + self.attn(q, kv, kv, attn_mask=hidden)[0]
        if hasattr(self, "mlp"):
            x = x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x))))
        return x


class Pooler(nn.Module):
    def __init__(self, queries, width, seen, heads):
        super().__init__()
        self.query = nn.Parameter(torch.empty(queries, width))
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True, kdim=seen, vdim=seen)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(seen)

    def forward(self, x):
        kv = self.ln_k(x)
        return self.attn(self.ln_q(self.query).expand(len(x), -1, -1), kv, kv)[0]


class PaperImage(nn.Module):
    def __init__(self, config):
        super().__init__()
        vision, width = config["vision_cfg"], config["vision_cfg"]["width"]
        side, patch = vision["image_size"], vision["patch_size"]
        heads, mlp = width // vision["head_width"], int(width * vision["mlp_ratio"])
        self.conv1 = nn.Conv2d(3, width, patch, patch)
        self.positional_embedding = nn.Parameter(torch.empty((side // patch) ** 2, width))
        blocks = [Block(width, heads, mlp) for _ in range(vision["layers"])]
        self.transformer = nn.ModuleDict(dict(resblocks=nn.ModuleList(blocks)))
        self.ln_post = nn.LayerNorm(width)
        pooled, self.queries = config["text_cfg"]["width"], vision["attn_pooler_queries"]
        self.cascade = vision["attentional_pool"] == "cascade" and self.queries > 0
        if self.queries > 0:
            self.attn_pool = Pooler(self.queries, pooled, width, vision["attn_pooler_heads"])
        seen = pooled if self.cascade else width
        self.attn_pool_contrastive = Pooler(1, pooled, seen, vision["attn_pooler_heads"])
        self.proj = nn.Parameter(torch.empty(pooled, config["embed_dim"]))

    def forward(self, image):
        x = self.conv1(image).flatten(2).transpose(1, 2) + self.positional_embedding
        for block in self.transformer.resblocks:
            x = block(x)
        x = self.ln_post(x)
        captioning = self.attn_pool(x) if self.queries > 0 else x
        contrastive = self.attn_pool_contrastive(captioning if self.cascade else x)
        return contrastive[:, 0] @ self.proj, captioning


class PaperText(nn.Module):
    def __init__(self, config):
        super().__init__()
        text, width = config["text_cfg"], config["text_cfg"]["width"]
        self.length, self.classes, self.aggregate = text["context_length"], text["classes"], text["aggregate"]
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.cls_emb = nn.Parameter(torch.empty(self.classes, width) if self.classes > 1 else torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(self.length + self.classes, width))
        blocks = [Block(width, text["heads"], int(width * text["mlp_ratio"])) for _ in range(text["layers"])]
        self.transformer = nn.ModuleDict(dict(resblocks=nn.ModuleList(blocks)))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, config["embed_dim"]))

    def forward(self, words):
        """One text without padding, (n,)."""
        position = self.positional_embedding
        x = self.token_embedding(words) + position[: len(words)]
        classes = self.cls_emb.view(self.classes, -1) + position[self.length :]
        x = torch.cat([x, classes])[None]
        for block in self.transformer.resblocks:
            x = block(x, causal=True)
        outcomes = x[0] if self.aggregate == "sentence" else x[0, len(words) :]
        return self.ln_final(outcomes).mean(0) @ self.text_projection, x[:, : len(words)]


class PaperDecoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        text, vision = config["text_cfg"], config["vision_cfg"]
        width, heads, layers = text["width"], text["heads"], config["multimodal_cfg"]["layers"]
        seen = width if vision["attn_pooler_queries"] > 0 else vision["width"]
        self.resblocks = nn.ModuleList(Block(width, heads, None) for _ in range(layers))
        mlp = int(width * text["mlp_ratio"])
        self.cross_attn = nn.ModuleList(Block(width, heads, mlp, seen) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, text["vocab_size"]))

    def forward(self, image, words):
        for attend, look in zip(self.resblocks, self.cross_attn):
            words = look(attend(words, causal=True), image)
        return self.ln_final(words) @ self.text_projection


class PaperCoCa(nn.Module):
    """Section 3.2 of the paper and the designs of its table 8, with open_clip's names."""

    def __init__(self, config):
        super().__init__()
        self.visual, self.text, self.text_decoder = PaperImage(config), PaperText(config), PaperDecoder(config)
        self.logit_scale = nn.Parameter(torch.empty(()))

    def forward(self, image, text):
        features, seen = self.visual(image)
        texts, logits = [], torch.zeros(len(text), text.shape[1], VOCABULARY)
        for index, ids in enumerate(text):
            words = ids[: length(ids)]
            feature, hidden = self.text(words)
            texts.append(feature)
            logits[index, : len(words)] = self.text_decoder(seen[index : index + 1], hidden)[0]
        return dict(
            image_features=F.normalize(features, dim=-1),
            text_features=F.normalize(torch.stack(texts), dim=-1),
            logits=logits[:, :-1],
            logit_scale=self.logit_scale.exp(),
        )


def configuration(vision, text, layers, embed, **others):
    shared = dict(context_length=text["context_length"], vocab_size=VOCABULARY, width=text["width"], heads=text["heads"])
    return dict(
        embed_dim=embed,
        vision_cfg=dict(vision, output_tokens=True),
        text_cfg=dict(text, vocab_size=VOCABULARY, embed_cls=True, output_tokens=True),
        multimodal_cfg=dict(shared, layers=layers),
        **others,
    )


def tower(size, patch, width, head, layers, ratio, pool, **pooler):
    names = {f"attn_pooler_{name}": value for name, value in pooler.items()}
    return dict(image_size=size, patch_size=patch, width=width, head_width=head, layers=layers, mlp_ratio=ratio, attentional_pool=pool, **names)


def words(length, width, heads, layers, **others):
    return dict(context_length=length, width=width, heads=heads, layers=layers, **others)


PAPER = dict(class_mask="words", mlp_ratio=2.5)
# Each with the lengths of its texts.
CASES = {
    "shared": (
        configuration(tower(15, 5, 18, 6, 2, 2.5, True, queries=5, heads=2), words(9, 12, 3, 2), 2, 12),
        [9, 4, 6],
    ),
    "class_token": (
        configuration(tower(8, 4, 12, 12, 1, 3.0, False), words(7, 12, 1, 1), 2, 8, quick_gelu=True),
        [2, 7],
    ),
    "cascade": (
        configuration(tower(12, 4, 12, 4, 1, 4.0, "cascade", queries=3, heads=3), words(8, 12, 4, 2), 1, 12),
        [8, 3, 5, 7],
    ),
    "parallel_corrected_mask": (
        configuration(tower(8, 4, 12, 6, 2, 4.0, "parallel", queries=4, heads=4), words(6, 12, 2, 1, class_mask="words"), 1, 12),
        [3, 6, 5],
    ),
    "paper_cascade": (
        configuration(tower(15, 5, 18, 6, 2, 1.5, "cascade", queries=7, heads=3), words(9, 12, 3, 2, classes=1, aggregate="classes", **PAPER), 2, 10),
        [9, 2, 6],
    ),
    "paper_parallel_sentence": (
        configuration(tower(12, 4, 12, 3, 1, 3.0, "parallel", queries=2, heads=1), words(7, 15, 1, 1, classes=1, aggregate="sentence", **PAPER), 2, 9),
        [4, 7],
    ),
    "paper_tokens_8_classes": (
        configuration(tower(12, 4, 16, 4, 1, 3.0, "cascade", queries=0, heads=2), words(6, 12, 3, 2, classes=8, aggregate="classes", **PAPER), 1, 11),
        [6, 3, 5],
    ),
    "paper_8_classes_sentence": (
        configuration(tower(8, 4, 12, 4, 1, 3.0, "cascade", queries=4, heads=2), words(6, 12, 2, 1, classes=8, aggregate="sentence", **PAPER), 1, 12),
        [5, 6, 2],
    ),
}


def length(ids):
    return int(ids.nonzero().max()) + 1


def texts(lengths, places):
    ids = torch.randint(1, VOCABULARY, (len(lengths), places))
    return ids * visible(lengths, places)


def theirs(config):
    """open_clip's model for a configuration without what is ours."""
    text = {key: value for key, value in config["text_cfg"].items() if key != "class_mask"}
    model = CoCa(**dict(config, text_cfg=text))
    model.text.correct_cls_mask = "class_mask" in config["text_cfg"]
    return model


torch.manual_seed(0)
for case, (config, lengths) in CASES.items():
    if case.startswith("paper"):
        config["vision_cfg"]["encoder"], config["multimodal_cfg"]["layout"] = "vit", "single"
        model = PaperCoCa(config).eval()
    else:
        model = theirs(config).eval()
    fill(model, {"logit_scale": 2.5})
    side, places = config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]
    ids = texts(lengths, places)
    if case == "shared":
        # The exclamation mark of CLIP's vocabulary.
        ids[2, 2] = 0
    inputs = dict(image=torch.randn(len(ids), 3, side, side), text=ids)
    with torch.no_grad():
        out = model(**inputs)
    outputs = {name: out[name].clone() for name in ["image_features", "text_features", "logits", "logit_scale"]}
    # open_clip leaves the axis of the one query in.
    outputs["image_features"] = outputs["image_features"].reshape(len(ids), -1)
    # What padding comes to is nobody's business.
    for row, text in zip(outputs["logits"], ids):
        row[length(text) :] = 0
    folder = f"coca/{case}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/config.json", "w") as file:
        json.dump(dict(config, architectures=["CoCa"]), file, indent=2)
        file.write("\n")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, f"{folder}/model.safetensors")
    save_file(inputs, f"{folder}/inputs.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, f"{folder}/outputs.safetensors")
