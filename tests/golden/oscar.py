"""What Oscar's released pre-training class computes from random weights.

Run in this folder with github.com/microsoft/Oscar at commit 266075fef2486846bb7110fbb6232074e09e076d and the package
pytorch-transformers 1.0.0, on which it builds, on PYTHONPATH: python oscar.py. Made with torch 2.15 and safetensors 0.8;
writes a folder `oscar/<case>` for each case: config.json with the keys of the released configuration, the class's weights
in model.safetensors, its arguments in inputs.safetensors and its outputs in outputs.safetensors, zero where padding hides
them.

What downloads files or searches for captions is replaced by empty modules. `attention_mask` says which words and tags are
there and `region_mask` which regions; the class is given one mask over [words | tags | regions], with rows where not
every part sees every other: `att_mask_type` is the argument of that name of the released retrieval script, and the mask
is what that script makes of it.
"""

import importlib
import json
import shutil
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

from drawn import fill_from, visible

# This file has the name of their package.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]


def stub(name, *members):
    sys.modules[name] = types.ModuleType(name)
    for member in members:
        setattr(sys.modules[name], member, type(member, (Exception,), {}))


for name, *members in [
    ("boto3",),
    ("requests",),
    ("six",),
    ("tqdm", "tqdm"),
    ("botocore",),
    ("botocore.config", "Config"),
    ("botocore.exceptions", "ClientError"),
    ("oscar.utils.cbs", "ConstrainedBeamSearch", "select_best_beam_with_constraints"),
]:
    stub(name, *members)

sys.modules["six"].PY2 = False

# The package without its __init__, which imports every tokenizer.
for place in sys.path:
    if (Path(place) / "pytorch_transformers" / "modeling_bert.py").exists():
        stub("pytorch_transformers")
        sys.modules["pytorch_transformers"].__path__ = [str(Path(place) / "pytorch_transformers")]
stub("transformers")
stub("transformers.pytorch_transformers")
for part in ("file_utils", "modeling_utils", "modeling_bert"):
    module = importlib.import_module(f"pytorch_transformers.{part}")
    sys.modules[f"transformers.pytorch_transformers.{part}"] = module

from oscar.modeling.modeling_bert import BertImgForPreTraining  # noqa: E402
from pytorch_transformers.modeling_bert import BertConfig  # noqa: E402

VOCABULARY = 29
CASES = {
    "all_parts": {
        "config": {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20},
        "attend": "CLR",
        "img_layernorm": 0,
    },
    "normalised": {
        "config": {"hidden_size": 10, "num_hidden_layers": 3, "num_attention_heads": 1, "intermediate_size": 7},
        "attend": "CLR",
        "img_layernorm": 1,
    },
    "caption_and_tags": {
        "config": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 9},
        "attend": "CL",
        "img_layernorm": 0,
    },
    "caption_and_regions": {
        "config": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 9},
        "attend": "CR",
        "img_layernorm": 1,
    },
    "tags_and_regions": {
        "config": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 9},
        "attend": "LR",
        "img_layernorm": 0,
    },
}
FEATURES = 11
CAPTION, TAGS, REGIONS = [4, 2, 3], [3, 5, 0], [4, 1, 3]


def inputs(generator):
    text, regions = visible([sum(lengths) for lengths in zip(CAPTION, TAGS)]), visible(REGIONS)
    tags = (torch.arange(text.shape[1]) >= torch.tensor(CAPTION)[:, None]).long() * text
    return {
        "input_ids": torch.randint(VOCABULARY, text.shape, generator=generator),
        "attention_mask": text,
        "token_type_ids": tags,
        "img_feats": torch.randn(*regions.shape, FEATURES, generator=generator),
        "region_mask": regions,
    }


def parts(values, attend):
    """The mask (B,L), or (B,L,L) where not every part sees every other."""
    text, regions = values["attention_mask"], values["region_mask"]
    if attend == "CLR":
        return torch.cat([text, regions], dim=1)
    tags = values["token_type_ids"]
    no_text, no_regions = torch.zeros_like(text), torch.zeros_like(regions)
    members = {
        "C": torch.cat([text - tags, no_regions], dim=1),
        "L": torch.cat([tags, no_regions], dim=1),
        "R": torch.cat([no_text, regions], dim=1),
    }
    # Each part sees itself, and the two that are named see each other.
    groups = [*members.values(), sum(members[part] for part in attend)]
    return sum(group[:, :, None] * group[:, None, :] for group in groups).clamp(max=1)


def outputs(model, values, attend):
    scores, relationship = model(
        values["input_ids"],
        token_type_ids=values["token_type_ids"],
        attention_mask=parts(values, attend),
        img_feats=values["img_feats"],
    )
    hidden, pooled = model.bert(
        values["input_ids"],
        token_type_ids=values["token_type_ids"],
        attention_mask=parts(values, attend),
        img_feats=values["img_feats"],
    )
    text = values["attention_mask"]
    visible = torch.cat([text, values["region_mask"]], dim=1)[..., None]
    return {
        "last_hidden_state": hidden * visible,
        "pooler_output": pooled,
        "prediction_scores": scores[:, : text.shape[1]] * text[..., None],
        "seq_relationship_score": relationship,
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
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": 9,
            "type_vocab_size": 2,
            "vocab_size": VOCABULARY,
            "img_feature_dim": FEATURES,
            "img_feature_type": "faster_r-cnn",
            "use_img_layernorm": case["img_layernorm"],
            "img_layer_norm_eps": 1e-12,
        }
        config = BertConfig(vocab_size_or_config_json_file=VOCABULARY)
        for key, value in settings.items():
            setattr(config, key, value)
        model = BertImgForPreTraining(config).eval()
        fill_from(generator, model)
        with torch.no_grad():
            values = inputs(generator)
            results = outputs(model, values, case["attend"])
        folder = Path(__file__).parent / "oscar" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config = {"architectures": ["BertImgForPreTraining"], **settings}
        if case["attend"] != "CLR":
            config["att_mask_type"] = case["attend"]
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        del weights["cls.predictions.decoder.weight"]
        save_file(weights, folder / "model.safetensors")
        save_file({key: value.contiguous() for key, value in values.items()}, folder / "inputs.safetensors")
        save_file({key: value.contiguous() for key, value in results.items()}, folder / "outputs.safetensors")


if __name__ == "__main__":
    main()
