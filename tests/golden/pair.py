"""Loss and gradients of two-image reasoning as in ViLT's released code (vilt/modules/objectives.py, compute_nlvr2; Kim et
al., arXiv:2102.03334): the pooled vectors of the statement with either image side by side, then linear, layer normalisation,
GELU, linear, cross-entropy. The joint pass stands for a model: `tanh(words * mean of the image's rows)`, first token.

Run in this folder: python pair.py. Made with torch 2.15 and safetensors 0.8; writes pair.safetensors.
"""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
B, T, S = 5, 3, 4
D = S * S
answers = torch.tensor([1, 0, 0, 1, 1])
text_tokens = torch.randn(B, T, D).requires_grad_()
images = [torch.randn(B, 3, S, S) for _ in range(2)]
up, norm, down = nn.Linear(2 * D, 2 * D), nn.LayerNorm(2 * D), nn.Linear(2 * D, 2)
nn.init.normal_(norm.weight, 1, 0.2)
nn.init.normal_(norm.bias, 0, 0.2)


def pooled(image):
    return torch.tanh(text_tokens * image.flatten(2).mean(1, keepdim=True))[:, 0]


logits = nn.Sequential(up, norm, nn.GELU(), down)(torch.cat([pooled(image) for image in images], 1))
loss = cross_entropy(logits, answers)
loss.backward()

leaves = {"text_tokens": text_tokens, "up.weight": up.weight, "up.bias": up.bias, "norm.gain": norm.weight}
leaves |= {"norm.bias": norm.bias, "down.weight": down.weight, "down.bias": down.bias}
saved = {**leaves, "first": images[0], "second": images[1], "loss": loss}
saved |= {"accuracy": (logits.argmax(1) == answers).float().mean()}
saved |= {f"{name}.grad": leaf.grad for name, leaf in leaves.items()}
save_file({name: value.detach().contiguous() for name, value in saved.items()}, "pair.safetensors")
