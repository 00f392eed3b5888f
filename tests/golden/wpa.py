"""Loss and gradients of ViLT's image-text matching with word-patch alignment (Kim et al., arXiv:2102.03334, section
3.3), by the released code on random states in the place of its transformer.

Run in this folder with github.com/dandelin/ViLT at commit 762fd3975c180db6fc88f577cf39549983fa373a on PYTHONPATH:
python wpa.py. Made with torch 2.15 and safetensors 0.8; writes wpa.safetensors.

What that file imports and does not need here is replaced by empty modules. Of the three pairs two have each other's
image and the third its own: the order that the code draws for its labels is fixed. The first image token is the class
token; the weight of the alignment, 0.1, is part of the released function.
"""

import sys
import types

import torch
from safetensors.torch import save_file

for name, *members in [("einops", "rearrange"), ("tqdm",), ("vilt.modules.dist_utils", "all_gather")]:
    sys.modules[name] = types.ModuleType(name)
    for member in members:
        setattr(sys.modules[name], member, None)
for package in ("vilt", "vilt.modules"):
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [f"{place}/{package.replace('.', '/')}" for place in sys.path]

from vilt.modules.objectives import compute_itm_wpa  # noqa: E402

B, T, N, D = 3, 6, 5, 6
torch.manual_seed(1)
words, image, weight = torch.randn(B, T, D), torch.randn(B, N, D), torch.randn(2, D)
leaves = {"words": words, "image": image, "weight": weight, "bias": torch.randn(2)}
words, image, weight, bias = (leaf.requires_grad_() for leaf in leaves.values())
word_mask = (torch.arange(T) < torch.tensor([6, 3, 4])[:, None]).long()


class Module:
    device, training = "cpu", True
    hparams = types.SimpleNamespace(config={"vit": "vit_base_patch32_384"})

    def infer(self, batch, **_):
        (shown,) = batch["image"]
        text = torch.tanh(words * shown.mean(1, keepdim=True))
        masks = {"text_masks": word_mask, "image_masks": torch.ones(B, N).long()}
        return {"text_feats": text, "image_feats": shown, "cls_feats": text[:, 0]} | masks

    def itm_score(self, pooled):
        return pooled @ weight.T + bias

    def log(self, *_):
        pass

    train_itm_loss = train_itm_wpa_loss = staticmethod(lambda loss: loss)
    train_itm_accuracy = staticmethod(lambda *_: None)


torch.randperm = lambda _: torch.tensor([1, 2, 0])
found = compute_itm_wpa(Module(), {"text": [""] * B, "image": [image], "false_image_0": [image[[1, 0, 2]]]})
loss = found["itm_loss"] + found["itm_wpa_loss"]
loss.backward()
saved = {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}
saved |= {"itm": found["itm_loss"], "wpa": found["itm_wpa_loss"] / 0.1, "word_mask": word_mask.float()}
save_file({name: value.detach().contiguous() for name, value in saved.items()}, "wpa.safetensors")
