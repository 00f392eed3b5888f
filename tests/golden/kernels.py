"""Values and gradients of PyTorch's own operations, one case for each kernel, in f64.

Run in this folder: python kernels.py. Made with torch 2.15 and safetensors 0.8; writes kernels.safetensors. Each case holds
its inputs, `y`, the cotangent `c` and the gradients `NAME.grad` of `(c * y).sum()`. IPOT is algorithm 1 of Xie et al. (arXiv:1802.04307) written out in matrix products, with
masks as in UNITER (arXiv:1909.11740).
"""

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

torch.manual_seed(0)
saved = {}


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64)


def case(name, f, constants=(), **leaves):
    for leaf in leaves.values():
        leaf.requires_grad_()
    y = f(*leaves.values())
    c = draw(*y.shape)
    (c * y).sum().backward()
    values = {"y": y, "c": c, **leaves, **dict(constants), **{f"{k}.grad": v.grad for k, v in leaves.items()}}
    saved.update({f"{name}.{key}": value.detach().clone() for key, value in values.items()})


def heads(x, count):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def attend(q, k, v, **options):
    y = F.scaled_dot_product_attention(heads(q, 2), heads(k, 2), heads(v, 2), **options)
    return y.transpose(1, 2).flatten(2)


def ipot(cost, rows, columns, beta=0.5, iterations=50, k=1):
    m, n = rows.sum(1, keepdim=True), columns.sum(1, keepdim=True)
    seen = columns[:, :, None] * rows[:, None, :]
    a = torch.exp(-cost.transpose(1, 2) / beta) * seen
    t, sigma = seen.clone(), rows / m
    for _ in range(iterations):
        q = a * t
        for _ in range(k):
            delta = columns / (n * (q @ sigma[:, :, None])[:, :, 0] + (1 - columns))
            sigma = rows / (m * (delta[:, None, :] @ q)[:, 0] + (1 - rows))
        t = delta[:, :, None] * q * sigma[:, None, :]
    return t.transpose(1, 2)


x, w, b = draw(3, 7, 5), draw(6, 5), draw(6)
case("linear", F.linear, x=x, w=w, b=b)
case("gelu", lambda x, w, b: F.linear(F.gelu(x), w, b), x=x.detach().clone(), w=w.detach().clone(), b=b.detach().clone())
case("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), x=2 * draw(4, 33))
case("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x), x=2 * draw(4, 33))
case("layer_norm", lambda x, g, b: F.layer_norm(x, (19,), g, b, 1e-5), x=draw(6, 19), g=draw(19), b=draw(19))
case("softmax", lambda x: F.softmax(x, -1), x=draw(5, 21))
case("log_softmax", lambda x: F.log_softmax(x, -1), x=draw(5, 21))
case("l2_normalize", lambda x: F.normalize(x, dim=-1, eps=1e-12), x=draw(5, 21))

q, k, v = (lambda: draw(2, 5, 8)), (lambda: draw(2, 7, 8)), (lambda: draw(2, 7, 8))
case("attention", attend, q=q(), k=k(), v=v())
case("causal", lambda q, k, v: attend(q, k, v, is_causal=True), q=draw(2, 6, 8), k=draw(2, 6, 8), v=draw(2, 6, 8))
keys = torch.tensor([[1, 1, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 1, 1]], dtype=torch.float64)
case("keys", lambda q, k, v: attend(q, k, v, attn_mask=keys[:, None, None, :].bool()), {"mask": keys}.items(),
     q=q(), k=k(), v=v())
added = draw(2, 5, 7).float().double()
case("additive", lambda q, k, v: attend(q, k, v, attn_mask=added[:, None]), {"mask": added}.items(), q=q(), k=k(), v=v())

ids = torch.tensor([[3, 0, 3], [9, 3, 0]])
case("embedding", lambda t: F.embedding(ids, t), {"ids": ids}.items(), t=draw(10, 4))
targets = torch.tensor([4, -100, 0, 8, 4])
for smoothing in [0.0, 0.1]:
    name = f"cross_entropy_{smoothing}"
    case(name, lambda x: F.cross_entropy(x, targets, ignore_index=-100, label_smoothing=smoothing),
         {"targets": targets}.items(), x=3 * draw(5, 9))
soft = F.softmax(draw(5, 9), -1)
case("soft_cross_entropy", lambda x: F.cross_entropy(x, soft), {"soft": soft}.items(), x=3 * draw(5, 9))

theta = torch.nn.Parameter(draw(50).float())
saved["adamw.theta"] = theta.detach().clone()
optimiser = torch.optim.AdamW([theta], lr=3e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05)
for step in range(1, 4):
    theta.grad = draw(50).float()
    saved[f"adamw.grad{step}"] = theta.grad.clone()
    torch.nn.utils.clip_grad_norm_([theta], 1.0)
    optimiser.step()
    saved[f"adamw.theta{step}"] = theta.detach().clone()

cost = torch.rand(3, 6, 9, dtype=torch.float64) * 2
rows = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 0, 1]], dtype=torch.float64)
columns = (torch.rand(3, 9) < 0.7).double()
columns[:, 0] = 1
saved |= {"ipot.cost": cost, "ipot.rows": rows, "ipot.columns": columns}
saved |= {"ipot.plan": ipot(cost, rows, columns).contiguous()}
saved |= {"ipot.plan_k3": ipot(cost, rows, columns, beta=0.1, iterations=7, k=3).contiguous()}
save_file(saved, "kernels.safetensors")
