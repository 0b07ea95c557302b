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
# # 11 A finding of a paper, on the real GPT-2
#
# *Greater-than: "The war lasted from the year 1732 to the year 17" must go on with a number above 32. Hanna et al. 2023 found the heads and MLPs that do it.*
#
# This lesson needs GPT-2's real weights (`interp fetch gpt2`, 550 MB). Where they are not at hand it says so, and takes the embedded model, which learned
# the same task from made-up sentences: the steps are the same, the heads are others.

# %%
import weights
from interp import patching
from interp.tasks import greater_than

at_hand = {entry.name: entry.at_hand for entry in weights.models()}
name = "gpt2" if at_hand["gpt2"] else "tasks-mini"
if name != "gpt2":
    print("GPT-2's weights are not here: interp fetch gpt2. Going on with tasks-mini.")
model = weights.load(name)

# %%
import warnings

from interp.tasks.vocabulary import VocabularyWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", VocabularyWarning)
    pairs = greater_than.prompts(model.tokenizer, 60, 0)
measure = greater_than.metric(pairs)
pairs

# %% [markdown]
# **Predict first.** The measure is the probability of all later years less that of all others. For a model that can do it: near 0, near 0.5, near 1? The
# paper has 0.817 for GPT-2 small.

# %%
clean = float(measure(model.run(pairs)).mean())
corrupt = float(measure(model.run(pairs.corrupted)).mean())
clean, corrupt

# %% [markdown]
# In the twin the first year ends in 01: every year is later. Which nodes, with the twin's values, cost most?

# %%
found = patching.nodes(model, pairs, measure, over="heads", direction="noising")
mlps = patching.nodes(model, pairs, measure, over="mlps", direction="noising")
found.top(6), mlps.top(4)

# %%
found.figure()

# %% [markdown]
# The paper: heads `a5.1`, `a5.5`, `a6.1`, `a6.9`, `a7.10`, `a8.11`, `a9.1` look at the first year and MLPs 8 to 11 turn it into "more than that". On GPT-2 the cell
# below holds your heads against theirs.

# %%
theirs = {"a5.1", "a5.5", "a6.1", "a6.9", "a7.10", "a8.11", "a9.1"}
largest = [address for address, _ in found.top(7)]
if name == "gpt2":
    print(f"{len(theirs & set(largest))} of the paper's 7 heads are among your 7 largest")
largest

# %% [markdown]
# ## What you found
#
# - A paper's finding is a handful of calls: prompts, a measure, a patch.
# - Write down what you predicted, what you measured, and on which weights.

# %% tags=["remove-cell", "claim"]
assert clean > 0.5
assert corrupt < clean
if name == "gpt2":
    assert abs(clean - 0.817) < 0.05
    assert len(theirs & set(largest)) >= 4
