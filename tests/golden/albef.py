"""What ALBEF (Li et al., arXiv:2107.07651, section 3.1) computes from random weights, for two small configurations: its
data flow written out here, its parts taken from transformers (ViTModel; BERT's embeddings, layers and word decoder).

Run in this folder: python albef.py. Made with torch 2.15, transformers 5.24 and safetensors 0.8; writes
albef.safetensors. Names: `<case>.weights.<part and name in transformers>`, `<case>.<input or output>`.
tests/models/golden.rs holds the same configurations.
"""

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import normalize
from transformers import BertConfig, ViTConfig, ViTModel
from transformers.models.bert.modeling_bert import BertEmbeddings, BertLayer, BertLMPredictionHead

CLS, SEP = 2, 3
CASES = {
    "wide_image": {"image": (12, 2, 3, 10, 5), "text": (8, 3, 2, 9), "fusion": 2, "embed": 5, "lengths": [9, 2, 5]},
    "wide_text": {"image": (8, 1, 1, 8, 4), "text": (12, 2, 4, 6), "fusion": 1, "embed": 7, "lengths": [3, 6, 4, 5]},
}
VOCABULARY = 23


class Albef(nn.Module):
    def __init__(self, image, text, fusion, embed):
        super().__init__()
        width, depth, heads, size, patch = image
        self.image = ViTModel(
            ViTConfig(
                hidden_size=width,
                num_hidden_layers=depth,
                num_attention_heads=heads,
                intermediate_size=4 * width,
                image_size=size,
                patch_size=patch,
                layer_norm_eps=1e-6,
            ),
            add_pooling_layer=False,
        )
        text_width, depth, heads, places = text
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=text_width,
            num_attention_heads=heads,
            intermediate_size=4 * text_width,
            max_position_embeddings=places,
        )
        # transformers joins cross-attention to causal decoding; an explicit mask below undoes the second.
        fusing = BertConfig(**{**config.to_dict(), "is_decoder": True, "add_cross_attention": True})
        config._attn_implementation = fusing._attn_implementation = "eager"
        self.embeddings = BertEmbeddings(config)
        self.layer = nn.ModuleList(BertLayer(config if index < fusion else fusing) for index in range(depth))
        for layer in self.layer[fusion:]:
            layer.crossattention.self.key = nn.Linear(width, text_width)
            layer.crossattention.self.value = nn.Linear(width, text_width)
        self.decoder = BertLMPredictionHead(config)
        self.decoder.decoder.weight = self.embeddings.word_embeddings.weight
        self.decoder.bias = self.decoder.decoder.bias
        self.image_proj, self.text_proj = nn.Linear(width, embed), nn.Linear(text_width, embed)
        self.temperature = nn.Parameter(torch.tensor(0.31))
        self.fusion = fusion

    def forward(self, pixels, ids, mask, segments):
        visible = torch.where(mask[:, None, None] > 0, 0.0, -1e9)
        image_tokens = self.image(pixels).last_hidden_state
        hidden = self.embeddings(ids, token_type_ids=segments)
        for layer in self.layer[: self.fusion]:
            hidden = layer(hidden, visible)
        text_tokens = hidden
        for layer in self.layer[self.fusion :]:
            hidden = layer(hidden, visible, image_tokens, None)
        image_embeds = normalize(self.image_proj(image_tokens[:, 0]), dim=-1)
        text_embeds = normalize(self.text_proj(text_tokens[:, 0]), dim=-1)
        return {
            "image_tokens": image_tokens,
            "text_tokens": text_tokens * mask[..., None],
            "image_embeds": image_embeds,
            "text_embeds": text_embeds,
            "logits": image_embeds @ text_embeds.T / self.temperature,
            "fused": hidden * mask[..., None],
            "words": self.decoder(hidden) * mask[..., None],
        }


def fill(model):
    """Weights large enough that every part matters to the outcome."""
    for name, weight in model.named_parameters():
        if name == "temperature":
            continue
        if "norm" in name.lower() and name.endswith("weight"):
            weight.data = 1 + 0.3 * torch.randn_like(weight)
        else:
            weight.data = 0.4 * torch.randn_like(weight)


def text(lengths, places):
    ids = torch.randint(4, VOCABULARY, (len(lengths), places))
    ids[:, 0] = CLS
    for row, length in zip(ids, lengths):
        row[length - 1] = SEP
    mask = (torch.arange(places) < torch.tensor(lengths)[:, None]).float()
    return ids, mask


torch.manual_seed(0)
saved = {}
for case, sizes in CASES.items():
    model = Albef(sizes["image"], sizes["text"], sizes["fusion"], sizes["embed"]).eval()
    fill(model)
    ids, mask = text(sizes["lengths"], sizes["text"][3])
    segments = torch.randint(0, 2, ids.shape)
    side = sizes["image"][3]
    pixels = torch.randn(len(ids), 3, side, side)
    with torch.no_grad():
        out = model(pixels, ids, mask, segments)
    tensors = {f"weights.{name}": weight for name, weight in model.named_parameters()}
    tensors |= {"pixels": pixels, "ids": ids.to(torch.uint32), "mask": mask, "segments": segments.to(torch.uint32)} | out
    saved |= {f"{case}.{name}": tensor.detach().clone().contiguous() for name, tensor in tensors.items()}

save_file(saved, "albef.safetensors")
