"""Loss and gradients of Oscar's pre-training (Li et al., arXiv:2004.06165, section 4), defined as in the authors' class
`BertImgForPreTraining`: the masked-token loss over words and tags and the loss of the two- or three-class head on the
pooled state, of one pass over polluted pairs. Tokens that are not counted have the label -1.

Of the three pairs the first two have each other's tags (or, in the case of `captions`, captions) and the third, which has no tags, is whole.
Every word and every tag is hidden; in the case `unmatched` the tags of another image are not.

Run in this folder: python tag_match.py. Made with torch 2.15 and safetensors 0.8; writes tag_match.safetensors with one
group of tensors a case.
"""

import torch
from safetensors.torch import save_file
from torch.nn import CrossEntropyLoss

B, T, D, V = 3, 9, 5, 17
PAD, CLS, SEP = 0, 2, 3
CAPTIONS, TAGS = [[5, 6], [7, 8, 9], [10]], [[11, 12], [13], []]
CASES = {"tags": ("tags", 2), "captions": ("captions", 2), "unmatched": ("tags", 2)}


def written(captions, tags):
    ids, segments = torch.zeros(B, T, dtype=torch.int64), torch.zeros(B, T, dtype=torch.int64)
    for row in range(B):
        caption, names = [CLS, *CAPTIONS[captions[row]], SEP], [*TAGS[tags[row]], SEP] if TAGS[tags[row]] else []
        ids[row, : len(caption) + len(names)] = torch.tensor(caption + names)
        segments[row, len(caption) : len(caption) + len(names)] = 1
    return ids, segments


def case(replaced, classes, spare):
    whole, other = [0, 1, 2], [1, 0, 2]
    ids, segments = written(other if replaced == "captions" else whole, other if replaced == "tags" else whole)
    counted = ids > 4
    polluted = torch.tensor([1, 1, 0])
    if spare:
        counted &= ~((segments == 1) & (polluted == 1)[:, None])
    shapes = {"hidden": (B, T, D), "decoder": (V, D), "weight": (classes, D), "bias": (classes,)}
    leaves = {name: torch.randn(shape).requires_grad_() for name, shape in shapes.items()}
    hidden, decoder, weight, bias = leaves.values()
    prediction_scores, seq_relationship_score = hidden @ decoder.T, hidden[:, 0] @ weight.T + bias
    loss_fct = CrossEntropyLoss(ignore_index=-1)
    masked_lm_loss = loss_fct(prediction_scores.view(-1, V), ids.masked_fill(~counted, -1).view(-1))
    next_sentence_loss = loss_fct(seq_relationship_score.view(-1, classes), polluted.view(-1))
    loss = masked_lm_loss + next_sentence_loss
    loss.backward()
    saved = {**leaves, "loss": loss, **{f"{name}.grad": leaf.grad for name, leaf in leaves.items()}}
    ids, segments = written(whole, whole)
    saved |= {"ids": ids.to(torch.uint32), "segments": segments.to(torch.uint32)}
    return saved | {"mlm": masked_lm_loss, "tag_match": next_sentence_loss}


torch.manual_seed(0)
cases = {name: case(*settings, name == "unmatched") for name, settings in CASES.items()}
tensors = {f"{case}/{name}": value.detach().contiguous() for case, values in cases.items() for name, value in values.items()}
save_file(tensors, "tag_match.safetensors")
