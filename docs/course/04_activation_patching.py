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
# # 4 Activation patching: noising against denoising
#
# *Two prompts that differ in one word; values of one run are put into the other. Which way round decides what is asked.*

# %%
import weights
from interp import metrics, patching
from interp.tasks import Prompts, ioi

model = weights.load("ioi-mini")
pairs = Prompts.from_texts(
    model.tokenizer,
    ["When Mary and John went to the store, John gave a drink to"],
    ["When Mary and John went to the store, Mary gave a drink to"],
    [" Mary"],
    [" John"],
)
metric = metrics.logit_diff(pairs)
clean, corrupt = model.run(pairs), model.run(pairs.corrupted)
float(metric(clean)), float(metric(corrupt))

# %% [markdown]
# The first prompt's run is called *clean*, the second's, whose giver is the other person, *corrupt*: its answer is the other name, and the logit difference is
# lower by 42.8. *Denoising* puts one node's **clean** value into the **corrupt** run: is it *enough* to bring the answer back? *Noising* puts its **corrupt**
# value into the **clean** run: is what it says *needed*?
#
# **Predict first.** `a3.4` and `a2.6` both copy the name. Which is larger for such a head: what it brings back alone, or what is lost when it says the
# other thing?

# %%
back = patching.nodes(model, pairs, metric, "heads", direction="denoising")
back.top(6)

# %%
lost = patching.nodes(model, pairs, metric, "heads", direction="noising")
lost.top(6)

# %% [markdown]
# More is lost than comes back: 9.9 and 8.8 of `a3.4`, 12.3 and 5.3 of `a2.6`. Noising does not take a head away, it makes it say the wrong thing, and the others
# have to be louder than that. Taken away altogether, `a2.6` would cost 0.2 here: others say the same, as in lesson 3.
#
# The order differs too: 16.2 is lost when `a2.1` says the other thing, and put back alone it brings hardly anything. And `a0.6`, which brings to the last
# position who gave, turns the answer round altogether: 43.5 of 42.8.
#
# **Signs**: an effect is after less before. Denoising begins with the corrupt run, so that a node that helps is positive; noising begins with the clean run, so
# that the same node is negative. Where the answer lies, position by position:

# %%
patching.nodes(model, pairs, metric, over="resid@").figure()

# %% [markdown]
# All of it stands at `John`'s second time, position 9, until the heads of layer 0 have read it; from then on it stands at the last position, 13.
# (Mary's own place says nothing here: both runs have her there, and what two runs share cannot show.)
#
# ## What instead? Zero, mean, resample
#
# Ablation is noising without a second prompt. What stands in place of a node's value is part of the question: zero (which no run has), the mean over other
# prompts of the same sentence (`"group"`: what it always says there), or what it says on another prompt (`"resample"`). On 60 made-up sentences, drawn with
# the seed 0:

# %%
many = ioi.prompts(model.tokenizer, 60, 0)
of_many = metrics.logit_diff(many)
nodes = ["a3.4", "a2.6", "m3"]
for source in ("zero", "group", "resample"):
    print(patching.knockout(model, many, of_many, nodes, source))

# %% [markdown]
# The same three nodes, and effects that differ by more than a factor of three: a mean takes away only what is particular to a prompt, another prompt's value
# says something wrong.
#
# ## Exercises
#
# **4.1** By how much does `a2.1` move the corrupt run's difference when it is put back from the clean run? (`effects["a0.0"]` is a row of a table of effects.)

# %%
from interp.learn import check

check("4.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("4.1", back["a2.1"])

# %% [markdown]
# **4.2** `a0.6` is first in both lists. Which head's word is *needed* most after its? (`lost.top(6).addresses` are the names of six rows, in their order.)

# %%
check("4.2", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("4.2", lost.top(2).addresses[1])

# %% [markdown]
# ## What you found
#
# - Denoising asks what is enough, noising what is needed; they rank heads differently, and both are right.
# - An effect's size depends on what is put in place. State it.

# %% tags=["remove-cell", "claim"]
assert float(metric(clean)) > 20 and float(metric(corrupt)) < -20
assert back["a3.4"] > 0 > lost["a3.4"]
assert abs(lost["a3.4"]) > back["a3.4"] and abs(lost["a2.6"]) > back["a2.6"]
assert lost["a2.1"] < -10 and abs(back["a2.1"]) < 5
