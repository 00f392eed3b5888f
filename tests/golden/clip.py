"""What transformers' CLIPModel computes from random weights, for three small configurations: QuickGELU and GELU, several
heads and one, feed-forward halves of other widths than four times D, ends of text by entry and by greatest entry, texts of
several lengths with random entries as padding.

Run in this folder: python clip.py. Made with torch 2.15, transformers 5.24 and safetensors 0.8; writes clip/<case>/ as
published_models_equal_their_references in tests/models/published.rs reads it.
"""

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from drawn import fill, text

CLS, SEP = 2, 3
VOCABULARY = 23
CASES = {
    "quick_gelu": {
        "image": dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, image_size=15, patch_size=5, intermediate_size=31),
        "text": dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=9, intermediate_size=32),
        "embed": 10,
        "lengths": [9, 2, 5],
        "end": SEP,
    },
    "gelu": {
        "image": dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4, intermediate_size=32),
        "text": dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=6, intermediate_size=17),
        "embed": 7,
        "lengths": [6, 4, 3, 5],
        "end": SEP,
    },
    # Configurations from before the end of a text had an entry of its own say 2 and mean the greatest entry.
    "quick_gelu_end": {
        "image": dict(hidden_size=6, num_hidden_layers=1, num_attention_heads=2, image_size=6, patch_size=3, intermediate_size=24),
        "text": dict(hidden_size=6, num_hidden_layers=2, num_attention_heads=1, max_position_embeddings=7, intermediate_size=24),
        "embed": 5,
        "lengths": [7, 4],
        "end": 2,
    },
}


torch.manual_seed(0)
for case, sizes in CASES.items():
    activation = "gelu" if case == "gelu" else "quick_gelu"
    special = dict(vocab_size=VOCABULARY, bos_token_id=CLS, eos_token_id=sizes["end"], pad_token_id=0)
    config = CLIPConfig(
        vision_config=dict(sizes["image"], hidden_act=activation),
        text_config=dict(sizes["text"], hidden_act=activation, **special),
        projection_dim=sizes["embed"],
    )
    model = CLIPModel._from_config(config, attn_implementation="eager").eval()
    fill(model, {"logit_scale": 2.5})
    end = SEP if sizes["end"] == SEP else VOCABULARY - 1
    ids, mask = text(sizes["lengths"], sizes["text"]["max_position_embeddings"], VOCABULARY - 1, CLS, end)
    side = sizes["image"]["image_size"]
    inputs = dict(pixel_values=torch.randn(len(ids), 3, side, side), input_ids=ids, attention_mask=mask)
    with torch.no_grad():
        out = model(**inputs)
    outputs = {name: out[name] for name in ["logits_per_image", "logits_per_text", "image_embeds", "text_embeds"]}
    outputs["vision_model_output.last_hidden_state"] = out.vision_model_output.last_hidden_state
    # What padding comes to is nobody's business.
    outputs["text_model_output.last_hidden_state"] = out.text_model_output.last_hidden_state * mask[..., None]
    model.save_pretrained(f"clip/{case}")
    save_file(inputs, f"clip/{case}/inputs.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, f"clip/{case}/outputs.safetensors")
