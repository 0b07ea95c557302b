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
# # 6 The IOI paper on our model
#
# *Find the heads that do the work, say what each does, and test whether they are enough.*
#
# Wang et al. 2022 found 26 heads in 7 classes in GPT-2 small. The same method, from the logits backwards, on a model of 32 heads: `tasks-mini`, which learned
# indirect objects and six other tasks. Its text leaves open who gets the thing in one sentence of ten, and the model is as unsure as its text.

# %%
import weights
from interp import heads, metrics
from interp.circuit import Circuit
from interp.tasks import ioi

model = weights.load("tasks-mini")
pairs = ioi.prompts(model.tokenizer, 60, 0)
metric = metrics.logit_diff(pairs)
pairs

# %% [markdown]
# Positions have names: IO, the indirect object, who gets the thing; S1 and S2, the subject's first and second time, S1+1 the token behind the first; END, the
# last token. In lesson 5's sentence Mary is IO and John the subject. The corrupt prompts have three other names, each once.
#
# **Predict first.** The sentence names two people, one of them twice. What must a model do to say the other one? Write down three steps. (The next cell draws
# some forty maps of path patching and takes about twenty seconds.)

# %%
from interp.discover import discover

found = discover(model, pairs, metric)
found

# %% [markdown]
# A *map* is lesson 5's table: what every head does through some receivers. `discover` begins with the map to the logits, `out@END`, and goes on with one to
# what the heads that it found there read. Each line is a head, at a position, whose effect stands out from the crowd of heads that do nothing in particular:
# its class (*unclassed*: of none that the paper has), where it looks, and its effect in the maps that it was found by. As in lesson 5, a negative effect helps
# the answer and a positive one holds it back. *Answer* and *distractor* are the two names, *before* is the token before, *the same* an earlier time of the same
# token.
#
# The paper's steps, and what is here of them:
#
# 1. A *duplicate token* head sees, at John's second time, that he comes twice. `a1.4` is the candidate: a fifth of its attention is on the first John, and its
#    effect is positive, so that it works against the answer. How this model knows who comes twice is not settled by this list.
# 2. An *S-inhibition* head looks from the end at John's second time, and tells the heads behind it: `a2.4`, with 0.99 of its attention.
# 3. A *name mover* then looks at Mary rather than at John, and copies her: `a3.4`.

# %% [markdown]
# Does a head *copy*? What it would write if it looked at the name alone: how often is that name then among its five likeliest words (the paper, section 3.1)?

# %%
trace = model.run(pairs)
looks = heads.attention(trace, "END", "IO").mean(-1)
copies = heads.copying(trace, "IO")
for layer, head in ((3, 4), (3, 5), (2, 4)):
    looked, copied = looks[layer, head], copies[layer, head]
    print(f"a{layer}.{head} looks at IO: {looked:.2f}, copies it: {copied:.2f}")

# %% [markdown]
# A second head, `a3.5`, looks at the name and copies it, and is not in the list: its effect is not the same from prompt to prompt, so that it may be chance. A
# list of heads is what passed a test, not all that there is.

# %%
from interp import figures

figures.grid(looks, "attention from the end to the indirect object")

# %% [markdown]
# `a2.3` and `a3.2` look at the name nearly as much, and copy it in one case of ten or fewer: looking is not copying.
#
# ## Is it enough?
#
# A circuit is a claim: these heads do it, the rest may as well write its mean over other prompts. F(M) is the model's difference, F(C) the circuit's.
# *Faithful*: it does what the model does. (The paper also asks whether it is *complete*, nothing of the behaviour being left without it, and *minimal*, no head
# being in vain: `circuit.completeness`, `circuit.minimality`.)
#
# **Predict first.** Both name movers and the S-inhibition head, three of 32: what share of the logit difference is left?

# %%
roles = {"name mover": "a3.4@END a3.5@END", "S-inhibition": "a2.4@END"}
circuit = Circuit(roles)
faithful = circuit.faithfulness(model, pairs, metric)
faithful

# %% [markdown]
# More than all of it: what was left out also holds the answer back, and a circuit that does *more* than the model is as unfaithful as one that does less.
# Each class for itself:

# %%
alone = {
    name: Circuit({name: where}).faithfulness(model, pairs, metric).share
    for name, where in circuit.roles.items()
}
alone

# %% [markdown]
# Neither is half of it: name movers that nobody tells where to look copy either name, and what `a2.4` does alone is to speak against John, straight to the
# logits. Now all that `discover` found, on **other** prompts than it was found on, since anything can be found on the prompts that one looks at:

# %%
other = ioi.prompts(model.tokenizer, 60, 1)
judged = found.circuit.faithfulness(model, other, metrics.logit_diff(other))
judged

# %% [markdown]
# Nearer to the model than three heads were: what was added at John's two places, `a1.4` and `a2.4`, holds the answer back. And what is missing is `a3.5`:

# %%
more = Circuit({"found": found.circuit.nodes, "missed": "a3.5@END"})
completed = more.faithfulness(model, other, metrics.logit_diff(other))
completed

# %% [markdown]
# ## Exercises
#
# **6.1** What share of the model's logit difference do `a3.4@END` and `a2.4@END` bring together, on `pairs`? (`share` is the ratio of the means of `.circuit` and
# `.model`, which have a number for each prompt.)

# %%
from interp.learn import check

check("6.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
two = Circuit({"name mover": "a3.4@END", "S-inhibition": "a2.4@END"})
check("6.1", two.faithfulness(model, pairs, metric).share)

# %% [markdown]
# ## What you found
#
# - A circuit is found backwards from the logits, and judged by what it does alone, on other prompts.
# - Its parts do more together than each for itself: effects of heads do not add up.
# - `interp ioi --model tasks-mini --html report.html` runs the whole paper on this model, from the first figure to the last.

# %% tags=["remove-cell", "claim"]
assert 1.3 < faithful.share < 1.5
assert max(alone.values()) < 0.5
assert 0.8 < judged.share < completed.share - 0.05 < 1.0
assert "a3.5@END" not in found.circuit.nodes and "42 maps" in repr(found)
assert looks[3, 4] > 0.5
assert min(looks[2, 3], looks[3, 2]) > 0.5 and max(copies[2, 3], copies[3, 2]) <= 0.101
