"""What the tests of weights share: parameters compared bit for bit, converters without a file, a
fresh interpreter."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import torch

from minigpt import Config, Params, build
from minigpt.params import UNEMBED, tensors
from weights import convert, shape
from weights.errors import WeightsWarning

ROOT = Path(__file__).parents[2]
# `weights.save` is the function, which hides the module of that name
SAVE = importlib.import_module("weights.save")
LAYOUTS = ("huggingface", "nanogpt", "mingpt-2020")


def same(a: Params, b: Params) -> bool:
    """Whether two sets of parameters are one, bit for bit."""
    mine, theirs = tensors(a), tensors(b)
    return (
        a.config == b.config
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[name], theirs[name]) for name in mine)
    )


def tokens_for(config: Config, rows: int = 2, length: int = 9) -> torch.Tensor:
    return torch.randint(
        0, config.n_vocab, (rows, length), generator=torch.Generator().manual_seed(1)
    )


def read_back(content: dict, n_head: int) -> Params:
    """A state dict through the converter, without a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)
        state, facts = convert.to_engine(content)
    state = convert.without_tied_head(state)
    return build(shape.config_of(facts, state, n_head), state)


def run_python(code: str, **env: str) -> str:
    """A fresh interpreter's output: for what is read from the environment, once, and for doors
    without the tests' type checks."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=ROOT,
        text=True,
        capture_output=True,
        env={**os.environ, **env},
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def nanogpt_state(params: Params) -> dict[str, torch.Tensor]:
    """nanoGPT's and minGPT's names and layout, written out here once more, on purpose not by the
    table."""
    state = {}
    for name, x in tensors(params).items():
        linear = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        state[f"transformer.{name}" if name != UNEMBED else name] = (
            x.t().contiguous() if linear else x
        )
    for layer in range(params.config.n_layer):
        state[f"transformer.h.{layer}.attn.bias"] = torch.ones(
            1, 1, params.config.n_ctx, params.config.n_ctx
        )
    return {**state, UNEMBED: params.unembed}


def nanogpt_file(
    path: Path, params: Params, *, biases: bool = True, **facts: object
) -> dict[str, torch.Tensor]:
    """A training checkpoint as nanoGPT's train.py writes it; returns its state dict."""
    c = params.config
    state = {
        name: x for name, x in nanogpt_state(params).items() if biases or not name.endswith(".bias")
    }
    args = {
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_embd": c.d_model,
        "block_size": c.n_ctx,
        "bias": biases,
        "vocab_size": c.n_vocab,
        "dropout": 0.0,
        **facts,
    }
    torch.save(
        {
            "model": {f"_orig_mod.{name}": x for name, x in state.items()},
            "model_args": args,
            "optimizer": {"state": {}},
            "iter_num": 10,
            "best_val_loss": torch.tensor(1.5),
            "config": {"dataset": "x"},
        },
        path,
    )
    return state
