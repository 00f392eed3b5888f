"""What the released code of BLIP (github.com/salesforce/BLIP at 056a169) computes from random weights, for four small
configurations, one for each way of sharing parts of the encoders with the decoder: its visual encoder, its text encoder in
both modes, its decoder with the head, projections, temperature and matching head, tied by its own function.

Run in this folder: PYTHONPATH=<checkout>:<transformers 4.30.2> python blip_pretrain.py. Made with torch 2.15, transformers
4.30.2 and timm 1.0; writes blip/<case>/ as published_models_equal_their_references in tests/models/published.rs reads it.
config.json has the keys that transformers has for BLIP; the authors' files hold none.
"""

import json
import pathlib
import sys
import types
from functools import partial

import timm.models.vision_transformer
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import normalize

from drawn import fill, text

# What the code imports and never calls here.
timm.models.vision_transformer._cfg = lambda **_: {}
for name, part in [
    ("fairscale.nn.checkpoint.checkpoint_activations", "checkpoint_wrapper"),
    ("timm.models.hub", "download_cached_file"),
]:
    sys.modules[name] = types.SimpleNamespace(**{part: None})

from models.blip_pretrain import tie_encoder_decoder_weights  # noqa: E402
from models.med import BertConfig, BertLMHeadModel, BertModel  # noqa: E402
from models.vit import VisionTransformer  # noqa: E402

SEP = 3
VOCABULARY = 21
DEC, ENC = VOCABULARY, VOCABULARY + 1
WIDE_IMAGE = {
    "image": dict(embed_dim=15, depth=1, num_heads=3, img_size=10, patch_size=5, mlp_ratio=2.6),
    "text": dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=1, intermediate_size=27),
    "words": 9,
    "embed": 5,
    "lengths": [9, 2, 5],
}
WIDE_TEXT = {
    "image": dict(embed_dim=8, depth=2, num_heads=1, img_size=8, patch_size=4, mlp_ratio=4.0),
    "text": dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=19),
    "words": 6,
    "embed": 7,
    "lengths": [3, 6, 4, 5],
}
# A part is tied unless its path holds these words, of which the released code uses the second.
CASES = {
    "all": (WIDE_IMAGE, "nothing"),
    "all_but_self_attention": (WIDE_IMAGE, "/attention"),
    "all_but_cross_attention": (WIDE_TEXT, "/crossattention"),
    "none": (WIDE_TEXT, None),
}


class Blip(nn.Module):
    """The parts that the authors' pre-training class holds, without its momentum copies and queues."""

    def __init__(self, image, bert, embed, untied):
        super().__init__()
        self.visual_encoder = VisionTransformer(norm_layer=partial(nn.LayerNorm, eps=1e-6), **image)
        self.text_encoder = BertModel(bert, add_pooling_layer=False)
        self.vision_proj = nn.Linear(image["embed_dim"], embed)
        self.text_proj = nn.Linear(bert.hidden_size, embed)
        self.itm_head = nn.Linear(bert.hidden_size, 2)
        self.temp = nn.Parameter(torch.tensor(0.31))
        self.text_decoder = BertLMHeadModel(bert)
        self.text_decoder.tie_weights()
        if untied is not None:
            tie_encoder_decoder_weights(self.text_encoder, self.text_decoder.bert, "", untied)

    def forward(self, image, input_ids, attention_mask):
        seen = attention_mask[..., None]
        image_embeds = self.visual_encoder(image)
        image_atts = torch.ones(image_embeds.shape[:2], dtype=torch.long)
        text = self.text_encoder(input_ids, attention_mask=attention_mask, return_dict=True, mode="text")
        text_embeds = text.last_hidden_state
        image_feat = normalize(self.vision_proj(image_embeds[:, 0]), dim=-1)
        text_feat = normalize(self.text_proj(text_embeds[:, 0]), dim=-1)
        grounded = dict(
            attention_mask=attention_mask,
            encoder_hidden_states=image_embeds,
            encoder_attention_mask=image_atts,
            return_dict=True,
        )
        encoder_ids, decoder_ids = input_ids.clone(), input_ids.clone()
        encoder_ids[:, 0], decoder_ids[:, 0] = ENC, DEC
        matched = self.text_encoder(encoder_ids, **grounded).last_hidden_state
        return {
            "image_embeds": image_embeds,
            "text_embeds": text_embeds * seen,
            "image_feat": image_feat,
            "text_feat": text_feat,
            "sim_i2t": image_feat @ text_feat.T / self.temp,
            "vl_output": self.itm_head(matched[:, 0]),
            "logits": self.text_decoder(decoder_ids, **grounded).logits * seen,
        }


def settings(image, bert, embed, sharing):
    return {
        "architectures": ["BLIP_Pretrain"],
        "sharing": sharing,
        "image_text_hidden_size": embed,
        "vision_config": {
            "hidden_size": image["embed_dim"],
            "num_hidden_layers": image["depth"],
            "num_attention_heads": image["num_heads"],
            "intermediate_size": int(image["embed_dim"] * image["mlp_ratio"]),
            "image_size": image["img_size"],
            "patch_size": image["patch_size"],
            "layer_norm_eps": 1e-6,
        },
        "text_config": bert,
    }


torch.manual_seed(0)
for sharing, (sizes, untied) in CASES.items():
    keys = dict(
        sizes["text"],
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        max_position_embeddings=sizes["words"],
        pad_token_id=0,
        bos_token_id=DEC,
        sep_token_id=SEP,
        vocab_size=VOCABULARY + 2,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    bert = BertConfig(**keys, encoder_width=sizes["image"]["embed_dim"], add_cross_attention=True)
    model = Blip(sizes["image"], bert, sizes["embed"], untied).eval()
    fill(model, {"temp": None})
    ids, mask = text(sizes["lengths"], sizes["words"], VOCABULARY)
    side = sizes["image"]["img_size"]
    inputs = dict(image=torch.randn(len(ids), 3, side, side), input_ids=ids, attention_mask=mask)
    with torch.no_grad():
        outputs = model(**inputs)
    folder = pathlib.Path("blip", sharing)
    folder.mkdir(parents=True, exist_ok=True)
    config = settings(sizes["image"], keys, sizes["embed"], sharing)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    # Position numbers, and the second names of what is tied, as the released files hold them.
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    save_file(inputs, folder / "inputs.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, folder / "outputs.safetensors")
