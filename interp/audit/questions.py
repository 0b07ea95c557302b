"""The prompts that an audit asks where it is given none: indirect objects, or (without the words
for it) random tokens."""

from __future__ import annotations

import torch

from interp.tasks import Prompts
from minigpt import GPT2, Tokenizer
from minigpt.errors import MiniGPTError

TEXTS = (
    ("When {a} and {b} went to the store, {s} gave a drink to", "Mary", "John"),
    ("When {a} and {b} went to the store, {s} gave a drink to", "James", "Anna"),
    ("Then, {a} and {b} went to the garden. {s} gave a book to", "Paul", "Lisa"),
    ("Then, {a} and {b} went to the garden. {s} gave a book to", "Sarah", "David"),
)
RANDOM_LENGTHS = (14, 14, 17, 9)


def questions(model: GPT2) -> Prompts:
    """Four pairs that differ in one token, of more than one length; answers and distractors are
    single tokens."""
    if model.tokenizer is None:
        return _random(model)
    try:
        return _indirect_objects(model, model.tokenizer)
    except MiniGPTError:
        return _random(model)


def _indirect_objects(model: GPT2, tokenizer: Tokenizer) -> Prompts:
    clean, corrupt = (
        [
            text.format(a=a, b=b, s=subject)
            for (text, a, b), subject in zip(TEXTS, subjects, strict=True)
        ]
        for subjects in ([b for _, _, b in TEXTS], [a for _, a, _ in TEXTS])
    )
    answers, distractors = ([f" {names[i]}" for names in TEXTS] for i in (1, 2))
    pairs = Prompts.from_texts(tokenizer, clean, corrupt, answers, distractors)
    model.batch(pairs)  # that the model has these tokens
    return pairs


def _random(model: GPT2) -> Prompts:
    """Random tokens, one of them another in the corrupt prompt; the answers are the two tokens that
    the model finds likeliest."""
    draw = torch.Generator().manual_seed(0)
    lengths = [min(n, model.config.n_ctx) for n in RANDOM_LENGTHS]
    clean = [torch.randint(model.config.n_vocab, (n,), generator=draw).tolist() for n in lengths]
    corrupt = [
        [(token + (i == len(row) // 2)) % model.config.n_vocab for i, token in enumerate(row)]
        for row in clean
    ]
    best = torch.cat(
        [model.run(torch.tensor(row)).logits_at(-1).topk(2).indices.cpu() for row in clean]
    )
    return Prompts(clean, corrupt, best[:, 0], best[:, 1], tokenizer=model.tokenizer)
