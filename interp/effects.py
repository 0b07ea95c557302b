"""What every method returns: how much each address matters to a metric, for each prompt and on
average."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.numerics.bootstrap import interval
from interp.numerics.permutation import adjusted, p_values
from minigpt import Config, parse
from minigpt.errors import MiniGPTError
from minigpt.receipt import Receipt
from minigpt.shown import ROWS, Row, Shown


@dataclass(frozen=True, eq=False)
class Effects(Shown):
    """One row an address: values [rows], per_prompt [rows, prompts], on a metric whose own value is
    base [prompts]. ends: the metric of the clean and of the corrupt run, where there are two."""

    method: str
    metric: str
    addresses: tuple[str, ...]
    per_prompt: Float[Tensor, "rows prompts"]
    base: Float[Tensor, "prompts"]
    config: Config
    receipt: Receipt | None = None
    ends: tuple[Float[Tensor, "prompts"], Float[Tensor, "prompts"]] | None = None

    @property
    def values(self) -> Float[Tensor, "rows"]:
        """The mean over prompts."""
        return self.per_prompt.mean(1)

    def __len__(self) -> int:
        return len(self.addresses)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(zip(self.addresses, self.values.tolist(), strict=True))

    def __getitem__(self, address: str) -> float:
        """The mean effect of one address."""
        if address not in self.addresses:
            raise MiniGPTError(
                f"no row '{address}'", f"{len(self)} rows: {', '.join(self.addresses[:8])}, ..."
            )
        return float(self.values[self.addresses.index(address)])

    def top(self, n: int = 10, sign: int = 0) -> Effects:
        """The n largest by size; sign=1 the most positive, sign=-1 the most negative (fewer where
        there are no more)."""
        key = self.values.abs() if sign == 0 else sign * self.values
        order = [
            i for i in key.argsort(descending=True, stable=True).tolist() if sign == 0 or key[i] > 0
        ][:n]
        return self.rows(order)

    def rows(self, order: list[int]) -> Effects:
        """These rows, in this order."""
        return replace(
            self,
            addresses=tuple(self.addresses[i] for i in order),
            per_prompt=self.per_prompt[order],
        )

    def heads(self) -> Effects:
        """The rows that are single heads."""
        return self.rows([i for i, address in enumerate(self.addresses) if _head(address)])

    def grid(self) -> Float[Tensor, "layer head"]:
        """Layers x heads; NaN where a head has no row, the sum where it has several (positions)."""
        cells = torch.full(
            (self.config.n_layer, self.config.n_head), torch.nan, dtype=torch.float64
        )
        for address, value in self:
            if head := _head(address):
                cells[head] = value if torch.isnan(cells[head]) else cells[head] + value
        return cells

    def map(self) -> tuple[list[str], list[str], Float[Tensor, "row position"]] | None:
        """Nodes or stream points x positions, with their names, where the rows are just these
        (over="resid@"): from the first to the last. None for anything else, and for heads."""
        parsed = [parse(address) for address in self.addresses]
        if not parsed or any(len(a.sites) > 1 or not isinstance(a.at, int) for a in parsed):
            return None
        rows = list(dict.fromkeys(str(a.site) for a in parsed))
        columns = sorted({int(a.at) for a in parsed if isinstance(a.at, int)})
        if len(rows) * len(columns) != len(parsed) or self.heads():
            return None
        places = {(str(a.site), a.at): i for i, a in enumerate(parsed)}
        order = [places[row, column] for row in rows for column in columns]
        values = self.values[order].view(len(rows), len(columns))
        return rows, list(map(str, columns)), values

    def interval(
        self, level: float = 0.95, resamples: int = 2000, seed: int = 0
    ) -> Float[Tensor, "rows 2"]:
        """Percentile bootstrap over prompts of the mean effect; with one prompt there is nothing to
        resample: NaN."""
        return interval(self.per_prompt, level, resamples, seed)

    def normalised(self) -> Float[Tensor, "rows prompts"]:
        """The metric after each patch, 0 where it is the corrupt run's and 1 where it is the clean
        one's (both means over prompts), so that the mean over prompts is a ratio of means."""
        if self.ends is None:
            raise MiniGPTError(
                f"{self.method} has no clean and corrupt run", "activation and edge patching"
            )
        clean, corrupt = (float(end.mean()) for end in self.ends)
        if clean == corrupt:
            raise MiniGPTError(
                f"the {self.metric} is {clean:g} on the clean side and on the corrupt one",
                "pairs on which the sides differ",
            )
        return (self.base + self.per_prompt - corrupt) / (clean - corrupt)

    def p_values(self) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
        """Each row's sign-flip permutation p (interp.numerics.permutation), and what is left of it
        among all rows here: the false discovery rate at which it would just be found."""
        p = p_values(self.per_prompt)
        return p, adjusted(p)

    def to_frame(self) -> pd.DataFrame:
        """A table with a row an address, sorted as the effects are."""
        (low, high), (p, q) = self.interval().unbind(1), self.p_values()
        columns = {"value": self.values, "low": low, "high": high, "p": p, "fdr": q}
        if self.ends is not None and float(self.ends[0].mean()) != float(self.ends[1].mean()):
            columns["normalised"] = self.normalised().mean(1)
        numbers = {name: x.tolist() for name, x in columns.items()}
        return pd.DataFrame({"address": self.addresses, **numbers})

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        p, q = self.p_values()
        rows = zip(self, self.per_prompt.tolist(), p.tolist(), q.tolist(), strict=True)
        ends = dict(zip(("clean", "corrupt"), self.ends or (), strict=False))
        return {
            "method": self.method,
            "metric": self.metric,
            "base": self.base.tolist(),
            **{name: end.tolist() for name, end in ends.items()},
            "rows": [
                {"address": a, "value": v, "p": p, "fdr": q, "per_prompt": each}
                for (a, v), each, p, q in rows
            ],
        }

    def to_json(self) -> str:
        """Everything as JSON."""
        return json.dumps(self.to_dict())

    def figure(self) -> Any:
        """A plotly figure: layers x heads where the rows are heads, else bars of the largest."""
        from interp import figures  # only a picture needs plotly

        title = f"{self.method} on {self.metric}"
        if found := self.map():
            rows, columns, values = found
            return figures.grid(values, title, rows, columns)
        if len(self) and len(self.heads()) == len(self):
            return figures.grid(self.grid(), title)
        return figures.bars(dict(self.top(24)), self.metric, title)

    def __repr__(self) -> str:
        rows = [f"  {address:<14} {value:+.4f}" for address, value in self.top(ROWS)]
        more = [f"  ... and {len(self) - ROWS} more"] if len(self) > ROWS else []
        n = self.per_prompt.shape[1]
        head = (
            f"{self.method} on {self.metric} {float(self.base.mean()):.4f}: {len(self)} rows, "
            + ("one prompt, no mean" if n == 1 else f"{n} prompts")
        )
        return "\n".join([head, *rows, *more])

    def _table(self) -> Iterator[Row]:
        yield "address", ">effect"
        yield from ((address, f"{value:+.4f}") for address, value in self.top(ROWS))


def _head(address: str) -> tuple[int, int] | None:
    sites = parse(address).sites
    site = sites[0]
    return (
        (site.layer, site.part)
        if site.kind == "attn" and site.layer is not None and site.part is not None
        else None
    )
