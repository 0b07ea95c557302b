"""Where a dictionary lies: a folder or file; an embedded model's, "ioi-mini:m3"; one in a
repository of the hub, "org/name:folder", fetched once into the hub's cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from weights import catalog, fetch, files, manifest
from weights.catalog import Repository
from weights.errors import WeightsError

EMBEDDED = "dictionaries"


def place(source: str | os.PathLike[str], layouts: Iterable[tuple[str, str]], legal: str) -> Path:
    """The folder or file that a name stands for. layouts: the files of which each kind of folder is
    made. WeightsError where there is none."""
    given = isinstance(source, (str, os.PathLike)) and os.fspath(source)
    path = files.place(source) if given else None
    if path is not None and path.exists():
        return path
    name, _, inside = str(source).partition(":")
    if (known := catalog.find(name)) is not None and not known.repo:
        return _embedded(name, inside)
    if inside and (wanted := catalog.repository(name)) is not None:
        return _fetched(wanted, inside, layouts, legal)
    raise WeightsError(f"there is no file or folder {str(source)[:100]!r}", legal)


def _embedded(name: str, inside: str) -> Path:
    """One of an embedded model's, its checksums verified; or the folder of all."""
    folder = catalog.embedded(name) / EMBEDDED
    known = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if not known:
        raise WeightsError(f"{name} has no dictionaries", "ioi-mini, which has some")
    if inside and inside not in known:
        raise WeightsError(
            f"{name} has no dictionary of {inside!r}",
            ", ".join(f"{name}:{each}" for each in known),
        )
    for each in [inside] if inside else known:
        manifest.verify(folder / each)
    return folder / inside


def _fetched(
    wanted: Repository, inside: str, layouts: Iterable[tuple[str, str]], legal: str
) -> Path:
    """From the hub's cache, or else from the hub, its checksum verified."""
    if inside.endswith((".safetensors", ".pt")):
        fetch.file(wanted, str(Path(inside).with_name("config.yaml")))
        if (path := fetch.file(wanted, inside)) is not None:
            return path
    for config, held in layouts:
        path = fetch.file(wanted, f"{inside}/{config}")
        if path is not None and fetch.file(wanted, f"{inside}/{held}") is not None:
            return path.parent
    raise WeightsError(f"{wanted.repo} on the hub holds no dictionary {inside!r}", legal)
