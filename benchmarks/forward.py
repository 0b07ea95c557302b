"""The cost of keeping everything: plain forward pass, full trace, and Hugging Face's eager pass on
the same weights and tokens."""

from __future__ import annotations

import argparse

import torch
import transformers

from benchmarks import runner
from minigpt import GPT2, SIZES, build

SHAPES = ((32, 16), (1, 1024))


def reference() -> transformers.GPT2LMHeadModel:
    """Full-size GPT-2 with random weights."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(attn_implementation="eager")
    return transformers.GPT2LMHeadModel(config).eval()


def ours(model: transformers.GPT2LMHeadModel) -> GPT2:
    tensors = {
        name.removeprefix("transformer."): x
        for name, x in model.state_dict().items()
        if name != "lm_head.weight"
    }
    return GPT2(build(SIZES["gpt2"], tensors))


@torch.no_grad()
def compare(
    hf: transformers.GPT2LMHeadModel, model: GPT2, batch: int, length: int, rounds: int
) -> None:
    tokens = torch.randint(0, 50257, (batch, length), generator=torch.Generator().manual_seed(0))
    contenders = {
        "forward": lambda: model.forward(tokens),
        "trace": lambda: model.run(tokens).logits,
        "huggingface": lambda: hf(tokens, use_cache=False).logits,
    }
    forward, trace, theirs = (contender() for contender in contenders.values())
    assert torch.equal(forward, theirs), "forward is not Hugging Face's pass"
    torch.testing.assert_close(trace, theirs, rtol=1e-4, atol=1e-4)
    timings = runner.alternate(contenders, rounds)
    runner.record(
        "forward",
        timings,
        batch=batch,
        length=length,
        weights=runner.weight_hash(dict(hf.named_parameters())),
        trace_over_forward=timings["trace"].median / timings["forward"].median,
        forward_over_huggingface=timings["forward"].median / timings["huggingface"].median,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    hf = reference()
    for batch, length in SHAPES:
        compare(hf, ours(hf), batch, length, rounds)


if __name__ == "__main__":
    main()
