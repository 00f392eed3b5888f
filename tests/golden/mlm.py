"""Loss and gradients of ALBEF's masked language modelling (Li et al., arXiv:2107.07651, sections 3.2 and 3.3), defined
as in the authors' code: every place is decoded, hidden ones alone are counted. Here every word is hidden and no special
token is.

Run in this folder: python mlm.py. Made with torch 2.15 and safetensors 0.8; writes mlm.safetensors with one group of
tensors a value of alpha.
"""

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

B, T, D, V = 3, 6, 5, 17
PAD, CLS, SEP, FIRST_WORD = 0, 2, 3, 5


def case(alpha):
    ids = torch.randint(FIRST_WORD, V, (B, T))
    for row, length in enumerate((6, 4, 3)):
        ids[row, 0], ids[row, length - 1], ids[row, length:] = CLS, SEP, PAD
    counted = ids >= FIRST_WORD
    leaves = {"hidden": torch.randn(B, T, D), "decoder": torch.randn(V, D)}
    hidden, decoder = (leaf.requires_grad_() for leaf in leaves.values())
    slow_hidden, slow_decoder = torch.randn(B, T, D), torch.randn(V, D)

    logits = hidden @ decoder.T
    hard = cross_entropy(logits.flatten(0, 1), ids.masked_fill(~counted, -100).flatten(), ignore_index=-100)
    believed = (slow_hidden @ slow_decoder.T).softmax(-1)
    soft = -(believed * logits.log_softmax(-1)).sum(-1)[counted].mean()
    loss = (1 - alpha) * hard + alpha * soft
    loss.backward()
    saved = {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}
    saved |= {"ids": ids.to(torch.uint32), "slow_hidden": slow_hidden, "slow_decoder": slow_decoder}
    return saved | {"accuracy": (logits.argmax(-1) == ids)[counted].float().mean()}


torch.manual_seed(0)
cases = {f"alpha {alpha}": case(alpha) for alpha in (0.0, 0.4, 1.0)}
saved = {f"{case}/{name}": value.detach().contiguous() for case, values in cases.items() for name, value in values.items()}
save_file(saved, "mlm.safetensors")
