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
# # 9 Components on a corpus, and explanations that are tested
#
# *What a neuron does on one prompt is an anecdote. On a corpus it has a profile, and a sentence about it can be right or wrong.*

# %%
import json
import tempfile
from pathlib import Path

import pandas as pd

import weights
from interp.corpus.make import make
from weights.catalog import CONCEPTS, EXPLAINED

model = weights.load("ioi-mini")
lines = CONCEPTS.read_text("utf-8").splitlines()[:80]
folder = Path(tempfile.mkdtemp())
corpus = folder / "texts.jsonl"
corpus.write_text("\n".join(json.dumps({"text": json.loads(line)["text"]}) for line in lines))
store = make(model, [corpus], folder / "store")
store

# %% [markdown]
# One pass over 80 sentences; of every head and neuron the store keeps statistics and the windows in which it was largest.

# %%
page = store.component("a2.6")
for example in page.of("top")[:4]:
    print(f"{example.value:6.2f}  {example.before!r}")

# %% [markdown]
# **Predict first.** In one sentence: when does this neuron come on?

# %%
neuron = "m0.n5"
for example in store.component(neuron).of("top")[:6]:
    print(f"{example.value:6.2f}  {example.before!r}")

# %% [markdown]
# ## A sentence is a prediction
#
# If a sentence is right, one can tell from the text alone where the neuron is on. *Simulation* is how well that correlates with what the neuron does, on
# documents that the sentence was not made from. And it means nothing alone: beside it stand three things that cost nothing.

# %%
every = pd.read_parquet(EXPLAINED)
shown = ["address", "sentence", "simulation", "its_top_tokens", "another", "nothing"]
neurons = every[every.address.str.contains(r"\.n")]
neurons.sort_values("simulation", ascending=False)[shown].head(8)

# %% [markdown]
# **Predict first.** Of 2,048 neurons, how many have a sentence that predicts better than just listing the tokens where they are largest?

# %%
better = neurons.simulation > neurons.its_top_tokens
float(better.mean()), float((neurons.simulation > 0.9).mean())

# %%
from interp import figures

bins = pd.cut(neurons.simulation, [-1, 0, 0.2, 0.4, 0.6, 0.8, 1.0]).value_counts().sort_index()
figures.bars(
    {str(k): float(v) for k, v in bins.items()}, "neurons", "how well their sentence predicts"
)

# %% [markdown]
# ## Exercises
#
# **9.1** What share of the neurons has a sentence that beats their top tokens?

# %%
from interp.learn import check

check("9.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("9.1", better.mean())

# %% [markdown]
# ## What you found
#
# - An explanation without a baseline is a story.
# - `interp component a2.6` opens a component's page; `interp debug` links each row of a question to it.

# %% tags=["remove-cell", "claim"]
assert 0.5 < better.mean() < 1
assert len(page.of("top")) > 4
