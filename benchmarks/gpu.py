"""Everything that is measured on one card: python -m benchmarks.gpu --out DIR [--device cuda]

Writes DIR/README.md and DIR/results.jsonl, as far as it gets: a section that fails says so and
leaves the others alone; the exit code is 1 then. `--device cpu --tiny` tries the code in seconds.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.accelerator import exact, scaling, speed, waits
from benchmarks.accelerator.bench import FULL, TINY, Bench
from benchmarks.accelerator.report import Report, Row, Section
from minigpt.errors import NoEffectWarning


def peak(bench: Bench) -> Iterator[Row]:
    """An MLP's two products at several numbers of rows."""
    for rows in bench.sizes.products:
        yield {
            "rows": rows,
            "wide, TFLOP/s": bench.product(rows, torch.mm) / 1e12,
            "back, TFLOP/s": bench.product(rows, torch.mm, wide=False) / 1e12,
        }


# What matters most stands first: a run may be cut short.
SECTIONS = (
    Section(
        "parity",
        "The same numbers as transformers",
        "Logits, every node and stream point, and products of transformers' own inputs, in "
        "float32 with full precision. Bounds are a priori, of the products that made both.",
        exact.parity,
    ),
    Section(
        "dense",
        "A rerun against the patched pass written out in full",
        "Every stream point. On a CPU they must be the same bits, on a card the same but for "
        "rounding.",
        exact.dense_pass,
    ),
    Section(
        "peak",
        "The matrix product",
        "An MLP's two products, d_model to d_mlp (wide) and back; the best wide one is the peak "
        "that sweeps are held against.",
        peak,
    ),
    Section(
        "forward",
        "The forward pass",
        "Medians of turns; eager and sdpa are transformers' model.",
        speed.forward,
    ),
    Section(
        "waits",
        "Waits and kernels",
        "How often the host waits for the device, what it starts there, and which share of the "
        "time the device is busy.",
        waits.counts,
    ),
    Section("lines", "Where the host waits", "The lines that wait most often.", waits.places),
    Section(
        "activation",
        "Activation patching",
        "Against torch hooks on transformers, the same variants, in turns.",
        speed.activation,
    ),
    Section(
        "sweeps",
        "Edges and paths",
        "Pairs a second are of the whole question (every edge, every head). The hooks run a "
        "sample of the variants; their seconds are scaled to all of ours.",
        speed.sweeps,
    ),
    Section(
        "determinism",
        "The same bits again, and in other company",
        "What was seen, not what is promised.",
        exact.determinism,
    ),
    Section(
        "scaling",
        "More rows at once",
        "Empty where the device's memory does not hold it.",
        scaling.scaling,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 where every section went well."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the tables")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the code")
    parser.add_argument("--minutes", type=float, default=5.5, help="begin nothing new after these")
    parser.add_argument("--only", nargs="*", help="these sections only")
    options = parser.parse_args(arguments)
    bench = Bench.on(options.device, TINY if options.tiny else FULL)
    report = Report(options.out, bench.facts(), options.minutes)
    chosen = [section for section in SECTIONS if not options.only or section.name in options.only]
    with warnings.catch_warnings(), torch.no_grad():
        # Among patches of every kind some change nothing.
        warnings.simplefilter("ignore", NoEffectWarning)
        return 0 if report.measure(chosen, bench) else 1


if __name__ == "__main__":
    sys.exit(main())
