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
# # 2 Direct attribution, and why the rows must sum
#
# *Which writes push the answer up, which push it down, and by how much? The numbers add up, or they are wrong.*
#
# The stream is a sum of writes, and a logit is (nearly) a weighted sum of the stream's numbers. So a logit is a sum too, with one term for each *node*: a head,
# an MLP, the token's own vector, a bias (numbers that a layer adds whatever it reads).

# %%
import weights
from interp import attribution, metrics

model = weights.load("ioi-mini")
trace = model.run("When Mary and John went to the store, John gave a drink to")
to = model.tokenizer.single
metric = metrics.logit_diff(answers=to(" Mary"), distractors=to(" John"))
difference = float(metric(trace)[0])
difference

# %% [markdown]
# This is the *logit difference*: Mary's logit less John's. Above zero Mary is the likelier of the two; each unit makes her e = 2.7 times as likely as before,
# compared with John.
#
# **Predict first.** The name must come from where Mary stands. Which kind of node can bring it to the last position: a head or an MLP?

# %%
effects = attribution.direct(trace, metric)
effects.top(10)

# %% [markdown]
# Each row is a node's *direct effect*: what its write adds to the difference, as the logits are read off the stream. `top(10)` are the ten largest by size, of
# either sign; a negative row speaks for John.
#
# Only a head can bring the name, since only heads look at other positions. And yet the largest row is an MLP's: it works on what heads have brought.
# Attribution says who *wrote* the answer, not who *caused* it; lessons 4 and 5 ask that.
#
# ## The rows sum
#
# Before logits are read, the stream is divided by its own spread (*LayerNorm*), which no single write decides. That divisor is taken as it is in this run, and
# then the rest is a sum:

# %%
total = float(effects.values.sum())
closure = attribution.closure(trace, metric, effects)
total, difference, closure

# %% [markdown]
# `gap` is how far the sum is from the metric, `bound` the most that rounding could make of it. Where a gap is over its bound, a bias was forgotten or the divisor
# was another run's. Here every bias is a row of its own.

# %%
effects.heads().figure()

# %% [markdown]
# ## Exercises
#
# **2.1** What do all heads together add to the logit difference? (`effects.heads()` are their rows, `.values` the numbers.)

# %%
from interp.learn import check

check("2.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("2.1", effects.heads().values.sum())

# %% [markdown]
# **2.2** Which single head adds most for Mary? Give its address as text, as in `"a1.5"`.

# %%
check("2.2", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("2.2", effects.heads().top(1, 1).addresses[0])

# %% [markdown]
# ## What you found
#
# - A logit difference is the sum of its rows, one for each node, exactly.
# - In this model the last MLP writes most of it. In GPT-2 small heads do; a small model that is very sure has its MLP sharpen what heads bring.

# %% tags=["remove-cell", "claim"]
assert abs(total - difference) < 1e-4
assert effects.top(1).addresses[0] == "m3"
assert abs(float(effects["m3"]) - 12.27) < 0.01
