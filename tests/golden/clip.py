"""What transformers' CLIPModel computes from random weights, for two small configurations: QuickGELU and GELU, several
heads and one, patches that do and do not fill the width, texts of several lengths with random entries as padding.

Run in this folder: python clip.py. Made with torch 2.15, transformers 5.24 and safetensors 0.8; writes clip.safetensors.
Names: `<case>.weights.<name in transformers>`, `<case>.<input or output>`. tests/models/golden.rs holds the same
configurations.
"""

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

CLS, SEP = 2, 3
CASES = {
    "quick_gelu": {
        "image": dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, image_size=15, patch_size=5),
        "text": dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=9),
        "embed": 10,
        "lengths": [9, 2, 5],
    },
    "gelu": {
        "image": dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4),
        "text": dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=6),
        "embed": 7,
        "lengths": [6, 4, 3, 5],
    },
}
VOCABULARY = 23


def tower(sizes, activation, **more):
    return dict(sizes, intermediate_size=4 * sizes["hidden_size"], hidden_act=activation, layer_norm_eps=1e-5, **more)


def fill(model):
    """Weights large enough that every part matters to the outcome."""
    for name, weight in model.named_parameters():
        if name == "logit_scale":
            weight.data.fill_(2.5)
        elif "norm" in name and name.endswith("weight"):
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
    special = dict(vocab_size=VOCABULARY, bos_token_id=CLS, eos_token_id=SEP, pad_token_id=0)
    config = CLIPConfig(
        vision_config=tower(sizes["image"], case),
        text_config=tower(sizes["text"], case, **special),
        projection_dim=sizes["embed"],
    )
    model = CLIPModel(config).eval()
    fill(model)
    ids, mask = text(sizes["lengths"], sizes["text"]["max_position_embeddings"])
    side = sizes["image"]["image_size"]
    pixels = torch.randn(len(ids), 3, side, side)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask.long(), pixel_values=pixels)
    tensors = {f"weights.{name}": weight for name, weight in model.named_parameters()}
    tensors |= {"pixels": pixels, "ids": ids.to(torch.uint32), "mask": mask}
    tensors |= {"image_embeds": out.image_embeds, "text_embeds": out.text_embeds, "logits": out.logits_per_image}
    tensors |= {"image_tokens": out.vision_model_output.last_hidden_state}
    tensors |= {"text_tokens": out.text_model_output.last_hidden_state * mask[..., None]}
    saved |= {f"{case}.{name}": tensor.detach().clone().contiguous() for name, tensor in tensors.items()}

save_file(saved, "clip.safetensors")
