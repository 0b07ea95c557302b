"""Whatever is brought to a door: it is read, or refused by an error of this project. Minutes."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from typer.testing import CliRunner

import weights
from interp import metrics
from interp.circuit import Circuit
from interp.cli.commands import app
from interp.tasks import Prompts
from minigpt import GPT2, MiniGPTError, Patch, parse
from minigpt.names import theirs
from minigpt.params import tensors
from tests.conftest import tiny, unchecked
from weights import vocabulary

pytestmark = pytest.mark.slow
many = settings(
    max_examples=int(os.environ.get("FUZZ", "400")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
MODEL = tiny(3, 2, 16, 32)
MINI = weights.load("ioi-mini")
PROMPT = "When Mary and John went to the store, John gave a drink to"

KEYS = (
    "model vocab merges type added_tokens content id nodes edges in_graph cfg roles n_layer n_head "
    "n_embd vocab_size clean corrupt answers distractors positions group prompts word_idxs end "
    "pre_tokenizer normalizer tokenizer files sha256 weight_map stoi"
).split()
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
sites = st.sampled_from(
    "a0.1 a2 a9.9 m1.n3 m1.b emb pos input out resid1 resid2.mid a1.0.q a1.v m2.in a1.1.pattern "
    "a2.z out.b A1.1 L1H0 blocks.1.attn.hook_z a1.h0<q> x a m resid -1".split()
)
spelled = st.builds(
    lambda a, b, at: f"{a}{b and '>' + b}{at}",
    *(sites, st.just("") | sites),
    st.sampled_from(["", "@0", "@-1", "@END", "@S2+1", "@99", "@", "@x y", "@1@2", "@1.5"]),
)


def tried(act: Callable[[], Any]) -> None:
    """The act, whose only errors may be this project's, or of the tests' own checks of types."""
    with warnings.catch_warnings(), suppress(MiniGPTError, TypeCheckError):
        warnings.simplefilter("ignore")
        act()


@many
@given(text=spelled | st.text(max_size=20))
def test_addresses(text):
    trace = MODEL.run(torch.arange(6)[None])
    for act in (
        lambda: parse(text),
        lambda: parse(text, MODEL.config),
        lambda: trace[text],
        lambda: trace.act(text),
        lambda: trace.scale(text),
        lambda: theirs(text, "eap"),
        lambda: MODEL.rerun(trace, [], text).values,
    ):
        tried(act)


values_of = st.sampled_from(
    ["0", "1.5", "run", "mean(run)", "mean(run by g)", "v", "w", "nan", "-", "", "1e999"]
)
lines = st.builds(
    lambda hold, target, how, value: f"{hold}{target} {how} {value}",
    st.sampled_from(["", "", "", "hold ", "hold heads but "]),
    *(spelled, st.sampled_from(["=", "=", "+=", "*=", "==", ""]), values_of),
)


@many
@given(text=st.lists(lines, max_size=3).map("; ".join) | st.text(max_size=30))
def test_patches(text):
    trace, other = MODEL.run(torch.arange(6)[None]), MODEL.run(torch.arange(6, 12)[None])
    given = {"run": other, "v": torch.ones(16), "g": torch.zeros(1, dtype=torch.long)}

    def act() -> None:
        patch = Patch.parse(text, given)
        assert Patch.parse(str(patch), patch.sources) == patch
        MODEL.rerun(trace, patch)

    tried(act)


anything = (
    values
    | st.lists(st.integers(-3, 60), max_size=5).map(np.array)
    | st.lists(st.integers(-3, 60), max_size=5).map(torch.tensor)
    | st.lists(st.lists(st.integers(-3, 60), max_size=3), max_size=3)
)


@many
@given(thing=anything)
def test_prompts_and_values_and_ids(thing):
    trace = MODEL.run(torch.arange(6)[None])
    tried(lambda: unchecked(GPT2.run)(MODEL, thing))
    for make in (Patch.write, Patch.add):
        tried(lambda make=make: MODEL.rerun(trace, unchecked(make.__func__)(Patch, "a1.1", thing)))
    tried(lambda: unchecked(metrics.logit)(answers=thing)(trace))


@many
@given(
    data=st.binary(max_size=200) | values.map(lambda x: json.dumps(x).encode()),
    suffix=st.sampled_from([".json", ".jsonl", ".csv", ""]),
)
def test_files_of_prompts(data, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(data)
    tried(lambda: Prompts.load(path, MINI.tokenizer))


@many
@given(data=values)
def test_circuits(data):
    tried(lambda: Circuit.load(json.dumps(data)))
    tried(lambda: Circuit.load(str(data)))


@many
@given(
    name=st.sampled_from(
        [
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
            "meta.pkl",
            "config.json",
            "manifest.json",
            "model.safetensors.index.json",
            "vocab.tiktoken",
            "added_tokens.json",
        ]
    ),
    data=st.binary(max_size=200) | values.map(lambda x: json.dumps(x).encode()),
)
def test_folders(name, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    weights.save(MODEL, folder / "m")
    if name == "merges.txt":
        (folder / "m" / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2}')
    if name == "model.safetensors.index.json":
        (folder / "m" / "model.safetensors").unlink()
        (folder / "m" / "manifest.json").unlink()
    (folder / "m" / name).write_bytes(data)
    tried(lambda: weights.load(folder / "m"))
    tried(lambda: vocabulary.of(folder / "m"))


@many
@given(
    flip=st.integers(0, 10**6),
    cut=st.floats(0, 1),
    suffix=st.sampled_from([".safetensors", ".bin", ".pt"]),
    byte=st.integers(0, 255),
)
def test_weights(flip, cut, suffix, byte, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    if suffix == ".safetensors":
        path = weights.save(MODEL, folder / "m") / "model.safetensors"
        (folder / "m" / "manifest.json").unlink()
    else:
        path = folder / f"a{suffix}"
        torch.save(tensors(MODEL.params), path)
    data = bytearray(path.read_bytes())
    data[flip % len(data)] = byte
    path.write_bytes(data[: max(1, int(cut * len(data)))] if cut < 0.5 else data)
    tried(lambda: weights.load(path, n_head=2))


COMMANDS = [
    "why",
    "trace",
    "generate",
    "patch",
    "paths",
    "circuit",
    "models",
    "card",
    "fetch",
    "audit",
    "ioi",
]
words = st.sampled_from(
    [
        PROMPT,
        " Mary",
        " John",
        "-a",
        "-o",
        "--top",
        "-1",
        "0",
        "3",
        "--at",
        "a2.3",
        "--html",
        "/no/where",
        "--json",
        "--tokens",
        "1,2,3",
        "--patch",
        "a1.1 *= 2",
        "--vector",
        "v=/none",
        "-m",
        "nobody",
        "--tokenizer",
        "/none",
        "--pairs",
        "--nodes",
        "heads@",
        "-n",
        "1",
        "--device",
        "cuda",
        "--help",
        "--only",
        "parity",
        "--neurons",
    ]
) | st.text(max_size=6)


@settings(many, max_examples=150)
@given(command=st.sampled_from(COMMANDS[:7]), arguments=st.lists(words, max_size=6))
def test_the_command_line(command, arguments, tmp_path_factory):
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("fuzz"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = CliRunner().invoke(app, [command, *arguments])
    finally:
        os.chdir(before)
    assert result.exception is None or isinstance(result.exception, (SystemExit, MiniGPTError)), (
        result.exception
    )
