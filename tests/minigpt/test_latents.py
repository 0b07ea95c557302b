"""Latents as nodes: a model with dictionaries is the same model, its runs are read by latent, bias
and error, and these sum to what they split."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from interp import split
from minigpt import GPT2, Patch, Trace, parse
from minigpt.dictionary import Dictionary, TopK
from minigpt.errors import AddressError, ParamsError, PatchError
from tests.conftest import tiny
from tests.minigpt.test_dictionary import ACTIVATIONS, GATED, THRESHOLD, N, random_dictionary
from tests.minigpt.test_trace import prompts

# One of each place and kind, between them every setting.
DICTIONARIES = (
    random_dictionary("m0", activation=TopK(5), normalise="layer_norm", centred=True),
    random_dictionary("a1", activation=THRESHOLD, normalise="centre", scale=0.7),
    random_dictionary("m1.act", 8, 8, activation=GATED),
    random_dictionary("m2.in", skip=random_dictionary().encoder[:, :16]),
    random_dictionary("resid1", normalise="layer_norm", centred=True),
    random_dictionary("resid2.mid", activation=TopK(3), normalise="rms"),
)
WHOLES = ("m0", "a1", "m1", "m2", "resid1", "resid2.mid")
PLAIN = tiny(3, 2, 16, 8, dtype=torch.float64)
MODEL = PLAIN.with_dictionaries(*DICTIONARIES)


def run(model: GPT2 = MODEL, seed: int = 0) -> Trace:
    return model.run(prompts(lengths=(7, 5, 7), seed=seed))


RUN = run()


def test_the_model_keeps_every_bit_and_no_dictionary_is_computed_unless_asked_for(monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("encoded without need")

    monkeypatch.setattr(Dictionary, "encode", never)
    with_them, without = run(MODEL), run(PLAIN)
    assert torch.equal(with_them.logits.nan_to_num(), without.logits.nan_to_num())
    tokens = with_them.tokens
    assert torch.equal(MODEL.forward(tokens), PLAIN.forward(tokens))
    assert PLAIN.params.dictionaries == {}
    with pytest.raises(AssertionError, match="without need"):
        with_them["m0.l3"]


def test_the_parts_are_what_the_dictionary_says():
    m0, act, read = RUN["m0"], RUN.act("m1"), RUN["m2.in"]
    inside = RUN.batch.mask
    d = DICTIONARIES[0]
    z = d.encode(m0[inside])
    assert torch.equal(RUN.act("m0.l")[inside], z)
    assert torch.equal(RUN.act("m0.l3")[inside], z[:, 3])
    assert torch.equal(RUN["m0.l3"][inside], z[:, 3:4] * d.direction(3, m0[inside]))
    assert torch.equal(RUN["m0.l.b"][inside], d.bias(m0[inside]))
    assert torch.equal(RUN["m0.e"][inside], m0[inside] - d.decode(z, m0[inside]))
    torch.testing.assert_close(RUN["m0.l"][inside] + d.bias(m0[inside]), d.decode(z, m0[inside]))
    d, w_out = DICTIONARIES[2], MODEL.params.blocks[1].w_out
    z = d.encode(act[inside])
    torch.testing.assert_close(RUN["m1.l3"][inside], z[:, 3:4] * (d.decoder[3] @ w_out))
    torch.testing.assert_close(
        RUN["m1.e"][inside], (act[inside] - d.decode(z, act[inside])) @ w_out
    )
    d = DICTIONARIES[3]
    z = d.encode(read[inside])
    torch.testing.assert_close(RUN["m2.e"][inside], RUN["m2"][inside] - d.decode(z, read[inside]))
    assert torch.equal(RUN.act("resid2.mid.l3")[inside], RUN.act("resid2.mid.l")[inside][:, 3])


@pytest.mark.parametrize("name", ["m0.l3", "m0.l", "m0.l.b", "m0.e", "a1.l3", "m1.e", "resid1.e"])
def test_a_position_and_a_prompt_alone_have_the_same_bits(name):
    model = replace(MODEL, params=MODEL.params.to(dtype=torch.float32))
    trace = run(model)
    at = trace[f"{name}@-1"]
    assert torch.equal(at, trace[name][torch.arange(3), torch.tensor([6, 4, 6])])
    alone = model.run(trace.tokens[1:2, :5])
    assert torch.equal(alone[name][0], trace[name][1, :5])
    assert trace[name].isnan()[1, 5:].all(), "nothing behind the end"


@pytest.mark.parametrize("whole", WHOLES)
@pytest.mark.parametrize("how", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_parts_sum_to_the_whole_under_the_bound_and_not_without_one_of_them(whole, how, dtype):
    known = MODEL.params.dictionaries[whole]
    if whole != "m1" or how != "gated":
        known = replace(known, activation=ACTIVATIONS[how])
    trace = run(PLAIN.with_dictionaries(known).to(dtype=dtype))
    found = split.closure(trace, whole)
    assert found.holds
    assert found.worst > 1e-6, "so small a share that the bound says nothing"
    for part in ("l.b", "e", f"l{int(trace.act(f'{whole}.l').nansum((0, 1)).argmax())}"):
        missing = trace[f"{whole}.{part}"].nan_to_num().abs()
        assert not bool((found.gap + missing <= found.bound).all()), f"{part} left out"


def test_an_address_of_a_latent_spells_itself_and_is_a_part_of_its_whole():
    for text in (
        "m3.l127 m3.l.b m3.e m3.l a5.l9 a5.l.b a5.e a5.l resid6.l12 resid6.l.b resid6.e resid6.l "
        "resid6.mid.l3 resid6.mid.l.b resid6.mid.e resid6.mid.l"
    ).split():
        for at in ("", "@-1", "@S2"):
            assert str(parse(text + at)) == text + at
        site = parse(text).site
        assert site.is_latent
        assert site.whole.contains(site) == (not site.kind.endswith("ls"))
        assert not site.contains(site.whole)
        assert not replace(site.whole, layer=7).contains(site)
    assert str(parse("m3.l127>a5.1.q@3")) == "m3.l127>a5.1.q@3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("m1.l3", r"no dictionary of m1\n.*m0\n.*with_dictionaries"),
        ("a0.e", "no dictionary of a0"),
        ("resid1.mid.l.b", "no dictionary of resid1.mid"),
        (f"m0.l{N}", f"latent {N} of {N}\n.*0 to {N - 1}\n.*'m0.l{N - 1}'"),
    ],
)
def test_an_address_without_its_dictionary_says_how_to_have_one(text, said):
    trace = run(PLAIN.with_dictionaries(DICTIONARIES[0]))
    with pytest.raises(AddressError, match=said):
        trace[text]
    if ".l" in text and ".b" not in text:
        with pytest.raises(AddressError, match=said):
            trace.act(text)
    with pytest.raises(AddressError, match="layer 9 of 3"):
        trace["m9.l3"]


def test_what_has_no_activation_is_refused():
    for text in ("m0.e", "m0.l.b", "a1"):
        with pytest.raises(AddressError, match="has no activation"):
            RUN.act(text)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([random_dictionary("m3")], "layers 0 to 2"),
        ([random_dictionary("resid4")], "layers 0 to 3"),
        ([random_dictionary("m0.act")], r"16 and gives back 16 numbers\n.*8 and 8"),
        ([random_dictionary("m0", 32, 32)], "16 and 16, the width of m0"),
        ([random_dictionary("m0"), random_dictionary("m0")], "explains that already"),
        ([random_dictionary("m0"), random_dictionary("m0.act", 8, 8)], "explains that already"),
    ],
)
def test_a_dictionary_that_does_not_fit_the_model_is_refused(given, said):
    with pytest.raises(ParamsError, match=said):
        PLAIN.with_dictionaries(*given)
    assert PLAIN.with_dictionaries(random_dictionary("resid3")).params.dictionaries


def test_dictionaries_go_where_the_model_goes():
    model = PLAIN.with_dictionaries(DICTIONARIES[1]).to(dtype=torch.float32)
    assert model.params.dictionaries["a1"].encoder.dtype == torch.float32
    assert model.with_dictionaries(DICTIONARIES[0]).params.dictionaries.keys() == {"a1", "m0"}
    assert run(model)["a1.l3"].dtype == torch.float32


@pytest.mark.parametrize("text", ["resid1.l", "resid2.mid.l", "m0.l", "a1.l"])
def test_what_can_only_be_read_is_no_edit(text):
    for line in (f"{text} = 0", f"{text} *= 2", f"hold {text} = 0"):
        with pytest.raises(PatchError, match=f"'{text}' is can be read, and not written"):
            Patch.parse(line, {})
