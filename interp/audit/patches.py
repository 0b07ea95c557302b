"""Section 4: what a patch means and what it costs. `rerun` computes a part of the model only;
nothing of that may show."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from interp.audit import dense, oracle
from interp.audit.compare import Gap, compare, total
from interp.audit.row import Row, Section
from interp.tasks import Prompts
from minigpt import GPT2, Batch, Config, Patch, Site, Trace, reference
from minigpt.address import heads, streams
from minigpt.errors import NoEffectWarning

DIGITS = 1e-10
# These take every neuron's write from a run, which the reference would have to keep: 3 GB a prompt
# at full size.
EVERY_NEURON = ("MLP", "held", "held heads")
# Of a model of more neurons than this the reference, which writes each of them out, is asked these
# alone: seconds each.
MANY, FEW = 10_000, ("several", "edge", "input", "stream between")


def section(model: GPT2, pairs: Prompts) -> Section:
    """rerun against a dense pass and against the reference; patches that change nothing; a bill
    made by hand."""
    clean, corrupt = model.run(pairs), model.run(pairs.corrupted)
    cases = kinds(model.config, clean, corrupt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoEffectWarning)
        rows = (
            _dense(model, clean, cases),
            _sweep(model, clean, cases),
            _reference(model, pairs),
            _empty(model, clean),
            _selves(model, clean),
            *_bill(model, clean),
        )
    return Section(
        "patches",
        "Patches",
        "A rerun computes what an edit reaches and nothing else. It equals the pass written out "
        "in full, in every bit.",
        rows,
    )


def kinds(config: Config, clean: Trace, corrupt: Trace) -> dict[str, Patch]:
    """A patch of each kind, by a word for it: early and late in the model, at one position and at
    all."""
    early, late, head = 0, config.n_layer - 1, config.n_head - 1
    vector = torch.linspace(-1, 1, config.d_model)
    write, read = Patch.write, Patch.read
    return {
        "head": write(f"a{early}.{head}", corrupt),
        "head at one position": write(f"a{late}.0@-1", corrupt),
        "layer": write(f"a{early}", corrupt),
        "MLP": write(f"m{early}@-1", corrupt),
        "neuron": write(f"m{late}.n0", corrupt),
        "stream": write(f"resid{late}", corrupt),
        "stream between": write(f"resid{early}.mid@-1", corrupt),
        "zero": Patch.zero(f"a{early}.0"),
        "tensor": write(f"m{early}", vector),
        "bias": write(f"a{late}.b", vector),
        "edge": read(f"a{early}.{head}>m{late}.in", corrupt),
        "edge to values": read(f"emb>a{late}.0.v", corrupt),
        "edge to the output": read(f"m{early}>out@-1", corrupt),
        "input": Patch.input(f"a{late}.{head}.q", corrupt),
        "held": write(f"a{early}.0@-1", corrupt) | Patch.hold("mlps", clean),
        "held heads": write(f"m{early}", corrupt) | Patch.hold("heads", clean),
        "several": write(f"a{early}.{head}@-1", corrupt)
        | read(f"pos>m{late}.in", corrupt)
        | write(f"resid{late + 1}@0", corrupt),
        **_of_dictionaries(clean, corrupt),
    }


def _of_dictionaries(clean: Trace, corrupt: Trace) -> dict[str, Patch]:
    """Of each dictionary of the model: the latent that is most on, at all positions, and the
    error, at one."""
    found = {}
    for whole in clean.params.dictionaries:
        latent = int(clean.act(f"{whole}.l").nan_to_num().amax((0, 1)).argmax())
        found[f"latent of {whole}"] = Patch.zero(f"{whole}.l{latent}")
        found[f"error of {whole}"] = Patch.write(f"{whole}.e@-1", corrupt)
    return found


def points(config: Config, values: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """The stream points (and what the output sees) at the positions that prompts have."""
    names = [*map(str, streams(config)), "out"]
    return {name: values[name][:, : batch.tokens.shape[1]][batch.mask] for name in names}


def rerun_points(model: GPT2, trace: Trace, patch: Patch) -> dict[str, Tensor]:
    """The stream points of a rerun."""
    patched = model.rerun(trace, patch)
    return points(
        model.config,
        {
            **{str(site): patched.stream(site) for site in streams(model.config)},
            "out": patched.stream(Site("out")),
        },
        trace.batch,
    )


def _dense(model: GPT2, trace: Trace, cases: Mapping[str, Patch]) -> Row:
    def gap(name: str, patch: Patch) -> Gap:
        apart = compare(
            rerun_points(model, trace, patch),
            points(model.config, dense.patched(model, trace, patch), trace.batch),
        )
        return Gap(
            apart.size, apart.differ, apart.absolute, apart.ulps, f"{apart.first} of '{name}'"
        )

    return Row.bitwise(
        "a rerun is the patched pass written out in full, at every stream point",
        total(gap(*case) for case in cases.items()),
        f"{len(cases)} patches: {', '.join(cases)}",
    )


def _sweep(model: GPT2, trace: Trace, cases: Mapping[str, Patch]) -> Row:
    many = model.rerun(trace, list(cases.values()), "out@-1").values
    alone = torch.stack([model.rerun(trace, patch)["out@-1"] for patch in cases.values()])
    return Row.bitwise(
        "a patch among many gives what it gives alone",
        compare({"out": many}, {"out": alone}),
        f"{len(cases)} patches at once",
    )


def _reference(model: GPT2, pairs: Prompts) -> Row:
    """The first pair, in float64, against the NumPy reference, which says what a patch means."""
    latents = sum(known.n_latents for known in model.params.dictionaries.values())
    large = model.config.n_layer * model.config.d_mlp + latents > MANY
    exact = model.to(dtype=torch.float64)
    if large:  # no latent is among the few
        exact = replace(exact, params=replace(exact.params, dictionaries={}))
    batches = [
        Batch(b.tokens[:1, : int(b.lengths[0])], b.lengths[:1])
        for b in map(exact.batch, (pairs, pairs.corrupted))
    ]
    clean, corrupt = map(exact.run, batches)
    runs = {"run": oracle.run(exact.params, batches[1])}
    every = kinds(model.config, clean, corrupt)
    names = FEW if large else [name for name in every if name not in EVERY_NEURON]
    cases = {name: every[name] for name in names}
    worst = max(_apart(exact, clean, patch, batches[0], runs) for patch in cases.values())
    return Row.under(
        "in float64 a rerun is the reference's patched run",
        worst,
        DIGITS,
        f"{len(cases)} patches: {', '.join(cases)}; relative, at the logits",
    )


def _apart(
    model: GPT2, clean: Trace, patch: Patch, batch: Batch, runs: Mapping[str, reference.Run]
) -> float:
    expected = oracle.values(oracle.run(model.params, batch, patch, runs), 0)["logits"]
    return oracle.relative(model.rerun(clean, patch).logits, expected)


def _empty(model: GPT2, trace: Trace) -> Row:
    rerun = model.rerun(trace, Patch())
    new = sum(
        a is not b
        for one, other in zip(rerun.cells, trace.cells, strict=True)
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )
    spent = rerun.receipt.flops if rerun.receipt else -1
    return Row.under(
        "the empty patch computes nothing and shares every tensor",
        new + spent,
        0,
        "tensors that are new, and operations spent",
    )


def _selves(model: GPT2, trace: Trace) -> Row:
    """Everything that can be written, written with what it is."""
    names = [
        *map(str, heads(model.config)),
        *(f"{kind}{i}" for kind in "am" for i in range(model.config.n_layer)),
        *map(str, streams(model.config)),
        "emb",
    ]
    swept = model.rerun(trace, [Patch.write(name, trace) for name in names], "out")
    gap = compare(
        {"out": swept.values.nan_to_num()},
        {"out": trace["out"].nan_to_num().expand(len(names), *trace["out"].shape)},
    )
    return Row.bitwise(
        "a patch with a run's own values changes nothing",
        gap,
        f"{len(names)} patches: every head, layer and stream point",
    )


def _bill(model: GPT2, clean: Trace) -> Iterator[Row]:
    """A receipt's arithmetic against the same counted by hand."""
    c, lengths = model.config, clean.batch.lengths.tolist()
    everything = model.rerun(clean, Patch.write("resid0", torch.ones(c.d_model)))
    late = c.n_layer // 2
    last = model.rerun(clean, Patch.write(f"resid{late}@-1", torch.ones(c.d_model)))
    counted = {
        "everything changed": (everything, c.n_layer * sum(by_hand(c, n, n) for n in lengths)),
        f"the last position from resid{late} on": (
            last,
            (c.n_layer - late) * sum(by_hand(c, 1, n) for n in lengths),
        ),
    }
    for what, (rerun, expected) in counted.items():
        spent = rerun.receipt.needed_flops if rerun.receipt else -1
        yield Row.under(
            f"the receipt's operations are those counted by hand: {what}",
            abs(spent - expected),
            0,
            "products of 2 a b operations a row, attention 4 keys d_model",
            f"{spent:,} and {expected:,}",
        )


def by_hand(c: Config, rows: int, keys: int) -> int:
    """Operations of one layer on so many rows of a prompt of `keys` tokens: q, k and v; scores and
    weighted values; W_O; the MLP."""
    qkv, attention, out, mlp = (
        2 * 3 * c.d_model**2,
        4 * keys * c.d_model,
        2 * c.d_model**2,
        2 * 2 * c.d_model * c.d_mlp,
    )
    return rows * (qkv + attention + out + mlp)
