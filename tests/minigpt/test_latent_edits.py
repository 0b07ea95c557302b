"""A latent, a decoder's bias or an error is written, added to, scaled and held: what else was
written stays, and the error never hides it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from interp import split
from interp.audit import dense
from minigpt import Patch, Site, Trace, parse
from minigpt.address import Address
from minigpt.batch import Batch
from minigpt.errors import AddressError, PatchError
from minigpt.grown import grown
from minigpt.patch.edit import Hold
from tests.conftest import some
from tests.minigpt.test_latents import DICTIONARIES, MODEL, PLAIN, WHOLES
from tests.patches import (
    an_edit,
    assert_agrees,
    disagreements,
    patches,
    places,
    reference_of,
    sources,
    unrandom,
)

LENGTHS = (7, 5, 7)
V = torch.linspace(-1, 1, 16, dtype=torch.float64)
SPLIT = WHOLES
ACTIVE = {whole: [3, 5, 8, 20] for whole in SPLIT}
PARTS = [f"{whole}.{part}" for whole in SPLIT for part in ("l3", "l5", "l8", "l20", "l.b", "e")]
NAMES = ("logits", "resid1.mid", "resid2", *SPLIT, "m0.n3", "m0.b", "a1.0", "a1.1.z", *PARTS)


def run(seed: int, model=MODEL, lengths: tuple[int, ...] = LENGTHS) -> Trace:
    tokens = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(seed))
    sizes = torch.tensor(lengths)
    named = {"S": torch.tensor([1, 2, 1]), "E": sizes - 1}
    return model.run(Batch(tokens * (torch.arange(7) < sizes[:, None]), sizes, named))


CLEAN, OTHER = run(1), run(2)
GIVEN = {"c": CLEAN, "o": OTHER, "v": V, "groups": torch.tensor([0, 1, 0])}


def latent(whole: str) -> str:
    """One that is on in many places."""
    return f"{whole}.l{int((CLEAN.act(f'{whole}.l') > 0).sum((0, 1)).argmax())}"


def parsed(text: str) -> Patch:
    for whole in SPLIT:
        text = text.replace(f"{whole}.L", latent(whole))
    return Patch.parse(text, GIVEN)


LINES = """
    m0.L = 0 | m0.L = 2.5 | m0.L = o | m0.L = v | m0.L += v | m0.L += 1.5 | m0.L += o | m0.L *= 0.5
    m0.L@3 = 0 | m0.L@E = mean(o) | m0.L@S = mean(o by groups) | m0.l.b = 0 | m0.l.b = o | m0.e = 0
    m0.e = o | m0.e *= 0.5 | m0.L@3 = 0; m0.e = c | a1.L = 0 | a1.L = 2 | a1.L += o | a1.e = 0
    a1.l.b *= 2 | m1.L = 0 | m1.L = -1.5 | m1.L += 1 | m1.e = o | m1.l.b = 0 | m2.L = 0 | m2.L = 3
    m2.e = o | m2.l.b += v | emb@1 = o; m0.L = 0 | emb = o; m0.L *= 2; m0.e = c; a1.L = 1; m1.L = 1
    a0.0 = 0; m0.L@3 = 2; m0.n3@4 = v; m0.b@4 = o | m0.n3 *= 2; m0.L>a1.0.q = o; m0.L>out = 0
    m0.L>m1.in = o; m0.L = 0 | m0.L>a1.1.k *= 0.5; m0.e>m2.in = 0; emb@0 = o
    m1.n3 = 2; m1.L>out = o | m0.n3 = v; m0.L>m2.in = o
    hold m0.L = o | hold m0.L m0.e = c; emb = o | hold mlps = c; m0.L@3 = 0; emb@1 = o
    hold heads = c; a1.L = 0; resid1@2 = o | hold m0.L = o; m0@3 = v
    hold m0 m0.L = o; m0.l.b@2 = 0 | hold m0 m0.L = mean(o by groups)
    hold mlps but m1 = c; m1.L = 0; a0 = o | m2.in@3 = o; m2.L = 1 | m2.in = v; m2.e = 0; m1.L@1 = 3
    m1@2 *= 0.5; m1.L>out@3 = o | m1@2 = o; m1.L@3 = 0; m1.n4@4 = o | m0@3 = 0; m0.L@4 = 0
    a1.0@2 = v; a1.L@3 = 0; a1.b@4 = 0 | a1.0@3<1 = o; a1.L@4 = 2
    a1.0.pattern@3 = o; a1.L@4 *= 3; a1.L>m1.in = 0
    resid1.L = 0 | resid1.L = 2.5 | resid1.L@3 = o | resid1.L += v | resid1.L@E += 1.5
    resid1.L *= 0.5 | resid1.e = 0 | resid1.e = o | resid1.l.b = mean(o by groups)
    resid2.mid.L = 0 | resid2.mid.L@3 = 2 | resid2.mid.e = o; resid2.mid.L = 1 | resid2.mid.l.b = 0
    resid1.L>a1.0.q = o; resid1.L@3 = 0 | resid1.e>out = 0 | resid2.mid.L>m2.in *= 0.5
    resid1@2 = o; resid1.L@3 = 0; emb@1 = o | resid1@3 = v; resid1.L>out = o
    hold resid1.L resid1.e = o | hold resid2.mid.L = c; emb = o; m0.L = 0
    hold resid1.L = o; resid1@3 = v | resid1.L = 0; m0.L = 0; resid2.mid.L += 1; a1.L = o
"""
TEXTS = [text.strip() for line in LINES.strip().splitlines() for text in line.split("|")]


@pytest.mark.parametrize("text", some(TEXTS))
def test_an_edit_of_a_part_is_what_the_reference_says_and_the_dense_pass_to_the_bit(text):
    patch = parsed(text)
    found, expected = MODEL.rerun(CLEAN, patch), dense.patched(MODEL, CLEAN, patch)
    inside = CLEAN.batch.mask
    for name in ("resid1", "resid1.mid", "resid2", "resid2.mid", "resid3"):
        assert torch.equal(found[name][inside], expected[name][inside]), name
    said = reference_of(MODEL, CLEAN, patch)
    assert_agrees(found, said, among=NAMES)
    assert disagreements(CLEAN, said)
    assert str(patch) == str(Patch.parse(str(patch), patch.sources))


@st.composite
def latent_lines(draw: st.DrawFn) -> Patch:
    """An edit of a part by a dictionary, an edge from it, or a hold of it."""
    with unrandom():
        return _latent_line(draw)


def _latent_line(draw: st.DrawFn) -> Patch:
    positions = {name: x.tolist() for name, x in CLEAN.batch.positions.items()}
    runs, whole = {"c": CLEAN, "o": OTHER}, draw(st.sampled_from(SPLIT))
    point = parse(whole).site
    part = draw(st.sampled_from(["l", "l", "l", "l.b", "e"]))
    number = int(latent(whole).partition(".l")[2]) if part == "l" else None
    site = Site(
        f"{point.kind}.{part}", point.layer, draw(st.sampled_from([number, *[3] * (part == "l")]))
    )
    if draw(st.integers(0, 4)) == 0:
        return Patch(holds=(Hold(str(site), draw(sources(runs, LENGTHS))),))
    ends = [Site("out"), Site("in", 2), *[Site("q", 2, 1)] * (site.layer < 2)]
    sites = (site, draw(st.sampled_from(ends))) if draw(st.booleans()) else (site,)
    sites = sites[:1] if site.stage > sites[-1].stage else sites
    address = Address(sites, draw(places(LENGTHS, positions)))
    return Patch((draw(an_edit(MODEL.config, address, runs, LENGTHS, positions)),))


@pytest.mark.parametrize("number", [4, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
def test_parts_among_edits_of_every_other_kind(number):
    @given(data=st.data())
    @settings(max_examples=number, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    def look(data):
        joined_with_others(data)

    look()


def joined_with_others(data: st.DataObject) -> None:
    positions = {name: x.tolist() for name, x in CLEAN.batch.positions.items()}
    patch = data.draw(latent_lines())
    others = patches(
        MODEL.config, LENGTHS, 3, {"c": CLEAN, "o": OTHER}, positions=positions, most=3
    )
    for more in (data.draw(latent_lines()), data.draw(others)):
        with suppress(PatchError):
            joined = patch | more
            MODEL.rerun(CLEAN, joined)
            patch = joined
    found, expected = MODEL.rerun(CLEAN, patch), dense.patched(MODEL, CLEAN, patch)
    inside = CLEAN.batch.mask
    assert torch.equal(found["resid3"][inside], expected["resid3"][inside])
    assert_agrees(found, reference_of(MODEL, CLEAN, patch), among=("logits", "resid2", *PARTS))


@pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
def test_many_patches_have_the_bits_of_each_alone():
    texts = [*TEXTS[::4], "m0.l3 = 0", "m0.l3@2 = 0", "m0.l5@2 = 1", "a1.l3@2 = 0"]
    swept = MODEL.rerun(CLEAN, [parsed(text) for text in texts], "resid3@-1").values
    for text, values in zip(texts, swept, strict=True):
        assert torch.equal(MODEL.rerun(CLEAN, parsed(text))["resid3@-1"], values), text


@pytest.mark.parametrize("whole", SPLIT)
def test_the_meaning_by_hand(whole):
    name, inside = latent(whole), CLEAN.batch.mask
    own, z, write = CLEAN[name], CLEAN.act(name)[..., None], CLEAN[whole]
    for text, new in (
        (f"{name} = 0", 0 * own),
        (f"{name} *= 3", 3 * own),
        (f"{name} = o", OTHER[name]),
        (f"{name} += v", own + V),
        (f"{name} = 2", 2 * (own / z)),
    ):
        found = MODEL.rerun(CLEAN, Patch.parse(text, GIVEN))
        on = inside & (z[..., 0] > 0) if text.endswith("2") else inside
        torch.testing.assert_close(found[whole][on], (write + new - own)[on])
        torch.testing.assert_close(found[name][on], new[on])
        assert torch.equal(found[f"{whole}.e"][inside], CLEAN[f"{whole}.e"][inside]), "unhidden"
        assert split.closure(found, whole).holds
    replaced = MODEL.rerun(CLEAN, Patch.zero(f"{whole}.e"))
    torch.testing.assert_close(replaced[whole][inside], (write - CLEAN[f"{whole}.e"])[inside])


def test_an_error_of_the_edited_write_would_hide_the_ablation():
    """The meaning that is not ours: the error taken again from the write without the latent."""
    d, inside = DICTIONARIES[0], CLEAN.batch.mask
    edited = MODEL.rerun(CLEAN, Patch.zero(latent("m0")))["m0"][inside]
    again = edited - d.decode(d.encode(edited), edited)
    assert float((again - CLEAN["m0.e"][inside]).norm()) > 0.1


def test_putting_a_run_s_own_parts_back_changes_no_bit():
    for text in ("m0.l3 = c", "m0.e = c", "a1.l.b = c", "m1.e = c", "hold m0.l3 m0.e m2.l5 = c"):
        with pytest.warns(UserWarning, match="changed nothing"):
            found = MODEL.rerun(CLEAN, Patch.parse(text, GIVEN))
        assert torch.equal(found.logits.nan_to_num(), CLEAN.logits.nan_to_num())


def test_parts_of_two_cuts_are_refused_together():
    for a, b in (("m0.n3", "m0.l3"), ("m0.b", "m0.e"), ("a1.0", "a1.l3"), ("a1.0.z", "a1.l.b")):
        for text in (f"{a} = 0; {b} = 0", f"{a}@3 = 0; {b} = o", f"{a}@E = 0; {b}@-1 *= 2"):
            with pytest.raises(PatchError, match="both decide"):
                MODEL.rerun(CLEAN, Patch.parse(text, GIVEN))
        Patch.parse(f"{a}@3 = 0; {b}@4 = 0", GIVEN)
    for text in (
        "m0 = 0; m0.l3 = 0",
        "hold mlps = c; hold m0.l3 = o",
        "hold heads = c; hold a1.e = o",
    ):
        with pytest.raises(PatchError, match=r"both decide|at two values"):
            Patch.parse(text, GIVEN)
    Patch.parse("m0.l3 = 0; m0.l4 = 0; m0.l.b = 0; m0.e = 0; m1.n3 = 0", GIVEN)
    with pytest.raises(PatchError, match=r"holds no m0\.e"):
        Patch.parse("hold mlps but m0.e = c", GIVEN)


def test_an_edge_and_an_input_that_meet_in_one_prompt_alone_are_refused():
    """@-3 is @2 in the prompt of five tokens."""
    for sender in ("m0.b", "m0.l.b"):
        for port in ("a2.q@2", "a2.1.q@2"):
            with pytest.raises(PatchError, match="both decide"):
                MODEL.rerun(CLEAN, Patch.parse(f"{sender}>a2.1.q@-3 = 0; {port} = o", GIVEN))
        MODEL.rerun(CLEAN, Patch.parse(f"{sender}>a2.1.q@-3 = 0; a2.0.q@2 = o", GIVEN))


def test_an_edit_without_its_dictionary_says_how_to_have_one():
    clean = run(1, PLAIN)
    for line in ("m0.l3 = 0", "m0.l3>out = 0", "hold m0.l3 = 0"):
        with pytest.raises(AddressError, match=r"with_dictionaries\("):
            PLAIN.rerun(clean, line)
    with pytest.raises(AddressError, match="latent 24 of 24"):
        MODEL.rerun(CLEAN, "m0.l24 = 0")


def test_what_is_computed_anew_tells_nothing_of_earlier_edits():
    first = MODEL.rerun(
        CLEAN,
        parsed(
            "m0.L = 2; a1.0 = v; m1.n3 = o; a0.b += v; resid2.mid.L = 0; resid1.e = 0; "
            "a2.1.pattern@3 = o; a2.0@4<1 = 0; m2.in@3 = o; m2 *= 0.5; m1.L>out = 0"
        ),
    )
    emb = parsed("emb@0 += v")  # reaches every row
    again, plain = MODEL.rerun(first, emb), MODEL.rerun(CLEAN, emb)
    inside = CLEAN.batch.mask
    for name in (*NAMES, "a2.0", "a2.1", "a2.0<1", "m2", "a2.1.pattern", "out", "m2.in"):
        found, said = again[name], plain[name]
        assert torch.equal(found.nan_to_num(), said.nan_to_num()), name
    assert not torch.equal(first["m0"][inside], plain["m0"][inside]), "there is something to lose"


def test_an_edited_run_is_edited_again_and_grows():
    first = MODEL.rerun(CLEAN, parsed("m0.L@3 = 2"))
    second = MODEL.rerun(first, parsed("m0.l.b@3 += v"))
    both = MODEL.rerun(CLEAN, parsed("m0.L@3 = 2; m0.l.b@3 += v"))
    torch.testing.assert_close(second.logits, both.logits, equal_nan=True)
    with pytest.raises(PatchError, match="vector in the place of"):
        MODEL.rerun(first, parsed("m0 *= 0.5"))
    one = MODEL.run(CLEAN.tokens[:1, :6])
    longer = grown(MODEL.rerun(one, parsed("m0.L@3 = 2")), 7)
    assert torch.equal(
        longer[latent("m0")][:, 3], MODEL.rerun(one, parsed("m0.L@3 = 2"))[latent("m0")][:, 3]
    )
    assert split.closure(longer, "m0").holds
    assert replace(longer, overrides={})["m0"].shape == (1, 7, 16)
