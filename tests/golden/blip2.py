"""What BLIP-2 (Li et al., arXiv:2301.12597) computes from random weights, by transformers' classes: small models, each in
a folder of its own as `save_pretrained` writes it, with inputs and outputs beside it.

Run in this folder: python blip2.py. Made with torch 2.15, transformers 5.24 and safetensors 0.8; writes
blip2/<case>/{config.json, model.safetensors, inputs.safetensors, outputs.safetensors}. Every weight is random, so that no
parameter is invisible; outputs at padding are zero.
"""

import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2QFormerModel,
    Blip2VisionConfig,
    OPTConfig,
    T5Config,
)

FOLDER = pathlib.Path("blip2")


def vision(width, depth, heads, mlp, size, patch):
    return Blip2VisionConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=mlp,
        image_size=size,
        patch_size=patch,
    )


def qformer(width, depth, heads, mlp, image, frequency, vocabulary=29, places=9, text=False):
    return Blip2QFormerConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=mlp,
        encoder_hidden_size=image,
        cross_attention_frequency=frequency,
        vocab_size=vocabulary,
        max_position_embeddings=places,
        use_qformer_text_input=text,
    )


def fill(model):
    """Weights large enough that every part matters to the outcome."""
    for name, weight in model.named_parameters():
        if "norm" in name.lower() and name.endswith("weight"):
            weight.data = 1 + 0.3 * torch.randn_like(weight)
        else:
            weight.data = 0.4 * torch.randn_like(weight)


def texts(lengths, vocabulary, side="right"):
    width = max(lengths)
    places = torch.arange(width)
    ends = torch.tensor(lengths)[:, None]
    mask = (places < ends if side == "right" else places >= width - ends).long()
    return torch.randint(4, vocabulary, (len(lengths), width)) * mask, mask


def write(case, model, inputs, outputs):
    folder = FOLDER / case
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for name, tensors in ("inputs", inputs), ("outputs", outputs):
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
        save_file(tensors, folder / f"{name}.safetensors")
    print(case, sum(file.stat().st_size for file in folder.iterdir()) // 1000, "KB")


def queries(case, config, batch, count, features):
    """The Q-Former by itself: given queries ask given features."""
    model = Blip2QFormerModel(config).eval()
    fill(model)
    inputs = {
        "query_embeds": torch.randn(batch, count, config.hidden_size),
        "encoder_hidden_states": torch.randn(batch, features, config.encoder_hidden_size),
    }
    out = model(**inputs)
    write(case, model, inputs, {"last_hidden_state": out.last_hidden_state, "pooler_output": out.pooler_output})


def retrieval(case, config, images, lengths, match):
    """Contrast of all images with all texts, or matching of each image with its text."""
    model = Blip2ForImageTextRetrieval(config).eval()
    fill(model)
    ids, mask = texts(lengths, config.qformer_config.vocab_size)
    side = config.vision_config.image_size
    inputs = {"pixel_values": torch.randn(images, 3, side, side), "input_ids": ids, "attention_mask": mask}
    out = model(**inputs, use_image_text_matching_head=match)
    outputs = {
        "logits_per_image": out.logits_per_image,
        "logits_per_text": out.logits_per_text,
        "vision_model_output.last_hidden_state": out.vision_model_output.last_hidden_state,
    }
    if not match:
        outputs |= {
            "image_embeds": out.image_embeds,
            "text_embeds": out.text_embeds,
            "text_model_output.last_hidden_state": out.text_model_output.last_hidden_state * mask[..., None],
        }
    write(case, model, inputs | {"use_image_text_matching_head": torch.tensor(int(match))}, outputs)


def generation(case, config, lengths, side="right", targets=None):
    """A language model behind the queries, which stand where the prompt holds the image token."""
    model = Blip2ForConditionalGeneration(config).eval()
    fill(model)
    ids, mask = texts(lengths, config.image_token_index, side)
    count = config.num_query_tokens
    rows = []
    for row, length, words in zip(ids, lengths, mask):
        first = int(words.argmax())
        place = torch.full((count,), config.image_token_index)
        rows.append(torch.cat([row[:first], place, row[first:]]))
    ids = torch.stack(rows)
    shown = torch.ones(len(lengths), count, dtype=torch.long)
    mask = torch.cat([shown, mask], 1) if side == "right" else torch.cat([mask, shown], 1)
    if side == "left":
        mask = mask.sort(1).values
    pixels = config.vision_config.image_size
    inputs = {
        "pixel_values": torch.randn(len(lengths), 3, pixels, pixels),
        "input_ids": ids,
        "attention_mask": mask,
    }
    seen = mask
    if targets:
        decoder_ids, seen = texts(targets, config.image_token_index)
        decoder_ids[:, 0] = config.text_config.decoder_start_token_id
        inputs |= {"decoder_input_ids": decoder_ids, "decoder_attention_mask": seen}
    out = model(**inputs)
    outputs = {
        "logits": out.logits * seen[..., None],
        "qformer_outputs.last_hidden_state": out.qformer_outputs.last_hidden_state,
        "vision_outputs.last_hidden_state": out.vision_outputs.last_hidden_state,
    }
    write(case, model, inputs, outputs)


torch.manual_seed(0)
with torch.no_grad():
    queries("queries", qformer(15, 3, 3, 22, image=10, frequency=2), batch=3, count=4, features=6)
    queries("queries_frequent", qformer(12, 2, 1, 50, image=7, frequency=1), batch=2, count=1, features=3)
    config = Blip2Config(
        vision_config=vision(12, 2, 1, 26, 10, 5),
        qformer_config=qformer(18, 3, 3, 31, image=12, frequency=2, text=True),
        num_query_tokens=5,
        image_text_hidden_size=7,
        text_config=OPTConfig(hidden_size=8, num_hidden_layers=0, vocab_size=9).to_dict(),
    )
    retrieval("contrast", config, 3, [9, 2, 5, 4], match=False)
    retrieval("matching", config, 3, [3, 8, 6], match=True)
    config = Blip2Config(
        vision_config=vision(15, 1, 3, 20, 12, 4),
        qformer_config=qformer(12, 2, 2, 40, image=15, frequency=1, text=True),
        num_query_tokens=1,
        image_text_hidden_size=11,
        text_config=OPTConfig(hidden_size=8, num_hidden_layers=0, vocab_size=9).to_dict(),
    )
    retrieval("contrast_one_query", config, 2, [1, 6], match=False)
