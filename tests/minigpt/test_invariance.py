"""A prompt's numbers are the same bits alone, in any batch, in any order, beside prompts of any
length."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.audit.determinism import threads as threads_of
from minigpt import GPT2, Batch, Trace, ops
from minigpt.batch import as_batch
from minigpt.model import Attend
from tests.conftest import tiny

CELLS = ("resid", "qkv", "z", "mid", "act", "out")
READ = ("a0.pattern", "a1.1", "m1", "m1.in", "out")
SHAPES = {
    "d_head 16": (2, 4, 64, 256, 64, 211),
    "d_head 64": (2, 2, 128, 512, 64, 301),
    "d_head 4": (2, 2, 8, 16, 64, 50),
}


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """As many threads as there are; in float64 fewer than twice the heads, or products of few heads
    are split among them."""
    before = torch.get_num_threads()
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    torch.set_num_threads(
        params.get("n_threads", min(before, 3) if params.get("dtype") == torch.float64 else before)
    )
    yield
    torch.set_num_threads(before)


def prompt(length: int, seed: int, n_vocab: int) -> Tensor:
    return torch.randint(0, n_vocab, (length,), generator=torch.Generator().manual_seed(seed))


def batch(rows: list[Tensor]) -> Batch:
    """Prompts of different lengths side by side."""
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, found in zip(tokens, rows, strict=True):
        row[: len(found)] = found
    return Batch(tokens, torch.tensor([len(row) for row in rows]))


def differs(
    trace: Trace,
    row: int,
    other: Trace,
    other_row: int,
    length: int,
    addresses: Sequence[str] = READ,
) -> str:
    """The first thing that is not the same bits for a prompt of this length in both traces; "" if
    nothing is."""
    for layer, (one, two) in enumerate(zip(trace.cells, other.cells, strict=True)):
        for name in CELLS:
            if not torch.equal(
                getattr(one, name)[row, :length], getattr(two, name)[other_row, :length]
            ):
                return f"{name} of layer {layer}"
    for address in addresses:
        one, two = trace[address][row], other[address][other_row]
        if not torch.equal(
            *(
                x[:, :length, :length] if address.endswith("pattern") else x[:length]
                for x in (one, two)
            )
        ):
            return address
    same = torch.equal(
        trace.logits[row, :length], other.logits[other_row, :length]
    ) and torch.equal(trace.logits_at(-1)[row], other.logits_at(-1)[other_row])
    return "" if same else "logits"


# Lengths come in clumps, so that prompts often share one, as those of a task do.
lengths = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 4)), min_size=1, max_size=4).map(
    lambda clumps: [n for n, times in clumps for _ in range(times)]
)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    ("attend", "dtype"),
    [(ops.eager, torch.float32), (ops.eager, torch.float64), (ops.sdpa, torch.float32)],
    ids=["eager float32", "eager float64", "sdpa float32"],
)
@settings(max_examples=12)
@given(lengths=lengths, seed=st.integers(0, 1000))
def test_company_padding_and_order_change_no_bit(
    shape: tuple[int, ...], attend: Attend, dtype: torch.dtype, lengths: list[int], seed: int
) -> None:
    """Not promised for fused attention in float64: there a head's last bits depend on which thread
    takes it (at odd lengths)."""
    model = dataclasses.replace(tiny(*shape, dtype=dtype), attend=attend)
    rows = [prompt(n, seed + i, model.config.n_vocab) for i, n in enumerate(lengths)]
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    together, shuffled = model.run(batch(rows)), model.run(batch([rows[i] for i in order]))
    row = seed % len(rows)
    assert differs(together, row, model.run(rows[row]), 0, len(rows[row])) == ""
    assert differs(together, row, shuffled, order.index(row), len(rows[row])) == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_length_from_1_to_40_has_the_same_bits_alone_and_three_times_over(
    dtype: torch.dtype,
) -> None:
    """Lengths of 5 to 11 and a copy of the keys once made attention depend on the number of
    prompts."""
    model = tiny(*SHAPES["d_head 16"], dtype=dtype)
    for n in range(1, 41):
        row = prompt(n, n, model.config.n_vocab)
        thrice, alone = model.run(batch([row] * 3)), model.run(row)
        assert [differs(thrice, i, alone, 0, n, ["a0.pattern"]) for i in (0, 2)] == ["", ""], n


@pytest.mark.parametrize("n_threads", [1, 4, 16])
def test_in_float32_company_and_threads_change_no_bit(n_threads: int) -> None:
    model = tiny(*SHAPES["d_head 64"])
    for n in (5, 11, 12, 20, 40):
        row = prompt(n, n, model.config.n_vocab)
        together, alone = model.run(batch([row] * 5)), model.run(row)
        with threads_of(1):
            one = model.run(row)
        assert [differs(together, i, alone, 0, n) for i in (0, 4)] == ["", ""], n
        assert differs(alone, 0, one, 0, n) == "", n


@pytest.mark.parametrize("n_threads", [2, 3])
def test_at_the_width_of_gpt2_threads_change_no_bit(n_threads: int) -> None:
    model = tiny(2, 12, 768, 3072, 256, 1000)
    for lengths in ([7, 40], [15] * 8, [200, 1]):
        rows = batch([prompt(n, i, 1000) for i, n in enumerate(lengths)])
        many = model.run(rows)
        with threads_of(1):
            one = model.run(rows)
        assert [differs(many, i, one, i, n) for i, n in enumerate(lengths)] == [""] * len(lengths)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_at_the_width_of_gpt2_company_changes_no_bit(dtype: torch.dtype) -> None:
    model = tiny(2, 12, 768, 3072, 128, 1000, dtype=dtype)
    for lengths in ([1, 7, 40], [15] * 8, [9, 9, 100], [1] * 40):
        rows = [prompt(n, i, 1000) for i, n in enumerate(lengths)]
        together = model.run(batch(rows))
        assert [
            differs(together, i, model.run(rows[i]), 0, lengths[i]) for i in (0, len(rows) - 1)
        ] == ["", ""], lengths


def test_tokens_behind_a_prompts_end_change_no_bit() -> None:
    """Padding is zeros when we make the batch; whatever another hand put there is not seen
    either."""
    model = tiny(*SHAPES["d_head 16"])
    clean = batch([prompt(5, 0, 211), prompt(17, 1, 211)])
    tokens = clean.tokens.clone()
    tokens[0, 5:] = torch.arange(12) + 3
    trace, other = model.run(clean), model.run(Batch(tokens, clean.lengths))
    assert [differs(trace, row, other, row, length) for row, length in enumerate((5, 17))] == [
        "",
        "",
    ]


def test_a_prefix_of_a_prompt_is_not_promised_the_same_bits_but_its_numbers(model: GPT2) -> None:
    """What stands later in the prompt changes nothing but rounding: a causal model."""
    row = prompt(20, 0, 50)
    torch.testing.assert_close(
        model.run(row).logits[:, :9], model.run(row[:9]).logits, rtol=1e-12, atol=1e-12
    )


# --- twins: the comparison sees a single bit, and a pass without the padding fails it -------------


@pytest.mark.parametrize("name", CELLS)
def test_twin_the_comparison_sees_one_ulp(name: str) -> None:
    model = tiny(*SHAPES["d_head 16"])
    trace = model.run(prompt(7, 0, 211))
    nudged = getattr(trace.cells[1], name).clone()
    nudged[0, 3, 5] = torch.nextafter(nudged[0, 3, 5], torch.tensor(torch.inf))
    other = dataclasses.replace(
        trace, cells=(trace.cells[0], dataclasses.replace(trace.cells[1], **{name: nudged}))
    )
    assert differs(trace, 0, trace, 0, 7) == ""
    assert differs(trace, 0, other, 0, 7) == f"{name} of layer 1"


def test_twin_a_pass_that_pads_nothing_depends_on_its_company() -> None:
    """Where this machine's kernels do not show it, the comparison of a nudged pass stands in for
    it."""
    model = tiny(2, 12, 768, 3072, 128, 1000)
    rows = torch.stack([prompt(1, i, 1000) for i in range(40)])
    together, alone = model.forward(rows)[:1], model.forward(rows[:1])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    if torch.equal(together, alone):
        alone = torch.nextafter(alone, alone + 1)
    assert not torch.equal(together, alone)


def test_twin_a_pattern_over_more_positions_than_the_prompt_has_is_seen() -> None:
    """Attending over the padding, were it hidden by a mask alone, is no longer the pass of the
    prompt alone."""
    model = tiny(*SHAPES["d_head 16"])
    rows = [prompt(n, n, 211) for n in (3, 40)]
    found = as_batch(batch(rows), model.words, model.config, model.params.wte)
    wrong = model.run(dataclasses.replace(found, lengths=torch.tensor([4, 40])))
    assert differs(wrong, 0, model.run(rows[0]), 0, 3) != "" or not torch.equal(
        wrong.logits_at(-1)[:1], model.run(rows[0]).logits_at(-1)
    )
