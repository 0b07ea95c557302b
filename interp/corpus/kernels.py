"""The loops that every number of a corpus passes through, compiled: an array operation a step would
read all of them a dozen times. Sums are in float64, in a fixed order, so that a component's numbers
are the same bits with any number of threads."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np
import torch

# Components whose sums are kept at hand while their numbers are read.
TILE = 512


def threads() -> None:
    """As many as torch has. Numba begins all it could ever take, and with them sets what torch will
    take: set back."""
    taken, most = torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(max(1, min(taken, most)))
    torch.set_num_threads(taken)


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def spread(x, counted, sums, least, most):
    """Of x [window, pos, n], where counted [window, pos]: mean and the sums of the second, third
    and fourth powers of what is left of it, into sums [4, n]; each window's ends, into least and
    most [window, n]."""
    windows, places, n = x.shape
    for tile in numba.prange((n + TILE - 1) // TILE):
        first = tile * TILE
        last = min(n, first + TILE)
        mean, second, third, fourth = np.zeros((4, last - first))
        total = 0
        for w in range(windows):
            low = np.full(last - first, np.inf, x.dtype)
            high = np.full(last - first, -np.inf, x.dtype)
            for t in range(places):
                if counted[w, t]:
                    total += 1
                    row = x[w, t, first:last]
                    for j in range(len(row)):
                        mean[j] += row[j]
                        low[j] = min(low[j], row[j])
                        high[j] = max(high[j], row[j])
            least[w, first:last] = low
            most[w, first:last] = high
        mean /= total
        for w in range(windows):
            for t in range(places):
                if counted[w, t]:
                    row = x[w, t, first:last]
                    for j in range(len(row)):
                        away = row[j] - mean[j]
                        square = away * away
                        second[j] += square
                        third[j] += square * away
                        fourth[j] += square * square
        sums[0, first:last] = mean
        sums[1, first:last] = second
        sums[2, first:last] = third
        sums[3, first:last] = fourth


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def histogram(bits, counted, counts, below, nothing):
    """How many of the float32 in bits [window, pos, n] lie between powers of two, where counted,
    into counts [n, bins]: by sign and exponent, from the exponent `below` on; in the middle what
    is below `nothing` but for its sign."""
    windows, places, n = bits.shape
    bins = counts.shape[1]
    half = np.int32((bins - 1) // 2)
    for tile in numba.prange((n + TILE - 1) // TILE):
        first = tile * TILE
        last = min(n, first + TILE)
        middle = np.arange(last - first).astype(np.int32) * np.int32(bins) + half
        place = np.zeros(last - first, np.int32)
        found = np.zeros((last - first) * bins, np.int32)
        for w in range(windows):
            for t in range(places):
                if counted[w, t]:
                    row = bits[w, t, first:last]
                    for j in range(len(row)):
                        exponent = (row[j] >> np.int32(23)) & np.int32(255)
                        step = min(max(exponent - below, np.int32(1)), half)
                        is_some = (row[j] & np.int32(0x7FFFFFFF)) >= nothing
                        sign = (row[j] >> np.int32(31)) | np.int32(1)
                        place[j] = middle[j] + (step * sign if is_some else np.int32(0))
                    for j in range(len(row)):
                        found[place[j]] += 1
        counts[first:last] = found.reshape(last - first, bins)


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def lengths(values, root, out):
    """The length of what heads write for values [row, pos, head, d_head] at one place, by a lower
    triangle [head, d_head, d_head] that keeps lengths, into out [row, head, pos]."""
    rows, places, heads, width = values.shape
    four = width - width % 4
    for unit in numba.prange(rows * places):
        row, t = unit // places, unit % places
        written = np.zeros(width)
        for head in range(heads):
            value = values[row, t, head].astype(np.float64)
            written[:] = 0.0
            for i in range(0, four, 4):  # four rows at a time read and write a quarter as often
                a, b, c, d = value[i], value[i + 1], value[i + 2], value[i + 3]
                for j in range(i + 4):
                    written[j] += (a * root[head, i, j] + b * root[head, i + 1, j]) + (
                        c * root[head, i + 2, j] + d * root[head, i + 3, j]
                    )
            for i in range(four, width):
                for j in range(i + 1):
                    written[j] += value[i] * root[head, i, j]
            total = 0.0
            for j in range(width):
                total += written[j] * written[j]
            out[row, head, t] = np.sqrt(total)


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def looks(weights, norms, tokens, sizes, skip, most, source, sums, asked):
    """Of attention weights [row, head, pos, key] of prompts of these sizes: the largest write from
    one place, weight times norms [row, head, key], into most [row, pos, head], and the place into
    source; each prompt's sums of scores (see Attends) over its queries from `skip` on, into sums
    [row, head, 5], and of how many queries, into asked [row, 5]."""
    rows, heads = weights.shape[:2]
    for row in numba.prange(rows):
        n = sizes[row]
        start = min(skip, n - 1)
        for t in range(start, n):
            earlier = 0
            follow = 0
            for s in range(t):
                if tokens[row, s] == tokens[row, t]:
                    earlier = 1
                    follow = 1
            asked[row, 0] += 1 if t else 0
            asked[row, 1] += earlier
            asked[row, 2] += follow
            asked[row, 3] += 1
            asked[row, 4] += 1
        for head in range(heads):
            for t in range(n):
                best, place = -1.0, 0
                for s in range(t + 1):
                    taken = weights[row, head, t, s] * norms[row, head, s]
                    if taken > best:
                        best, place = taken, s
                most[row, t, head] = best
                source[row, t, head] = place
                if t >= start:
                    for s in range(t + 1):
                        weight = np.float64(weights[row, head, t, s])
                        if weight > 0.0:
                            sums[row, head, 3] -= weight * np.log(weight)
                        sums[row, head, 4] += weight * (t - s)
                        if s == t - 1:
                            sums[row, head, 0] += weight
                        if s < t and tokens[row, s] == tokens[row, t]:
                            sums[row, head, 1] += weight
                        if s > 0 and tokens[row, s - 1] == tokens[row, t]:
                            sums[row, head, 2] += weight


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def chosen(new, rank, least, taken):
    """Put the ranks new [window, n] into rank [n, k], window after window, in the place of the
    smallest, where they are above least [n], which rises to the smallest that is left; into taken
    [n, k] the window that a place was last given to."""
    windows, n = new.shape
    places = rank.shape[1]
    for tile in numba.prange((n + TILE - 1) // TILE):
        first = tile * TILE
        for w in range(windows):
            for j in range(first, min(n, first + TILE)):
                if new[w, j] > least[j]:
                    low = 0
                    for i in range(1, places):
                        if rank[j, i] < rank[j, low]:
                            low = i
                    rank[j, low] = new[w, j]
                    taken[j, low] = w
                    smallest = rank[j, 0]
                    for i in range(1, places):
                        smallest = min(smallest, rank[j, i])
                    least[j] = max(least[j], smallest)


@numba.njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def around(x, counted, component, window, sign, after, value, at, first, acts):
    """Of the given components and windows of x [window, pos, n], where counted [window, pos]: the
    largest number, with sign -1 the smallest; its place; and what stands around it, `after` of
    them behind it, from the place `first` on: acts [given, span], NaN behind what counts."""
    span = acts.shape[1]
    places = counted.shape[1]
    for tile in numba.prange((len(component) + TILE - 1) // TILE):
        for i in range(tile * TILE, min(len(component), (tile + 1) * TILE)):
            j, w = component[i], window[i]
            begin, end, best = places, 0, 0
            for t in range(places):
                if counted[w, t]:
                    if end == 0:
                        begin, best = t, t
                    elif sign * x[w, t, j] > sign * x[w, best, j]:
                        best = t
                    end = t + 1
            value[i] = x[w, best, j]
            at[i] = best
            begin = max(begin, min(best - (span - after - 1), end - span))
            first[i] = begin
            for t in range(span):
                acts[i, t] = x[w, begin + t, j] if begin + t < end else np.nan
