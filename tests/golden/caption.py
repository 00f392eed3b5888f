"""Loss and gradients of a captioning decoder as VirTex has it (Desai and Johnson, arXiv:2006.06666, section 3.1): PyTorch's
own decoder layers, normalised after the residual sum, with GELU; words are predicted by the table that embeds them.

Run in this folder: python caption.py. Made with torch 2.15 and safetensors 0.8; writes caption.safetensors.
"""

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, layer_norm

torch.manual_seed(0)
B, T, N, D, HEADS, DEPTH, V = 3, 6, 4, 8, 2, 2, 17
PAD, CLS, SEP, FIRST_WORD = 0, 2, 3, 5
EPS = 1e-12

ids = torch.randint(FIRST_WORD, V, (B, T))
for row, length in enumerate((6, 4, 3)):
    ids[row, 0], ids[row, length - 1], ids[row, length:] = CLS, SEP, PAD
layers = [
    torch.nn.TransformerDecoderLayer(D, HEADS, 4 * D, dropout=0.0, activation="gelu", layer_norm_eps=EPS, batch_first=True)
    for _ in range(DEPTH)
]
for parameter in (parameter for layer in layers for parameter in layer.parameters()):
    torch.nn.init.normal_(parameter, float(parameter.dim() == 1), 0.3)
image_tokens = torch.randn(B, N, D, requires_grad=True)
words, positions = torch.randn(V, D, requires_grad=True), torch.randn(T, D, requires_grad=True)
gain, shift, bias = (torch.randn(size, requires_grad=True) for size in (D, D, V))

hidden = layer_norm(words[ids] + positions, (D,), gain, shift, EPS)
later = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
for layer in layers:
    hidden = layer(hidden, image_tokens, tgt_mask=later, tgt_key_padding_mask=ids == PAD)
logits = (hidden @ words.T + bias)[:, :-1]
labels = ids[:, 1:].masked_fill(ids[:, 1:] == PAD, -100)
loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
loss.backward()

leaves = {
    "image_tokens": image_tokens,
    "caption.embed.words": words,
    "caption.embed.positions": positions,
    "caption.embed.norm.gain": gain,
    "caption.embed.norm.bias": shift,
    "caption.bias": bias,
}
saved = {}
for name, leaf in leaves.items():
    saved |= {name: leaf, f"{name}.grad": leaf.grad}


def keep(name, parameter, rows=slice(None)):
    saved.update({name: parameter[rows], f"{name}.grad": parameter.grad[rows]})


for index, layer in enumerate(layers):
    at = f"caption.layers.{index}"
    for kind, other in (("weight", "gain"), ("bias", "bias")):
        own, cross = layer.self_attn, layer.multihead_attn
        keep(f"{at}.attention.qkv.{kind}", getattr(own, f"in_proj_{kind}"))
        keep(f"{at}.attention.out.{kind}", getattr(own.out_proj, kind))
        keep(f"{at}.cross.q.{kind}", getattr(cross, f"in_proj_{kind}"), slice(0, D))
        keep(f"{at}.cross.kv.{kind}", getattr(cross, f"in_proj_{kind}"), slice(D, 3 * D))
        keep(f"{at}.cross.out.{kind}", getattr(cross.out_proj, kind))
        keep(f"{at}.mlp.up.{kind}", getattr(layer.linear1, kind))
        keep(f"{at}.mlp.down.{kind}", getattr(layer.linear2, kind))
        for ours, theirs in (("norm1", layer.norm1), ("cross_norm", layer.norm2), ("norm2", layer.norm3)):
            keep(f"{at}.{ours}.{other}", getattr(theirs, kind))

saved |= {"loss": loss, "ids": ids.to(torch.uint32), "mask": (ids != PAD).float()}
saved["accuracy"] = (logits.argmax(-1) == labels)[labels >= 0].float().mean()
save_file({name: value.detach().contiguous().clone() for name, value in saved.items()}, "caption.safetensors")
