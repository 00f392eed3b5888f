"""Loss and gradients of visual entailment as in ALBEF's released code (models/model_ve.py; Li et al., arXiv:2107.07651):
linear, ReLU, linear to three verdicts, cross-entropy, on given representations of `[CLS]`.

Run in this folder: python entail.py. Made with torch 2.15 and safetensors 0.8; writes entail.safetensors.
"""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
B, D = 5, 6
verdicts = torch.tensor([0, 2, 1, 1, 0])
text_tokens = torch.randn(B, 1, D).requires_grad_()
head = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 3))
logits = head(text_tokens[:, 0])
loss = cross_entropy(logits, verdicts)
loss.backward()

leaves = {"text_tokens": text_tokens, "up.weight": head[0].weight, "up.bias": head[0].bias}
leaves |= {"down.weight": head[2].weight, "down.bias": head[2].bias}
saved = {**leaves, "loss": loss, "accuracy": (logits.argmax(1) == verdicts).float().mean()}
saved |= {f"{name}.grad": leaf.grad for name, leaf in leaves.items()}
save_file({name: value.detach().contiguous() for name, value in saved.items()}, "entail.safetensors")
