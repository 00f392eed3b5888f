"""Loss and gradients of masked image modelling with every patch hidden: codes as in BEiT (Bao et al., arXiv:2106.08254,
section 2.3, released code: one linear map and cross-entropy), pixels as in MAE (He et al., arXiv:2111.06377, released
code: mean squared error of patches normalised by their own mean and sample variance).

"blocks/" holds what BEiT's own generator hides of 14 x 14 patches over many draws: the mean number, its deviation, and how
often each patch is hidden. It needs github.com/microsoft/unilm, commit 768a3c8, folder beit, on PYTHONPATH.

Run in this folder: PYTHONPATH=unilm/beit python mim.py. Made with torch 2.15, numpy 2 and safetensors 0.8; writes
mim.safetensors.
"""

import random

import numpy
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, linear

numpy.int = int
from masking_generator import MaskingGenerator

import dvae

D, DRAWS = 7, 20_000
P = (dvae.SIDE // dvae.PATCH) ** 2


def case(target):
    pixels = torch.randn(dvae.B, 3, dvae.SIDE, dvae.SIDE)
    outputs = dvae.CODES if target == "codes" else dvae.PIXELS
    leaves = {
        # The class token comes first.
        "image_tokens": torch.randn(dvae.B, 1 + P, D),
        "mim.head.weight": torch.randn(outputs, D),
        "mim.head.bias": torch.randn(outputs),
    }
    tokens, weight, bias = (leaf.requires_grad_() for leaf in leaves.values())
    told = linear(tokens[:, 1:].flatten(0, 1), weight, bias)
    saved = {**leaves, "pixels": pixels}
    if target == "codes":
        tokenizer = dvae.drawn(dvae.ENCODER)
        codes = dvae.encoder(tokenizer, pixels).argmax(-1)
        loss = cross_entropy(told, codes)
        saved |= tokenizer | {"accuracy": (told.argmax(-1) == codes).float().mean()}
    else:
        wanted = dvae.patches(pixels)
        wanted = (wanted - wanted.mean(-1, keepdim=True)) / (wanted.var(-1, keepdim=True) + 1e-6) ** 0.5
        loss = ((told - wanted) ** 2).mean(-1).mean()
    loss.backward()
    return saved | {"loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}


def blocks():
    random.seed(0)
    # As in BEiT, but with all 40 % of the paper, 78 of 196; the released script hides 75.
    generator = MaskingGenerator((14, 14), 78, min_num_patches=16)
    masks = torch.stack([torch.from_numpy(generator()) for _ in range(DRAWS)]).float()
    counts = masks.sum((1, 2))
    return {"mean": counts.mean(), "deviation": counts.std(), "shares": masks.mean(0).flatten()}


torch.manual_seed(0)
cases = {target: case(target) for target in ("codes", "pixels")} | {"blocks": blocks()}
saved = {f"{case}/{name}": value.detach().contiguous() for case, values in cases.items() for name, value in values.items()}
save_file(saved, "mim.safetensors")
