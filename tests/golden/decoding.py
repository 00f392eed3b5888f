"""What transformers' `generate` writes with random weights: BlipForConditionalGeneration and Blip2ForConditionalGeneration
(an OPT and a T5), greedily and with beams, under every rule for length, repetition and stopping.

Run in this folder after blip.py and blip2.py, whose checkpoints and pictures it reads: python decoding.py. Made with torch
2.15, transformers 5.24 and safetensors 0.8; writes decoding.json as tests/models/decoding.rs reads it. Texts are cut before
the word that ends them; prompts stand before them once more where they count in the penalty for repetition.
"""

import json

import torch
from safetensors.torch import load_file
from transformers import Blip2ForConditionalGeneration, BlipForConditionalGeneration

BEAMS = [
    dict(num_beams=beams, length_penalty=power, early_stopping=stop)
    for beams, power, stop in [
        (1, 1.0, False),
        (2, 1.0, False),
        (3, 1.0, False),
        (3, 0.0, False),
        (3, 2.0, False),
        (3, 1.0, True),
        (3, 2.0, "never"),
        (3, -1.0, "never"),
        (5, 1.5, True),
    ]
]
CASES = [
    # checkpoint, the prompt of each picture, words at most
    ("blip/captions", [[], [], []], 8),
    ("blip/captions", [[7, 11], [20, 5], [7, 7]], 6),
    ("blip/captions_wide_text", [[], []], 6),
    ("blip2/opt", [[4], [9], [17]], 9),
    ("blip2/opt_left", [[5, 12, 6], [8, 8, 14]], 8),
    ("blip2/t5", [[4, 8], [9, 3], [11, 2]], 10),
]


def prepared(folder, prompts):
    """The model, what it reads, and how many entries stand before what it writes."""
    blip = folder.startswith("blip/")
    kind = BlipForConditionalGeneration if blip else Blip2ForConditionalGeneration
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    pixels = load_file(f"{folder}/inputs.safetensors")["pixel_values"][: len(prompts)]
    prompts = torch.tensor(prompts, dtype=torch.long)
    column = torch.ones(len(prompts), 1, dtype=torch.long)
    if blip:
        # The first entry is replaced by the one that begins a caption, the last is taken away.
        ids, skip = torch.cat([column, prompts, column], 1), 1 + prompts.shape[1]
    else:
        ids = torch.cat([model.config.image_token_index * column] * model.config.num_query_tokens + [prompts], 1)
        skip = 1 if "t5" in folder else ids.shape[1]
    return model, dict(pixel_values=pixels, input_ids=ids), skip


def write(model, given, skip, most, end, how, least=0, penalty=1.0):
    """Words without the one that ends a text, and scores where beams are searched."""
    flags = dict(how, do_sample=False, max_new_tokens=most, min_new_tokens=least, repetition_penalty=penalty)
    if model.config.model_type == "blip":
        model.config.text_config.sep_token_id = end
    else:
        flags |= dict(eos_token_id=end, pad_token_id=0)
    flags |= dict(return_dict_in_generate=True, output_scores=True)
    given = {name: tensor.clone() for name, tensor in given.items()}
    out = model.generate(**given, **flags)
    words = [row[skip:].tolist() for row in out.sequences]
    words = [row[: row.index(end)] if end in row else row for row in words]
    return words, None if how["num_beams"] == 1 else [round(score, 6) for score in out.sequences_scores.tolist()]


found = []
with torch.no_grad():
    for folder, prompts, most in CASES:
        model, given, skip = prepared(folder, prompts)
        # With random weights the proper end hardly comes: words that are written within a text end it instead.
        words, _ = write(model, given, skip, most, 1, BEAMS[0])
        for end in sorted({word for row in words for word in row[1:] if word > 0})[:2]:
            for how in BEAMS:
                # The prompt that is repeated holds the image's entry in BLIP-2.
                for least, penalty in [(0, 1.0), (3, 1.0)] + [(0, 1.3)] * folder.startswith("blip/"):
                    words, scores = write(model, given, skip, most, end, how, least, penalty)
                    case = dict(checkpoint=folder, prompts=prompts, end=end, least=least, most=most, penalty=penalty)
                    found.append(case | how | dict(words=words, scores=scores))

print(len(found), "cases, lengths", sorted({len(words) for case in found for words in case["words"]}))
with open("decoding.json", "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(case) for case in found) + "\n]\n")
