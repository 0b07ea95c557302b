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
# # 10 Your own model and your own data
#
# *Everything so far works on any GPT-2: a folder, a checkpoint, a few tensors; and on prompts of yours.*

# %%
import json
import tempfile
from pathlib import Path

import torch

import weights
from interp import metrics, patching
from interp.tasks import Prompts
from minigpt import GPT2, Config
from minigpt.params import build, shapes

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A model
#
# A shape and numbers make a model. This one is random, so it knows nothing, but it has every address:

# %%
config = Config(n_layer=2, n_head=3, d_model=24, d_mlp=96, n_ctx=32, n_vocab=1060)
draws = torch.Generator().manual_seed(0)
numbers = {
    name: 0.1 * torch.randn(*shape, generator=draws) for name, shape in shapes(config).items()
}
own = GPT2(build(config, numbers), weights.load("ioi-mini").tokenizer, "own")
weights.save(own, folder / "own")
sorted(path.name for path in (folder / "own").iterdir())

# %% [markdown]
# What was written is Hugging Face's layout; `weights.load` reads it, nanoGPT's and minGPT's checkpoints, sharded files, a repository of the hub.

# %%
again = weights.load(folder / "own")
prompt = "Mary gave a drink to"
same = torch.equal(own.run(prompt).logits, again.run(prompt).logits)
again, same

# %% [markdown]
# ## Prompts
#
# A pair a line: the prompt, a twin that differs in one respect, answers and distractors. JSON lines, CSV, AutoCircuit's and EAP-IG's files are read alike.

# %%
pairs = [
    {
        "clean": f"When {a} and {b} went to the store, {b} gave a drink to",
        "corrupt": f"When {a} and {b} went to the store, {a} gave a drink to",
        "answers": f" {a}",
        "distractors": f" {b}",
        "positions": {"S2": 9},
    }
    for a, b in (("Mary", "John"), ("Anna", "Tom"), ("Paul", "Kate"))
]
file = folder / "pairs.jsonl"
file.write_text("\n".join(map(json.dumps, pairs)))
model = weights.load("ioi-mini")
mine = Prompts.load(file, model.tokenizer)
mine

# %% [markdown]
# **Predict first.** One of the pairs has a twin that is a token longer. Is it cut, padded, or refused?

# %%
from minigpt import MiniGPTError

wrong = [*pairs, {**pairs[0], "corrupt": pairs[0]["corrupt"] + " the"}]
try:
    Prompts.from_records(wrong, model.tokenizer)
except MiniGPTError as error:
    refused = str(error)
    print(refused)

# %% [markdown]
# Named positions are places for patches: how much of the answer lies in the stream at `S2`, the giver's second time, layer by layer?

# %%
metric = metrics.logit_diff(mine)
found = patching.nodes(model, mine, metric, over="resid@S2")
found

# %%
found.figure()

# %% [markdown]
# ## Exercises
#
# **10.1** A model with three heads of width 8: how wide is its stream?

# %%
from interp.learn import check

check("10.1", ...)

# %% tags=["hide-cell", "solution"] jupyter={"source_hidden": true}
check("10.1", 24)

# %% [markdown]
# ## What you found
#
# - A model is a shape and numbers; prompts are records. Both are checked at the door.
# - Nothing was trained on your prompts: that the model answers them is a finding.

# %% tags=["remove-cell", "claim"]
assert same and "pair 3 is not aligned" in refused
assert bool((metric(model.run(mine)) > 0).all())
