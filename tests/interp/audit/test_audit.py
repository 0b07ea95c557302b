"""The audit holds; and each of its promises can be broken, by which exactly the right rows turn
red."""

from __future__ import annotations

import configparser
import dataclasses
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from interp import attribution, metrics, split
from interp.audit import (
    SECTIONS,
    AuditError,
    audit,
    blame,
    closure,
    determinism,
    parity,
    patches,
    questions,
    sensitivity,
    sources,
)
from interp.audit.compare import Gap, compare, values
from interp.audit.row import Row
from interp.tasks import Prompts
from minigpt import GPT2, Patch, Trace, build, ops
from minigpt.errors import MiniGPTError
from minigpt.params import tensors
from tests.conftest import some, tiny
from tests.minigpt.test_dictionary import random_dictionary

SHAPE = (3, 4, 32, 64, 40, 60)
ROOT = Path(__file__).parents[3]
EAGER, SDPA = ("eager attention", "sdpa attention")


def model() -> GPT2:
    return tiny(*SHAPE)


@pytest.fixture(scope="module")
def pairs() -> Prompts:
    return questions(model())


@pytest.fixture(scope="module")
def whole():
    return audit(model())


def red(rows) -> set[str]:
    return {row.promise for row in rows if row.holds is False}


def nudged(x: Tensor, at: int = 0) -> Tensor:
    """The same but for the last bit of one number."""
    new = x.clone()
    flat = new.view(-1)
    flat[at] = torch.nextafter(flat[at], flat[at] + 1)
    return new


def with_tensor(made: GPT2, name: str, change: Callable[[Tensor], Tensor]) -> GPT2:
    return replace(
        made,
        params=build(
            made.config, {n: change(x) if n == name else x for n, x in tensors(made.params).items()}
        ),
    )


def nudged_run(trace: Trace, layer: int = 1, cell: str = "mid") -> Trace:
    cells = list(trace.cells)
    x = getattr(cells[layer], cell)
    cells[layer] = replace(cells[layer], **{cell: nudged(x, x[0, 0].numel() // 2)})
    return replace(trace, cells=tuple(cells))


# --- all promises hold ----------------------------------------------------------------------------


def test_every_promise_holds_and_none_is_skipped(whole):
    assert red(row for section in whole.sections for row in section.rows) == set()
    assert tuple(section.name for section in whole.sections) == SECTIONS
    held, broken, skipped = whole.counts
    assert held >= 30
    assert (broken, skipped) == (0, 0)


@pytest.mark.slow
def test_a_float64_model_and_one_of_one_layer_can_be_audited():
    for made in (tiny(*SHAPE, dtype=torch.float64), tiny(1, 2, 16, 32, 40, 50, tied=False)):
        assert red(audit(made).broken) == set(), made


def test_promises_have_different_names(whole):
    names = [row.promise for section in whole.sections for row in section.rows]
    assert len(set(names)) == len(names)


# --- parity ---------------------------------------------------------------------------------------

FORWARD = {f"forward's logits are Hugging Face's, {kind}" for kind in (EAGER, SDPA)}
RUN = {f"run's every node and stream point is Hugging Face's, {kind}" for kind in (EAGER, SDPA)}
REFERENCE = {"in float64 every node and stream point is the reference's (level D3: any machine)"}


@pytest.mark.slow
def test_twin_the_last_bit_of_one_weight(pairs):
    """Of a weight that the prompts use, in the MLP of layer 1: all who compare with outsiders see
    it, and where it begins."""
    right = model()
    wrong = with_tensor(right, "h.1.mlp.c_fc.weight", lambda x: nudged(x, int(x.abs().argmax())))
    found = audit(wrong, pairs, against=right.params)
    assert red(found.broken) == FORWARD | RUN | REFERENCE
    assert {
        row.measured.rpartition("first at ")[2] for row in found.broken if row.promise in RUN
    } == {"act(m1)"}


@pytest.mark.slow
def test_twin_the_order_of_one_operation(pairs, monkeypatch):
    """x + c x^3 as x (1 + c x^2): the same number on paper. The float64 reference does not mind;
    whoever looks at bits does."""

    def other(x: Tensor) -> Tensor:
        t = (x * x).mul_(0.044715).add_(1.0).mul_(x).mul_((2.0 / torch.pi) ** 0.5).tanh_().add_(1.0)
        return x.mul_(0.5).mul_(t)

    monkeypatch.setattr(ops, "gelu", other)
    found = audit(model(), pairs)
    assert red(found.broken) == FORWARD | RUN
    assert {
        row.measured.rpartition("first at ")[2] for row in found.broken if row.promise in RUN
    } == {"act(m0)"}


def test_twin_a_run_that_is_not_the_forward_pass(pairs):
    class Other(GPT2):
        def run(self, prompts):
            return nudged_run(super().run(prompts))

    assert red(parity.section(as_(Other), pairs).rows) == RUN


def test_twin_a_model_that_is_wrong_in_the_tenth_digit_in_float64_only(pairs):
    class Other(GPT2):
        def run(self, prompts):
            trace = super().run(prompts)
            first = (
                replace(trace.cells[0], resid=trace.cells[0].resid * (1 + 1e-9))
                if self.dtype == torch.float64
                else trace.cells[0]
            )
            return replace(trace, cells=(first, *trace.cells[1:]))

    assert red(parity.section(as_(Other), pairs).rows) == REFERENCE


def as_(kind: type[GPT2]) -> GPT2:
    """The model, of another class."""
    return kind(**{f.name: getattr(model(), f.name) for f in dataclasses.fields(GPT2)})


def test_without_transformers_its_rows_say_so(pairs, monkeypatch):
    monkeypatch.setattr(parity, "at_hand", lambda: False)
    found = audit(model(), pairs, only=["parity"])
    skipped = {row.promise: row.measured for row in found.sections[0].rows if row.is_skipped}
    assert set(skipped) == FORWARD | RUN
    assert all("transformers is not installed" in why for why in skipped.values())
    assert all(f"pip install '{_extra('audit')}'" in why for why in skipped.values())
    assert found.counts == (1, 0, 4)


def test_the_environment_of_make_demo_has_what_the_audit_asks():
    steps = ["make", "-nB", "demo"]
    said = subprocess.run(steps, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert '-e ".[audit,corpus]"' in said


def _extra(name: str) -> str:
    """What setup.cfg installs for an extra."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser["options.extras_require"][name].strip()


def test_left_out_on_purpose_they_say_so_too(pairs):
    found = audit(model(), pairs, only=["parity"], outside=False)
    assert [row.measured for row in found.sections[0].rows if row.is_skipped] == [
        "skipped: left out, by --against none"
    ] * 4


def test_prompts_of_too_few_tokens_are_not_compared_in_silence(pairs):
    short = Prompts([[1, 2, 3]], [[1, 5, 3]], [4], [5])
    skipped = [row for row in parity.section(model(), short).rows if row.is_skipped]
    assert {row.promise for row in skipped} == RUN
    assert "16 tokens" in skipped[0].measured


# --- closure --------------------------------------------------------------------------------------

LAYER, MLP = (
    "a layer's heads and bias sum to its write",
    "an MLP's neurons and bias sum to its write",
)
START, STREAM = (
    "token and position sum to the stream's beginning (one addition)",
    "all writes before it sum to the stream, at every later point",
)
DIRECT = {
    "direct effects of all nodes sum to the logit difference",
    "direct effects of all nodes, neurons one by one, sum to the logit difference",
}


SPLIT = "latents, decoder's bias and error sum to what is split"


def with_dictionaries() -> GPT2:
    d = model().config.d_model
    known = [random_dictionary(at, d, d) for at in ("m1", "resid1")]
    return model().with_dictionaries(*known).to(dtype=model().dtype)


def test_a_dictionary_of_the_model_is_audited_and_its_edits_are(pairs):
    trace = with_dictionaries().run(pairs)
    rows = closure.section(trace, metrics.logit_diff(pairs)).rows
    assert SPLIT in {row.promise for row in rows}
    assert not red(rows)
    assert not red(patches.section(with_dictionaries(), pairs).rows)
    kinds = patches.kinds(model().config, trace, with_dictionaries().run(pairs.corrupted))
    assert {"latent of m1", "error of m1", "latent of resid1"} <= set(kinds)


def test_twin_a_latent_left_out_of_what_is_split(pairs, monkeypatch):
    trace, parts = with_dictionaries().run(pairs), split._parts
    monkeypatch.setattr(split, "_parts", lambda *whole: list(parts(*whole))[1:])
    assert closed(pairs, trace) == {SPLIT}


def closed(pairs, trace: Trace | None = None) -> set[str]:
    return red(closure.section(trace or model().run(pairs), metrics.logit_diff(pairs)).rows)


def test_twin_one_bias_left_out_of_a_layers_parts(pairs, monkeypatch):
    parts = closure._parts
    monkeypatch.setattr(
        closure, "_parts", lambda trace, layer: parts(trace, layer)[: -1 if layer == 1 else None]
    )
    assert closed(pairs) == {LAYER}


def test_twin_one_bias_left_out_of_the_direct_effects(pairs, monkeypatch):
    direct = attribution.direct

    def short(*args, **options):
        found = direct(*args, **options)
        return found.rows([i for i, name in enumerate(found.addresses) if name != "a1.b"])

    monkeypatch.setattr(attribution, "direct", short)
    assert closed(pairs) == DIRECT


def test_twin_one_bias_that_the_run_added_and_the_parameters_lack(pairs):
    trace = model().run(pairs)
    without = with_tensor(model(), "h.1.attn.c_proj.bias", torch.zeros_like).params
    assert closed(pairs, replace(trace, params=without)) == {STREAM} | DIRECT


def test_twin_one_head_left_out_of_the_stream(pairs, monkeypatch):
    nodes = closure.nodes
    monkeypatch.setattr(
        closure, "nodes", lambda config: (site for site in nodes(config) if str(site) != "a1.2")
    )
    assert closed(pairs) == {STREAM}


def test_twin_a_neuron_left_out_of_its_mlp(pairs):
    class Short(Trace):
        def act(self, address):
            found = super().act(address).clone()
            found[..., 5] = 0
            return found

    trace = model().run(pairs)
    assert closed(
        pairs, Short(**{f.name: getattr(trace, f.name) for f in dataclasses.fields(Trace)})
    ) == {MLP}


def test_twin_one_position_embedding_left_out(pairs):
    trace = model().run(pairs)
    cells = (replace(trace.cells[0], resid=nudged(nudged(trace.cells[0].resid))), *trace.cells[1:])
    assert START in closed(pairs, replace(trace, cells=cells)), (
        "two last bits are more than one addition may lose"
    )


def test_the_share_of_the_bound_is_printed_and_small(whole):
    section = next(s for s in whole.sections if s.name == "closure")
    assert all("of the limit" in row.measured for row in section.rows if row.value)
    assert all(row.limit < 1e-2 for row in section.rows), (
        "a bound that allows everything shows nothing"
    )


# --- determinism ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Moody(GPT2):
    """A model whose run gets a bit wrong in some company, and whose sweeps do."""

    mood: Callable = lambda batch: False
    sweeps: Callable = lambda patches, budget: False

    def run(self, prompts):
        trace = super().run(prompts)
        return nudged_run(trace) if self.mood(trace.batch) else trace

    def rerun(self, trace, patch, want="out", **options):
        found = super().rerun(trace, patch, want, **options)
        wrong = not isinstance(patch, Patch) and self.sweeps(patch, options.get("budget"))
        return Values(nudged(found.values)) if wrong else found


class Values(NamedTuple):
    values: Tensor


def moody(**moods) -> GPT2:
    return Moody(**{f.name: getattr(model(), f.name) for f in dataclasses.fields(GPT2)}, **moods)


@pytest.mark.parametrize(
    ("promise", "mood"),
    some(
        [
            (
                "D2: alone, the same as in a batch",
                lambda batch: len(batch.tokens) == 1 and batch.tokens.shape[1] == 9,
            ),
            ("D2: in a batch of another size, the same", lambda batch: len(batch.tokens) == 2),
            (
                "D2: in another order, the same",
                lambda batch: int(batch.lengths[0]) == 11 and len(batch.tokens) == 8,
            ),
            ("D2: in a crowd, the same", lambda batch: int(batch.lengths.sum()) >= 600),
            ("D2: padded by more, the same", lambda batch: batch.tokens.shape[1] == 30),
        ],
        5,
    ),
)
def test_twin_a_run_that_depends_on_its_company(pairs, promise, mood):
    before = torch.get_num_threads()
    assert red(determinism.section(moody(mood=mood), pairs).rows) == {promise}
    assert torch.get_num_threads() == before


def test_twin_a_run_that_does_not_repeat(pairs):
    seen = []

    def second(batch):
        seen.append(len(batch.tokens))
        return seen == [8, 8]

    assert red(determinism.section(moody(mood=second), pairs).rows) == {"D1: run again, the same"}


@pytest.mark.parametrize(
    ("promise", "sweeps"),
    some(
        [
            (
                "D2: variants of a sweep one by one, the same as all at once",
                lambda patches, budget: len(patches) == 1,
            ),
            (
                "D2: variants of a sweep backwards, in the smallest chunks, "
                "the same as all at once",
                lambda patches, budget: budget == 1,
            ),
        ],
        2,
    ),
)
def test_twin_a_sweep_that_depends_on_its_variants(pairs, promise, sweeps):
    assert red(determinism.section(moody(sweeps=sweeps), pairs).rows) == {promise}


def test_what_is_no_promise_names_the_level_reached(whole):
    section = next(s for s in whole.sections if s.name == "determinism")
    told = [row for row in section.rows if row.holds is None]
    assert told
    assert all(row.measured.startswith(("D2 reached", "D0 reached")) for row in told)


# --- patches --------------------------------------------------------------------------------------

DENSE = "a rerun is the patched pass written out in full, at every stream point"
AMONG, MEANING = (
    "a patch among many gives what it gives alone",
    "in float64 a rerun is the reference's patched run",
)
EMPTY, SELVES = (
    "the empty patch computes nothing and shares every tensor",
    "a patch with a run's own values changes nothing",
)
BILL = {
    f"the receipt's operations are those counted by hand: {what}"
    for what in ("everything changed", "the last position from resid1 on")
}


class Stale(GPT2):
    """A model whose reruns leave one row as it was."""

    def rerun(self, trace, patch, *args, **options):
        found = super().rerun(trace, patch, *args, **options)
        if not isinstance(patch, Patch) or self.dtype != torch.float32 or not patch:
            return found
        mid = found.cells[1].mid.clone()
        mid[0, 3] = trace.cells[1].mid[0, 3]
        return replace(
            found, cells=(found.cells[0], replace(found.cells[1], mid=mid), *found.cells[2:])
        )


class Mixed(GPT2):
    """A model whose sweeps give one variant's value to another."""

    def rerun(self, trace, patch, want="out", **options):
        found = super().rerun(trace, patch, want, **options)
        return (
            Values(found.values.roll(1, 0))
            if not isinstance(patch, Patch) and want == "out@-1"
            else found
        )


class Deaf(GPT2):
    """A model that in float64 does nothing of what a patch says."""

    def rerun(self, trace, patch, *args, **options):
        deaf = isinstance(patch, Patch) and self.dtype == torch.float64
        return super().rerun(trace, Patch() if deaf else patch, *args, **options)


class Wasteful(GPT2):
    """A model that copies what nothing has changed."""

    def rerun(self, trace, patch, *args, **options):
        found = super().rerun(trace, patch, *args, **options)
        if isinstance(patch, Patch) and not patch:
            return replace(
                found, cells=tuple(replace(cells, act=cells.act.clone()) for cells in found.cells)
            )
        return found


class Restless(GPT2):
    """A model that changes a bit where a patch has the run's own values."""

    def rerun(self, trace, patch, want="out", **options):
        found = super().rerun(trace, patch, want, **options)
        return (
            Values(nudged(found.values))
            if not isinstance(patch, Patch) and want == "out"
            else found
        )


class Cheating(GPT2):
    """A model whose receipts leave out an operation."""

    def rerun(self, trace, patch, *args, **options):
        found = super().rerun(trace, patch, *args, **options)
        if isinstance(patch, Patch) and patch:
            found.receipt.needed_flops -= 1
        return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "promises"),
    [
        (Stale, {DENSE}),
        (Mixed, {AMONG}),
        (Deaf, {MEANING}),
        (Wasteful, {EMPTY}),
        (Restless, {SELVES}),
        (Cheating, BILL),
    ],
)
def test_twin_a_rerun_that_is_wrong_in_one_way(pairs, kind, promises):
    assert red(patches.section(as_(kind), pairs).rows) == promises


@pytest.mark.slow
def test_the_dense_pass_is_of_every_kind_of_edit_that_is_audited(pairs):
    trace = model().run(pairs)
    for name, patch in patches.kinds(model().config, trace, model().run(pairs.corrupted)).items():
        plain = patches.points(
            model().config, patches.dense.patched(model(), trace, Patch()), trace.batch
        )
        changed = patches.points(
            model().config, patches.dense.patched(model(), trace, patch), trace.batch
        )
        assert compare(plain, changed).differ, name


# --- precision, sources, sensitivity --------------------------------------------------------------


def test_precision_tells_of_each_type_and_narrower_is_worse(whole):
    data = next(s for s in whole.sections if s.name == "precision").data
    assert list(data["costs"]) == ["float32", "bfloat16", "float16"]
    assert (
        data["costs"]["float32"]["logits"]
        < data["costs"]["float16"]["logits"]
        < data["costs"]["bfloat16"]["logits"]
    )
    assert list(data["growth"]["float32"])[-1] == "resid3"


def accounted(pairs) -> set[str]:
    return {
        promise.partition(": ")[2].partition(" of ")[0].partition(",")[0]
        for promise in red(sources.section(model(), pairs, metrics.logit_diff(pairs)).rows)
    }


def test_twin_a_bias_left_out_of_the_account_leaves_error_over(pairs, monkeypatch):
    attention = blame._attention

    def short(exact, run, layer):
        name, nodes, whole = attention(exact, run, layer)
        return name, {k: v for k, v in nodes.items() if k != "a1.b"}, whole

    monkeypatch.setattr(blame, "_attention", short)
    assert accounted(pairs) == {"with every one"}


def test_twin_a_departure_left_out_of_the_whole_does_not_make_the_run(pairs, monkeypatch):
    mlp = blame._mlp

    def short(exact, run, layer):
        name, nodes, whole = mlp(exact, run, layer)
        lost = nodes.pop("m1") if layer == 1 else 0
        return name, nodes, whole - lost

    monkeypatch.setattr(blame, "_mlp", short)
    assert accounted(pairs) == {"all departures"}


def test_a_node_made_to_round_is_the_one_that_is_blamed(pairs):
    """A run of the exact model but for one head's values: nothing else costs, and without it there
    is no error."""
    exact, metric = model().to(dtype=torch.float64), metrics.logit_diff(pairs)
    base = exact.run(pairs)
    z = base.cells[1].z.clone()
    z[..., 8:16] *= 1.01
    run = exact.rerun(
        base,
        Patch.write("a1.1.z", z.unflatten(-1, (4, 8))[:, : base.tokens.shape[1], :, :][..., 1, :]),
    )
    found = blame.blame(exact, run, metric)
    cost = dict(zip(found.names, found.cost.tolist(), strict=True))
    rest = dict(zip(found.names, found.without.abs().mean(1).tolist(), strict=True))
    size = float(found.error.abs().mean())
    assert size > 1e-6
    assert max(cost, key=cost.get) == "a1.1"
    assert cost["a1.1"] == pytest.approx(size, rel=1e-9)
    assert rest["a1.1"] < 1e-9 * size
    assert all(value < 1e-9 * size for name, value in cost.items() if name != "a1.1")


def test_one_nodes_rounding_alone_is_the_exact_model_with_its_departure(pairs):
    """By definition, by a model whose bias is changed: a bias departs by the same vector at every
    row."""
    exact, metric = model().to(dtype=torch.float64), metrics.logit_diff(pairs)
    changed = with_tensor(
        exact,
        "h.2.mlp.c_proj.bias",
        lambda x: x + 0.01 * torch.linspace(-1, 1, len(x), dtype=x.dtype),
    )
    found = blame.blame(exact, changed.run(pairs), metric, without=False)
    expected = metric(changed.run(pairs)) - metric(exact.run(pairs))
    torch.testing.assert_close(
        found.only[found.names.index("m2.b")], expected, rtol=1e-9, atol=1e-12
    )
    assert found.without is None


def test_sensitivity_blames_what_was_changed(whole):
    data = next(s for s in whole.sections if s.name == "sensitivity").data
    (gelu,) = (nodes for name, nodes in data.items() if "GELU" in name)
    assert {name for name, cost in gelu.items() if cost > 1e-12} <= {"m0", "m1", "m2"}
    assert max(gelu, key=gelu.get).startswith("m")


def test_int8_has_255_levels_a_channel_and_keeps_the_largest():
    w = torch.randn(7, 5, dtype=torch.float64)
    found = sensitivity.rounded(w, dim=0)
    assert all(
        len(torch.unique((column / column.abs().max() * 127).round())) <= 255 for column in found.T
    )
    torch.testing.assert_close(found.abs().amax(0), w.abs().amax(0))
    assert float((found - w).abs().max()) <= float((w.abs().amax(0) / 254).max()) * (1 + 1e-12)


def test_the_exact_gelu_is_x_phi_x(pairs):
    exact = model().to(dtype=torch.float64)
    base = exact.run(pairs)
    run = sensitivity.exact_gelu(exact, base)
    block, x = exact.params.blocks[0], run["m0.in"]
    before = x @ block.w_in + block.b_in
    torch.testing.assert_close(run.act("m0"), before * torch.special.ndtr(before), equal_nan=True)
    assert not torch.allclose(run.logits_at(-1), base.logits_at(-1), atol=1e-9)


# --- the rows themselves --------------------------------------------------------------------------


def test_a_row_holds_only_where_something_was_compared_and_is_a_number():
    assert Row.bitwise("", Gap(3)).holds
    assert not Row.bitwise("", Gap(0)).holds
    assert not Row.bitwise("", Gap(3, 1)).holds
    assert Row.under("", 1.0, 1.0).holds
    assert not Row.under("", 1.1, 1.0).holds
    assert not Row.under("", float("nan"), 1.0).holds
    assert Row.told("", "").holds is None


def test_a_comparison_names_the_first_that_differs_and_sees_a_shape():
    trace = model().run(torch.arange(14))
    other = nudged_run(trace, 1, "qkv")
    gap = compare(values(trace), values(other))
    assert (gap.differ, gap.ulps, gap.first) == (1, 1, "a1.k")
    assert compare({"x": torch.ones(2)}, {"x": torch.ones(3)}).differ == 2


def test_mistakes_are_met_with_what_to_type(pairs):
    with pytest.raises(AuditError, match=r"(?s)partiy.*parity, closure"):
        audit(model(), only=["partiy"])
    with pytest.raises(AuditError, match="without corrupt"):
        audit(model(), replace(pairs, corrupt=None))
    assert issubclass(AuditError, MiniGPTError)
