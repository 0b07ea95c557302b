"""A rerun is the dense patched pass bit for bit, and has the reference's numbers at every address,
whatever the patch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.audit import dense
from interp.audit.determinism import threads
from minigpt import Batch, Site
from minigpt.address import streams
from minigpt.errors import AddressError, NoEffectWarning, PatchError
from minigpt.patch import Patch
from tests.conftest import examples, some, tiny
from tests.minigpt.pairs import runs, tokens
from tests.patches import MEETINGS, assert_agrees, meetings, patches, reference_of

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
OUT = Site("out")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(data=st.data())
def test_a_patched_run_is_the_dense_patched_run_bit_for_bit(data, dtype):
    model = tiny(3, 2, 16, 32, dtype=dtype)
    length = data.draw(st.sampled_from([1, 3, 5, 8, 13, 17]))
    clean, corrupt = runs(model, data.draw(st.integers(0, 99)), 2, length)
    patch = data.draw(patches(model.config, length, 2, {"clean": clean, "corrupt": corrupt}))
    found = model.rerun(clean, patch).stream(OUT)
    expected = dense.patched(model, clean, patch)["out"]
    assert torch.equal(found[:, :length], expected[:, :length]), str(patch)


@examples(8)
@given(data=st.data(), n=st.sampled_from([2, 3, 4]))
def test_a_patched_run_has_the_same_bits_with_any_number_of_threads(data, n):
    model = tiny(3, 4, 32, 64)
    length = data.draw(st.sampled_from([1, 3, 5, 8, 13, 17]))
    clean, corrupt = runs(model, data.draw(st.integers(0, 99)), 2, length)
    patch = data.draw(patches(model.config, length, 2, {"clean": clean, "corrupt": corrupt}))
    alone = model.rerun(clean, patch)
    with threads(n):
        shared = model.rerun(model.run(clean.batch), patch)
    for site in streams(model.config):
        assert torch.equal(alone.stream(site), shared.stream(site)), f"{site}: {patch}"


def test_an_edge_whose_difference_is_lost_in_the_sum_is_computed_alike():
    """The sender has all but the value that the edge gives: its difference is below the last bit of
    what the port reads."""
    for seed in range(6):
        model = tiny(3, 2, 16, 32, dtype=torch.float64)
        clean, corrupt = runs(model, seed, 2, 13)
        patch = Patch.parse("m0.n1>a1.0.q = o; input = o", {"o": corrupt})
        found, expected = model.rerun(clean, patch), dense.patched(model, clean, patch)
        assert torch.equal(found.stream(OUT), expected["out"])


@pytest.mark.parametrize("d_head", [2, 4, 8])
@pytest.mark.parametrize("length", some([13, 12, 16, 20, 24]))
def test_narrow_heads_bit_for_bit_where_torch_changes_its_kernel(d_head, length):
    """Products of fewer than Limits.small operations take another way through torch: 4 rows of a
    short prompt, but not all of them."""
    model = tiny(2, 4, 4 * d_head, 32)
    clean, corrupt = runs(model, length, 2, length)
    for at in (0, 3, length - 2, length - 1):
        for patch in (
            Patch.write(f"resid1@{at}", corrupt),
            Patch.input(f"a1.2.k@{at}", corrupt),
            Patch.read(f"m0>a1.1.q@{at}", corrupt),
        ):
            found, expected = (
                model.rerun(clean, patch).stream(OUT),
                dense.patched(model, clean, patch)["out"],
            )
            assert torch.equal(found[:, :length], expected[:, :length]), str(patch)


@examples(30)
@given(data=st.data())
def test_every_value_after_any_patch_is_what_the_reference_says(data):
    model = tiny(2, 2, 8, 16, dtype=torch.float64)
    length = data.draw(st.integers(1, 6))
    clean, corrupt = runs(model, data.draw(st.integers(0, 9)), 2, length)
    patch = data.draw(patches(model.config, length, 2, {"clean": clean, "corrupt": corrupt}))
    assert_agrees(model.rerun(clean, patch), reference_of(model, clean, patch))


@pytest.mark.parametrize("meeting", some([(m,) for m in MEETINGS]), ids=" ".join)
@examples(5)
@given(data=st.data())
def test_a_whole_and_its_part_in_one_patch_are_what_the_reference_says(meeting, data):
    model = tiny(2, 2, 8, 16, dtype=torch.float64)
    length = data.draw(st.integers(2, 6))
    clean, corrupt = runs(model, data.draw(st.integers(0, 9)), 2, length)
    sources = {"clean": clean, "corrupt": corrupt}
    patch = data.draw(meetings(model.config, meeting, [length] * 2, sources, {}))
    assert_agrees(model.rerun(clean, patch), reference_of(model, clean, patch))


@given(data=st.data())
def test_prompts_of_different_lengths_too(data):
    model = tiny(2, 2, 8, 16, dtype=torch.float64)
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=2, max_size=3))
    made = [
        Batch(
            torch.where(
                torch.arange(max(lengths)) < torch.tensor(lengths)[:, None],
                tokens(seed, len(lengths), max(lengths)),
                0,
            ),
            torch.tensor(lengths),
        )
        for seed in (3, 4)
    ]
    clean, corrupt = (model.run(batch) for batch in made)
    patch = data.draw(
        patches(model.config, lengths, len(lengths), {"clean": clean, "corrupt": corrupt})
    )
    assert_agrees(model.rerun(clean, patch), reference_of(model, clean, patch))


@pytest.mark.parametrize("lengths", [[1], [2], [1, 2], [2, 1], [3, 3], [1, 4]])
@pytest.mark.parametrize("inside", ["a1.0.pattern += 0.5", "a1.pattern *= 2", "a1.0.pattern *= 2"])
def test_a_pattern_is_edited_where_everything_before_it_changed(lengths, inside):
    """Of one prompt of its length the products are filled up with copies, which mean nothing."""
    model = tiny(2, 2, 8, 16, dtype=torch.float64)
    inside_ = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.where(inside_, tokens(3, len(lengths), max(lengths)), 0)
    clean = model.run(Batch(ids, torch.tensor(lengths)))
    patch = Patch.parse(f"a0.0 = 0; {inside}", {})
    assert_agrees(model.rerun(clean, patch), reference_of(model, clean, patch))


@pytest.mark.filterwarnings("error")
def test_a_patch_without_effect_warns_and_one_with_does_not():
    model = tiny(2, 2, 16, 32)
    clean, corrupt = runs(model, 0, 2, 14)
    with pytest.warns(NoEffectWarning, match=r"a1.0 = run"):
        model.rerun(clean, Patch.write("a1.0", clean))
    with pytest.warns(NoEffectWarning, match="none of 2 patches"):
        _ = model.rerun(clean, [Patch.write("a1.0", clean)] * 2, "out@-1").values
    model.rerun(clean, Patch.write("a1.0", corrupt))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda m, t, o: m.rerun(t, [Patch.write("a0.0", o)], "a1.0"),
            AddressError,
            "a stream point",
        ),
        (lambda m, t, o: m.rerun(t, Patch.write("a7.0", o)), AddressError, "layer 7 of 2"),
        (
            lambda m, t, o: m.rerun(
                t, Patch.write("a0.0", tiny(2, 2, 16, 32, seed=9).run(tokens(0, 3, 14)))
            ),
            PatchError,
            "another model",
        ),
        (
            lambda m, t, o: m.rerun(t, Patch.write("a0.0", m.run(tokens(0, 3, 9)))),
            PatchError,
            "do not match",
        ),
        (
            lambda m, t, o: m.rerun(t, Patch.write("a0.0", torch.zeros(5))),
            PatchError,
            r"shape \[5\]",
        ),
        (
            lambda m, t, o: m.rerun(t, Patch.write("a0.0@2", o) | Patch.write("a0.0@-12", o)),
            PatchError,
            "both decide",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    model = tiny(2, 2, 16, 32)
    with pytest.raises(error, match=message):
        make(model, *runs(model, 0, 3, 14))


TAKEN = {  # a run of which a patch of three prompts of 14 tokens cannot take values, and why
    "another model's": ("{}", lambda m: other_model().run(tokens(0, 3, 14)), "another model"),
    "shorter": ("{}", lambda m: m.run(tokens(0, 3, 9)), "do not match"),
    "of fewer prompts": ("{}", lambda m: m.run(tokens(0, 2, 14)), "do not match"),
    "of other lengths": ("{}", lambda m: m.run(ragged()), "do not match"),
    "the mean, another model's": (
        "mean({})",
        lambda m: other_model().run(tokens(0, 3, 14)),
        "another model",
    ),
    "the mean, shorter": ("mean({})", lambda m: m.run(tokens(0, 3, 9)), "a mean over prompts"),
    "the mean, of many lengths": ("mean({})", lambda m: m.run(ragged()), "a mean over prompts"),
}


def other_model() -> GPT2:
    return tiny(2, 2, 16, 32, seed=9)


def ragged() -> Batch:
    lengths = torch.tensor([14, 3, 9])
    return Batch(tokens(0, 3, 14) * (torch.arange(14) < lengths[:, None]), lengths)


@pytest.mark.parametrize("run", TAKEN)
@pytest.mark.parametrize(
    "line",
    [
        *("a0.0", "a1", "m0.n3", "emb", "resid1", "a1.1.pattern", "a1.z", "a0.0>out", "a1.0.q"),
        *("hold heads", "hold a1.0 m0", "hold mlps but m0@2", "hold input"),
    ],
)
def test_no_line_takes_values_from_a_run_that_does_not_fit(line, run):
    source, make, why = TAKEN[run]
    model = tiny(2, 2, 16, 32)
    patch = Patch.parse(f"{line} = {source.format('x')}", {"x": make(model)})
    clean = model.run(tokens(1, 3, 14))
    with pytest.raises(PatchError, match=why):
        model.rerun(clean, patch)
    with pytest.raises(PatchError, match=why):
        _ = model.rerun(clean, [Patch.zero("m1"), patch], "out@-1").values


@pytest.mark.parametrize(
    "text",
    [
        "hold heads = run",
        "a1.0 = run",
        "a1 = run",
        "m1 = run",
        "hold mlps = run",
        "a1.0@2 = run",
        "hold heads but a1.0@1 = run",
        "a1.0>m1.in = run",
        "hold heads = mean(run)",
    ],
)
@pytest.mark.parametrize("written", some(["a1.0", "m1", "a1.0@2", "m1@-1"]))
def test_values_from_a_run_that_itself_has_written_vectors_are_those_vectors(written, text):
    model = tiny(2, 2, 16, 32, dtype=torch.float64)
    clean, corrupt = runs(model, 5, 3, 6)
    first = Patch.write(written, torch.linspace(-1, 1, 16, dtype=torch.float64), name="given")
    source = model.rerun(corrupt, first)
    patch = Patch.parse(text, {"run": source})
    expected = reference_of(model, clean, patch, {"run": reference_of(model, corrupt, first)})
    told = [
        "logits",
        *map(str, streams(model.config)),
        "a1",
        "m1",
    ]  # the parts of what a vector was put in place of, nobody can tell
    assert_agrees(model.rerun(clean, patch), expected, among=told)


def test_a_text_is_a_patch_and_not_a_list_of_letters():
    model = tiny(2, 2, 16, 32)
    trace = model.run(tokens(0, 2, 7))
    expected = model.rerun(trace, Patch.zero("a0.1@-1"))
    assert torch.equal(model.rerun(trace, "a0.1@-1 = 0").stream(OUT), expected.stream(OUT))
    swept = model.rerun(trace, ["a0.1@-1 = 0", Patch.zero("m0")], "out@-1").values
    assert torch.equal(swept[0], expected["out@-1"])
    with pytest.raises(PatchError):
        model.rerun(trace, "a0.1 = corrupt")
