"""Loss and gradients of BLIP's captioning (Li et al., arXiv:2201.12086, section 3.2), defined as in the authors' code:
padding and the prompt are no targets, targets are shifted by one, labels smoothed.

Run in this folder: python lm.py. Made with torch 2.15 and safetensors 0.8; writes lm.safetensors with one group of tensors
a case: label smoothing and the words of the prompt.
"""

import torch
from safetensors.torch import save_file
from torch.nn import CrossEntropyLoss

B, T, D, V = 3, 7, 5, 17
PAD, CLS, SEP, FIRST_WORD = 0, 2, 3, 5


def case(smoothing, prompt):
    ids = torch.randint(FIRST_WORD, V, (B, T))
    for row, length in enumerate((7, 5, 6)):
        ids[row, 0], ids[row, length - 1], ids[row, length:] = CLS, SEP, PAD
    leaves = {"hidden": torch.randn(B, T, D), "decoder": torch.randn(V, D)}
    hidden, decoder = (leaf.requires_grad_() for leaf in leaves.values())

    targets = ids.masked_fill(ids == PAD, -100)
    if prompt:
        # Their prompt_length counts [CLS].
        targets[:, : prompt + 1] = -100
    logits, labels = (hidden @ decoder.T)[:, :-1, :].contiguous(), targets[:, 1:].contiguous()
    loss = CrossEntropyLoss(reduction="mean", label_smoothing=smoothing)(logits.view(-1, V), labels.view(-1))
    loss.backward()
    saved = {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}
    saved |= {"ids": ids.to(torch.uint32), "mask": (ids != PAD).float()}
    return saved | {"accuracy": (logits.argmax(-1) == labels)[labels >= 0].float().mean()}


torch.manual_seed(0)
cases = {f"smoothing {s}, prompt {p}": case(s, p) for s in (0.0, 0.1) for p in (0, 3)}
saved = {f"{case}/{name}": value.detach().contiguous() for case, values in cases.items() for name, value in values.items()}
save_file(saved, "lm.safetensors")
