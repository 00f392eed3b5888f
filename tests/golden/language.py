"""What OPT (Zhang et al., arXiv:2205.01068) and T5 (Raffel et al., arXiv:1910.10683) compute from random weights, by transformers'
classes: small models, each in a folder of its own as `save_pretrained` writes it, with inputs and outputs beside it.

Run in this folder: python language.py. Made with torch 2.15, transformers 5.24 and safetensors 0.8; writes
language/<case>/{config.json, model.safetensors, inputs.safetensors, outputs.safetensors}. Every weight is random, so that no
parameter is invisible; outputs at padding are zero.
"""

import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import OPTConfig, OPTForCausalLM, T5Config, T5ForConditionalGeneration

from drawn import fill_from, visible

FOLDER = pathlib.Path("language")
VOCABULARY = 31


def filled(model, seed):
    fill_from(torch.Generator().manual_seed(seed), model, gain=0)
    return model.eval()


def words(lengths, seed, side="right"):
    """Random words; `side` is where padding lies."""
    generator = torch.Generator().manual_seed(seed)
    mask = visible(lengths, side=side)
    ids = torch.randint(3, VOCABULARY, mask.shape, generator=generator)
    return torch.where(mask.bool(), ids, 1), mask


def case(name, model, inputs, mask):
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    save_file({name: value.contiguous() for name, value in inputs.items()}, folder / "inputs.safetensors")
    save_file({"logits": (logits * mask[..., None]).contiguous()}, folder / "outputs.safetensors")


def opt(name, heads, layers, lengths, side, seed):
    config = OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=12,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        ffn_dim=20,
        max_position_embeddings=17,
        word_embed_proj_dim=12,
    )
    ids, mask = words(lengths, seed, side)
    case(name, filled(OPTForCausalLM(config), seed), {"input_ids": ids, "attention_mask": mask}, mask)


def t5(name, heads, width, layers, lengths, answers, seed):
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=12,
        d_kv=width,
        d_ff=22,
        num_layers=layers,
        num_heads=heads,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=9,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    # The constructor of this version ties the two tables of words whatever it is told.
    config.tie_word_embeddings = config.scale_decoder_outputs = False
    model = T5ForConditionalGeneration(config)
    # Untied from the predictions, the word table is still one for encoder and decoder.
    model.encoder.embed_tokens = model.decoder.embed_tokens = model.shared
    (ids, mask), (targets, predicting) = words(lengths, seed), words(answers, seed + 1)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": targets,
        "decoder_attention_mask": predicting,
    }
    case(name, filled(model, seed), inputs, predicting)


if __name__ == "__main__":
    opt("opt", heads=3, layers=2, lengths=[6, 2, 9], side="right", seed=1)
    opt("opt_left", heads=1, layers=1, lengths=[4, 7], side="left", seed=2)
    t5("t5", heads=3, width=4, layers=2, lengths=[6, 2, 11], answers=[5, 12, 3], seed=3)
    t5("t5_one_head", heads=1, width=7, layers=1, lengths=[14, 20], answers=[22, 4], seed=4)
