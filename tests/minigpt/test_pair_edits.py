"""What a head takes at a query from one source: read, written, added to, scaled and held, alone of
its sum."""

from __future__ import annotations

import pytest
import torch

from interp.audit import dense
from minigpt import GPT2, Batch, Patch, Trace
from minigpt.errors import NoEffectWarning, PatchError, PositionError
from minigpt.grown import grown
from tests.conftest import some, tiny
from tests.patches import addresses, assert_agrees, disagreements, reference_of

MODEL = tiny(3, 2, 16, 32, dtype=torch.float64)
V = torch.linspace(-1, 1, 16, dtype=torch.float64)
GROUPS = torch.tensor([0, 1, 0])
PLACES = (*map(str, addresses(MODEL.config)), "a1.0@3<1", "a1.0<1", "a1.0@E<S", "a1.0@3<2")


def run(seed: int, lengths: tuple[int, ...] = (7, 5, 7), model: GPT2 = MODEL) -> Trace:
    tokens = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(seed))
    sizes = torch.tensor(lengths)
    named = {"S": torch.tensor([1, 2, 1]), "E": sizes - 1}
    return model.run(Batch(tokens * (torch.arange(7) < sizes[:, None]), sizes, named))


def sources(model: GPT2 = MODEL) -> dict[str, object]:
    return {"c": run(1, model=model), "o": run(2, model=model), "v": V, "groups": GROUPS}


def parsed(text: str, model: GPT2 = MODEL) -> Patch:
    return Patch.parse(text, sources(model))


CLEAN, OTHER = (sources()[name] for name in "co")
LINES = """
    a1.0@3<1 = 0 | a1.0@3<1 = o | a1.0@3<1 = v | a1.0@3<1 = 2 | a1.0@3<1 *= 0.5 | a1.0@3<1 += v
    a1.0@3<1 += o | a1.0@E<S = o | a1.0<S = o | a1.0<1 = v | a1.0@E<S = mean(o)
    a1.0@3<1 = mean(o by groups) | a1.0<0 = mean(o by groups) | a1.0<-5 = 0; a1.0@3<3 = v
    a1.0@3<1 = v; a1.0@3<2 = v; a1.0@3<0 = o; a1.0>m1.in = o; a0.1 = 0
    a1.0@3<1 = 0; a0.0.pattern = o; a1.0.v@1 = o; resid1@3 = o
    hold a1.0<1 = o | hold heads = c; a1.0@3<1 = o; m0 = 0 | hold heads but a1.1 = o; a1.0@3<1 = 0
    hold heads a1.0<1 but a1.0@3 = o | hold heads a1.0<1 = o; a1.0@3<2 = 0
    hold a1 a1.0 a1.0<1 = o; a1.0@3<2 = v; a1.1@3 = 0 | hold a1.0<1 = c; m0 = 0; emb@1 = o
    hold a1.0<1 = o; a1.0@3<-5 = 0; a1.0@2<S = v
"""
TEXTS = [text.strip() for line in LINES.strip().splitlines() for text in line.split("|")]


@pytest.mark.parametrize("text", some(TEXTS))
def test_an_edit_of_a_pair_is_what_the_reference_says_and_the_dense_pass_to_the_bit(text):
    patch = parsed(text)
    found, expected = MODEL.rerun(CLEAN, patch), dense.patched(MODEL, CLEAN, patch)
    inside = CLEAN.batch.mask
    for name in ("resid1.mid", "resid2", "resid3"):
        assert torch.equal(found[name][inside], expected[name][inside])
    assert_agrees(found, reference_of(MODEL, CLEAN, patch), among=("logits", *PLACES))
    assert disagreements(CLEAN, reference_of(MODEL, CLEAN, patch))
    assert str(patch) == str(Patch.parse(str(patch), patch.sources))


def test_a_head_is_the_sum_of_what_it_takes_and_its_pair_the_weight_times_the_value():
    taken = sum(CLEAN[f"a1.0@4<{key}"] for key in range(5))
    torch.testing.assert_close(taken, CLEAN["a1.0@4"])
    w_o = MODEL.params.blocks[1].w_o[:8]
    one = CLEAN["a1.0.pattern@4"][:, 2:3] * CLEAN["a1.0.v@2"] @ w_o
    torch.testing.assert_close(CLEAN["a1.0@4<2"], one)
    assert not CLEAN["a1.0<2"][:, :2].any(), "no query before the source takes from it"


def test_the_identities():
    every = [f"a1.0@4<{key}" for key in range(5)]
    other = MODEL.rerun(CLEAN, Patch.all(Patch.write(name, OTHER, name="o") for name in every))
    head = MODEL.rerun(CLEAN, Patch.write("a1.0@4", OTHER))
    few = MODEL.rerun(CLEAN, Patch.all(Patch.write(name, OTHER, name="o") for name in every[1:]))
    torch.testing.assert_close(other["a1.0.z@4"], OTHER["a1.0.z@4"])
    torch.testing.assert_close(other.logits, head.logits, equal_nan=True)
    assert not torch.allclose(few["resid3@4"], head["resid3@4"]), "one left out"
    zero = MODEL.rerun(CLEAN, Patch.all(map(Patch.zero, every)))
    torch.testing.assert_close(zero["resid3@4"], MODEL.rerun(CLEAN, "a1.0@4 = 0")["resid3@4"])
    row = CLEAN["a1.0.pattern@4"].clone()
    row[:, 2] = 0
    unseen = MODEL.rerun(CLEAN, Patch.write("a1.0.pattern@4", row))
    torch.testing.assert_close(MODEL.rerun(CLEAN, "a1.0@4<2 = 0")["resid3@4"], unseen["resid3@4"])


def test_what_changes_nothing_is_said_and_what_does_is_on_the_bill():
    with pytest.warns(NoEffectWarning, match="a1.0@3<1 = c"):
        MODEL.rerun(CLEAN, parsed("a1.0@3<1 = c"))
    receipt = MODEL.rerun(CLEAN, parsed("a1.0@3<1 = o")).receipt
    assert (receipt.written, receipt.changed) == (3 * 8, 3 * 8)


@pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
@pytest.mark.parametrize("text", ["a1.0@3<1 = o", "a1.0@3<1 = v", "a1.0@3<1 *= 3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_runs_own_pair_put_back_changes_no_bit(text, dtype):
    model = tiny(3, 2, 16, 32, dtype=dtype)
    clean = run(1, model=model)
    edited = model.rerun(clean, parsed(text, model))
    for trace in (clean, edited):
        again = model.rerun(trace, Patch.write("a1.0@3<1", trace))
        assert torch.equal(again["resid3@4"], trace["resid3@4"])
        assert torch.equal(again["a1.0@3<1"], trace["a1.0@3<1"])


def test_the_rest_of_the_sum_is_what_this_run_computes():
    both = MODEL.rerun(CLEAN, parsed("resid1@0 = o; a1.0@3<1 = 0"))
    first = MODEL.rerun(CLEAN, parsed("resid1@0 = o"))
    torch.testing.assert_close(both["a1.0@3"], first["a1.0@3"] - first["a1.0@3<1"])
    assert not torch.allclose(first["a1.0@3<1"], CLEAN["a1.0@3<1"])


def test_a_sweep_of_pairs_is_each_of_them_alone():
    pairs = [f"a{i}.{n}@4<{key}" for i in (0, 2) for n in range(2) for key in (0, 2, 4)]
    patches = [Patch.write(pair, given) for pair in pairs for given in (0.0, OTHER, V)]
    swept = MODEL.rerun(CLEAN, patches, "resid3@-1").values
    for values, patch in zip(swept, patches, strict=True):
        assert torch.equal(values, MODEL.rerun(CLEAN, patch)["resid3@-1"])


def test_a_pair_that_cannot_be_meant_is_refused_with_a_remedy():
    whole = ["a1.0", "a1.0@3", "a1.0.z", "a1.0.pattern@3", "a1", "a1.z@3", "a1.0@3<1", "a1.0<1"]
    for other in whole:
        with pytest.raises(PatchError, match="both decide"):
            Patch.zero("a1.0@3<1") | Patch.write(other, OTHER)
    for other in ("a1.0@4", "a1.0.pattern@2", "a1.1@3<1", "a1.0@3<2", "a1.b", "a1.0.v@1"):
        assert Patch.zero("a1.0@3<1") | Patch.parse(f"{other} = o", sources())
    for text in ("a1.0@3<1 = 0; a1.0@3<-4 = 0", "a1.0<1 = 0; a1.0@E<-4 = 0"):
        with pytest.raises(PatchError, match="both decide"):
            MODEL.rerun(run(1, (5, 5, 5)), Patch.parse(text, {}))
    for late in ("a1.0@3<E", "a1.0@S<-1", "a1.0@-7<1"):
        with pytest.raises(PositionError, match=r"prompt|after the query"):
            _ = CLEAN[late]
        with pytest.raises(PositionError, match=r"prompt|after the query"):
            MODEL.rerun(CLEAN, Patch.zero(late))
    with pytest.raises(PatchError, match=r"Patch\.write"):
        Patch.hold("a1.0@3<1", CLEAN)
    with pytest.raises(PatchError, match=r"has a vector in the place of a1\.0"):
        MODEL.rerun(MODEL.rerun(CLEAN, parsed("a1.0@3<1 = v")), "a1.0 *= 2")


def test_a_pair_is_remembered_when_its_prompt_grows():
    alone = MODEL.run([1, 2, 3, 4])
    patched = MODEL.rerun(alone, "a1.0@-1<-2 = 0")
    more = grown(patched, 5)
    assert not more["a1.0@3<2"].any()
    assert more["a1.0@4<3"].any()


@pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
def test_a_pair_that_is_left_out_instead_would_be_seen(monkeypatch):
    """The twin: were the term lost, not replaced, the reference would say so."""
    from minigpt.recompute.attention import _Unit

    monkeypatch.setattr(_Unit, "_pair", lambda self, record, ids, own: own * 0)
    patch = parsed("a1.0@3<1 = o")
    assert disagreements(MODEL.rerun(CLEAN, patch), reference_of(MODEL, CLEAN, patch))
