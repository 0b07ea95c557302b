"""Training that is interrupted goes on to the same bits; in the middle of a step, too."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
import torch

from minigpt import GPT2, build
from recipes import corpus, train
from recipes.train import Recipe

SMALL = Recipe(
    "ioi-mini", 1, 2, 8, 32, corpus.vocabulary, corpus.sentences, 6, context=16, tokens=32
)
STEPS, SEED = 6, 3


@pytest.fixture(params=[0.0, 0.5], ids=["plain", "unread"])
def recipe(request, monkeypatch) -> Recipe:
    """A small model, all of whose writes are read while it learns, or half of the time some."""
    small = replace(SMALL, unread=request.param)
    monkeypatch.setitem(train.RECIPES, small.name, small)
    monkeypatch.setattr(train, "accuracy", lambda *_: (0.0, 0.0))
    return small


@pytest.fixture
def whole(tmp_path, recipe):
    """The parameters after a training that nobody interrupts."""
    return train.train(tmp_path / "whole", STEPS, SEED, recipe=recipe)


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
    tmp_path, recipe, whole, monkeypatch, capsys
):
    out = tmp_path / "begun"
    interrupt(monkeypatch, at=3)
    with pytest.raises(KeyboardInterrupt):
        train.train(out, STEPS, SEED, recipe=recipe)
    assert "step 3 is kept" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert same(train.train(out, STEPS, SEED, recipe=recipe), whole)


def test_without_the_optimizers_moments_the_bits_are_others(tmp_path, recipe, whole, monkeypatch):
    out = tmp_path / "begun"
    interrupt(monkeypatch, at=3)
    with pytest.raises(KeyboardInterrupt):
        train.train(out, STEPS, SEED, recipe=recipe)
    kept = train.load_file(out / "checkpoint.safetensors")
    forgotten = {
        name: torch.zeros_like(x) if name.startswith("exp_avg") else x for name, x in kept.items()
    }
    train.save_file(forgotten, out / "checkpoint.safetensors")
    assert not same(train.train(out, STEPS, SEED, recipe=recipe), whole)


def test_a_second_interrupt_does_not_wait(tmp_path, recipe, monkeypatch):
    interrupt(monkeypatch, at=3, times=2)
    with pytest.raises(KeyboardInterrupt):
        train.train(tmp_path, STEPS, SEED, recipe=recipe)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_the_command_says_130(tmp_path, recipe, monkeypatch):
    interrupt(monkeypatch, at=1)
    monkeypatch.setattr("sys.argv", ["train", "--out", str(tmp_path), "--steps", "3"])
    with pytest.raises(SystemExit, match="130"):
        train.main()


def same(p: dict[str, torch.Tensor], q: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(p[name], q[name]) for name in p.keys() | q.keys())


def test_where_writes_are_not_read_is_drawn_by_the_step():
    rows = torch.zeros(50, 41, dtype=torch.long)
    found = train.drawn(0.8, rows, SEED, 1)
    assert found.shape == (50, 40, 1)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert float(found.mean()) == pytest.approx(0.8, abs=0.05)
    assert torch.equal(found, train.drawn(0.8, rows, SEED, 1))
    assert not torch.equal(found, train.drawn(0.8, rows, SEED, 2))
    assert train.drawn(0.0, rows, SEED, 1) is None


def test_what_is_not_read_is_what_mlps_and_the_earlier_half_of_the_heads_wrote():
    config = replace(SMALL, n_layer=2).config(300)
    p = {
        name: torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) / 4
        for i, (name, x) in enumerate(train.start(config, 0).items())
    }
    tokens = torch.randint(300, (2, 7), generator=torch.Generator().manual_seed(1))
    trace = GPT2(build(config, p)).run(tokens)
    kept = trace["emb"] + trace["pos"] + trace["a1"]
    norm = torch.nn.functional.layer_norm(kept, (8,), p["ln_f.weight"], p["ln_f.bias"])
    every = torch.ones(2, 7, 1)
    torch.testing.assert_close(train.logits(p, tokens, config, every), norm @ p["wte.weight"].T)
    some = every * torch.tensor([[0.0], [1.0]])[:, None]
    found = train.logits(p, tokens, config, some)
    torch.testing.assert_close(found[0], train.logits(p, tokens, config)[0])
    assert not torch.allclose(found[1], train.logits(p, tokens, config)[1], atol=1e-2)
