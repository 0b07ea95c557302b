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
# # 8 Latents
#
# *An MLP's write is one row of a table. A dictionary cuts it into a few of many latents, and says what it leaves over.*

# %%
import weights
from interp import attribution, latents, metrics
from minigpt import Patch

model = weights.load("ioi-mini")
model = model.with_dictionaries(*weights.load_dictionaries("ioi-mini:m3", model=model))
trace = model.run("When Mary and John went to the store, John gave a drink to")
to = model.tokenizer.single
metric = metrics.logit_diff(answers=to(" Mary"), distractors=to(" John"))

# %% [markdown]
# A sparse autoencoder is trained to write `m3`'s output as a sum of few directions out of 512. It is not part of the model: its latents, its bias and its
# *error* are one more way to cut the same write, and they sum to it.
#
# **Predict first.** Of 512 latents, how many are on at one position?

# %%
on = trace.act("m3.l")[0, -1] > 0
int(on.sum())

# %%
rows = attribution.direct(trace, metric, latents=["m3"])
of_m3 = {name: effect for name, effect in rows if name.startswith("m3.")}
error, whole = of_m3["m3.e"], sum(of_m3.values())
sorted(of_m3.items(), key=lambda row: -row[1])[:5], error, whole

# %% [markdown]
# `m3.e` is what the dictionary does not explain. Tools that hide it make their explanations look complete. Here it is a row like any other.
#
# What does the strongest latent stand for? **Predict first**: does it push up one name? The words that it pushes up most:

# %%
first = max((name for name in of_m3 if ".l" in name), key=of_m3.__getitem__)
pushed = latents.promotes(model.params, first).topk(6).indices
first, [model.tokenizer.text(int(i)) for i in pushed]

# %% [markdown]
# A jumble: it stands for no word. It is on where a name is due, and the names come of several latents together.
#
# **Predict first.** Its direct effect is about +2.1. How much is lost when it is taken out: more, less, the same?

# %%
clean = float(metric(trace)[0])
lost = clean - float(metric(model.rerun(trace, Patch.zero(f"{first}@-1")))[0])
without_error = float(metric(model.rerun(trace, Patch.zero("m3.e")))[0])
of_m3[first], lost, (clean, without_error)

# %% [markdown]
# Less: without it the final LayerNorm divides by another spread. And without the error the answer stands: for this question the latents tell the story.

# %%
from interp import figures

figures.bars(dict(sorted(of_m3.items(), key=lambda row: -abs(row[1]))[:10]), "direct effect", "m3")

# %% [markdown]
# ## Exercises
#
# **8.1** How many latents of `m3` are on at the last position?

# %%
from interp.learn import check

check("8.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("8.1", on.sum())

# %% [markdown]
# **8.2** Which one adds most to the difference?

# %%
check("8.2", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("8.2", first)

# %% [markdown]
# ## What you found
#
# - Latents, bias and error sum to the write; an edit of one leaves the model what it is.
# - A direct effect is not what is lost: test by intervention.

# %% tags=["remove-cell", "claim"]
assert 0 < lost < of_m3[first]
assert abs(without_error - clean) < 0.5
assert of_m3[first] < whole / 5
