"""Views under names, in a file of the user's: a JSON object of names and links.

Read anew before each change and put back whole, so that two windows lose nothing of one another's;
a file that holds something else is refused and never written.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from interp.debugger.question import Question
from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

LONGEST, MOST = 80, 1000


class ViewsError(MiniGPTError):
    """A file that holds no views, or a name that none can have."""


@dataclass(frozen=True, repr=False)
class Saved(Shown):
    """The views in a file."""

    file: Path

    def all(self) -> dict[str, str]:
        """Links (what stands behind the question mark) by name, in the order of saving; none where
        there is no file yet. ViewsError for a file that holds something else."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise self._wrong(str(error)) from error
        if not isinstance(found, dict) or not all(isinstance(x, str) for x in found.values()):
            raise self._wrong("it is no object of names and links")
        return found

    def save(self, name: str, question: Question) -> None:
        """Put a view into the file; one of that name is replaced."""
        name = name.strip()
        if not 0 < len(name) <= LONGEST or "\n" in name:
            raise ViewsError(f"a view called {name[:20]!r}", f"a name of 1 to {LONGEST} letters")
        views = self.all()
        if len(views) >= MOST and name not in views:
            raise ViewsError(f"{len(views):,} views", f"up to {MOST:,}", "another file for --views")
        self._write({**views, name: question.to_url()})

    def drop(self, name: str) -> None:
        """Take a view out of the file."""
        views = self.all()
        if name not in views:
            raise ViewsError(f"no view is called {name!r}", ", ".join(map(repr, views)) or "none")
        self._write({other: link for other, link in views.items() if other != name})

    def _write(self, views: dict[str, str]) -> None:
        fresh = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            fresh.write_text(json.dumps(views, indent=1, ensure_ascii=False) + "\n", "utf-8")
            fresh.replace(self.file)
        except OSError as error:
            raise ViewsError(
                f"{self.file}: {error.strerror}", "--views with a file that can be written"
            ) from error

    def _wrong(self, why: str) -> ViewsError:
        return ViewsError(
            f"{self.file} holds no views: {why}",
            '{"NAME": "LINK", ...}; it is left as it is',
            "--views with another file",
        )
