"""The measurements of published.py on a random model of GPT-2 small's size and vocabulary, against
plain hooks on Hugging Face's."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

import weights
from benchmarks.peers import check, hooks
from benchmarks.peers.inputs import Inputs
from interp import attribution, heads, metrics
from interp.tasks import Prompts, ioi
from minigpt import GPT2
from tests.interp.ioi import test_gpt2_ioi as real
from tests.published import (
    CLASSES,
    Patching,
    copied,
    eight,
    knocked,
    left,
    nodes,
    path_map,
    value_biases,
    without,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::interp.tasks.vocabulary.VocabularyWarning"),
]
WIDTH, HEADS = 64, 12


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> GPT2:
    """As it would be loaded: from a folder of Hugging Face's, with GPT-2's vocabulary."""
    folder = tmp_path_factory.mktemp("random")
    check.make_folder(folder)
    model = weights.load(folder, dtype=torch.float64)
    if model.tokenizer is None:
        pytest.skip(
            "GPT-2's vocabulary is not at hand; set TIKTOKEN_CACHE_DIR to a folder that holds it"
        )
    return model


@pytest.fixture(scope="module")
def prompts(ours) -> Prompts:
    return eight(ours)


@cache
def theirs() -> GPT2LMHeadModel:
    model = check.random_model().double()
    model.set_attn_implementation("eager")
    return model


@torch.no_grad()
def hooked(tokens: Tensor, *puts) -> Tensor:
    """The last position's logits with these (module, hook on what it reads or None, hook on what it
    writes or None) in place."""
    with ExitStack() as stack:
        for module, before, after in puts:
            handle = (
                module.register_forward_pre_hook(before)
                if before
                else module.register_forward_hook(after)
            )
            stack.callback(handle.remove)
        return theirs()(tokens, use_cache=False).logits


@torch.no_grad()
def seen(tokens: Tensor, module: torch.nn.Module, reads: bool) -> Tensor:
    """What a module reads, or writes, in a plain run."""
    kept = []
    handle = (
        module.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
        if reads
        else module.register_forward_hook(
            lambda _, args, out: kept.append(out[0] if isinstance(out, tuple) else out)
        )
    )
    theirs().transformer(tokens, use_cache=False)
    handle.remove()
    return kept[0].clone()


def difference(logits: Tensor, prompts: Prompts) -> Tensor:
    rows, ends = torch.arange(len(prompts)), prompts.positions["END"]
    return logits[rows, ends, prompts.answers[:, 0]] - logits[rows, ends, prompts.distractors[:, 0]]


def share(logits: Tensor, prompts: Prompts) -> float:
    """A patched run's mean logit difference between the corrupt run's (0) and the clean one's
    (1)."""
    low, high = ends(prompts)
    return (float(difference(logits, prompts).mean()) - low) / (high - low)


@cache
def ends(prompts: Prompts) -> tuple[float, float]:
    return tuple(
        float(difference(hooked(tokens), prompts).mean())
        for tokens in (prompts.corrupt, prompts.clean)
    )


def into(value: Tensor, rows, columns=slice(None), reads: bool = False):
    """A hook that puts part of a value there."""

    def put(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, rows, columns] = value[:, rows, columns]
        return x

    if reads:
        return lambda _, args: (put(args[0]), *args[1:])
    return lambda _, args, out: (put(out[0]), *out[1:]) if isinstance(out, tuple) else put(out)


def part(head: int, third: int = 0) -> slice:
    return slice(third * 768 + head * WIDTH, third * 768 + (head + 1) * WIDTH)


def test_activation_patching_by_position(ours, prompts):
    blocks = theirs().transformer.h
    patched = Patching(ours, prompts)
    modules = {
        "resid{}": lambda layer: (blocks[layer], True),
        "a{}": lambda layer: (blocks[layer].attn, False),
        "m{}": lambda layer: (blocks[layer].mlp, False),
    }
    for what, module in modules.items():
        grid = patched.by_position(what)
        assert grid.shape == (12, 15)
        for layer, at in ((0, 10), (5, 12), (11, 14)):
            unit, reads = module(layer)
            put = into(seen(prompts.clean, unit, reads), at, reads=reads)
            expected = share(
                hooked(prompts.corrupt, (unit, put if reads else None, None if reads else put)),
                prompts,
            )
            assert float(grid[layer, at]) == pytest.approx(expected, abs=1e-8), (what, layer, at)
            assert abs(expected) > 1e-5
            assert float(grid[layer, at]) != pytest.approx(
                float(grid[layer, 13 if at != 13 else 14]), abs=1e-7
            )


def test_activation_patching_by_head(ours, prompts):
    blocks = theirs().transformer.h
    patched = Patching(ours, prompts)
    for what, third in (("", None), (".q", 0), (".k", 1), (".v", 2)):
        grid = patched.by_head(what)
        for layer, head in ((2, 5), (9, 9)):
            unit = blocks[layer].attn.c_proj if third is None else blocks[layer].attn.c_attn
            columns = part(head, third or 0)
            put = into(
                seen(prompts.clean, unit, third is None), slice(None), columns, reads=third is None
            )
            expected = share(
                hooked(
                    prompts.corrupt,
                    (unit, put if third is None else None, None if third is None else put),
                ),
                prompts,
            )
            assert float(grid[layer, head]) == pytest.approx(expected, abs=1e-8), (
                what,
                layer,
                head,
            )
            assert float(grid[layer, head]) != pytest.approx(float(grid[layer, head - 1]), abs=1e-7)


@torch.no_grad()
def test_activation_patching_of_patterns(ours, prompts):
    block, layer, head = theirs().transformer.h[9], 9, 9
    weights_ = theirs()(prompts.clean, output_attentions=True).attentions[layer][:, head]
    values = seen(prompts.corrupt, block.attn.c_attn, False)[..., part(head, 2)]
    z = seen(prompts.corrupt, block.attn.c_proj, True)
    z[..., part(head)] = weights_ @ values
    expected = share(
        hooked(
            prompts.corrupt, (block.attn.c_proj, into(z, slice(None), part(head), reads=True), None)
        ),
        prompts,
    )
    assert float(Patching(ours, prompts).by_head(".pattern")[layer, head]) == pytest.approx(
        expected, abs=1e-8
    )


def test_a_head_at_a_position(ours, prompts):
    block = theirs().transformer.h[8]
    put = into(seen(prompts.clean, block.attn.c_proj, True), 14, part(6), reads=True)
    expected = share(hooked(prompts.corrupt, (block.attn.c_proj, put, None)), prompts)
    found = Patching(ours, prompts).by_head_and_position(["a8.6@14", "a8.6@10"])
    assert float(found[0]) == pytest.approx(expected, abs=1e-8)
    assert abs(float(found[1]) - expected) > 1e-6


@torch.no_grad()
def test_without_a_head_its_value_bias_stays(ours, prompts):
    block = theirs().transformer.h[9]
    z = seen(prompts.clean, block.attn.c_proj, True)
    z[:, 14, part(9)] = block.attn.c_attn.bias[part(9, 2)]
    expected = difference(
        hooked(prompts.clean, (block.attn.c_proj, into(z, 14, part(9), reads=True), None)), prompts
    )
    run, metric = without(ours, ours.run(prompts), "a9.9@END"), metrics.logit_diff(prompts)
    np.testing.assert_allclose(metric(run), expected, atol=1e-8)
    direct = attribution.direct(run, metric)
    assert abs(float((direct.grid() - value_biases(run, metric))[9, 9])) < 1e-10
    assert abs(float(direct.grid()[9, 9])) > 1e-6


@torch.no_grad()
def test_direct_attribution_is_the_heads_write_times_the_unembedding(ours, prompts):
    """Less its value bias: the z that the recordings have, through LayerNorm's own scale."""
    model = theirs()
    stream, unembed = seen(prompts.clean, model.transformer.ln_f, True)[:, 14], model.lm_head.weight
    direction = (
        unembed[prompts.answers[:, 0]] - unembed[prompts.distractors[:, 0]]
    ) * model.transformer.ln_f.weight
    toward = (direction - direction.mean(-1, keepdim=True)) / (
        stream.var(-1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    run, metric = ours.run(prompts), metrics.logit_diff(prompts)
    grid = attribution.direct(run, metric).grid() - value_biases(run, metric)
    for layer, head in ((0, 3), (9, 9), (11, 10)):
        attn = model.transformer.h[layer].attn
        z = (
            seen(prompts.clean, attn.c_proj, True)[:, 14, part(head)]
            - attn.c_attn.bias[part(head, 2)]
        )
        assert float(grid[layer, head]) == pytest.approx(
            float((z @ attn.c_proj.weight[part(head)] * toward).sum(-1).mean()), abs=1e-9
        )


@torch.no_grad()
def held_at_means(prompts: Prompts, gone, free=()) -> Tensor:
    """The logit difference with some heads' z at their means over the corrupt prompts of the group:
    `gone` at these (head, position of each prompt); with `free`, all of them everywhere but there.
    """
    puts, each = [], torch.arange(len(prompts))
    for layer, block in enumerate(theirs().transformer.h):
        z = seen(prompts.corrupt, block.attn.c_proj, True)
        mean = torch.stack([z[prompts.groups == group].mean(0) for group in prompts.groups])
        held = torch.full(z.shape, bool(free))
        for chosen, value in ((gone, True), (free, False)):
            for node in chosen:
                head, _, at = node.partition("@")
                own, unit = map(int, head.removeprefix("a").split("."))
                if own == layer:
                    held[each, prompts.positions[at], part(unit)] = value
        puts.append(
            (
                block.attn.c_proj,
                lambda _, args, held=held, mean=mean: (torch.where(held, mean, args[0]),),
                None,
            )
        )
    return difference(hooked(prompts.clean, *puts), prompts)


def test_knock_outs_are_means_of_the_group_at_the_class_own_position(ours):
    prompts = ioi.prompts(ours.tokenizer, 28, seed=0, mode="authors")
    full, gone = (
        difference(hooked(prompts.clean), prompts),
        nodes("duplicate token", "previous token"),
    )
    np.testing.assert_allclose(knocked(ours, prompts, []), full, atol=1e-8)
    np.testing.assert_allclose(
        knocked(ours, prompts, gone), held_at_means(prompts, gone), atol=1e-8
    )
    assert float((knocked(ours, prompts, gone) - full).abs().max()) > 1e-6


def test_a_circuit_is_all_other_heads_at_their_means_everywhere(ours):
    prompts = ioi.prompts(ours.tokenizer, 28, seed=0, mode="authors")
    every, gone = nodes(*CLASSES), nodes("S-inhibition")
    kept = [node for node in every if node not in gone]
    whole, less = held_at_means(prompts, (), every), held_at_means(prompts, (), kept)
    np.testing.assert_allclose(left(ours, prompts, []), whole, atol=1e-8)
    np.testing.assert_allclose(left(ours, prompts, gone), less, atol=1e-8)
    assert float((whole - less).abs().max()) > 1e-6


@pytest.mark.parametrize("figure", ["3b", "4b", "13b"])
def test_path_maps_are_what_plain_hooks_compute(ours, figure):
    prompts = ioi.prompts(ours.tokenizer, 2, seed=0, template=1, order="ABBA")
    receivers, at, _ = real.MAPS[figure]
    found = path_map(ours, prompts, receivers, at)
    senders = [(0, 1), (3, 0), (4, 11), (8, 6)] if figure != "13b" else [(0, 1), (2, 2), (4, 11)]
    workload = "w3_out" if figure == "3b" else f"w3_{receivers[0][-1]}"
    inputs = Inputs(
        {
            "clean": np.asarray(prompts.clean),
            "corrupt": np.asarray(prompts.corrupt),
            "answers": np.asarray(prompts.answers[:, 0]),
            "distractors": np.asarray(prompts.distractors[:, 0]),
            "senders": np.array(senders),
            "position": np.array(int(prompts.positions[at][0])),
            "receivers": np.array(
                [
                    list(map(int, port.removeprefix("a").split(".")[:2]))
                    for port in receivers
                    if port != "out"
                ]
            ).reshape(-1, 2),
        }
    )
    base = difference(hooked(prompts.clean), prompts)
    expected = (
        (hooks.WORKLOADS[workload](theirs(), inputs)() - base).mean(1) / base.mean()
    ).tolist()
    assert list(found.values()) == sorted(found.values())
    assert len(found) == 144
    for (layer, head), value in zip(senders, expected, strict=True):
        assert found[f"a{layer}.{head}"] == pytest.approx(value, rel=1e-6, abs=1e-10), (layer, head)


def test_copy_scores_pool_positions_and_random_scores_are_recorded_where_they_were(ours):
    run = ours.run(ioi.prompts(ours.tokenizer, 20, seed=0))
    each = {at: heads.copying(run, at) for at in ("IO", "S1", "S2")}
    torch.testing.assert_close(copied(each), sum(each.values()) / 3)
    assert heads.previous(ours, n=100, batch=2, among=torch.arange(100, 20000)).shape == (12, 12)


@torch.no_grad()
def test_scores_on_random_tokens_are_means_over_the_recorded_diagonal(ours):
    tokens = heads.repeated(ours.config, 100, 2, 0, torch.arange(100, 20000))
    patterns = torch.stack(theirs()(tokens, output_attentions=True).attentions)
    for score, back in ((heads.previous, 1), (heads.duplicate, 100), (heads.induction, 99)):
        recorded = patterns.diagonal(-back, -2, -1)
        recorded = (
            recorded[..., 1:] if back == 99 else recorded
        )  # ours begins where the second half does
        np.testing.assert_allclose(
            score(ours, n=100, batch=2, among=torch.arange(100, 20000)),
            recorded.mean((1, 3)),
            atol=1e-9,
        )


def test_the_prompts_are_the_papers(ours, prompts):
    assert prompts.clean.shape == (8, 15)
    assert torch.equal(prompts.clean[::2], prompts.corrupt[1::2])
    assert prompts.answers[:, 0].tolist() == [5335, 1757, 4186, 3700, 6035, 15686, 5780, 14235]
    assert (prompts.clean != prompts.corrupt).nonzero()[:, 1].tolist() == [10] * 8
    assert len(nodes(*CLASSES)) == 26


def test_twin_random_weights_that_are_passed_off_as_gpt2_fail_the_checks_and_do_not_stumble(
    tmp_path,
):
    """The checks of the real weights, as they stand, on others: all of their code runs, and they
    can fail."""
    report, here = tmp_path / "report.xml", Path(__file__).parent
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.impostor",
        "-m",
        "gpt2",
        "-o",
        "addopts=",
        f"--junitxml={report}",
        str(here / "ioi" / "test_gpt2_ioi.py"),
    ]
    subprocess.run(
        command,
        cwd=here.parents[1],
        check=False,
    )
    cases = {
        case.get("name"): {
            child.tag: child.get("message", "")
            for child in case
            if child.tag in ("failure", "error", "skipped")
        }
        for case in ElementTree.parse(report).iter("testcase")
    }
    passed = [name for name, outcome in cases.items() if not outcome]
    assert len(cases) == 30
    assert all(set(outcome) <= {"failure"} for outcome in cases.values())
    assert all(
        message.startswith(("AssertionError", "assert"))
        for outcome in cases.values()
        for message in outcome.values()
    )
    # Without S-inhibition the real difference is near nothing too.
    assert passed == [
        "test_knocking_out_a_class_costs_the_model_and_the_circuit_what_the_authors_stored[S-inhibition]"
    ]
