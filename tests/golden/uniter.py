"""What UNITER's released pre-training class computes from random weights.

Run in this folder with github.com/ChenRocks/UNITER at commit 1dbfa62bb8ddb1f2b11d20775ce324c5e45a3ab4 on PYTHONPATH:
python uniter.py. Made with torch 2.15 and safetensors 0.8; writes a folder `uniter/<case>` for each case: config.json
with the keys of the released configuration beside img_dim and img_label_dim, the class's weights in model.safetensors,
its arguments in inputs.safetensors and what it computes in outputs.safetensors, zero where padding hides it.

apex's FusedLayerNorm is replaced by torch's LayerNorm, which computes the same. Hidden regions have features of zero, as
in the released data loader; the class itself only adds its mask vector to them. `attention_mask` and `region_mask` say
which words and regions are there; the class is given what its data loader makes of them, a mask and an index that move
the regions of each example next to its words.
"""

import json
import shutil
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

apex = {name: types.ModuleType(name) for name in ("apex", "apex.normalization", "apex.normalization.fused_layer_norm")}
apex["apex.normalization.fused_layer_norm"].FusedLayerNorm = torch.nn.LayerNorm
sys.modules.update(apex)

from drawn import fill_from, visible  # noqa: E402
from model.model import UniterConfig  # noqa: E402
from model.pretrain import UniterForPretraining  # noqa: E402

VOCABULARY = 29
CASES = {
    "heads": {
        "config": {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20},
        "features": 10,
        "classes": 7,
        "words": [7, 2, 5],
        "regions": [4, 3, 1],
        "masked": [[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]],
    },
    "plain": {
        "config": {"hidden_size": 10, "num_hidden_layers": 3, "num_attention_heads": 1, "intermediate_size": 7},
        "features": 13,
        "classes": 4,
        "words": [3, 6, 4, 6],
        "regions": [2, 5, 5, 3],
        "masked": None,
    },
}


def boxes(count, generator):
    corners = torch.rand(*count, 2, 2, generator=generator).sort(dim=-2).values
    sides = corners[..., 1, :] - corners[..., 0, :]
    return torch.cat([corners.flatten(-2), sides, sides.prod(-1, keepdim=True)], dim=-1)


def inputs(case, generator):
    words, regions = visible(case["words"]), visible(case["regions"])
    values = {
        "input_ids": torch.randint(VOCABULARY, words.shape, generator=generator),
        "attention_mask": words,
        "img_feat": torch.randn(*regions.shape, case["features"], generator=generator),
        "img_pos_feat": boxes(regions.shape, generator),
        "region_mask": regions,
    }
    if case["masked"]:
        values["img_masks"] = torch.tensor(case["masked"])
        values["img_feat"] *= 1 - values["img_masks"][..., None]
    return values


def gathered(words, regions):
    """The mask (B,L) of an example's words followed by its regions, and where each stands in [words | regions]."""
    places = torch.cat([words, regions], dim=1)
    lengths = places.sum(1).tolist()
    index = torch.arange(max(lengths)).repeat(len(lengths), 1)
    for row, seen in zip(index, places):
        there = seen.nonzero().flatten()
        row[: len(there)] = there
    return visible(lengths), index


def outputs(model, values):
    words, regions = values["attention_mask"], values["region_mask"]
    mask, index = gathered(words, regions)
    positions = torch.arange(words.shape[1])[None]
    masked = values["img_masks"].bool() if "img_masks" in values else None
    hidden = model.uniter(
        values["input_ids"], positions, values["img_feat"], values["img_pos_feat"], mask, index, img_masks=masked,
        output_all_encoded_layers=False,
    )
    # Back to where they came from.
    apart = torch.zeros(len(words), words.shape[1] + regions.shape[1], hidden.shape[-1])
    for example, row in enumerate(mask.bool()):
        apart[example, index[example][row]] = hidden[example][row]
    text, image = apart.split([words.shape[1], regions.shape[1]], dim=1)
    pooled = model.uniter.pooler(hidden)
    return {
        "last_hidden_state": apart,
        "pooler_output": pooled,
        "prediction_scores": model.cls(text) * words[..., None],
        "prediction_feat": model.feat_regress(image) * regions[..., None],
        "prediction_soft_label": model.region_classifier(image) * regions[..., None],
        "itm_scores": model.itm_output(pooled),
    }


def main():
    for number, (name, case) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(number)
        settings = {
            **case["config"],
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "initializer_range": 0.02,
            "max_position_embeddings": max(case["words"]) + 1,
            "type_vocab_size": 2,
            "vocab_size": VOCABULARY,
        }
        sizes = {"img_dim": case["features"], "img_label_dim": case["classes"]}
        model = UniterForPretraining(UniterConfig.from_dict(settings), *sizes.values()).eval()
        fill_from(generator, model)
        with torch.no_grad():
            values = inputs(case, generator)
            results = outputs(model, values)
        folder = Path(__file__).parent / "uniter" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config = {"architectures": ["UniterForPretraining"], **settings, **sizes}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        # Tied weights stand in the state once; the transposed region projection has a second name.
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        for copy in ("cls.predictions.decoder.weight", "feat_regress.weight"):
            del weights[copy]
        save_file(weights, folder / "model.safetensors")
        save_file({key: value.contiguous() for key, value in values.items()}, folder / "inputs.safetensors")
        save_file({key: value.contiguous() for key, value in results.items()}, folder / "outputs.safetensors")


if __name__ == "__main__":
    main()
