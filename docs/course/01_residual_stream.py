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
# # 1 The residual stream, and addresses
#
# *Every part of the model reads from one stream of vectors and adds to it. Here each of these writes has a name.*
#
# Text is cut into *tokens*, here words and signs. A GPT-2, which is a kind of language model, turns each token into a vector, and then only ever **adds** to
# it, layer by layer: *heads* look at other positions and bring something of what stands there, *MLPs* (a layer of *neurons*, read in and written out) work on
# what is there. The vector that grows is the *residual stream*; at its end it is turned into a score (a *logit*) for every possible next token. Twenty minutes;
# nothing is assumed but Python.

# %%
import weights

model = weights.load("ioi-mini")
model

# %% [markdown]
# It has 4 layers of 8 heads, and a stream of 128 numbers at each position. It was trained on made-up sentences in which someone gives something to
# someone, and it knows 1,060 tokens.

# %%
prompt = "When Mary and John went to the store, John gave a drink to"
trace = model.run(prompt)
print(model.tokenizer.tokens(prompt))

# %% [markdown]
# **Predict first.** Which word comes next? And how sure will a model be that has seen thousands of such sentences?

# %%
scores = trace.logits[0, -1]
best = scores.topk(5)
probabilities = scores.softmax(-1)[best.indices]
for logit, share, token in zip(best.values, probabilities, best.indices):
    print(f"{logit:7.2f}  {share:6.1%}  {model.tokenizer.text(int(token))!r}")

# %% [markdown]
# Mary, and hardly anybody else: *softmax* makes probabilities of logits, and eight units of logit are a factor of 3,000. A model that has seen nothing but such
# sentences is far surer than GPT-2 would be.

# %% [markdown]
# ## Every write has an address
#
# Everything is counted from 0. `a2.6` is head 6 of layer 2, and `a2` all the heads of that layer together. `m3` is the MLP of layer 3, the last one, `m3.n300`
# one of its neurons. `resid2` is the stream that layer 2 finds, `resid2.mid` the stream between its heads and its MLP; `resid4` is what the last layer leaves
# behind. `@-1` picks the last position.
#
# Of a shape the first number is prompts, here one, and the last the 128 numbers of a vector; between them are the 14 positions, where no `@` picks one.

# %%
trace["a2.6@-1"].shape, trace["m3"].shape, trace["resid2"].shape

# %% [markdown]
# A typo costs nothing: an address that is not there is an error that says what is.

# %%
from minigpt.errors import AddressError

try:
    trace["a2.9"]
except AddressError as error:
    print(error)

# %% [markdown]
# The stream begins as the token's own vector, `emb`, and its position's, `pos`.
#
# **Predict first.** If parts only ever add, what is `resid4`, the end of the stream, less everything that was written?

# %%
writes = [trace["emb"], trace["pos"]]
for layer in range(4):
    writes += [trace[f"a{layer}"], trace[f"m{layer}"]]
left = (trace["resid4"] - sum(writes)).abs().max()
float(left)

# %% [markdown]
# Nothing: the stream *is* the sum of what was written. (Added in another order, rounding would leave a millionth or so; lesson 7.) That is why one can ask of
# each part what it did: there is nowhere else for an answer to come from. How long the writes are at the last position, layer by layer:

# %%
from interp import figures

names = [*(f"a{i}" for i in range(4)), *(f"m{i}" for i in range(4))]
lengths = {name: float(trace[f"{name}@-1"].norm()) for name in names}
figures.bars(lengths, "length", "what is written at the last position")

# %% [markdown]
# ## Exercises
#
# Put your answer in place of `...` and run the cell.
#
# **1.1** How long is what head `a2.6` writes at the last position? (`.norm()` is a vector's length.)

# %%
from interp.learn import check

check("1.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("1.1", trace["a2.6@-1"].norm())

# %% [markdown]
# **1.2** What is the address of the stream point that the heads of layer 3 read?

# %%
check("1.2", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("1.2", "resid3")

# %% [markdown]
# ## What you found
#
# - The model's answer is read off the end of one stream, and the stream is a sum of writes that all have addresses.
# - A typo costs nothing: an address that is not there is an error that says what is.

# %% tags=["remove-cell", "claim"]
assert left < 1e-4
assert model.tokenizer.text(int(best.indices[0])) == " Mary"
