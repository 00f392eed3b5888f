"""What the scripts beside this one draw at random: the weights of a model and the texts that it is given. They run in this
folder and import it by its name."""

import torch


def fill(model, given={}):
    """Weights large enough that every part matters to the outcome: gains of normalisations around 1, those of LayerScale
    around 0.5, all others around 0. `given` tells the value of some by their names; None leaves one as it is."""
    for name, weight in model.named_parameters():
        if name in given:
            if given[name] is not None:
                weight.data.fill_(given[name])
        elif ("norm" in name.lower() or ".ln_" in name) and name.endswith("weight"):
            weight.data = 1 + 0.3 * torch.randn_like(weight)
        elif "gamma" in name:
            weight.data = 0.5 + 0.3 * torch.randn_like(weight)
        else:
            weight.data = 0.4 * torch.randn_like(weight)


def fill_from(generator, model, gain=1):
    """Weights from a generator; `gain` is added to those of PyTorch's own normalisations."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight += gain


def visible(lengths, places=None, side="right"):
    """1 where a text of each length has a token, among so many places (the longest has no padding without them); padding
    lies on this side."""
    places = places or max(lengths)
    there, lengths = torch.arange(places), torch.tensor(lengths)[:, None]
    return (there < lengths if side == "right" else there >= places - lengths).long()


def text(lengths, places, vocabulary, begin=2, end=3):
    """Texts of random words between `begin` and `end`, with random words as padding, and what of them is visible."""
    ids = torch.randint(4, vocabulary, (len(lengths), places))
    ids[:, 0] = begin
    for row, length in zip(ids, lengths):
        row[length - 1] = end
    return ids, visible(lengths, places)
