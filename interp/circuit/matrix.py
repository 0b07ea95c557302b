"""The edges of a model as a matrix: a row a sender, a column a port, laid out as in MIB's files.

Senders stand in the order in which they write; ports layer by layer: the queries of all heads,
their keys, their values, the MLP; the output last.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import torch
from jaxtyping import Bool
from torch import Tensor

from minigpt import Config
from minigpt.address import edges as every_edge
from minigpt.address import heads


@cache
def senders(config: Config) -> tuple[str, ...]:
    """The input, then of each layer its heads and its MLP."""
    own = ([*map(str, heads(config, n)), f"m{n}"] for n in range(config.n_layer))
    return ("input", *(name for some in own for name in some))


@cache
def ports(config: Config) -> tuple[str, ...]:
    """Of each layer all heads' q, all k, all v, then the MLP's; then the output."""
    found = list[str]()
    for layer in range(config.n_layer):
        own = list(heads(config, layer))
        found += [f"{head}.{letter}" for letter in "qkv" for head in own]
        found.append(f"m{layer}.in")
    return (*found, "out")


@cache
def places(config: Config) -> dict[str, tuple[int, int]]:
    """Each edge's row and column, edges in the order of minigpt.address.edges."""
    rows = {name: i for i, name in enumerate(senders(config))}
    columns = {name: i for i, name in enumerate(ports(config))}
    found = {}
    for edge in every_edge(config):
        sender, port = edge.split(">")
        found[edge] = rows[sender], columns[port]
    return found


def matrix(config: Config, edges: Iterable[str]) -> Bool[Tensor, "senders ports"]:
    """Which edges these are."""
    found = torch.zeros(len(senders(config)), len(ports(config)), dtype=torch.bool)
    at = places(config)
    for edge in edges:
        found[at[edge]] = True
    return found
