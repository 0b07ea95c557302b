"""What a kind of device is given at a time: how many rows, in which blocks.

A CPU is given what fits into its caches, and its products are cut so that a row's bits do not
depend on what stands beside it (see settle). A card is given as much as there is: its library
chooses how it sums by the size of a product, so that a cut would cost much and settle nothing.

Which rows are to be computed is settled on the host, always: row numbers and masks lie there, and
are sent when values are read or written by them. So the host runs ahead of the device, and waits
only where values decide (`fetched`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from minigpt.settle import WHOLE, Cut


@dataclass(frozen=True)
class Limits:
    """Sizes for one kind of device. The first group settles bits, the second is for speed alone.

    cut: how products are cut; None: as was measured on this processor. row_types, query_rows,
    least_keys, small: a row of attention is computed without the others of its prompt in these
    types, with so many rows at least, from so many keys and from so many operations on. products:
    attention of fewer heads and prompts is filled up to so many, lest threads share one.

    elements: numbers that an elementwise operation takes at a time. key_numbers: those of the keys
    that attention assembles at a time. sweep_rows: rows that one product of a sweep should have.
    budget: bytes that the working values of a sweep may take.
    """

    cut: Cut | None
    row_types: tuple[torch.dtype, ...]
    query_rows: int
    least_keys: int
    small: int
    products: int

    elements: int
    key_numbers: int
    sweep_rows: int
    budget: int


# Measured on x86 with torch 2.13.
CPU = Limits(
    cut=None,
    row_types=(torch.float32,),
    query_rows=4,
    least_keys=12,
    small=400,
    products=4,
    elements=2**18,
    key_numbers=2**20,
    sweep_rows=2048,
    budget=2 * 2**30,
)
# Tens of thousands of rows fill a card, and hide what starting a kernel costs.
CUDA = Limits(
    cut=Cut(grain=1, least=1),
    row_types=(torch.float32, torch.float64, torch.bfloat16, torch.float16),
    query_rows=1,
    least_keys=1,
    small=0,
    products=1,
    elements=WHOLE,
    key_numbers=2**25,
    sweep_rows=2**16,
    budget=4 * 2**30,
)
KINDS = {"cpu": CPU, "cuda": CUDA}


def limits(device: torch.device) -> Limits:
    """The sizes for a device; a CPU's for a kind that is not in the table."""
    return KINDS.get(device.type, CPU)


def sent(x: Tensor, to: Tensor) -> Tensor:
    """A tensor of the host's beside another, wherever that lies; nobody waits for it."""
    if x.device == to.device:
        return x
    ahead = to.is_cuda and not x.is_cuda
    return (x.pin_memory() if ahead else x).to(to.device, non_blocking=ahead)


def fetched(x: Tensor) -> Tensor:
    """A tensor on the host, which waits until it is computed."""
    return x.cpu()
