"""Weights as PyTorch pickles them: those of clip/gelu, and a file that holds an object of a class of its own.

Run in this folder after clip.py: python pickled.py. Made with torch 2.15; writes pickled/weights.bin and
pickled/foreign.bin.
"""

import os
from collections import OrderedDict

import torch
from safetensors.torch import load_file


class Foreign:
    def __reduce__(self):
        return (os.getcwd, ())


os.makedirs("pickled", exist_ok=True)
weights = load_file("clip/gelu/model.safetensors")
torch.save(OrderedDict(weights), "pickled/weights.bin")
torch.save({"weights": Foreign()}, "pickled/foreign.bin")
