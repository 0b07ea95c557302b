"""Training that is interrupted goes on to the same bits; in the middle of a step, too."""

from __future__ import annotations

import signal

import pytest
import torch

from recipes import train

SMALL = {"LAYERS": 1, "HEADS": 2, "WIDTH": 8, "CONTEXT": 16, "TOKENS_PER_STEP": 32}
STEPS, SEED = 6, 3


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(train, "accuracy", lambda *_: (0.0, 0.0))


@pytest.fixture
def whole(tmp_path):
    """The parameters after a training that nobody interrupts."""
    return train.train(tmp_path / "whole", STEPS, SEED)


def interrupt(monkeypatch, at: int, times: int = 1) -> None:
    """An interrupt, or several, between the gradients and the optimizer's step of one step."""
    usual, seen = torch.nn.utils.clip_grad_norm_, []

    def clip(*given):
        seen.append(given)
        for _ in range(times if len(seen) == at else 0):
            signal.raise_signal(signal.SIGINT)
        return usual(*given)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)


def test_an_interrupted_training_keeps_its_step_and_goes_on_to_the_same_bits(
    tmp_path, whole, monkeypatch, capsys
):
    out = tmp_path / "begun"
    interrupt(monkeypatch, at=3)
    with pytest.raises(KeyboardInterrupt):
        train.train(out, STEPS, SEED)
    assert "step 3 is kept" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert same(train.train(out, STEPS, SEED), whole)


def test_without_the_optimizers_moments_the_bits_are_others(tmp_path, whole, monkeypatch):
    out = tmp_path / "begun"
    interrupt(monkeypatch, at=3)
    with pytest.raises(KeyboardInterrupt):
        train.train(out, STEPS, SEED)
    kept = train.load_file(out / "checkpoint.safetensors")
    forgotten = {
        name: torch.zeros_like(x) if name.startswith("exp_avg") else x for name, x in kept.items()
    }
    train.save_file(forgotten, out / "checkpoint.safetensors")
    assert not same(train.train(out, STEPS, SEED), whole)


def test_a_second_interrupt_does_not_wait(tmp_path, monkeypatch):
    interrupt(monkeypatch, at=3, times=2)
    with pytest.raises(KeyboardInterrupt):
        train.train(tmp_path, STEPS, SEED)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_the_command_says_130(tmp_path, monkeypatch):
    interrupt(monkeypatch, at=1)
    monkeypatch.setattr("sys.argv", ["train", "--out", str(tmp_path), "--steps", "3"])
    with pytest.raises(SystemExit, match="130"):
        train.main()


def same(p: dict[str, torch.Tensor], q: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(p[name], q[name]) for name in p.keys() | q.keys())
