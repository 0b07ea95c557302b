# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # First steps
#
# A model is loaded, asked, looked into and edited; nothing here needs a network. Open this file as a notebook in JupyterLab
# with jupytext, or make one of it: `jupytext --to ipynb docs/notebooks/first_steps.py`.

# %%
import weights

model = weights.load("ioi-mini")
model

# %%
from interp.tasks import Prompts

pairs = Prompts.from_texts(
    model.tokenizer,
    ["When Mary and John went to the store, John gave a drink to"],
    ["When Mary and John went to the store, Mary gave a drink to"],
    [" Mary"],
    [" John"],
)
pairs

# %% [markdown]
# ## What each node adds
#
# A run keeps everything; every value has an address. Direct effects sum to the metric exactly.

# %%
from interp import attribution, metrics

trace = model.run(pairs)
metric = metrics.logit_diff(pairs)
effects = attribution.direct(trace, metric)
effects.top(8)

# %%
effects.heads().figure()

# %% [markdown]
# ## Where it lies in the stream
#
# Each stream point at each position put back from the clean run into the corrupt one: how much of the answer comes with it.

# %%
from interp import patching

patching.nodes(model, pairs, metric, over="resid@").figure()

# %% [markdown]
# ## Where two heads look

# %%
from interp import figures

tokens = model.tokenizer.pieces(trace.tokens[0].tolist())
figures.patterns(tokens, {head: trace[f"{head}.pattern"][0] for head in ("a3.4", "a2.6")})

# %% [markdown]
# ## An edit
#
# A patch is a value; the model is never changed. Without the head that copies the name, how sure is the model?

# %%
from minigpt import Patch

patched = model.rerun(trace, Patch.zero("a3.4"))
float(metric(trace)), float(metric(patched))

# %%
patched.receipt

# %% [markdown]
# ## A slip of the pen
#
# An error says what was given, what is legal, and what to type.

# %%
from minigpt import MiniGPTError

try:
    trace["a4.4"]
except MiniGPTError as error:
    print(error)

# %% [markdown]
# ## The whole answer
#
# What `interp why` prints, and writes as a page, is shown here too.

# %%
from interp import views
from interp.show import show
from interp.why import why

show(
    views.why(
        why(model, "When Mary and John went to the store, John gave a drink to", " Mary", " John")
    )
)
