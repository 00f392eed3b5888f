"""Loss and gradients of CLIP's symmetric contrast (Radford et al., arXiv:2103.00020, figure 3) on random unit vectors, and
in the group "queries" those of BLIP-2's (Li et al., arXiv:2301.12597, released code): several vectors an image, of which the
nearest to a text counts, a learned temperature that divides, labels smoothed by 0.1.

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


def queries():
    leaves = {
        "images": normalize(torch.randn(B, 3, E), dim=-1),
        "texts": normalize(torch.randn(B, E), dim=-1),
        "temperature": torch.tensor(0.07),
    }
    images, texts, temperature = (leaf.requires_grad_() for leaf in leaves.values())
    sim_q2t = torch.matmul(images.unsqueeze(1), texts.unsqueeze(-1)).squeeze(-1)
    sim_i2t = sim_q2t.max(-1).values / temperature
    sim_t2q = torch.matmul(texts.unsqueeze(1).unsqueeze(1), images.permute(0, 2, 1)).squeeze(-2)
    sim_t2i = sim_t2q.max(-1).values / temperature
    own = torch.arange(B)
    loss = (cross_entropy(sim_i2t, own, label_smoothing=0.1) + cross_entropy(sim_t2i, own, label_smoothing=0.1)) / 2
    loss.backward()
    return {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}


saved |= {f"queries/{name}": value for name, value in queries().items()}
save_file({name: value.detach().contiguous() for name, value in saved.items()}, "itc.safetensors")
