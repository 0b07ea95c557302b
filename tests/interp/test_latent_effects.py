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
SPLITS = (["m0"], ["a1"], ["m1"], ["m0", "a1", "m1", "m2"])
EDITS = ("", "m0.l3 = 2; m1.e = 0", "m0.n3@4 = 1; m0.b@4 *= 2; a1.l.b *= 3", "m1.n2 *= 3; m2 = 0")


@pytest.mark.parametrize("text", EDITS)
@pytest.mark.parametrize("latents", SPLITS, ids=" ".join)
def test_rows_of_latents_bias_and_error_sum_to_the_metric(latents, text):
    trace = MODEL.rerun(RUN, text) if text else RUN
    effects = attribution.direct(trace, METRIC, latents=latents)
    found = attribution.closure(trace, METRIC, effects)
    assert found.gap < 1e-11
    coarse = attribution.direct(trace, METRIC)
    plain = dict(zip(coarse.addresses, coarse.per_prompt, strict=True))
    rows = dict(zip(effects.addresses, effects.per_prompt, strict=True))
    assert len(rows) == len(effects.addresses), "no row twice"
    for whole in latents:
        own = [x for name, x in rows.items() if name.partition(".")[0] == whole]
        if whole[0] == "m":
            torch.testing.assert_close(sum(own), plain[whole])
        assert whole not in rows
        assert f"{whole}.e" in rows


def test_what_is_split_otherwise_is_refused():
    for given, sources in ((["a1"], True), (["m0.n3"], False), (["resid1"], False)):
        with pytest.raises(AddressError, match="latents of"):
            attribution.direct(RUN, METRIC, latents=given, sources=sources)


def test_latents_are_patched_and_knocked_out_in_a_sweep():
    on = {whole: int(RUN.act(f"{whole}.l@-1").sum(0).argmax()) for whole in ("m0", "m1")}
    over = [f"m0.l{on['m0']}", f"m0.l{on['m0']}@-1", "m0.e", "a1.l.b", f"m1.l{on['m1']}"]
    swept = patching.nodes(MODEL, PAIRS, METRIC, over=over, direction="noising")
    corrupt = MODEL.run(PAIRS.corrupted)
    for name, found in zip(over, swept.per_prompt, strict=True):
        alone = METRIC(MODEL.rerun(RUN, Patch.write(name, corrupt))) - METRIC(RUN)
        torch.testing.assert_close(found, alone)
    assert patching.knockout(MODEL, PAIRS, METRIC, over=over).addresses == tuple(over)
