"""What BLIP-2 (Li et al., arXiv:2301.12597) computes from random weights, by transformers' classes: small models, each in
a folder of its own as `save_pretrained` writes it, with inputs and outputs beside it.

transformers has no generation by the Q-Former and no temperature. The passes of the first stage in which these occur are
run by the authors' own Q-Former, of github.com/salesforce/LAVIS at commit 506965b, whose root must be on PYTHONPATH; its
weights stand under the names that they have in the authors' checkpoints, its sizes under transformers' keys.

Run in this folder: PYTHONPATH=<LAVIS> python blip2.py. Made with torch 2.15, transformers 5.24 and safetensors 0.8; writes
blip2/<case>/{config.json, model.safetensors, inputs.safetensors, outputs.safetensors}. Every weight is random, so that no
parameter is invisible; outputs at padding are zero.
"""

import importlib.util
import json
import pathlib
import shutil
import sys

import torch
import transformers.modeling_utils
import transformers.pytorch_utils
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import normalize
from transformers import (
    BertConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2QFormerModel,
    Blip2VisionConfig,
    OPTConfig,
    T5Config,
)

from drawn import fill, visible

FOLDER = pathlib.Path("blip2")


def authors():
    """The file of LAVIS that holds the Q-Former, without the package around it, which needs much that is not used here."""
    # What transformers had there when the file was written. Heads are neither masked nor pruned here.
    transformers.modeling_utils.apply_chunking_to_forward = transformers.pytorch_utils.apply_chunking_to_forward
    transformers.modeling_utils.find_pruneable_heads_and_indices = None
    transformers.modeling_utils.prune_linear_layer = None
    name = "lavis/models/blip2_models/Qformer.py"
    path = next(path for path in (pathlib.Path(folder, name) for folder in sys.path) if path.exists())
    spec = importlib.util.spec_from_file_location("Qformer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    base = module.BertPreTrainedModel
    base.get_head_mask = lambda self, mask, layers: [None] * layers
    base.invert_attention_mask = lambda self, mask: (1 - mask[:, None, None]) * -1e4
    base.init_weights = lambda self: None
    return module


def vision(width, depth, heads, mlp, size, patch):
    return Blip2VisionConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=mlp,
        image_size=size,
        patch_size=patch,
    )


def qformer(width, depth, heads, mlp, image, frequency, vocabulary=29, places=9, text=False):
    return Blip2QFormerConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=mlp,
        encoder_hidden_size=image,
        cross_attention_frequency=frequency,
        vocab_size=vocabulary,
        max_position_embeddings=places,
        use_qformer_text_input=text,
    )


def texts(lengths, vocabulary, side="right"):
    mask = visible(lengths, side=side)
    return torch.randint(4, vocabulary, mask.shape) * mask, mask


def write(case, model, inputs, outputs):
    folder = FOLDER / case
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_tensors(folder, inputs, outputs)


def write_tensors(folder, inputs, outputs):
    for name, tensors in ("inputs", inputs), ("outputs", outputs):
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
        save_file(tensors, folder / f"{name}.safetensors")
    print(folder, sum(file.stat().st_size for file in folder.iterdir()) // 1000, "KB")


def queries(case, config, batch, count, features):
    """The Q-Former by itself: given queries ask given features."""
    model = Blip2QFormerModel(config).eval()
    fill(model)
    inputs = {
        "query_embeds": torch.randn(batch, count, config.hidden_size),
        "encoder_hidden_states": torch.randn(batch, features, config.encoder_hidden_size),
    }
    out = model(**inputs)
    write(case, model, inputs, {"last_hidden_state": out.last_hidden_state, "pooler_output": out.pooler_output})


def retrieval(case, config, images, lengths, match):
    """Contrast of all images with all texts, or matching of each image with its text."""
    model = Blip2ForImageTextRetrieval(config).eval()
    fill(model)
    ids, mask = texts(lengths, config.qformer_config.vocab_size)
    side = config.vision_config.image_size
    inputs = {"pixel_values": torch.randn(images, 3, side, side), "input_ids": ids, "attention_mask": mask}
    out = model(**inputs, use_image_text_matching_head=match)
    outputs = {
        "logits_per_image": out.logits_per_image,
        "logits_per_text": out.logits_per_text,
        "vision_model_output.last_hidden_state": out.vision_model_output.last_hidden_state,
    }
    if not match:
        outputs |= {
            "image_embeds": out.image_embeds,
            "text_embeds": out.text_embeds,
            "text_model_output.last_hidden_state": out.text_model_output.last_hidden_state * mask[..., None],
        }
    write(case, model, inputs | {"use_image_text_matching_head": torch.tensor(int(match))}, outputs)


class Blip2Qformer(nn.Module):
    """What is trained in the first stage, as the authors' class of this name holds it, and its three passes."""

    def __init__(self, config, qformer):
        super().__init__()
        theirs = config.qformer_config
        bert = BertConfig(
            vocab_size=theirs.vocab_size,
            hidden_size=theirs.hidden_size,
            num_hidden_layers=theirs.num_hidden_layers,
            num_attention_heads=theirs.num_attention_heads,
            intermediate_size=theirs.intermediate_size,
            max_position_embeddings=theirs.max_position_embeddings,
        )
        bert.encoder_width = config.vision_config.hidden_size
        bert.add_cross_attention = True
        bert.cross_attention_freq = theirs.cross_attention_frequency
        bert.query_length = config.num_query_tokens
        self.Qformer = qformer.BertLMHeadModel(bert)
        self.Qformer.cls.predictions.decoder.weight = self.Qformer.bert.embeddings.word_embeddings.weight
        self.Qformer.cls.predictions.decoder.bias = self.Qformer.cls.predictions.bias
        self.ln_vision = nn.LayerNorm(config.vision_config.hidden_size)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, theirs.hidden_size))
        self.vision_proj = nn.Linear(theirs.hidden_size, config.image_text_hidden_size)
        self.text_proj = nn.Linear(theirs.hidden_size, config.image_text_hidden_size)
        self.itm_head = nn.Linear(theirs.hidden_size, 2)
        self.temp = nn.Parameter(torch.tensor(0.0))

    def forward(self, image_embeds, ids, mask):
        batch = len(ids)
        query_tokens = self.query_tokens.expand(batch, -1, -1)
        seen = {
            "encoder_hidden_states": image_embeds,
            "encoder_attention_mask": torch.ones(image_embeds.shape[:-1]),
        }
        queries = self.Qformer.bert(query_embeds=query_tokens, **seen, use_cache=True, return_dict=True)
        words = self.Qformer.bert(ids, attention_mask=mask, return_dict=True).last_hidden_state
        image_feats = normalize(self.vision_proj(queries.last_hidden_state), dim=-1)
        text_feat = normalize(self.text_proj(words[:, 0]), dim=-1)
        sim_q2t = torch.matmul(image_feats.unsqueeze(1), text_feat.unsqueeze(-1)).squeeze(-1)
        visible = torch.cat([torch.ones(query_tokens.shape[:-1]), mask], 1)
        both = self.Qformer.bert(
            ids, query_embeds=query_tokens, attention_mask=visible, **seen, return_dict=True
        ).last_hidden_state
        count = query_tokens.shape[1]
        ids = ids.clone()
        ids[:, 0] = self.Qformer.config.vocab_size - 1
        generated = self.Qformer(
            ids, attention_mask=visible, past_key_values=queries.past_key_values, return_dict=True
        )
        return {
            "query_output.last_hidden_state": queries.last_hidden_state,
            "text_output.last_hidden_state": words * mask[..., None],
            "image_feats": image_feats,
            "text_feat": text_feat,
            "sim_i2t": sim_q2t.max(-1).values / self.temp,
            "output_itm.last_hidden_state": both * visible[..., None],
            "logits": self.itm_head(both[:, :count]).mean(1),
            "lm_output.logits": generated.logits * mask[..., None],
        }


def first_stage(case, config, lengths, features):
    model = Blip2Qformer(config, authors()).eval()
    fill(model)
    model.temp.data = torch.tensor(0.31)
    ids, mask = texts(lengths, config.qformer_config.vocab_size - 1)
    features = torch.randn(len(lengths), features, config.vision_config.hidden_size)
    inputs = {"image_embeds": features, "input_ids": ids, "attention_mask": mask}
    outputs = model(features, ids, mask.float())
    folder = FOLDER / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = json.loads(config.to_json_string()) | {"architectures": ["Blip2Qformer"]}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    write_tensors(folder, inputs, outputs)


def generation(case, config, lengths, side="right", targets=None):
    """A language model behind the queries, which stand where the prompt holds the image token."""
    model = Blip2ForConditionalGeneration(config).eval()
    if targets:
        # Version 1.1 predicts words by a table of its own, which this version of transformers ties at first.
        language = model.language_model
        assert not language.config.scale_decoder_outputs
        language.lm_head.weight = nn.Parameter(torch.empty_like(language.lm_head.weight))
    fill(model)
    ids, mask = texts(lengths, config.image_token_index, side)
    count = config.num_query_tokens
    rows = []
    for row, length, words in zip(ids, lengths, mask):
        first = int(words.argmax())
        place = torch.full((count,), config.image_token_index)
        rows.append(torch.cat([row[:first], place, row[first:]]))
    ids = torch.stack(rows)
    shown = torch.ones(len(lengths), count, dtype=torch.long)
    mask = torch.cat([shown, mask], 1) if side == "right" else torch.cat([mask, shown], 1)
    if side == "left":
        mask = mask.sort(1).values
    pixels = config.vision_config.image_size
    inputs = {
        "pixel_values": torch.randn(len(lengths), 3, pixels, pixels),
        "input_ids": ids,
        "attention_mask": mask,
    }
    seen = mask
    if targets:
        decoder_ids, seen = texts(targets, config.image_token_index)
        decoder_ids[:, 0] = config.text_config.decoder_start_token_id
        inputs |= {"decoder_input_ids": decoder_ids, "decoder_attention_mask": seen}
    out = model(**inputs)
    outputs = {
        "logits": out.logits * seen[..., None],
        "qformer_outputs.last_hidden_state": out.qformer_outputs.last_hidden_state,
        "vision_outputs.last_hidden_state": out.vision_outputs.last_hidden_state,
    }
    write(case, model, inputs, outputs)


torch.manual_seed(0)
with torch.no_grad():
    queries("queries", qformer(15, 3, 3, 22, image=10, frequency=2, text=True), batch=3, count=4, features=6)
    queries("queries_frequent", qformer(12, 2, 1, 50, image=7, frequency=1), batch=2, count=1, features=3)
    config = Blip2Config(
        vision_config=vision(12, 2, 1, 26, 10, 5),
        qformer_config=qformer(18, 3, 3, 31, image=12, frequency=2, text=True),
        num_query_tokens=5,
        image_text_hidden_size=7,
        text_config=OPTConfig(hidden_size=8, num_hidden_layers=0, vocab_size=9).to_dict(),
    )
    retrieval("contrast", config, 3, [9, 2, 5, 4], match=False)
    retrieval("matching", config, 3, [3, 8, 6], match=True)
    config = Blip2Config(
        vision_config=vision(15, 1, 3, 20, 12, 4),
        qformer_config=qformer(12, 2, 2, 40, image=15, frequency=1, text=True),
        num_query_tokens=1,
        image_text_hidden_size=11,
        text_config=OPTConfig(hidden_size=8, num_hidden_layers=0, vocab_size=9).to_dict(),
    )
    retrieval("contrast_one_query", config, 2, [1, 6], match=False)
    config = Blip2Config(
        vision_config=vision(10, 1, 1, 12, 10, 5),
        qformer_config=qformer(15, 3, 3, 22, image=10, frequency=2, text=True),
        num_query_tokens=3,
        image_text_hidden_size=7,
    )
    first_stage("first_stage", config, [6, 2, 9, 4], features=5)
    opt = OPTConfig(
        vocab_size=31,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        ffn_dim=20,
        max_position_embeddings=17,
        word_embed_proj_dim=12,
    )
    config = Blip2Config(
        vision_config=vision(10, 1, 1, 12, 10, 5),
        qformer_config=qformer(15, 2, 3, 22, image=10, frequency=2),
        num_query_tokens=3,
        image_token_index=30,
        text_config=opt.to_dict(),
    )
    generation("opt", config, [6, 2, 9])
    opt.num_attention_heads, opt.num_hidden_layers = 1, 1
    config = Blip2Config(
        vision_config=vision(12, 1, 3, 12, 8, 4),
        qformer_config=qformer(12, 1, 1, 30, image=12, frequency=1),
        num_query_tokens=1,
        image_token_index=30,
        text_config=opt.to_dict(),
    )
    generation("opt_left", config, [4, 7], side="left")
    t5 = T5Config(
        vocab_size=31,
        d_model=12,
        d_kv=4,
        d_ff=22,
        num_layers=2,
        num_heads=3,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=9,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    config = Blip2Config(
        vision_config=vision(10, 1, 1, 12, 10, 5),
        qformer_config=qformer(15, 2, 3, 22, image=10, frequency=2),
        num_query_tokens=3,
        image_token_index=30,
        text_config=t5.to_dict(),
    )
    generation("t5", config, [6, 2, 11], targets=[5, 12, 3])
    t5 = t5.to_dict() | {"d_kv": 7, "num_heads": 1, "num_layers": 1, "num_decoder_layers": 1}
    t5 |= {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 19}
    config = Blip2Config(
        vision_config=vision(12, 1, 3, 12, 8, 4),
        qformer_config=qformer(12, 1, 1, 30, image=12, frequency=1),
        num_query_tokens=1,
        image_token_index=30,
        text_config=t5,
    )
    generation("t5_left", config, [14, 20], side="left", targets=[22, 4])
