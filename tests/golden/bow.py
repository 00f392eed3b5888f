"""Loss and gradients of predicting the bag of words of a caption (Radford et al., arXiv:2103.00020, section 2.3) as the
softmax of Joulin et al., arXiv:1511.02251, section 3.2: each distinct word has an equal share of the target. The last text
has no word and does not count.

Run in this folder: python bow.py. Made with torch 2.15 and safetensors 0.8; writes bow.safetensors.
"""

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, layer_norm, linear

torch.manual_seed(0)
B, N, D, V = 3, 4, 6, 11
PAD, CLS, SEP = 0, 2, 3
ids = torch.tensor([[CLS, 5, 9, 5, SEP], [CLS, 7, SEP, PAD, PAD], [CLS, SEP, PAD, PAD, PAD]])
leaves = {
    "image_tokens": torch.randn(B, N, D),
    "bow.norm.gain": torch.rand(D) + 0.5,
    "bow.norm.bias": torch.randn(D),
    "bow.words.weight": torch.randn(V, D),
    "bow.words.bias": torch.randn(V),
}
tokens, gain, shift, weight, bias = (leaf.requires_grad_() for leaf in leaves.values())
logits = linear(layer_norm(tokens.mean(1), (D,), gain, shift), weight, bias)
targets = torch.zeros(2, V)
targets[0, [5, 9]], targets[1, 7] = 0.5, 1.0
loss = cross_entropy(logits[:2], targets)
loss.backward()
saved = {**leaves, "loss": loss, "ids": ids.to(torch.uint32), **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}
saved["accuracy"] = (targets.gather(1, logits[:2].argmax(1, keepdim=True)) > 0).float().mean()
save_file({name: value.detach().contiguous() for name, value in saved.items()}, "bow.safetensors")
