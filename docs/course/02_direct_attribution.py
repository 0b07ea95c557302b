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
# The stream is a sum, and a logit is (nearly) a weighted sum of the stream's numbers. So a logit is a sum over writes too.

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
# This is the *logit difference*: Mary's logit less John's. Above zero the model says Mary; each unit makes it e = 2.7 times as likely beside John.
#
# **Predict first.** The name must come from where Mary stands. Which kind of node can bring it to the last position: a head or an MLP?

# %%
effects = attribution.direct(trace, metric)
effects.top(10)

# %% [markdown]
# The largest row is an MLP's. It did not bring the name: it can only work on what heads have brought. Attribution says who *wrote* the answer, not who
# *caused* it; lessons 4 and 5 ask that.
#
# ## The rows sum
#
# LayerNorm divides the stream by its spread before logits are read. That divisor is taken as it is in this run, and then the rest is a sum:

# %%
total = float(effects.values.sum())
closure = attribution.closure(trace, metric, effects)
total, difference, closure

# %% [markdown]
# Where rows do not sum, a bias was forgotten or the divisor was another run's. Here every bias is a row of its own, and the sum is checked against a bound
# on what rounding may do.

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
# **2.2** Which single head adds most?

# %%
check("2.2", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("2.2", effects.heads().top(1, 1).addresses[0])

# %% [markdown]
# ## What you found
#
# - A logit difference is a sum of one row a node, exactly.
# - In this model the last MLP writes most of it. In GPT-2 small heads do; a small model that is very sure has its MLP sharpen what heads bring.

# %% tags=["remove-cell", "claim"]
assert abs(total - difference) < 1e-4
assert effects.top(1).addresses[0] == "m3"
assert abs(float(effects["m3"]) - 12.27) < 0.01
