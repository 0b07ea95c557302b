"""A folder that is written as a whole: whoever is killed while writing leaves the folder as it was,
or one that the next to come completes.

All files are first written into a draft inside the folder; a mark then says that the draft is
complete, after which its files are moved, one by one, and the mark is taken away.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp

from weights.errors import WeightsError

MARK = ".saving"


def write(folder: Path, fill: Callable[[Path], None], names: Sequence[str]) -> None:
    """What `fill` writes into the folder that it is given, into this one; those of `names` that it
    does not write are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    draft = Path(mkdtemp(dir=folder, prefix=f".save-{os.getpid()}-"))
    try:
        fill(draft)
        facts = {"draft": draft.name, "files": sorted(path.name for path in draft.iterdir())}
        (draft / MARK).write_text(json.dumps({**facts, "names": list(names)}))
        (draft / MARK).replace(folder / MARK)
    except BaseException:
        if not (folder / MARK).exists():
            shutil.rmtree(draft, ignore_errors=True)
        raise
    complete(folder)


def complete(folder: Path) -> None:
    """Complete what was interrupted after all was written. WeightsError where that cannot be."""
    mark = folder / MARK
    if not mark.is_file():
        return
    try:
        facts = json.loads(mark.read_text())
        draft = folder / Path(facts["draft"]).name
        for name in facts["files"]:
            if (draft / name).exists():
                (draft / name).replace(folder / name)
        for name in set(facts["names"]) - set(facts["files"]):
            (folder / name).unlink(missing_ok=True)
        mark.unlink()
        shutil.rmtree(draft, ignore_errors=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"a save into {folder} was interrupted, and could not be completed: {error}",
            "a folder that was saved as a whole",
            "saving once more with overwrite=True, where the folder may be written",
        ) from error


def _sweep(folder: Path) -> None:
    """Complete an earlier write, and remove drafts whose writers are gone."""
    try:
        complete(folder)
    except WeightsError:
        (folder / MARK).unlink(missing_ok=True)
    for draft in folder.glob(".save-*"):
        writer = re.match(r"\.save-(\d+)-", draft.name)
        if writer is None or not _alive(int(writer[1])):
            shutil.rmtree(draft, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
