"""The reference's numbers are the engine's where nothing is patched, and those of a prompt are its
own whatever prompts stand beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigpt import Address, reference
from minigpt.params import tensors
from minigpt.patch import Patch
from tests.conftest import examples, tiny
from tests.minigpt.oracle import F64, draw, patched, same, world, write
from tests.patches import addresses, assert_agrees, disagreements, reference_of


@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 4]),
    neurons=st.integers(1, 9),
    tied=st.booleans(),
    seed=st.integers(0, 9),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
@examples(8)
def test_unpatched_it_is_the_engines_run_at_every_address(
    layers, heads, neurons, tied, seed, lengths
):
    model = tiny(layers, heads, 8, neurons, seed=seed, dtype=F64, tied=tied)
    rows = [draw(seed + i, 1, n)[0] for i, n in enumerate(lengths)]
    names = {"S": torch.tensor([n // 2 for n in lengths])}
    batch = model.batch(
        torch.stack([torch.nn.functional.pad(row, (0, max(lengths) - len(row))) for row in rows])
    )
    trace = model.run(type(batch)(batch.tokens, torch.tensor(lengths), names))
    run = reference_of(model, trace)
    assert_agrees(trace, run)
    assert_agrees(
        trace,
        run,
        among=[
            str(Address((site,), at)) for site in addresses(model.config) for at in (-1, 0, "S")
        ],
    )


def test_another_models_run_does_not_agree_with_it():
    model, trace, _ = world()
    other = tiny(2, seed=1, dtype=F64).run(trace.tokens)
    apart = {line.split(" of ")[0] for line in disagreements(other, reference_of(model, trace))}
    assert apart >= {"logits", *map(str, addresses(model.config))}


def test_a_longer_or_shorter_runs_pattern_fits():
    model, clean, _ = world()
    x = model.run(draw(2)[:, :3])
    shorter = reference_of(model, clean, Patch.write("a1.0.pattern@2", x))
    assert np.array_equal(
        shorter["a1.0.pattern@2"],
        np.pad(reference_of(model, x)["a1.0.pattern@2"], ((0, 0), (0, 2))),
    )
    longer = reference_of(model, x, Patch.write("a1.0.pattern", clean))
    assert np.array_equal(longer["a1.0.pattern"], patched(Patch())["a1.0.pattern"][:, :3, :3])
    with pytest.raises(IndexError):
        reference_of(model, clean, Patch.write("a1.0.z", x))


def test_a_prompt_alone_is_the_same_as_among_prompts_of_other_lengths():
    model, _, _ = world()
    rows = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3]]
    weights = {name: x.numpy() for name, x in tensors(model.params).items()}
    other = [[row[0], *reversed(row[1:])] for row in rows]
    x = torch.randn(3, 8, dtype=F64)
    patch = Patch.parse(
        "a0.1@-1 = o; a0.0>m1.in@S = x; a1.0.pattern@1 = 0; resid1@S = o", {"o": world()[2], "x": x}
    )
    names = {"S": [4, 0, 2]}
    runs = {"o": reference.run(weights, model.config, other)}
    together = reference.run(weights, model.config, rows, patch, runs, names)
    for i, row in enumerate(rows):
        own = Patch.parse(str(patch), {"o": world()[2], "x": x[i]})
        alone = reference.run(
            weights,
            model.config,
            [row],
            own,
            {"o": reference.run(weights, model.config, [other[i]])},
            {"S": [names["S"][i]]},
        )
        assert np.array_equal(together.logits[i], alone.logits[0])
        assert np.array_equal(together["a0.1@S"][i], alone["a0.1@S"][0])
        assert not np.array_equal(
            together.logits[i], reference.run(weights, model.config, [row]).logits[0]
        )
    with pytest.raises(IndexError):
        together["a0.1@3"]


def test_two_runs_of_one_name_are_still_two_for_the_oracle():
    _, clean, corrupt = world()
    unnamed = Patch.write("a0.1", corrupt) | Patch.hold("mlps", clean) | Patch.write("a0.0", clean)
    named = (
        write("a0.1", corrupt)
        | Patch.hold("mlps", clean, name="clean")
        | Patch.write("a0.0", clean, name="clean")
    )
    assert same(patched(unnamed), patched(named), ["logits", "a0.1", "m0"])


def test_neurons_that_are_not_kept_change_nothing_but_their_own_cells():
    model, clean, _ = world()
    weights = {name: value.numpy() for name, value in tensors(model.params).items()}
    rows = clean.tokens.tolist()
    every, one = (reference.run(weights, model.config, rows, neurons=n) for n in (None, (0,)))
    assert same_cells(every, one, "m0.n0", "m0", "logits")
    assert "m1.n3" in every.prompts[0]
    assert "m1.n3" not in one.prompts[0]


def same_cells(a: reference.Run, b: reference.Run, *names: str) -> bool:
    pairs = zip(a.prompts, b.prompts, strict=True)
    return all(np.array_equal(x[name], y[name]) for x, y in pairs for name in names)
