"""What the released code of VLMo computes from random weights.

Run in this folder with the folder `vlmo` of github.com/microsoft/unilm, commit 768a3c8, on PYTHONPATH: python vlmo.py. Made
with torch 2.15, transformers 5.24 and safetensors 0.8; writes a folder `vlmo/<case>` for each case: config.json (the
released code's own settings, and the arguments of its transformer, which it takes from the name of a model),
model.safetensors under its names, its inputs in inputs.safetensors, and in outputs.safetensors what its passes give,
`<pass>.<name>`, zero where padding hides it, with the logits that it makes of those.

What the passes do not need (lightning, timm, metrics, distributed training) is replaced by a few lines below. transformers
no longer leaves positions out of BertEmbeddings when they are relative: they are zero here, which is the same.
"""

import json
import shutil
import sys
import types
from functools import partial
from pathlib import Path

from drawn import fill, visible

# This file and the folder that it writes are called as the package is.
sys.path.remove(str(Path(__file__).parent.resolve()))

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402
from transformers.models.bert import modeling_bert  # noqa: E402, F401 - before timm is replaced, which it looks for

VOCABULARY = 27
# The relative positions of the first case are those of longer texts; the last is built like base+.
CASES = {
    "relative": {
        "arch": dict(embed_dim=12, depth=4, num_heads=3, mlp_ratio=2.5, patch_size=4, vlffn_start_layer_index=2),
        "size": 12,
        "words": (7, 10, [7, 2, 5]),
        "loss": "itc",
    },
    "one_head": {
        "arch": dict(embed_dim=10, depth=2, num_heads=1, mlp_ratio=1.5, patch_size=3, vlffn_start_layer_index=1),
        "size": 6,
        "words": (6, 6, [4, 6, 6, 2]),
        "loss": "irtr",
    },
    "absolute": {
        "arch": dict(
            embed_dim=12,
            depth=3,
            num_heads=2,
            mlp_ratio=3.0,
            patch_size=5,
            vlffn_start_layer_index=2,
            use_abs_pos_emb=True,
            need_relative_position_embed=False,
            layer_scale_init_values=None,
        ),
        "size": 10,
        "words": (8, 8, [3, 8]),
        "loss": "itc",
    },
}


def module(name, **members):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(members)


class Lightning(nn.Module):
    def save_hyperparameters(self):
        self.hparams = types.SimpleNamespace(config=sys._getframe(1).f_locals["config"])


class Kept(nn.Module):
    """Stands for DropPath, which drops nothing in evaluation."""

    def forward(self, x):
        return x


def build(name, **settings):
    """timm's create_model leaves out what is None."""
    from vlmo.modules.multiway_transformer import MultiWayTransformer

    settings = {key: value for key, value in settings.items() if value is not None}
    settings.pop("pretrained")
    norm = partial(nn.LayerNorm, eps=1e-6)
    return MultiWayTransformer(**settings, **settings["config"]["arch"], qkv_bias=True, norm_layer=norm)


def nothing(*_, **__):
    pass


module("pytorch_lightning", LightningModule=Lightning)
module("pytorch_lightning.utilities")
module("pytorch_lightning.utilities.distributed", rank_zero_info=nothing)
module("timm")
module("timm.models", create_model=build)
module(
    "timm.models.layers",
    DropPath=lambda _: Kept(),
    to_2tuple=lambda x: (x, x),
    trunc_normal_=nn.init.trunc_normal_,
)
module("timm.models.registry", register_model=lambda build: build)
# On the CPU it is -1, which the released code does not expect.
torch.Tensor.get_device = lambda tensor: tensor.device
module("einops", rearrange=nothing)
module("vlmo.modules.vlmo_utils", set_metrics=nothing)
module("vlmo.modules.dist_utils", all_gather=nothing)

import vlmo.modules  # noqa: E402
from vlmo.modules.vlmo_module import VLMo  # noqa: E402


def outputs(model, batch):
    mask = batch["text_masks"][..., None]
    out = {}
    with torch.no_grad():
        joint = model.infer(batch)
        # The released code looks for a second contrast only where it trains one.
        contrast = hasattr(model, "logit_vl_scale")
        image = (model.infer_image if contrast else model.infer_image_ft)(batch)
        text = (model.infer_text if contrast else model.infer_text_ft)(batch)
        for name in ["text_feats", "image_feats", "cls_feats"]:
            out[f"infer.{name}"] = joint[name]
        for side, passed in [("image", image), ("text", text)]:
            out[f"infer_{side}.{side}_feats"] = passed[f"{side}_feats"]
            out[f"infer_{side}.cls_feats"] = passed["cls_feats"]
        scale = model.logit_scale.exp().mean()
        out["itc_i2t_logits"] = scale * image["cls_feats"] @ text["cls_feats"].t()
        if contrast:
            scale = model.logit_vl_scale.exp().mean()
            out["itc_vl_i2t_logits"] = scale * image["cls_vlffn_feats"] @ text["cls_vlffn_feats"].t()
        out["mlm_logits"] = model.mlm_score(joint["text_feats"])
        out["itm_logits"] = model.itm_score(joint["cls_feats"])
    for name in ["infer.text_feats", "infer_text.text_feats", "mlm_logits"]:
        out[name] = out[name] * mask
    return {name: tensor.contiguous() for name, tensor in out.items()}


torch.manual_seed(0)
for case, sizes in CASES.items():
    length, longest, lengths = sizes["words"]
    losses = {name: 0 for name in ["itm", "itc", "mlm", "textmlm", "vqa", "nlvr2", "irtr"]}
    losses.update({"itm": 1, "mlm": 1, sizes["loss"]: 1})
    settings = {
        "loss_names": losses,
        "image_size": sizes["size"],
        "max_text_len": length,
        "max_text_len_of_initckpt": longest,
        "vocab_size": VOCABULARY,
        "drop_path_rate": 0.1,
    }
    arch = dict(sizes["arch"])
    model = VLMo({**settings, "arch": arch, "model_arch": case, "load_path": "", "test_only": False}).eval()
    fill(model, {"logit_scale": 2.0, "logit_vl_scale": 1.5})
    relative = arch.get("need_relative_position_embed", True)
    if relative:
        model.text_embeddings.position_embeddings.weight.data.zero_()
    ids = torch.randint(5, VOCABULARY, (len(lengths), length))
    mask = visible(lengths, length)
    pixels = torch.randn(len(lengths), 3, sizes["size"], sizes["size"])
    batch = {"image": [pixels], "text_ids": ids, "text_masks": mask, "text_labels": ids}
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if relative:
        del weights["text_embeddings.position_embeddings.weight"]
    folder = Path("vlmo") / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = {"architectures": ["VLMo"], **settings, **arch}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(weights, folder / "model.safetensors")
    save_file({"image": pixels, "text_ids": ids, "text_masks": mask}, folder / "inputs.safetensors")
    save_file(outputs(model, batch), folder / "outputs.safetensors")
