# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7 What numbers are worth: rounding, ULPs, audits
#
# *A difference of 1e-6 may be a finding or a rounding error. One can know which.*

# %%
import torch

import weights
from interp import attribution, metrics
from interp.numerics import ulp

prompt = "When Mary and John went to the store, John gave a drink to"
model = weights.load("ioi-mini")
wide = weights.load("ioi-mini", dtype=torch.float64)
to = model.tokenizer.single(" Mary")
ours = model.run(prompt).logits[0, -1]
true = wide.run(prompt).logits[0, -1]
float(ours[to]), float(true[to])

# %% [markdown]
# float32 has 24 binary digits. The distance from one float32 to the next is a *ULP*, a unit in the last place; for numbers near 17 that is 0.0000019.
#
# **Predict first.** After 4 layers of sums of hundreds of terms: how many ULP are these logits off?

# %%
off = ulp.error(ours, true)
float(off[to]), float(off.abs().median()), float(off.abs().max()), float((ours - true).abs().max())

# %% [markdown]
# A few. Where it is hundreds, the logit is close to zero, where a unit in the last place is tiny: the error itself (the last number) is nowhere larger.
#
# ## The order of a sum
#
# The same numbers added in another order give other last digits. That is why a prompt's logits often change with the size of its batch, and why a patch that
# changes nothing seems to change something. Here it does not: sums are taken in a fixed order.

# %%
alone = model.run([prompt]).logits[0, -1]
others = ["The war lasted from the year 1732 to", prompt, "Mary had a good day"]
among = model.run(others)
same = torch.equal(alone, among.logits[1, among.batch.lengths[1] - 1])
same

# %%
trace = model.run(prompt)
metric = metrics.logit_diff(answers=to, distractors=model.tokenizer.single(" John"))
effects = attribution.direct(trace, metric)
closure = attribution.closure(trace, metric, effects)
closure

# %% [markdown]
# `gap` is by how much the rows miss the metric, `bound` how far rounding alone could have brought them apart (Higham 2002). A gap beyond the bound is a bug;
# a finding smaller than the bound is none.

# %%
from interp import figures

counts = torch.histc(off.float(), bins=9, min=-9, max=9)
figures.bars({f"{int(x)}": float(n) for x, n in zip(range(-8, 9, 2), counts)}, "logits", "ULP off")

# %% [markdown]
# `interp audit` asks all of it, promise by promise, on your model, your prompts and your machine.
#
# ## Exercises
#
# **7.1** How many ULP is the logit of `" Mary"` from its true value? (`off`, with its sign.)

# %%
from interp.learn import check

check("7.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("7.1", off[to])

# %% [markdown]
# ## What you found
#
# - Every number has a last digit that means nothing. Bounds say from where on.
# - Two runs can agree to the bit, if someone sees to it that sums are taken in one order.

# %% tags=["remove-cell", "claim"]
assert same
assert float(off.abs().median()) < 20
assert float((ours - true).abs().max()) < 5e-5
assert closure.holds
