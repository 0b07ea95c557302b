"""What a kind of device is given at a time: how many rows, in which blocks.

A CPU is given what fits into its caches, and sums in blocks of such sizes that a row's bits do not
depend on what stands beside it (see ops). A card is given as much as there is: its library chooses
how it sums by the size of a product, so that blocks would cost much and settle nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# More than there ever is: a block of this size is never cut.
WHOLE = 2**62


@dataclass(frozen=True)
class Limits:
    """Sizes for one kind of device. The first group settles bits, the second is for speed alone.

    least_rows, crowded_rows: the fewest rows of a product, with up to two threads and with more.
    grain: rows come in multiples of this. one_piece: sums of more terms go in blocks of block_rows.
    row_types, least_keys, small: a row of attention is computed without the others of its prompt
    in these types, from so many keys and from so many operations on.

    elements: numbers that an elementwise operation takes at a time. key_numbers: those of the keys
    that attention assembles at a time. sweep_rows: rows that one product of a sweep should have.
    budget: bytes that the working values of a sweep may take.
    """

    least_rows: int
    crowded_rows: int
    grain: int
    one_piece: int
    block_rows: int
    row_types: tuple[torch.dtype, ...]
    least_keys: int
    small: int

    elements: int
    key_numbers: int
    sweep_rows: int
    budget: int


# Measured on x86 with torch 2.13.
CPU = Limits(
    least_rows=16,
    crowded_rows=72,
    grain=4,
    one_piece=768,
    block_rows=128,
    row_types=(torch.float32,),
    least_keys=12,
    small=400,
    elements=2**18,
    key_numbers=2**20,
    sweep_rows=2048,
    budget=2 * 2**30,
)
# Tens of thousands of rows fill a card, and hide what starting a kernel costs.
CUDA = Limits(
    least_rows=1,
    crowded_rows=1,
    grain=1,
    one_piece=WHOLE,
    block_rows=WHOLE,
    row_types=(torch.float32, torch.float64, torch.bfloat16, torch.float16),
    least_keys=1,
    small=0,
    elements=WHOLE,
    key_numbers=2**25,
    sweep_rows=2**16,
    budget=4 * 2**30,
)
KINDS = {"cpu": CPU, "cuda": CUDA}


def limits(device: torch.device) -> Limits:
    """The sizes for a device; a CPU's for a kind that is not in the table."""
    return KINDS.get(device.type, CPU)
