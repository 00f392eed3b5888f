"""What transformers' BlipForImageTextRetrieval and BlipForConditionalGeneration compute from random weights, for small
configurations: several heads and one, towers of unequal widths, feed-forward halves of other widths than four times D,
texts of several lengths with random entries as padding, beginning with [ENC], with [DEC] and with neither.

Run in this folder: python blip.py. Made with torch 2.15, transformers 5.24 and safetensors 0.8; writes blip/<case>/ as
published_models_equal_their_references in tests/models/published.rs reads it.
"""

import torch
from safetensors.torch import save_file
from transformers import BlipConfig, BlipForConditionalGeneration, BlipForImageTextRetrieval
from torch.nn.functional import normalize

from drawn import fill, text

CLS, SEP = 2, 3
VOCABULARY = 27
DEC, ENC = VOCABULARY, VOCABULARY + 1
WIDE_IMAGE = dict(
    vision_config=dict(hidden_size=18, num_hidden_layers=2, num_attention_heads=3, image_size=10, patch_size=5, intermediate_size=41),
    text_config=dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=1, max_position_embeddings=9, intermediate_size=31),
    image_text_hidden_size=7,
)
WIDE_TEXT = dict(
    vision_config=dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=2, intermediate_size=32, layer_norm_eps=1e-6),
    text_config=dict(hidden_size=15, num_hidden_layers=3, num_attention_heads=3, max_position_embeddings=7, intermediate_size=24, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1),
    image_text_hidden_size=5,
)
CASES = {
    "match": (BlipForImageTextRetrieval, WIDE_IMAGE, ENC, [9, 2, 5], True),
    "match_wide_text": (BlipForImageTextRetrieval, WIDE_TEXT, ENC, [3, 7], None),
    "contrast": (BlipForImageTextRetrieval, WIDE_IMAGE, CLS, [4, 9, 3], False),
    "contrast_wide_text": (BlipForImageTextRetrieval, WIDE_TEXT, CLS, [7, 6, 2], False),
    "captions": (BlipForConditionalGeneration, WIDE_IMAGE, DEC, [2, 9, 6], None),
    "captions_wide_text": (BlipForConditionalGeneration, WIDE_TEXT, CLS, [7, 4], None),
}


torch.manual_seed(0)
for case, (kind, sizes, begin, lengths, with_head) in CASES.items():
    special = dict(vocab_size=VOCABULARY + 2, bos_token_id=DEC, sep_token_id=SEP, eos_token_id=SEP, pad_token_id=0)
    config = BlipConfig(**dict(sizes, text_config=dict(sizes["text_config"], **special)))
    model = kind._from_config(config, attn_implementation="eager").eval()
    fill(model)
    ids, mask = text(lengths, config.text_config.max_position_embeddings, VOCABULARY, begin)
    side = config.vision_config.image_size
    inputs = dict(pixel_values=torch.randn(len(ids), 3, side, side), input_ids=ids, attention_mask=mask)
    flags = {} if with_head is None else dict(use_itm_head=with_head)
    with torch.no_grad():
        out = model(**inputs, **flags)
        outputs = dict(last_hidden_state=out.last_hidden_state)
        # What padding comes to is nobody's business.
        if kind is BlipForConditionalGeneration:
            outputs |= dict(image_embeds=out.image_embeds.clone(), logits=out.logits * mask[..., None])
        else:
            outputs |= dict(itm_score=out.itm_score, question_embeds=out.question_embeds * mask[..., None])
        if with_head is False:
            outputs["image_feat"] = normalize(model.vision_proj(out.last_hidden_state[:, 0]), dim=-1)
            outputs["text_feat"] = normalize(model.text_proj(out.question_embeds[:, 0]), dim=-1)
    model.save_pretrained(f"blip/{case}")
    flags = {name: torch.tensor([int(flag)]) for name, flag in flags.items()}
    save_file(inputs | flags, f"blip/{case}/inputs.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, f"blip/{case}/outputs.safetensors")
