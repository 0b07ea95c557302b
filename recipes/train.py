"""Train an embedded model from text that this project makes up itself: python -m recipes.train
NAME --out FOLDER

A plain GPT-2 in torch's autograd, apart from the engine (which never needs gradients): the two must
agree on the weights that come out, and a test says so. Seeded step by step, so an interrupted run
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import base64
import math
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import tiktoken
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from minigpt import tokenizer
from minigpt.config import Config
from minigpt.vocabulary import Tiktoken
from recipes import corpus, english

PATTERN = r" ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
Text = Callable[[random.Random], Iterator[str]]


@dataclass(frozen=True)
class Recipe:
    """A model's shape (all but its vocabulary), the words and sentences that it learns, and for how
    many steps of how many tokens.

    unread: the share of tokens at which, while the model learns, the unembedding reads what the
    heads of the later half of the layers wrote, and no MLP and no earlier head: so these heads
    learn to say the answer themselves, from what all others tell them.
    """

    name: str
    n_layer: int
    n_head: int
    width: int
    d_mlp: int
    words: Callable[[], list[str]]
    sentences: Text
    steps: int
    context: int = 128
    tokens: int = 4096
    unread: float = 0.0

    def config(self, n_vocab: int) -> Config:
        """The shape as the engine knows it."""
        return Config(self.n_layer, self.n_head, self.width, self.d_mlp, self.context, n_vocab)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("ioi-mini", 4, 8, 128, 512, corpus.vocabulary, corpus.sentences, 6000),
        Recipe(
            "tasks-mini",
            4,
            8,
            128,
            256,
            english.vocabulary,
            english.sentences,
            12_000,
            tokens=2048,
            unread=0.8,
        ),
    )
}
IOI_MINI = RECIPES["ioi-mini"]


def write_vocabulary(path: Path, recipe: Recipe = IOI_MINI) -> None:
    """The 256 bytes, then every word of the corpus, in tiktoken's format: a base64 token and its
    number on a line."""
    tokens = [bytes([i]) for i in range(256)] + [
        word.encode() for word in recipe.words() if len(word) > 1
    ]
    path.write_text("".join(f"{base64.b64encode(t).decode()} {i}\n" for i, t in enumerate(tokens)))


def read_vocabulary(path: Path, name: str = IOI_MINI.name) -> tiktoken.Encoding:
    vocabulary = tokenizer.from_file(path, name, PATTERN).vocabulary
    assert isinstance(vocabulary, Tiktoken)
    return vocabulary.encoding


def batch(encoding: tiktoken.Encoding, seed: int, step: int, recipe: Recipe = IOI_MINI) -> Tensor:
    """Rows of whole sentences [rows, length + 1], short and long rows in turn; half of them begin
    with the end sign."""
    rng = random.Random(f"{seed}:{step}")
    length = recipe.context if step % 4 == 0 else recipe.context // 4
    stream = recipe.sentences(rng)
    return torch.tensor(
        [row(encoding, rng, stream, length + 1) for _ in range(recipe.tokens // length)]
    )


def row(
    encoding: tiktoken.Encoding, rng: random.Random, stream: Iterator[str], length: int
) -> list[int]:
    tokens = [encoding.eot_token] if rng.random() < 0.5 else []
    while len(tokens) < length:
        tokens += [*encoding.encode_ordinary(next(stream)), encoding.eot_token]
    return tokens[:length]


def start(config: Config, seed: int) -> dict[str, Tensor]:
    """GPT-2's initialisation under Hugging Face's names: normal 0.02, what writes to the stream
    scaled by 1/sqrt(2 layers)."""
    rng = torch.Generator().manual_seed(seed)
    width, out = config.d_model, 0.02 / math.sqrt(2 * config.n_layer)

    def normal(*shape: int, std: float = 0.02) -> Tensor:
        return torch.randn(*shape, generator=rng) * std

    p = {"wte.weight": normal(config.n_vocab, width)}
    p["wpe.weight"] = normal(config.n_ctx, width, std=0.01)
    for layer in range(config.n_layer):
        for name, fan_in, fan_out, std in (
            ("attn.c_attn", width, 3 * width, 0.02),
            ("attn.c_proj", width, width, out),
            ("mlp.c_fc", width, config.d_mlp, 0.02),
            ("mlp.c_proj", config.d_mlp, width, out),
        ):
            p[f"h.{layer}.{name}.weight"] = normal(fan_in, fan_out, std=std)
            p[f"h.{layer}.{name}.bias"] = torch.zeros(fan_out)
    for norm in [f"h.{layer}.ln_{i}" for layer in range(config.n_layer) for i in (1, 2)] + ["ln_f"]:
        p[f"{norm}.weight"], p[f"{norm}.bias"] = torch.ones(width), torch.zeros(width)
    return p


def logits(
    p: dict[str, Tensor], tokens: Tensor, config: Config, unread: Tensor | None = None
) -> Tensor:
    """[batch, pos] -> [batch, pos, vocab]. unread: 1 where the unembedding reads only the heads of
    the later half of the layers, 0 where it reads all, [batch, pos, 1]."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (config.d_model,), p[f"{name}.weight"], p[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    x = p["wte.weight"][tokens] + p["wpe.weight"][: tokens.shape[1]]
    before = torch.zeros_like(x)
    for layer in range(config.n_layer):
        h = f"h.{layer}"
        q, k, v = (
            linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn")
            .unflatten(-1, (3 * config.n_head, -1))
            .transpose(1, 2)
            .chunk(3, 1)
        )
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        moved = linear(z, f"{h}.attn.c_proj")
        x = x + moved
        write = linear(
            F.gelu(linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc"), approximate="tanh"),
            f"{h}.mlp.c_proj",
        )
        x = x + write
        before = before + write + (moved if 2 * layer < config.n_layer else 0)
    return norm(x if unread is None else x - unread * before, "ln_f") @ p["wte.weight"].T


def loss(
    p: dict[str, Tensor], rows: Tensor, config: Config, unread: Tensor | None = None
) -> Tensor:
    found = logits(p, rows[:, :-1], config, unread)
    return F.cross_entropy(found.flatten(0, 1), rows[:, 1:].flatten())


@torch.no_grad()
def accuracy(
    p: dict[str, Tensor], encoding: tiktoken.Encoding, config: Config, n: int = 300
) -> tuple[float, float]:
    """On prompts never trained on (held-out name pairs in held-out templates): how often A beats B,
    and by how much."""
    rng, margins = random.Random("held out"), []
    for _ in range(n):
        text, _, b = corpus.indirect_object(rng, corpus.HELD_OUT_TEMPLATES, unseen=True)
        *prompt, answer = encoding.encode_ordinary(text)
        last = logits(p, torch.tensor([prompt]), config)[0, -1]
        margins.append(float(last[answer] - last[encoding.encode_single_token(" " + b)]))
    return sum(m > 0 for m in margins) / n, sum(margins) / n


def learning_rate(step: int, steps: int, top: float = 1.5e-3, warm_up: int = 200) -> float:
    if step < warm_up:
        return top * (step + 1) / warm_up
    return top * (
        0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))
    )


def drawn(share: float, rows: Tensor, seed: int, step: int) -> Tensor | None:
    """1 at this share of the tokens to predict from, 0 at the others, drawn by the step:
    [batch, pos, 1]."""
    if not share:
        return None
    draws = torch.Generator().manual_seed(1_000_003 * seed + step)
    chance = torch.rand(len(rows), rows.shape[1] - 1, 1, generator=draws)
    return (chance < share).float()


def train(
    out: Path, steps: int, seed: int, every: int = 500, recipe: Recipe = IOI_MINI
) -> dict[str, Tensor]:
    """Train, or go on from the last checkpoint in the folder `out`; returns the parameters.

    An interrupt ends the step that it comes in, and keeps a checkpoint of it.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_vocabulary(out / "vocab.tiktoken", recipe)
    encoding = read_vocabulary(out / "vocab.tiktoken", recipe.name)
    config = recipe.config(encoding.n_vocab)
    p = {name: x.requires_grad_() for name, x in start(config, seed).items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [x for x in p.values() if x.ndim == 2], "weight_decay": 0.1},
            {"params": [x for x in p.values() if x.ndim == 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    first = resume(out / "checkpoint.safetensors", p, optimizer)
    bar = tqdm(range(first, steps), initial=first, total=steps, unit="step")
    with bar, interrupts() as interrupted:
        for step in bar:
            rows = batch(encoding, seed, step, recipe)
            value = loss(p, rows, config, drawn(recipe.unread, rows, seed, step))
            descend(p, optimizer, value, learning_rate(step, steps))
            if step % 20 == 0:
                bar.set_postfix(loss=f"{value.item():.3f}")
            if interrupted or (step + 1) % every == 0 or step + 1 == steps:
                save_checkpoint(out / "checkpoint.safetensors", p, optimizer, step + 1)
            if interrupted:
                bar.write(f"step {step + 1} is kept in {out}: the same command goes on from there")
                raise KeyboardInterrupt
            if (step + 1) % every == 0 or step + 1 == steps:
                right, margin = accuracy(p, encoding, config)
                bar.write(
                    f"step {step + 1}: loss {value.item():.3f}, held-out accuracy {right:.3f}, "
                    f"logit difference {margin:.2f}"
                )
    return {name: x.detach() for name, x in p.items()}


def descend(
    p: dict[str, Tensor], optimizer: torch.optim.Optimizer, value: Tensor, rate: float
) -> None:
    """One step down this loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    value.backward()
    torch.nn.utils.clip_grad_norm_(list(p.values()), 1.0)
    optimizer.step()


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Interrupts that have come, noted instead of raised: half a step is nothing to go on from. The
    second is raised."""
    seen: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    usual = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, usual)


def save_checkpoint(
    path: Path, p: dict[str, Tensor], optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Parameters, both of AdamW's moments and the step; written beside the old file, then put in
    its place."""
    names = {x: name for name, x in p.items()}
    moments = {
        f"{kind}/{names[x]}": state[kind]
        for x, state in optimizer.state.items()
        for kind in ("exp_avg", "exp_avg_sq")
    }
    fresh = path.with_suffix(".new")
    save_file(
        {**{name: x.detach() for name, x in p.items()}, **moments, "step": torch.tensor(step)},
        fresh,
    )
    fresh.replace(path)


def resume(path: Path, p: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint's values in place; the step to go on from (0 where there is none)."""
    if not path.exists():
        return 0
    saved = load_file(path)
    for name, x in p.items():
        x.data.copy_(saved[name])
        optimizer.state[x] = {
            "step": saved["step"].float(),
            **{kind: saved[f"{kind}/{name}"] for kind in ("exp_avg", "exp_avg_sq")},
        }
    return int(saved["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=RECIPES, default=IOI_MINI.name)
    parser.add_argument("--out", type=Path, help="folder for checkpoints and the result")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    recipe = RECIPES[given.name]
    given.out = given.out or Path(f"{recipe.name}-training")
    try:
        p = train(given.out, given.steps or recipe.steps, given.seed, recipe=recipe)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    save_file(p, given.out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
