"""Loss and gradients of question answering as UNITER (Chen et al., arXiv:1909.11740) and ViLT fine-tune for it: UNITER's
head (linear, GELU, layer normalisation, linear) on given pooled vectors, binary cross-entropy times the number of answers;
then cross-entropy with the same head; then the head on `[u; v; u v]` of given unit vectors.

Run in this folder: python answer.py. Made with torch 2.15 and safetensors 0.8; writes answer.safetensors.
"""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize, one_hot

torch.manual_seed(0)
B, D, E, A = 5, 6, 4, 7
answers = torch.tensor([3, 0, 6, 3, 1])


def head(inputs):
    up, norm, down = nn.Linear(inputs, 2 * D), nn.LayerNorm(2 * D, eps=1e-12), nn.Linear(2 * D, A)
    nn.init.normal_(norm.weight, 1, 0.2)
    nn.init.normal_(norm.bias, 0, 0.2)
    return nn.Sequential(up, nn.GELU(), norm, down)


def binary(logits):
    return binary_cross_entropy_with_logits(logits, one_hot(answers, A).float()) * A


saved = {}
for case, loss in [("binary", binary), ("softmax", lambda logits: cross_entropy(logits, answers)), ("embeds", binary)]:
    if case == "embeds":
        leaves = {name: normalize(torch.randn(B, E), dim=-1) for name in ["images", "texts"]}
        u, v = (leaf.requires_grad_() for leaf in leaves.values())
        pair, classifier = torch.cat([u, v, u * v], 1), head(3 * E)
    else:
        leaves = {"text_tokens": torch.randn(B, 1, D).requires_grad_()}
        pair, classifier = leaves["text_tokens"][:, 0], head(D)
    names = {"0": "up", "2": "norm", "3": "down"}
    for name, parameter in classifier.named_parameters():
        layer, kind = name.split(".")
        kind = "gain" if (layer, kind) == ("2", "weight") else kind
        leaves[f"{names[layer]}.{kind}"] = parameter
    logits = classifier(pair)
    value = loss(logits)
    value.backward()
    outputs = {"loss": value, "logits": logits, "accuracy": (logits.argmax(1) == answers).float().mean()}
    outputs |= leaves | {f"{name}.grad": leaf.grad for name, leaf in leaves.items()}
    saved |= {f"{case}/{name}": tensor.detach().clone() for name, tensor in outputs.items()}
save_file({name: tensor.contiguous() for name, tensor in saved.items()}, "answer.safetensors")
