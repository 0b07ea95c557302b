"""What is saved is loaded, in the type that is asked for, and nothing is written over or left half
done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

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
    with pytest.raises(WeightsError, match="several types"):
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
        with pytest.raises(WeightsError, match="could not be written: no space"):
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


# ---- interrupted


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is run."""


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends at the n-th file that is moved or removed, as far as anybody can tell."""
    left = iter(range(step))

    def dying(act):
        def done(self, *args, **kwargs):
            if next(left, None) is None:
                raise Killed
            return act(self, *args, **kwargs)

        return done

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, dying(getattr(Path, name)))
    monkeypatch.setattr(shutil, "rmtree", dying(shutil.rmtree))


@pytest.mark.parametrize("step", range(12))
def test_whenever_a_save_is_killed_the_old_model_is_there_or_the_new_one(tmp_path, step):
    """The old one has a tokenizer of its own, which the new one has not."""
    old, new = weights.load("ioi-mini"), tiny(seed=1)
    folder = weights.save(old, tmp_path / "model")
    with pytest.MonkeyPatch.context() as patch:
        killed_at(step, patch)
        with suppress(Killed):
            weights.save(new, folder, overwrite=True)
    found = weights.load(folder)
    was_old = same(found.params, old.params)
    assert was_old or same(found.params, new.params)
    assert (found.tokenizer is None) is not was_old
    weights.save(new, folder, overwrite=True)
    assert not [
        path for path in folder.iterdir() if path.name.startswith(".save") and not alive(path)
    ]
    assert same(weights.load(folder).params, new.params)


def alive(draft: Path) -> bool:
    """A draft of this very process is not swept: it could be another thread's."""
    return f"-{os.getpid()}-" in draft.name


def test_what_a_process_left_that_is_gone_is_swept(folder):
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / f".save-{gone.stdout.strip()}-abc").mkdir()
    (folder / ".save-strange").mkdir()
    (folder / f".save-{os.getppid()}-abc").mkdir()
    weights.save(tiny(seed=1), folder, overwrite=True)
    assert [path.name for path in folder.glob(".save-*")] == [f".save-{os.getppid()}-abc"]


def test_a_mark_that_leads_nowhere_is_refused_and_a_new_save_takes_its_place(folder):
    (folder / ".saving").write_text("{")
    with pytest.raises(WeightsError, match=r"was interrupted(.|\n)*overwrite=True"):
        weights.load(folder)
    with pytest.raises(WeightsError, match="was interrupted"):
        weights.save(tiny(seed=1), folder)
    weights.save(tiny(seed=1), folder, overwrite=True)
    assert same(weights.load(folder).params, tiny(seed=1).params)


def test_a_byte_that_was_flipped_is_noticed(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"model\.safetensors has the checksum"):
        weights.load(folder)


def test_config_json_may_be_edited(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_epsilon": 1e-6}))
    assert weights.load(folder).config.eps == 1e-6


@pytest.mark.parametrize("place", ["~nosuchuser/model", "x" * 5000, "a\0b"])
def test_places_that_cannot_be_are_refused(place):
    for act in (lambda: weights.save(tiny(), place), lambda: weights.load(place)):
        with pytest.raises(WeightsError, match="is no path"):
            act()
