"""Losses and gradients of UNITER's objectives on masked regions and of its matching with word-region alignment (Chen et
al., arXiv:1909.11740, section 3.2), by the released code on random states in the place of its transformer.

Run in this folder with github.com/ChenRocks/UNITER at commit 1dbfa62bb8ddb1f2b11d20775ce324c5e45a3ab4 on PYTHONPATH:
python regions.py. Made with torch 2.15 and safetensors 0.8; writes regions.safetensors with one group of tensors a case.

apex's FusedLayerNorm is replaced by torch's LayerNorm, which computes the same, and the masks that choose elements by
masks of truth values, which torch requires by now. The means over losses, and the weights of their sum, are those of the
released training loop; `mrc_kl` is the sum over classes and `mrc_kl_mean` the mean that the loop takes over them too;
`mrc_background` is the released `mrc`, and `mrc` the same for a detector without a class of background.

All regions are hidden. Of the three pairs of the matching, two have each other's image and the third its own. `transport`
holds random costs and, by POT 0.9 (pythonot.github.io), their exact plans.
"""

import sys
import types

import numpy
import ot
import torch
from safetensors.torch import save_file

apex = {name: types.ModuleType(name) for name in ("apex", "apex.normalization", "apex.normalization.fused_layer_norm")}
apex["apex.normalization.fused_layer_norm"].FusedLayerNorm = torch.nn.LayerNorm
sys.modules.update(apex)

import model.ot  # noqa: E402
from model.model import UniterConfig  # noqa: E402
from model.pretrain import UniterForPretraining  # noqa: E402

model.ot.trace = lambda x: x.diagonal(dim1=1, dim2=2).sum(-1)

B, T, N, D, R, C = 3, 5, 4, 6, 7, 8
WORDS, REGIONS = torch.tensor([5, 3, 4]), torch.tensor([4, 2, 3])


def upto(lengths, most):
    return torch.arange(most) < lengths[:, None]


class States(torch.nn.Module):
    """Stands where the transformer stood."""

    def forward(self, *_, **__):
        return self.states

    def pooler(self, states):
        return states[:, 0]


def uniter():
    config = {"hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": D, "hidden_act": "gelu"}
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02}
    config |= {"max_position_embeddings": T, "type_vocab_size": 2, "vocab_size": 9}
    built = UniterForPretraining(UniterConfig.from_dict(config), R, C)
    built.uniter = States()
    return built


def saved(leaves, loss, **others):
    loss.backward()
    return {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}, **others}


def leaf(*shape):
    return torch.randn(*shape).requires_grad_()


there = upto(REGIONS, N)


def regression():
    built, states, weight, bias = uniter(), leaf(B, N, D), leaf(D, R), leaf(R)
    features = torch.randn(B, N, R)
    built.uniter.states = states
    built.feat_regress.net = torch.nn.Identity()
    built.feat_regress.weight, built.feat_regress.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    loss = built.forward_mrfr(None, None, None, None, None, None, there, there, features[there]).mean()
    loss.backward()
    grads = {"weight.grad": built.feat_regress.weight.grad, "bias.grad": built.feat_regress.bias.grad}
    leaves = {"states": states, "weight": weight, "bias": bias, "states.grad": states.grad}
    return leaves | grads | {"loss": loss, "features": features, "there": there.float()}


def classification(task):
    built, states, beliefs = uniter(), leaf(B, N, D), (2 * torch.randn(B, N, C)).softmax(-1)
    beliefs[0, 1, :3] = 0
    beliefs /= beliefs.sum(-1, keepdim=True)
    built.uniter.states = states
    with torch.no_grad():
        for parameter in built.region_classifier.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    targets = beliefs[there]
    if task == "mrc_kl":
        loss = built.forward_mrc(None, None, None, None, None, None, there, there, targets, "mrckl").sum(-1).mean()
    elif task == "mrc_kl_mean":
        loss = built.forward_mrc(None, None, None, None, None, None, there, there, targets, "mrckl").mean()
    elif task == "mrc_background":
        loss = built.forward_mrc(None, None, None, None, None, None, there, there, targets, "mrc").mean()
    else:
        scores = built.region_classifier(built._compute_masked_hidden(states, there))
        loss = torch.nn.functional.cross_entropy(scores, targets.argmax(1))
    net = built.region_classifier.net
    names = {"transform": net[0], "norm": net[2], "head": net[3]}
    leaves = {"states": states}
    for name, layer in names.items():
        leaves |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return saved(leaves, loss, beliefs=beliefs, there=there.float())


def alignment(only):
    built, words, image = uniter(), leaf(B, T, D), leaf(B, N, D)
    weight, bias = built.itm_output.weight, built.itm_output.bias
    with torch.no_grad():
        weight.copy_(torch.randn(2, D)), bias.copy_(torch.randn(2))
    rows, targets = torch.tensor([1, 0, 2]), torch.tensor([0, 0, 1])
    chosen = image[rows]
    built.uniter.states = torch.cat([torch.tanh(words * chosen.mean(1, keepdim=True)), chosen], dim=1)
    ot_inputs = {
        "ot_scatter": torch.arange(T + N).repeat(B, 1),
        "scatter_max": T + N - 1,
        "txt_pad": ~upto(WORDS, T),
        "img_pad": ~there[rows],
    }
    itm, (matched, others) = built.forward_itm(words[..., 0], None, image, None, None, None, targets, ot_inputs)
    wra = matched.mean() if only else (matched.sum() - others.sum()) / (len(matched) + len(others))
    leaves = {"words": words, "image": image, "weight": weight, "bias": bias}
    more = {"itm": itm.mean(), "wra": wra, "matched": matched.mean(), "mismatched": others.mean()}
    masks = {"word_mask": upto(WORDS, T).float(), "there": there.float()}
    return saved(leaves, itm.mean() + 0.1 * wra, **more, **masks)


def transport():
    sizes = [(4, 6), (5, 5), (7, 3)]
    costs = torch.rand(len(sizes), 7, 6, dtype=torch.float64)
    plans, seen = torch.zeros_like(costs), [torch.zeros(len(sizes), side) for side in (7, 6)]
    for example, (m, n) in enumerate(sizes):
        seen[0][example, :m], seen[1][example, :n] = 1, 1
        plan = ot.emd(numpy.full(m, 1 / m), numpy.full(n, 1 / n), costs[example, :m, :n].numpy())
        plans[example, :m, :n] = torch.from_numpy(plan)
    return {"costs": costs, "plans": plans, "rows": seen[0], "columns": seen[1]}


torch.manual_seed(0)
cases = {"mrfr": regression()}
cases |= {task: classification(task) for task in ("mrc", "mrc_background", "mrc_kl", "mrc_kl_mean")}
cases |= {"wra": alignment(False), "wra_matched_only": alignment(True), "transport": transport()}
tensors = {f"{case}/{name}": value.detach().contiguous() for case, values in cases.items() for name, value in values.items()}
save_file(tensors, "regions.safetensors")
