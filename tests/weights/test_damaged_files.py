"""Damaged, hostile and wrong files are refused, and no code in them is ever run."""

from __future__ import annotations

import math
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import weights
from minigpt.errors import ParamsError
from minigpt.params import build, tensors
from tests.conftest import tiny
from tests.weights.tools import same
from weights.errors import WeightsError


@settings(max_examples=25)
@given(share=st.floats(0, 0.999))
def test_a_file_cut_short_anywhere_is_refused(tmp_path_factory, share):
    folder = weights.save(tiny(), tmp_path_factory.mktemp("cut"))
    torch.save(tensors(tiny().params), folder / "new.bin")
    torch.save(tensors(tiny().params), folder / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("model.safetensors", "new.bin", "old.bin"):
        path = folder / name
        whole = path.read_bytes()
        assert same(weights.load(path).params, tiny().params)
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(WeightsError, match=name):
            weights.load(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt", ".pth", ".gguf"])
def test_a_file_of_something_else_is_refused(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_text("GGUF and nothing else\n" * 50)
    with pytest.raises(WeightsError, match=f"weights{suffix} could not be read"):
        weights.load(path, n_head=2)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_called_that(tmp_path, name):
    (tmp_path / name).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 548105171\n"
    )
    with pytest.raises(WeightsError, match=r"pointer of git-lfs(.|\n)*git lfs pull"):
        weights.load(tmp_path)


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, act, path: Path) -> None:
        self.act, self.path = act, path

    def __reduce__(self):
        return (self.act, (f"mkdir {self.path}" if self.act is os.system else str(self.path),))


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("act", [os.mkdir, os.system, os.makedirs])
def test_a_pickle_with_code_in_it_is_refused_and_never_run(tmp_path, archive, act):
    mark = tmp_path / "mark"
    hostile = Hostile(act, mark)
    torch.save(
        {**tensors(tiny().params), "x": hostile},
        tmp_path / "a.pt",
        _use_new_zipfile_serialization=archive,
    )
    with pytest.raises(WeightsError, match="it holds code, which is never run here") as caught:
        weights.load(tmp_path / "a.pt", n_head=2)
    assert "weights_only" not in str(caught.value)
    assert not mark.exists()
    # the twin: the same object does act where pickles are trusted
    pickle.loads(pickle.dumps(hostile))
    assert mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"a": 1},
        {"model": {"wte.weight": "x"}},
        {"model": {}},
        {},
        {"x": torch.ones(2)},
        {"wte.weight": torch.ones(3)},
    ],
)
def test_a_pickle_of_other_things_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"a\.pt"):
        weights.load(tmp_path / "a.pt", n_head=2)


def test_missing_extra_and_misshapen_tensors_are_told_together(folder):
    state = load_file(folder / "model.safetensors")
    del state["transformer.ln_f.bias"]
    state["transformer.h.1.mlp.c_fc.weight"] = torch.ones(8, 17)
    (folder / "manifest.json").unlink()
    save_file({**state, "transformer.h.0.adapter": torch.ones(3)}, folder / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        weights.load(folder)
    for part in (
        str(folder / "model.safetensors"),
        "missing: ln_f.bias [8]",
        "extra: h.0.adapter [3]",
        "shape: h.1.mlp.c_fc.weight is [8, 17], should be [8, 16]",
    ):
        assert part in str(caught.value)
    assert isinstance(caught.value.__cause__, ParamsError)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["transformer.h.1.ln_2.bias", "lm_head.weight", "transformer.wte.weight"]
)
def test_weights_that_are_not_finite_are_refused(tmp_path, name, value):
    folder = weights.save(tiny(tied=False), tmp_path)
    state = load_file(folder / "model.safetensors")
    state[name].view(-1)[3] = value
    (folder / "manifest.json").unlink()
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=f"not finite: {name.removeprefix('transformer.')}"):
        weights.load(folder)


def test_a_folder_without_weights_says_what_should_be_in_it(tmp_path):
    with pytest.raises(
        WeightsError, match=r"holds no weights(.|\n)*model\.safetensors(.|\n)*pytorch_model\.bin"
    ):
        weights.load(tmp_path)


def test_a_byte_flipped_in_an_archive_is_noticed(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(tensors(tiny().params), path)
    assert same(weights.load(path, n_head=2).params, tiny().params)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"damaged: its checksum|could not be read"):
        weights.load(path, n_head=2)


def test_an_index_that_names_itself_and_json_too_deep_are_refused(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"wte.weight": "model.safetensors.index.json"}}')
    with pytest.raises(WeightsError, match="names itself"):
        weights.load(tmp_path)
    index.write_text('{"a":' * 100_000)
    with pytest.raises(WeightsError, match="could not be read"):
        weights.load(tmp_path)


# ---- tensors that are no plain arrays of numbers

NO_NUMBERS = {
    "stored as sparse_coo": torch.Tensor.to_sparse,
    "stored as sparse_csr": torch.Tensor.to_sparse_csr,
    "on the meta device": lambda x: x.to("meta"),
    "nested": lambda x: torch.nested.nested_tensor([x, x[:1]]),
    "quantized, torch.qint8": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
    "torch.complex64": lambda x: x.to(torch.complex64),
    "torch.int8": lambda x: x.to(torch.int8),
    "torch.float8_e4m3fn": lambda x: x.to(torch.float8_e4m3fn),
}


@pytest.mark.filterwarnings("ignore:.*(nested tensors|Sparse)", "ignore:.*[Qq]uantiz|TypedStorage")
@pytest.mark.parametrize("name", ["h.0.mlp.c_fc.weight", "wte.weight", "lm_head.weight"])
@pytest.mark.parametrize("what", NO_NUMBERS)
def test_a_tensor_that_is_no_plain_array_of_numbers_is_refused(tmp_path, what, name):
    state = tensors(tiny(tied=False).params)
    torch.save(state, tmp_path / "a.pt")
    weights.load(tmp_path / "a.pt", n_head=2)  # the twin: plain, it loads
    torch.save({**state, name: NO_NUMBERS[what](state[name])}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=re.escape(name)) as caught:
        weights.load(tmp_path / "a.pt", n_head=2)
    assert what in str(caught.value)
    assert "torch.save, where it was made" in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*(nested tensors|Sparse)", "ignore:.*[Qq]uantiz|TypedStorage")
@pytest.mark.parametrize("what", [what for what in NO_NUMBERS if "float8" not in what])
def test_nor_are_parameters_built_of_it(what):
    params = tiny().params
    strange = NO_NUMBERS[what](params.wte)
    with pytest.raises(ParamsError, match=f"wte.weight is .*{what}"):
        build(params.config, {**tensors(params), "wte.weight": strange})
