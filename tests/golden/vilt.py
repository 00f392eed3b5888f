"""What transformers' ViLT classes compute from random weights.

Run in this folder: python vilt.py. Made with torch 2.15, transformers 5.24 and safetensors 0.8; writes a folder
`vilt/<case>` for each case: config.json and model.safetensors as `save_pretrained` leaves them, the arguments in
inputs.safetensors and the outputs in outputs.safetensors, zero where padding hides them.

transformers draws which patches of an image it keeps, and in which order, with torch.multinomial. No case has more
patches than it keeps, and here they stay in their order.
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import ViltConfig, ViltForImageAndTextRetrieval, ViltForMaskedLM, ViltModel

from drawn import fill_from, visible

VOCABULARY = 29
# Sizes of images in pixels; None: every image fills its pixels, and there is no pixel mask.
CASES = {
    "square": {
        "class": ViltModel,
        "config": {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20},
        "image": {"image_size": 12, "patch_size": 4},
        "canvas": (12, 12),
        "sizes": None,
        "words": (7, [7, 2, 5]),
    },
    "unequal": {
        "class": ViltModel,
        "config": {"hidden_size": 10, "num_hidden_layers": 3, "num_attention_heads": 1, "intermediate_size": 7},
        "image": {"image_size": 8, "patch_size": 2, "max_image_length": 13},
        "canvas": (6, 10),
        # The last lies on patches that it fills in part.
        "sizes": [(6, 6), (2, 10), (6, 4), (3, 9)],
        "words": (9, [3, 6, 4, 6]),
    },
    "masked_lm": {
        "class": ViltForMaskedLM,
        "config": {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 18},
        "image": {"image_size": 6, "patch_size": 3},
        "canvas": (9, 12),
        "sizes": [(9, 9), (6, 12)],
        "words": (6, [4, 6]),
    },
    "untied_lm": {
        "class": ViltForMaskedLM,
        "config": {"hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 9},
        "image": {"image_size": 4, "patch_size": 2},
        "canvas": (4, 4),
        "sizes": None,
        "words": (5, [5, 3]),
    },
    "retrieval": {
        "class": ViltForImageAndTextRetrieval,
        "config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
        "image": {"image_size": 15, "patch_size": 5, "max_image_length": 40},
        "canvas": (5, 25),
        "sizes": None,
        "words": (8, [8, 1, 5]),
    },
}


def in_order(weights, count, replacement=False):
    return torch.arange(count) % len(weights)


def inputs(case, generator):
    words, lengths = case["words"]
    height, width = case["canvas"]
    batch = len(lengths)
    values = {
        "input_ids": torch.randint(VOCABULARY, (batch, max(lengths)), generator=generator),
        "attention_mask": visible(lengths),
        "token_type_ids": torch.randint(2, (batch, max(lengths)), generator=generator),
        "pixel_values": torch.randn(batch, 3, height, width, generator=generator),
    }
    if case["sizes"]:
        values["pixel_mask"] = torch.zeros(batch, height, width, dtype=torch.long)
        for mask, (rows, columns) in zip(values["pixel_mask"], case["sizes"]):
            mask[:rows, :columns] = 1
    return values


def outputs(model, case, values):
    """The named outputs, zero on padding."""
    result = model(**values)
    if isinstance(model, ViltForImageAndTextRetrieval):
        return {"logits": result.logits}
    mask = values["attention_mask"]
    if isinstance(model, ViltForMaskedLM):
        return {"logits": result.logits * mask[..., None]}
    patch = case["image"]["patch_size"]
    sizes = case["sizes"] or [case["canvas"]] * len(mask)
    patches = torch.tensor([-(-rows // patch) * -(-columns // patch) for rows, columns in sizes])
    visible = torch.cat([mask, torch.arange(1 + patches.max()) < 1 + patches[:, None]], dim=1)
    return {
        "last_hidden_state": result.last_hidden_state * visible[..., None],
        "pooler_output": result.pooler_output,
    }


def main():
    torch.multinomial = in_order
    for index, (name, case) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(index)
        config = ViltConfig(
            **case["config"], **case["image"], vocab_size=VOCABULARY, max_position_embeddings=case["words"][0]
        )
        model = case["class"](config).eval()
        if name == "untied_lm":
            # The released code does not tie the word decoder. transformers does, whatever its configuration says.
            model.mlm_score.decoder.weight = torch.nn.Parameter(torch.empty(VOCABULARY, config.hidden_size))
            config.tie_word_embeddings = False
        fill_from(generator, model)
        with torch.no_grad():
            values = inputs(case, generator)
            results = outputs(model, case, values)
        folder = Path(__file__).parent / "vilt" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        save_file({key: value.contiguous() for key, value in values.items()}, folder / "inputs.safetensors")
        save_file({key: value.contiguous() for key, value in results.items()}, folder / "outputs.safetensors")


if __name__ == "__main__":
    main()
