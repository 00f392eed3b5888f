"""Loss and gradients of grounding as in UNITER's released code (model/re.py, loss "cls", mlp 1; Chen et al.,
arXiv:1909.11740) on given region tokens: a linear score of each region, -1e4 where there is none, cross-entropy. The
map's bias, which has no gradient, is left at zero.

Run in this folder: python ground.py. Made with torch 2.15 and safetensors 0.8; writes ground.safetensors.
"""

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
B, N, D = 5, 4, 6
mask = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]])
targets = torch.tensor([3, 0, 1, 2, 2])
leaves = {"image_tokens": torch.randn(B, N, D), "weight": torch.randn(1, D)}
image_tokens, weight = (leaf.requires_grad_() for leaf in leaves.values())
scores = (image_tokens @ weight.T)[..., 0].masked_fill(mask == 0, -1e4)
loss = cross_entropy(scores, targets)
loss.backward()

saved = {**leaves, "mask": mask, "loss": loss, "accuracy": (scores.argmax(1) == targets).float().mean()}
saved |= {f"{name}.grad": leaf.grad for name, leaf in leaves.items()}
save_file({name: value.detach().contiguous() for name, value in saved.items()}, "ground.safetensors")
