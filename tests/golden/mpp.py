"""Loss and gradients of ViLT's masked patch prediction (Kim et al., arXiv:2102.03334, section 4.4), defined as in the
authors' code: the mean colour of a patch is cut to one of 256 levels a channel, the head is BERT's transform and one linear
map whose outputs are [red|green|blue]. Here every patch is drawn.

The authors normalise pixels to [-1, 1]; here they are normalised as the suite does, which the labels undo.

Run in this folder: python mpp.py. Made with torch 2.15 and safetensors 0.8; writes mpp.safetensors.
"""

import torch
from safetensors.torch import save_file
from torch.nn.functional import conv2d, cross_entropy, gelu, layer_norm, linear

torch.manual_seed(0)
B, SIDE, PATCH, D = 3, 8, 4, 6
P = (SIDE // PATCH) ** 2
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)

colours = torch.rand(B, 3, SIDE, SIDE)
pixels = (colours - MEAN) / DEVIATION
means = conv2d(pixels * DEVIATION + MEAN, torch.ones(3, 1, PATCH, PATCH) / PATCH**2, stride=PATCH, groups=3)
assert (means * 255 - (means * 255).round()).abs().min() > 1e-3, "a mean lies on the border of two levels"
labels = (means * 255).long().flatten(2).permute(0, 2, 1)

leaves = {
    # The class token comes first.
    "image_tokens": torch.randn(B, 1 + P, D),
    "mpp.head.transform.weight": torch.randn(D, D),
    "mpp.head.transform.bias": torch.randn(D),
    "mpp.head.norm.gain": torch.rand(D) + 0.5,
    "mpp.head.norm.bias": torch.randn(D),
    "mpp.head.levels.weight": torch.randn(3 * 256, D) / 4,
    "mpp.head.levels.bias": torch.randn(3 * 256) / 4,
}
tokens, weight, bias, gain, shift, levels, levels_bias = (leaf.requires_grad_() for leaf in leaves.values())
hidden = layer_norm(gelu(linear(tokens, weight, bias)), (D,), gain, shift, 1e-12)
logits = linear(hidden, levels, levels_bias)
logits = torch.stack([logits[:, :, 0:256], logits[:, :, 256:512], logits[:, :, 512:768]], dim=2)
labels = torch.cat([torch.full((B, 1, 3), -100), labels], dim=1)
loss = cross_entropy(logits.view(-1, 256), labels.view(-1), ignore_index=-100)
loss.backward()

saved = {**leaves, "loss": loss, "pixels": pixels, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}
saved["accuracy"] = (logits.argmax(-1) == labels)[labels >= 0].float().mean()
save_file({name: value.detach().contiguous() for name, value in saved.items()}, "mpp.safetensors")
