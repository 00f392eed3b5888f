"""Loss and gradients of ALBEF's image-text matching (Li et al., arXiv:2107.07651, section 3.2) with hard negatives,
defined as in the authors' code, on random states and a joint pass that multiplies.

Images and captions of the four pairs coincide so that every draw has one possible outcome: image 0 is image 2 and image
1 is image 3; caption 0 is caption 3 and caption 1 is caption 2.

Run in this folder: python itm.py. Made with torch 2.15 and safetensors 0.8; writes itm.safetensors.
"""

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, normalize

torch.manual_seed(0)
B, N, T, D = 4, 3, 5, 6
image_keys, caption_keys = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 1, 0])
leaves = {
    "image_tokens": torch.randn(B, N, D),
    "text_tokens": torch.randn(B, T, D),
    "weight": torch.rand(2, D) - 0.5,
    "bias": torch.rand(2) - 0.5,
}
image_tokens, text_tokens, weight, bias = (leaf.requires_grad_() for leaf in leaves.values())
images, texts = normalize(torch.randn(B, D), dim=-1), normalize(torch.randn(B, D), dim=-1)


def pooled(images, texts):
    return torch.tanh(texts * images.mean(1, keepdim=True))[:, 0]


def negatives(similarity):
    equal = (image_keys[:, None] == image_keys) | (caption_keys[:, None] == caption_keys)
    return torch.multinomial(similarity.softmax(1).masked_fill(equal, 0), 1)[:, 0]


similarity = images @ texts.T / 0.07
other_texts, other_images = negatives(similarity), negatives(similarity.T)
pairs = [
    pooled(image_tokens, text_tokens),
    pooled(image_tokens[other_images], text_tokens),
    pooled(image_tokens, text_tokens[other_texts]),
]
logits = torch.cat(pairs) @ weight.T + bias
matches = torch.tensor([1] * B + [0] * 2 * B)
loss = cross_entropy(logits, matches)
loss.backward()

saved = {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}
saved |= {"images": images, "texts": texts, "accuracy": (logits.argmax(1) == matches).float().mean()}
saved["match_probability"] = logits[:B].softmax(1)[:, 1]
save_file({name: value.detach().contiguous() for name, value in saved.items()}, "itm.safetensors")
