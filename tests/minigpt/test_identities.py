"""The identities that say what a patch means. Each comes with a twin in which it fails, so that it
is known to be able to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minigpt import parse, reference
from minigpt.address import nodes
from minigpt.patch import Patch
from minigpt.patch.edit import ZERO, Edit, Hold, Source
from tests.minigpt.oracle import F64, draw, joined, patched, same, world, write
from tests.patches import addresses, edges, ports, reference_of, senders, targets


def test_writes_sum_to_the_stream_and_wholes_are_their_parts():
    run, config = (
        patched(write("a0.1@2", world()[2]) | Patch.read("a0.0>m1.in", ZERO)),
        world()[0].config,
    )
    parts = [site for site in nodes(config, neurons=True) if site.kind != "out.b"]
    for whole in (
        None,
        *(site for site in senders(config) if site.part is None and any(map(site.contains, parts))),
    ):
        own = [run[str(site)] for site in parts if whole is None or whole.contains(site)]
        total = run["resid2" if whole is None else str(whole)]
        np.testing.assert_allclose(sum(own), total, rtol=0, atol=1e-12)
        assert all(np.abs(sum(own) - part - total).max() > 1e-6 for part in own), (
            "a part that does not count"
        )


def own_values() -> dict[str, list[Patch]]:
    """For each kind of edit, patches that together name all that it can be of, taking from a run
    "it" and from its mean alone."""
    model, clean, _ = world()
    sources = [
        Source("it", run=clean),
        Source("it", run=clean, mean=True, by=torch.arange(len(clean.tokens))),
    ]
    every = targets(model.config)
    return {
        "write": [
            Patch((Edit(target, sources[n % 2]),)) for n, target in enumerate(every["write"])
        ],
        "read": [
            joined(Patch.read(edge, source) for edge in edges(model.config, site))
            for site, source in zip(senders(model.config), sources * 99, strict=False)
        ],
        "input": [
            Patch((Edit(target, sources[n % 2]),)) for n, target in enumerate(every["input"])
        ],
        "hold": [
            Patch(holds=(Hold("heads mlps emb pos a0.b a1.b", source),)) for source in sources
        ],
    }


@pytest.mark.parametrize(
    ("kind", "example"),
    {"write": "a0.1", "read": "a0.1>m1.in", "input": "a1.0.k", "hold": "hold a0.1"}.items(),
)
def test_putting_a_runs_own_values_into_it_changes_nothing_to_the_last_bit(kind, example):
    _, clean, corrupt = world()
    run = patched(Patch())
    for patch in own_values()[kind]:
        again = patched(patch)
        assert all(
            np.array_equal(again[name], run[name]) for name in ("resid1.mid", "resid2", "out")
        ), str(patch)
    assert same(patched(Patch.parse(f"{example} = it", {"it": clean})), run)
    assert not same(patched(Patch.parse(f"{example} = it", {"it": corrupt})), run)


@pytest.mark.parametrize("neurons", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_all_writes_from_another_run_are_that_run(neurons):
    model, _, corrupt = world()
    names = [str(site) for site in nodes(model.config, neurons=neurons)]
    parts, other = {name: write(name, corrupt) for name in names}, patched(Patch(), 2)
    assert same(patched(joined(parts.values())), other, map(str, addresses(model.config)))
    for name in names[:: len(names) // 8]:
        changed = parts | {name: Patch.write(name, torch.ones(8))}
        assert not same(patched(joined(changed.values())), other), f"with another {name}"
        left_out = patched(joined(patch for n, patch in parts.items() if n != name))
        assert same(left_out, other) == (name != "emb"), (
            "only emb is not computed from what others wrote"
        )


def test_every_edge_from_another_run_is_that_run():
    model, _, corrupt = world()
    every = {
        str(edge): Patch.read(edge, corrupt, name="corrupt")
        for site in nodes(model.config)
        if site.kind != "out.b"
        for edge in edges(model.config, site)
    }
    all_ports, other = (
        [str(port) for port in ports(model.config, layers=False)],
        patched(Patch(), 2),
    )
    assert same(patched(joined(every.values())), other, ["logits", *all_ports])
    for left in [*every][::9]:
        run = patched(joined(patch for name, patch in every.items() if name != left))
        sender, port = left.split(
            ">"
        )  # all but emb and pos read the other run, and so write it too
        assert [name for name in all_ports if not same(run, other, [name])] == [port] * (
            sender == "emb"
        ), f"without {left}"
        without = patched(
            joined(
                (
                    *(patch for name, patch in every.items() if name != left),
                    Patch.read(left, torch.ones(8)),
                )
            )
        )
        assert [name for name in all_ports if not same(without, other, [name])] == [port], (
            f"with another {left}"
        )


@pytest.mark.parametrize(
    "name", ["emb", "pos", "input", "a0.1", "a0", "a0.b", "a1.0", "m0.n3", "m0", "m1", "m1.b"]
)
def test_a_write_is_a_read_on_each_edge_out_of_the_node(name):
    model = world()[0]
    site = parse(name).site
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(5), dtype=F64)
    written, every = (
        patched(Patch.write(name, x)),
        [Patch.read(edge, x) for edge in edges(model.config, site)],
    )
    later = [str(port) for port in ports(model.config) if port.stage >= site.stage]
    assert same(written, patched(joined(every)), ["logits", *later])
    for left in every[::3]:
        assert not same(
            written, patched(joined(patch for patch in every if patch is not left)), later
        ), f"without {left}"


@pytest.mark.parametrize("port", ["a1.0.q", "a1.1.k", "a0.1.v", "a1.v", "m0.in", "out"])
@pytest.mark.parametrize("at", ["", "@1"])
def test_an_input_is_a_read_on_each_edge_into_the_port(port, at):
    model, _, corrupt = world()
    site = parse(port).site
    before = [
        node for node in nodes(model.config) if node.stage <= site.stage and node.kind != "out.b"
    ]
    into = [Patch.read(f"{node}>{port}{at}", corrupt, name="corrupt") for node in before]
    shown = patched(Patch.input(port + at, corrupt, name="corrupt"))
    assert same(shown, patched(joined(into)), ["logits", port])
    assert not same(shown, patched(joined(into[1:])), ["logits", port]), "without the first edge"


def test_a_stream_point_from_another_run_is_that_run_from_there_on():
    corrupt = world()[2]
    for name in ("resid0", "resid0.mid", "resid1", "resid1.mid", "resid2"):
        assert same(patched(write(name, corrupt)), patched(Patch(), 2))
        assert not same(patched(write(f"{name}@1", corrupt)), patched(Patch(), 2))


def test_a_z_or_a_pattern_and_its_values_are_the_heads_write():
    corrupt = world()[2]
    whole = patched(write("a0.1", corrupt))
    assert same(whole, patched(write("a0.1.z", corrupt)), ["logits", "a0.1", "a0", "resid1"])
    assert same(
        whole,
        patched(write("a0.1.pattern", corrupt) | Patch.input("a0.1.v", corrupt, name="corrupt")),
    )
    assert not same(whole, patched(write("a0.1.pattern", corrupt)))


@pytest.mark.parametrize("name", ["a0.1", "a0"])
def test_a_head_that_is_written_has_the_z_of_its_source_and_its_own_pattern(name):
    clean, corrupt, run = (
        patched(Patch()),
        patched(Patch(), 2),
        patched(write(f"{name}@2", world()[2])),
    )
    assert np.array_equal(run["a0.1.z@2"], corrupt["a0.1.z@2"])
    assert not same(clean, corrupt, ["a0.1.z@2"])
    assert same(run, clean, ["a0.1.pattern", "a0.1.v", "a0.1.z@1"])
    assert not patched(Patch.zero(name))["a0.1.z"].any()
    assert np.isnan(patched(Patch.write(name, torch.ones(8)))["a0.1.z"]).all(), (
        "from a sum alone nobody can tell"
    )


@pytest.mark.parametrize(
    "name",
    ["a0.1", "m0", "a1", "resid1", "a1.0.pattern", "a1.z", "out.b", "a0>a1.0.v", "a1.q", "out"],
)
def test_one_by_one_the_positions_are_all_positions(name):
    source = Source("corrupt", run=world()[2]) if name != "out.b" else ZERO
    every = Patch.parse(f"{name} = {source}", {"corrupt": world()[2]})
    one = [Patch.parse(f"{name}@{at} = {source}", {"corrupt": world()[2]}) for at in range(5)]
    assert same(patched(every), patched(joined(one)))
    assert not same(patched(every), patched(joined(one[:-1]))), "without the last"
    assert same(
        patched(one[4]), patched(Patch.parse(f"{name}@-1 = {source}", {"corrupt": world()[2]}))
    )


def test_a_layer_is_its_heads():
    corrupt, x = (
        world()[2],
        torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=F64),
    )
    z = torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    for name, parts in {
        "a1.z": [Patch.write(f"a1.{h}.z", corrupt, name="corrupt") for h in (0, 1)],
        "a1.pattern": [Patch.write(f"a1.{h}.pattern", corrupt, name="corrupt") for h in (0, 1)],
        "a1": [Patch.write(f"a1.{part}", corrupt, name="corrupt") for part in (0, 1, "b")],
        "m1": [
            Patch.write(f"m1.{part}", corrupt, name="corrupt")
            for part in (*(f"n{n}" for n in range(16)), "b")
        ],
        "input": [Patch.write(part, corrupt, name="corrupt") for part in ("emb", "pos")],
    }.items():
        assert same(patched(write(name, corrupt)), patched(joined(parts)), ["logits", name])
        assert not same(patched(write(name, corrupt)), patched(parts[-1]), ["logits", name])
    assert same(
        patched(Patch.write("a1.pattern", x)),
        patched(joined(Patch.write(f"a1.{h}.pattern", x[:, h]) for h in (0, 1))),
    )
    assert same(
        patched(Patch.write("a1.z", z)),
        patched(joined(Patch.write(f"a1.{h}.z", z[:, :, h]) for h in (0, 1))),
    )
    assert same(
        patched(Patch.write("a1.pattern@2", x[:, :, 2])),
        patched(joined(Patch.write(f"a1.{h}.pattern@2", x[:, h, 2]) for h in (0, 1))),
    )
    assert not same(patched(Patch.write("a1.z", z)), patched(Patch.write("a1.z", z.flip(2))))
    assert same(
        patched(Patch.read("a0.1>a1.v", corrupt)),
        patched(joined(Patch.read(f"a0.1>a1.{h}.v", corrupt) for h in (0, 1))),
        ["a1"],
    )


def test_means_are_over_the_prompts_of_a_group():
    model, _, corrupt = world()
    groups = torch.tensor([0, 1, 0])
    x = corrupt["a0.1"]
    assert same(patched(Patch.mean("a0.1", corrupt)), patched(Patch.write("a0.1", x.mean(0))))
    split = torch.stack([x[[0, 2]].mean(0), x[1], x[[0, 2]].mean(0)])
    grouped = patched(Patch.mean("a0.1", corrupt, groups))
    assert same(grouped, patched(Patch.write("a0.1", split)))
    assert not same(grouped, patched(Patch.mean("a0.1", corrupt)))
    assert same(
        patched(Patch.mean("a0.1.pattern@3", corrupt)),
        patched(Patch.write("a0.1.pattern@3", corrupt["a0.1.pattern@3"].mean(0))),
    )
    few = reference_of(model, model.run(draw(1)[:2]), Patch.mean("m0", corrupt))
    assert np.array_equal(few["m0"][0], few["m0"][1]), "without groups, any number of prompts"


def test_a_hold_gives_way_to_writes_of_the_node_its_whole_its_parts_its_z_and_its_pattern():
    config, corrupt = world()[0].config, world()[2]
    x = torch.ones((), dtype=F64)
    free = {  # what a write at position 2 frees from a hold of "a1.0 a1.b m0 m1.n0"
        "a1.0": ["a1.0"],
        "a1.0.z": ["a1.0"],
        "a1.0.pattern": ["a1.0"],
        "a1.z": ["a1.0"],
        "a1": ["a1.0", "a1.b"],
        "a1.1": [],
        "a1.1.z": [],
        "a1.b": ["a1.b"],
        "m0.n3": ["m0"],
        "m0.b": ["m0"],
        "m1": ["m1.n0"],
        "m1.n0": ["m1.n0"],
        "m1.n1": [],
        "resid2": [],
    }
    source = Source("corrupt", run=corrupt)
    for name, freed in free.items():
        patch = Patch.write(f"{name}@2", x) | Patch.hold("a1.0 a1.b m0 m1.n0", source)
        changes = reference.changes(patch, config, 5, 0, {})
        assert {str(c.site): c.rows for c in changes if c.source == source} == {
            node: [0, 1, 3, 4] if node in freed else [0, 1, 2, 3, 4]
            for node in ("a1.0", "a1.b", "m0", "m1.n0")
        }
    run = patched(Patch.zero("a1.0.z@2") | Patch.hold("a1.0", corrupt, name="corrupt"))
    other = patched(Patch(), 2)["a1.0"]
    assert np.array_equal(run["a1.0"][:, [0, 1, 3, 4]], other[:, [0, 1, 3, 4]])
    assert not run["a1.0"][:, 2].any()
