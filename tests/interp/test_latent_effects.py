"""Direct effects of latents sum to the metric; patching and knocking out a latent is one rerun."""

from __future__ import annotations

import pytest
import torch

from interp import attribution, metrics, patching
from interp.tasks import Prompts
from minigpt import Patch
from minigpt.errors import AddressError
from tests.minigpt.test_latents import MODEL

CLEAN = torch.randint(1, 50, (3, 6), generator=torch.Generator().manual_seed(1))
CORRUPT = torch.randint(1, 50, (3, 6), generator=torch.Generator().manual_seed(2))
PAIRS = Prompts(CLEAN, CORRUPT, torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]))
METRIC = metrics.logit_diff(PAIRS)
RUN = MODEL.run(PAIRS)
V = torch.linspace(-1, 1, 16, dtype=torch.float64)
SPLITS = (
    *(["m0"], ["a1"], ["m1"], ["m0", "a1", "m1", "m2"]),
    *(["resid1"], ["resid1", "a1", "m2"], ["resid2.mid"]),
)
STREAMS = (
    "resid1.l3 = 2; resid2.mid.e = 0; m0.l3 = 0",
    "resid1 += v; a1.0 = v; emb@1 = v; a2 = 0",
)
EDITS = (
    "",
    *STREAMS,
    "m0.l3 = 2; m1.e = 0",
    "m0.n3@4 = 1; m0.b@4 *= 2; a1.l.b *= 3",
    "m1.n2 *= 3; m2 = 0",
)


@pytest.mark.parametrize("text", EDITS)
@pytest.mark.parametrize("latents", SPLITS, ids=" ".join)
def test_rows_of_latents_bias_and_error_sum_to_the_metric(latents, text):
    trace = MODEL.rerun(RUN, Patch.parse(text, {"v": V})) if text else RUN
    effects = attribution.direct(trace, METRIC, latents=latents)
    found = attribution.closure(trace, METRIC, effects)
    assert found.gap < 1e-11
    toward = attribution.gradient(trace, METRIC)
    rows = dict(zip(effects.addresses, effects.per_prompt, strict=True))
    assert len(rows) == len(effects.addresses), "no row twice"
    for whole in latents:
        own = sum(x for name, x in rows.items() if name.startswith(f"{whole}."))
        torch.testing.assert_close(own, (trace[f"{whole}@-1"] * toward).sum(-1))
        assert whole not in rows
        assert f"{whole}.e" in rows


def test_what_is_split_otherwise_is_refused():
    for given, sources in (
        (["a1"], True),
        (["m0.n3"], False),
        (["resid1"], True),
        (["resid1", "m0"], False),
        (["resid1", "resid2.mid"], False),
    ):
        with pytest.raises(AddressError, match="latents of"):
            attribution.direct(RUN, METRIC, latents=given, sources=sources)
    once, twice = (attribution.direct(RUN, METRIC, latents=["m0"] * n) for n in (1, 2))
    assert once.addresses == twice.addresses


def test_what_latents_changed_is_split_into_writes_and_scale():
    after = MODEL.rerun(RUN, "m0.l3 = 2")
    found = attribution.changed(RUN, after, METRIC, latents=["m0", "m1"])
    write = dict(zip(found.write.addresses, found.write.per_prompt, strict=True))
    toward = attribution.gradient(RUN, METRIC)
    own = (after["m0.l3@-1"] - RUN["m0.l3@-1"]) * toward
    torch.testing.assert_close(write["m0.l3"], own.sum(-1))
    assert not write["m0.e"].any(), "the error does not hide it"
    assert write["m1.e"].any()
    both = (found.write.per_prompt + found.scale.per_prompt).sum(0)
    torch.testing.assert_close(both, METRIC(after) - METRIC(RUN))


def test_latents_are_patched_and_knocked_out_in_a_sweep():
    on = {whole: int(RUN.act(f"{whole}.l@-1").sum(0).argmax()) for whole in ("m0", "m1")}
    over = [f"m0.l{on['m0']}", f"m0.l{on['m0']}@-1", "m0.e", "a1.l.b", f"m1.l{on['m1']}"]
    swept = patching.nodes(MODEL, PAIRS, METRIC, over=over, direction="noising")
    corrupt = MODEL.run(PAIRS.corrupted)
    for name, found in zip(over, swept.per_prompt, strict=True):
        alone = METRIC(MODEL.rerun(RUN, Patch.write(name, corrupt))) - METRIC(RUN)
        torch.testing.assert_close(found, alone)
    assert patching.knockout(MODEL, PAIRS, METRIC, over=over).addresses == tuple(over)
