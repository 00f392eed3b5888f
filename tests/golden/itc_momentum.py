"""Loss and gradients of ALBEF's contrast (Li et al., arXiv:2107.07651, sections 3.2 and 3.3) on random unit vectors,
defined as in the authors' code: the temperature divides, targets are one-hot or a blend with the slow model's softmax,
keys are the slow model's vectors of this batch and then the queue. In the groups "image" every key of the same image is a
target, as in the code with which ALBEF and BLIP fine-tune retrieval.

Run in this folder: python itc_momentum.py. Made with torch 2.15 and safetensors 0.8; writes itc_momentum.safetensors
with one group of tensors a case: length of the queue and alpha.
"""

import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

B, E = 4, 6


def unit(rows):
    return normalize(torch.randn(rows, E), dim=-1)


def half(queries, slow_queries, keys, temperature, alpha, match):
    with torch.no_grad():
        believed = (slow_queries @ keys.T / temperature).softmax(1)
        target = alpha * believed + (1 - alpha) * match
    return -(target * (queries @ keys.T / temperature).log_softmax(1)).sum(1).mean()


def case(length, alpha, idx=None):
    leaves = {"images": unit(B), "texts": unit(B), "temperature": torch.tensor(0.07)}
    images, texts, temperature = (leaf.requires_grad_() for leaf in leaves.values())
    slow_images, slow_texts, image_queue, text_queue = unit(B), unit(B), unit(length), unit(length)
    match = torch.eye(B, B + length)
    if idx is not None:
        match = torch.eq(idx[:B].view(-1, 1), idx.view(1, -1)).float()
        match = match / match.sum(1, keepdim=True)
    of_images = half(images, slow_images, torch.cat([slow_texts, text_queue]), temperature, alpha, match)
    of_texts = half(texts, slow_texts, torch.cat([slow_images, image_queue]), temperature, alpha, match)
    loss = (of_images + of_texts) / 2
    loss.backward()
    saved = {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}
    saved |= {"slow_images": slow_images, "slow_texts": slow_texts}
    return saved | {"image_queue": image_queue, "text_queue": text_queue} if length else saved


torch.manual_seed(0)
cases = {f"queue {length}, alpha {alpha}": case(length, alpha) for length in (0, 8) for alpha in (0.0, 0.4, 1.0)}
# Images 0 and 2 are one, and the queue holds image 1 twice and image 3 once.
idx = torch.tensor([7, 8, 7, 9, 8, 1, 9, 2, 3, 8, 4, 5])
cases |= {f"image, alpha {alpha}": case(8, alpha, idx) for alpha in (0.0, 0.4)}
saved = {f"{case}/{name}": value.detach().contiguous() for case, values in cases.items() for name, value in values.items()}
save_file(saved, "itc_momentum.safetensors")
