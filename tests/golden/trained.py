"""What this suite trained, as transformers loads it: a few updates of each system that transformers has a class for, saved
by `vlp export`, read by `from_pretrained` without a missing or an unexpected tensor, and asked the same as `vlp forward`.

Run anywhere: python trained.py PATH-OF-VLP. Needs torch 2.15, transformers 5.24 and safetensors 0.8; prints the largest
difference of each output as a share of its greatest element and fails above 1e-4.
"""

import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
VLP = pathlib.Path(sys.argv[1]).resolve()
BATCH, WORDS, SIZE, CLS, SEP = 3, 12, 32, 2, 3
CASES = {
    ("clip", "CLIPModel"): ["logits_per_image", "image_embeds", "text_embeds"],
    ("vilt", "ViltForMaskedLM"): ["logits"],
    ("blip", "BlipForImageTextRetrieval"): ["itm_score"],
    ("blip", "BlipForConditionalGeneration"): ["logits"],
    ("blip2", "Blip2ForImageTextRetrieval"): ["logits_per_image"],
}


def vlp(*arguments):
    subprocess.run([VLP, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def compare(folder, system, name, outputs):
    run = next((folder / system / "first" / "smoke" / "main").glob("seed-0-*"))
    saved = folder / name
    vlp("export", run, "--out", saved, "--class", name)
    model, found = getattr(transformers, name).from_pretrained(saved, output_loading_info=True)
    assert not any(found.values()), found
    ids = torch.randint(5, 1000, (BATCH, WORDS))
    ids[:, 0], ids[:, -1] = CLS, SEP
    inputs = {"pixel_values": torch.randn(BATCH, 3, SIZE, SIZE), "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        expected = model.eval()(**inputs)
    save_file(inputs, saved / "inputs.safetensors")
    asked = ["--input", saved / "inputs.safetensors", "--output", saved / "outputs.safetensors"]
    vlp("forward", "--model", system, "--checkpoint", saved, *asked)
    got = load_file(saved / "outputs.safetensors")
    for output in outputs:
        difference = (got[output] - expected[output]).abs().max() / expected[output].abs().max()
        print(f"{name:30} {output:20} {difference:.1e}")
        assert difference < 1e-4


torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for system in {system: None for system, _ in CASES}:
        settings = ["--profile", "smoke", "--set", "train.steps=10", "--out", folder, "--no-report", "--quiet"]
        vlp("run", f"experiments/{system}/first.yaml", *settings)
    for (system, name), outputs in CASES.items():
        compare(folder, system, name, outputs)
