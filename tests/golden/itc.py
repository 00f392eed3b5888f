"""Loss and gradients of CLIP's symmetric contrast (Radford et al., arXiv:2103.00020, figure 3) on random unit vectors.

Run in this folder: python itc.py. Made with torch 2.15 and safetensors 0.8; writes itc.safetensors.
"""

import math

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, normalize

torch.manual_seed(0)
B, E = 5, 6
leaves = {
    "images": normalize(torch.randn(B, E), dim=-1),
    "texts": normalize(torch.randn(B, E), dim=-1),
    "t": torch.tensor(math.log(1 / 0.07)),
}
images, texts, t = (leaf.requires_grad_() for leaf in leaves.values())

logits = images @ texts.T * t.exp()
own = torch.arange(B)
loss = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
loss.backward()

saved = {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}
saved["image_accuracy"] = (logits.argmax(1) == own).float().mean()
saved["text_accuracy"] = (logits.argmax(0) == own).float().mean()
save_file({name: value.detach().contiguous() for name, value in saved.items()}, "itc.safetensors")
