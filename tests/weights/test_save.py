"""What is saved is loaded, in the type that is asked for, and nothing is written over or left half
done."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

import weights
from minigpt import GPT2
from minigpt.params import tensors
from tests.conftest import tiny
from tests.weights.tools import SAVE, same
from weights.errors import WeightsError


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_saved_is_loaded(tmp_path, tied, dtype):
    model = tiny(tied=tied, dtype=dtype)
    back = weights.load(weights.save(model, tmp_path))
    assert same(back.params, model.params)
    assert back.params.tied is tied
    assert back.dtype == dtype
    assert not any(x.requires_grad for x in tensors(back.params).values())
    assert same(weights.load(weights.save(back.params, tmp_path / "again")).params, model.params)


def test_dtype_and_attention_are_as_asked(folder):
    model = weights.load(folder, dtype=torch.float64, attention="sdpa")
    assert model.dtype == torch.float64
    assert (
        model.attend
        is weights.load(folder, attention="sdpa").attend
        is not weights.load(folder).attend
    )
    assert torch.equal(model.params.wte, tiny().params.wte.double())


def test_mixed_types_are_refused_unless_one_is_asked_for(tmp_path):
    state = tensors(tiny().params)
    save_file({**state, "wpe.weight": state["wpe.weight"].half()}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="mixed"):
        weights.load(tmp_path / "a.safetensors", n_head=2)
    assert (
        weights.load(tmp_path / "a.safetensors", n_head=2, dtype=torch.float32).dtype
        == torch.float32
    )


def test_numbers_that_are_not_floating_are_refused(tmp_path):
    save_file(
        {name: x.to(torch.int8) for name, x in tensors(tiny().params).items()},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(WeightsError, match=r"torch\.int8"):
        weights.load(tmp_path / "a.safetensors", n_head=2)


def test_nothing_is_written_over_unless_asked(folder):
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(
        WeightsError, match=r"already holds model\.safetensors, config\.json(.|\n)*overwrite=True"
    ):
        weights.save(tiny(seed=1), folder)
    assert (folder / "model.safetensors").read_bytes() == before
    weights.save(tiny(seed=1), folder, overwrite=True)
    assert same(weights.load(folder).params, tiny(seed=1).params)


def test_a_save_that_fails_leaves_the_old_files_and_nothing_else(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(state, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(SAVE, "save_file", full_disk)
        with pytest.raises(OSError, match="no space"):
            weights.save(tiny(seed=1), folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    weights.save(tiny(seed=1), folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} != before


def test_the_weights_file_can_be_read_by_whoever_can_read_its_config(folder):
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_a_tokenizer_of_its_own_goes_along_and_goes_away_with_its_model(tmp_path):
    mini = weights.load("ioi-mini")
    back = weights.load(weights.save(mini, tmp_path))
    text = "When Mary and John went to the store, 1999<|endoftext|>é"
    assert back.tokenizer.encode(text) == mini.tokenizer.encode(text)
    weights.save(tiny(), tmp_path, overwrite=True)
    assert weights.load(tmp_path).tokenizer is None


def test_loaded_models_are_frozen_records(folder):
    model = weights.load(folder)
    assert isinstance(model, GPT2)
    with pytest.raises(AttributeError):
        model.params.wte = model.params.wpe
