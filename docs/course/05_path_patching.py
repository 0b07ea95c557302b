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
# # 5 Path patching, three meanings
#
# *A node acts along paths. The same words mean three different experiments, and the numbers differ.*

# %%
import weights
from interp import metrics, patching
from interp.tasks import Prompts

model = weights.load("ioi-mini")
pairs = Prompts.from_texts(
    model.tokenizer,
    ["When Mary and John went to the store, John gave a drink to"],
    ["When Mary and John went to the store, Mary gave a drink to"],
    [" Mary"],
    [" John"],
)
metric = metrics.logit_diff(pairs)

# %% [markdown]
# `a3.4` is a *name mover*: at the last position, called END, it looks at a name and copies it. A head makes three things of the stream that it reads: a *query*
# (what is looked for, `a3.4.q`), a *key* at each position (what is there to be found, `.k`) and a *value* (what is brought along, `.v`). What tells it **where**
# to look is its query. Who writes into that?
#
# *Path patching* asks so: a *sender* (a head) says to a *receiver* (here `a3.4.q`) what it says in the corrupt run, and to nobody else; what then becomes of the
# clean run's difference?
#
# **Predict first.** Heads of which layers can reach the queries of a head in layer 3?

# %%
queries = {"receivers": ["a3.4.q"], "at": "END"}
paper = patching.paths(model, pairs, metric, **queries, mlps="recompute")
paper.top(6)

# %% [markdown]
# Layers 0 to 2: a head of layer 3 reads what was written before it. Negative, as in noising: when `a2.1` says the other thing, `a3.4` looks away from Mary.
#
# That is the meaning of *Interpretability in the Wild* (appendix B): between sender and receiver all other heads are held at what they wrote in the clean run,
# **MLPs are not**. What a sender does through an MLP in between counts as its own. Along the direct *edge* only, from the sender's write straight into the
# receiver, with the MLPs between them held too:

# %%
edge = patching.paths(model, pairs, metric, **queries, mlps="frozen")
edge.top(6)

# %% [markdown]
# And everything that a node does, on every path, is lesson 4's noising:

# %%
total = patching.nodes(model, pairs, metric, "heads", direction="noising")
print("head     edge    paper  every path")
for head in ("a0.6", "a2.1", "a2.6"):
    print(head, *(f"{found[head]:+8.2f}" for found in (edge, paper, total)))

# %%
paper.figure()

# %% [markdown]
# The first two columns are of what reaches `a3.4.q`, the last is of every receiver there is. `a0.6` is nearly silent on its own edge and reaches these queries
# through MLPs; `a2.6` does not act on them at all, and yet acts: **"no direct edge" is not "no effect"**. One whole path can be asked for by name, up to the
# logits, `out`:

# %%
patching.path(model, pairs, metric, "a2.1>a3.4.q>out")

# %% [markdown]
# Half of its edge's -5.68: in that table, `a3.4`'s changed write may still pass through `m3`, here it goes straight to the logits.
#
# ## Exercises
#
# **5.1** The other name mover is `a2.6`. What is the effect of `a0.6` through *its* queries, in the paper's meaning?

# %%
from interp.learn import check

check("5.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
others = {"receivers": ["a2.6.q"], "at": "END"}
check("5.1", patching.paths(model, pairs, metric, **others)["a0.6"])

# %% [markdown]
# ## What you found
#
# - "Path patching" is three experiments: the edge, the paper's (MLPs between recomputed), every path.
# - Report which one. Tools differ in it, and the numbers by a factor of hundreds.

# %% tags=["remove-cell", "claim"]
straight = patching.path(model, pairs, metric, "a2.1>a3.4.q>out").values[0]
assert edge["a2.1"] < -5 < -3 < straight and abs(paper["a2.6"]) < 0.05
assert abs(edge["a0.6"]) < 0.05 and paper["a0.6"] < -3 and total["a0.6"] < -40
