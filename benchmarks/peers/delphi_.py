"""Delphi's cache, its own code on our weights, latents and tokens.

    DELPHI=FOLDER python delphi_.py FOLDER THREADS

In FOLDER: model/ (Hugging Face's) and given.safetensors (tokens, and of each layer the encoder and
its bias). Written there: times.json, and the cache as it saves it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2LMHeadModel

sys.path.insert(0, os.environ["DELPHI"])
# The cache alone: its neighbours want libraries for language models and for texts that are alike.
package = types.ModuleType("delphi.latents")
package.__path__ = [f"{os.environ['DELPHI']}/delphi/latents"]
sys.modules[package.__name__] = package

from delphi.latents.cache import LatentCache  # noqa: E402

# Latents that are on at a token, and windows that are run together.
ON, BATCH = 32, 8


def encode(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """The activations of the strongest latents, others zero: [batch, pos, latents]."""
    values, at = torch.relu(x @ weight + bias).topk(ON)
    return torch.zeros(*x.shape[:2], weight.shape[1]).scatter_(2, at, values)


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(int(sys.argv[2]))
    given = load_file(folder / "given.safetensors")
    model = GPT2LMHeadModel.from_pretrained(folder / "model")
    tokens = given["tokens"].long()
    encoders: dict[str, Callable[[Tensor], Tensor]] = {
        f"transformer.h.{i}.mlp": partial(encode, given[f"encoder.{i}"], given[f"bias.{i}"])
        for i in range(model.config.n_layer)
    }
    start = time.perf_counter()
    with torch.no_grad():
        for at in range(0, len(tokens), BATCH):
            model(tokens[at : at + BATCH])
    alone = time.perf_counter() - start
    start = time.perf_counter()
    cache = LatentCache(model, encoders, BATCH)
    cache.run(tokens.numel(), tokens)
    cache.save_splits(5, folder / "cache")
    took = time.perf_counter() - start
    sums = {name: float(x.double().sum()) for name, x in cache.cache.latent_activations.items()}
    said = {"forward": alone, "cached": took, "sums": sums}
    (folder / "times.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
