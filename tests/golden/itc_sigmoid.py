"""Loss and gradients of SigLIP's pairwise sigmoid contrast (Zhai et al., arXiv:2303.15343, section 3.2) on random unit
vectors, with t' and b as they begin and elsewhere.

Run in this folder: python itc_sigmoid.py. Made with torch 2.15 and safetensors 0.8; writes itc_sigmoid.safetensors with
one group of tensors a pair of t' and b.
"""

import math

import torch
from safetensors.torch import save_file
from torch.nn.functional import logsigmoid, normalize

B, E = 5, 6


def case(t_prime, b):
    leaves = {
        "images": normalize(torch.randn(B, E), dim=-1),
        "texts": normalize(torch.randn(B, E), dim=-1),
        "t_prime": torch.tensor(t_prime),
        "b": torch.tensor(b),
    }
    images, texts, t_prime, b = (leaf.requires_grad_() for leaf in leaves.values())
    logits = images @ texts.T * t_prime.exp() + b
    z = 2 * torch.eye(B) - 1
    loss = -logsigmoid(z * logits).sum() / B
    loss.backward()
    return {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}


torch.manual_seed(0)
cases = {"first": case(math.log(10), -10.0), "later": case(math.log(30), -3.0)}
saved = {f"{case}/{name}": value.detach().contiguous() for case, values in cases.items() for name, value in values.items()}
save_file(saved, "itc_sigmoid.safetensors")
