"""What the released code of ALBEF (github.com/salesforce/ALBEF at b9727e4) computes from random weights, for two small
configurations: its visual encoder, its BERT with fusing layers, projections, temperature and matching head.

Run in this folder: PYTHONPATH=<checkout>:<transformers 4.30.2> python albef.py. Made with torch 2.15, transformers
4.30.2 and timm 1.0; writes albef/<case>/ as published_models_equal_their_references in tests/models/published.rs reads
it. config.json joins the keys of configs/Pretrain.yaml and configs/config_bert.json; the sizes of the visual encoder,
which the code holds fixed, stand below `vision_config` under timm's names.
"""

import json
import pathlib
from functools import partial

import timm.models.vision_transformer
import torch
import transformers.file_utils
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import normalize

from drawn import fill, text

# The code predates these: a decorator's keyword, and a table of download addresses that it never reads here.
transformers.file_utils.add_code_sample_docstrings = lambda **_: lambda function: function
timm.models.vision_transformer._cfg = lambda **_: {}

from models.vit import VisionTransformer  # noqa: E402
from models.model_vqa import ALBEF  # noqa: E402
from models.xbert import BertConfig, BertForMaskedLM, BertLMHeadModel, BertModel  # noqa: E402

VOCABULARY = 23
CASES = {
    "wide_image": {
        "image": dict(embed_dim=12, depth=2, num_heads=3, img_size=10, patch_size=5, mlp_ratio=2.5),
        "text": dict(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, fusion_layer=2),
        "words": 9,
        "embed": 5,
        "lengths": [9, 2, 5],
    },
    "wide_text": {
        "image": dict(embed_dim=8, depth=1, num_heads=1, img_size=8, patch_size=4, mlp_ratio=4.0),
        "text": dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=4, intermediate_size=19, fusion_layer=1),
        "words": 6,
        "embed": 7,
        "lengths": [3, 6, 4, 5],
    },
}


class Albef(nn.Module):
    """The parts that the authors' class of this name holds, without its momentum copies and queues."""

    def __init__(self, image, bert, embed):
        super().__init__()
        self.visual_encoder = VisionTransformer(
            qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6), **image
        )
        self.text_encoder = BertForMaskedLM(bert)
        self.vision_proj = nn.Linear(image["embed_dim"], embed)
        self.text_proj = nn.Linear(bert.hidden_size, embed)
        self.temp = nn.Parameter(torch.tensor(0.31))
        self.itm_head = nn.Linear(bert.hidden_size, 2)

    def forward(self, image, input_ids, attention_mask):
        seen = attention_mask[..., None]
        image_embeds = self.visual_encoder(image)
        image_atts = torch.ones(image_embeds.shape[:2], dtype=torch.long)
        text = self.text_encoder.bert(input_ids, attention_mask=attention_mask, return_dict=True, mode="text")
        text_embeds = text.last_hidden_state
        image_feat = normalize(self.vision_proj(image_embeds[:, 0]), dim=-1)
        text_feat = normalize(self.text_proj(text_embeds[:, 0]), dim=-1)
        fused = self.text_encoder.bert(
            encoder_embeds=text_embeds,
            attention_mask=attention_mask,
            encoder_hidden_states=image_embeds,
            encoder_attention_mask=image_atts,
            return_dict=True,
            mode="fusion",
        ).last_hidden_state
        return {
            "image_embeds": image_embeds,
            "text_embeds": text_embeds * seen,
            "image_feat": image_feat,
            "text_feat": text_feat,
            "sim_i2t": image_feat @ text_feat.T / self.temp,
            "last_hidden_state": fused * seen,
            "itm_logits": self.itm_head(fused[:, 0]),
            "mlm_logits": self.text_encoder.cls(fused) * seen,
        }


torch.manual_seed(0)
for case, sizes in CASES.items():
    keys = dict(
        sizes["text"],
        encoder_width=sizes["image"]["embed_dim"],
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        max_position_embeddings=sizes["words"],
        model_type="bert",
        pad_token_id=0,
        type_vocab_size=2,
        vocab_size=VOCABULARY,
    )
    model = Albef(sizes["image"], BertConfig(**keys), sizes["embed"]).eval()
    fill(model, {"temp": None})
    ids, mask = text(sizes["lengths"], sizes["words"], VOCABULARY)
    side = sizes["image"]["img_size"]
    inputs = dict(image=torch.randn(len(ids), 3, side, side), input_ids=ids, attention_mask=mask)
    with torch.no_grad():
        outputs = model(**inputs)
    folder = pathlib.Path("albef", case)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["ALBEF"], "embed_dim": sizes["embed"], "image_res": side, "vision_width": sizes["image"]["embed_dim"]}
    config |= {"vision_config": sizes["image"]} | keys
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    # Position numbers, and the decoder's second names for the word table and its bias, as the released files hold them.
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    save_file(inputs, folder / "inputs.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, folder / "outputs.safetensors")


class Answers(nn.Module):
    """The parts that the authors' class for questions holds, without its momentum copies; its ranking is theirs."""

    rank_answer = ALBEF.rank_answer

    def __init__(self, image, bert, layers):
        super().__init__()
        self.visual_encoder = VisionTransformer(
            qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6), **image
        )
        self.text_encoder = BertModel(BertConfig(**bert), add_pooling_layer=False)
        self.text_decoder = BertLMHeadModel(BertConfig(**bert | dict(fusion_layer=0, num_hidden_layers=layers)))
        self.tokenizer = type("Tokenizer", (), dict(pad_token_id=0))

    def forward(self, image, question_ids, question_mask, answer_ids, answer_mask, k):
        image_embeds = self.visual_encoder(image)
        states = self.text_encoder(
            question_ids,
            attention_mask=question_mask,
            encoder_hidden_states=image_embeds,
            encoder_attention_mask=torch.ones(image_embeds.shape[:2], dtype=torch.long),
            return_dict=True,
        ).last_hidden_state
        count = len(answer_ids)
        losses = [
            self.text_decoder(
                answer_ids,
                attention_mask=answer_mask,
                encoder_hidden_states=state.repeat(count, 1, 1),
                encoder_attention_mask=mask.repeat(count, 1),
                labels=answer_ids.masked_fill(answer_ids == 0, -100),
                return_dict=True,
                reduction="none",
            ).loss
            for state, mask in zip(states, question_mask)
        ]
        ids, probabilities = self.rank_answer(states, question_mask, answer_ids, answer_mask, int(k))
        return {
            "question_states": states * question_mask[..., None],
            "answer_loss": torch.stack(losses),
            "topk_ids": ids.float(),
            "topk_probs": probabilities,
        }


# The decoder looks at fused words with maps of the width of image tokens, so both widths are one.
image = dict(embed_dim=12, depth=1, num_heads=2, img_size=8, patch_size=4, mlp_ratio=2.0)
keys = dict(
    hidden_size=12,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=20,
    fusion_layer=2,
    encoder_width=12,
    hidden_act="gelu",
    layer_norm_eps=1e-12,
    max_position_embeddings=8,
    model_type="bert",
    pad_token_id=0,
    type_vocab_size=2,
    vocab_size=VOCABULARY,
)
model = Answers(image, keys, 2).eval()
fill(model, {"temp": None})
questions, question_mask = text([8, 3, 6], 8, VOCABULARY)
answers, answer_mask = text([3, 5, 4, 3, 6, 2, 4], 6, VOCABULARY)
inputs = dict(image=torch.randn(3, 3, 8, 8), question_ids=questions, question_mask=question_mask)
inputs |= dict(answer_ids=answers * answer_mask, answer_mask=answer_mask, k=torch.tensor([4]))
with torch.no_grad():
    outputs = model(**inputs)
folder = pathlib.Path("albef", "answers")
folder.mkdir(parents=True, exist_ok=True)
config = {"architectures": ["ALBEF_VQA"], "image_res": 8, "vision_width": 12, "decoder_layers": 2, "vision_config": image} | keys
(folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
weights = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
save_file(weights, folder / "model.safetensors")
save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, folder / "inputs.safetensors")
save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, folder / "outputs.safetensors")
print(outputs["answer_loss"], outputs["topk_ids"], outputs["topk_probs"])
