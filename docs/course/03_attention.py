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
# # 3 Attention: induction heads, and what redundancy is worth
#
# *Some heads look for what came next the last time. Take one away and little happens; take all five and nothing is left.*
#
# A head looks from each position at those up to it: its *attention* there is one weight for each of them, and the weights sum to 1. What it brings along is
# what stands there, so weighted. Give the model random words, twice: the second time it can know what comes, if some head finds the word's first time and looks
# at the word **after** it. Such a head is an *induction head* (Olsson et al. 2022).

# %%
import weights
from interp import heads, lens
from minigpt import Patch

model = weights.load("ioi-mini")
words = heads.words(model.tokenizer)
rows = heads.repeated(model.config, among=words)
trace = model.run(rows)
model.tokenizer.text(rows[0, 0]), rows.shape

# %% [markdown]
# 32 rows of 25 words, each row said twice.
#
# The *loss* at a word is how surprised the model is by it: less the logarithm of the probability that it gave it. Certainty is 0; guessing blindly among the 402
# words that were drawn from is ln 402 = 6.0.
#
# **Predict first.** The loss over the first 25 words, and over the same words again? (Number i is of word i + 1; behind the last word comes none.)

# %%
losses = lens.losses(trace)
first, second = float(losses[:, :24].mean()), float(losses[:, 25:-1].mean())
first, second

# %% [markdown]
# As blind as guessing, then nearly certain. Who does it? The *induction score* of a head is the attention that it pays, the second time, to the word after the
# first time, on average:

# %%
from interp import figures

scores = heads.induction(model, among=words)
figures.grid(scores, "attention to the token after the first time")

# %% [markdown]
# Five heads of layer 2 do it. Where one of them looks, in one row (each line is a position that looks; dark is much attention):

# %%
head = "a2.6"
pieces = model.tokenizer.pieces(rows[0].tolist())
figures.patterns(pieces, {head: trace[f"{head}.pattern"][0]})

# %% [markdown]
# `Patch.zero("a2.6")` is an intervention, an *ablation*: this head writes nothing. `model.rerun(trace, patch)` computes what follows from that; the model itself
# stays as it is.
#
# **Predict first.** Without one of the five, does the loss at the second time go up a little, or back to the first time's?


# %%
def second_half(*without):
    patch = Patch.all(Patch.zero(head) for head in without)
    after = model.rerun(trace, patch) if without else trace
    return float(lens.losses(after)[:, 25:-1].mean())


five = ["a2.2", "a2.3", "a2.4", "a2.6", "a2.7"]
without_one, without_all = second_half("a2.6"), second_half(*five)
second, without_one, without_all

# %% [markdown]
# One head less costs next to nothing, and one would think that it does nothing. All five less, and the model is more surprised than it was at the words' first
# time. That is worse than guessing: the right word has a probability of e^-10, by a blind guess it would have e^-6. **A small effect of one node does not say
# that the node does not matter**: others do the same.
#
# ## Exercises
#
# **3.1** Which head has the largest induction score? (`scores` is [layer, head]; `divmod(int(scores.argmax()), 8)` are both; the answer is an
# address.)

# %%
from interp.learn import check

check("3.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
layer, number = divmod(int(scores.argmax()), 8)
check("3.1", f"a{layer}.{number}")

# %% [markdown]
# **3.2** The loss at the second time when `a2.7` alone is left of the five?

# %%
check("3.2", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("3.2", second_half(*five[:-1]))

# %% [markdown]
# ## What you found
#
# - Induction heads are found by where they look on random words.
# - Redundant heads hide from single ablations. Take sets away, or ask for the path (lesson 5).

# %% tags=["remove-cell", "claim"]
assert second < 0.1 < first
assert without_one < 0.2 and without_all > 8 > first + 1
