"""Whether the tests would notice: the engine with one small change at a time, each run against its
tests.

python -m tests.mutants --module minigpt/patch --module minigpt/recompute --number 30 --seed 0

Draws changes (mutations.py) evenly from every kind, puts each into a copy of the tree, and runs the
tests of that file (TESTS), quickest first, until one fails. Every result is a line in
build/mutants.jsonl at once; a change that has one is not run again, so that an interrupted run goes
on where it stopped (--again: what was not killed is). Of survivors, and of those whose tests took
longer than the limit, what MUTANTS.md does not explain is printed, and makes it fail.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from pathlib import Path

from tqdm import tqdm

from tests.mutations import Change, changes

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "mutants.jsonl"
EXPLAINED = ROOT / "tests" / "MUTANTS.md"
COPIED = ("minigpt", "weights", "interp", "recipes", "tests", "setup.cfg", "pyproject.toml")
# The tests of a file or a folder, quickest first; of one that is not here, those of its folder.
TESTS = {
    "minigpt/patch": ["test_conflicts.py", "test_patch_text.py", "test_random_patches.py"],
    "minigpt/recompute": [
        *("test_receipt.py", "test_rows.py", "test_sweep.py"),
        *("test_wholes_and_parts.py", "test_rerun.py"),
    ],
    "minigpt/address.py": ["test_address.py", "test_names.py"],
    "minigpt/names.py": ["test_names.py"],
    "minigpt/batch.py": ["test_batch.py", "test_trace.py"],
    "minigpt/tokenizer.py": ["test_tokenizer.py"],
    "minigpt/sample.py": ["test_sample.py"],
    "minigpt/trace.py": ["test_trace.py", "test_by_hand.py", "test_identities.py"],
    "minigpt/reference.py": ["test_by_hand.py", "test_reference.py", "test_identities.py"],
    "minigpt/receipt.py": ["test_receipt.py"],
    "minigpt/device.py": ["test_device.py", "test_sweep.py", "test_parity.py"],
    "minigpt/ops.py": ["test_device.py", "test_trace.py", "test_invariance.py", "test_parity.py"],
    "minigpt/model.py": ["test_batch.py", "test_invariance.py", "test_trace.py", "test_parity.py"],
    "minigpt/params.py": ["test_trace.py", "weights/test_layouts.py", "weights/test_save.py"],
    "minigpt": ["test_trace.py", "test_batch.py", "test_by_hand.py", "test_parity.py"],
}


@dataclass(frozen=True)
class Mutant:
    """A file, the source that it has now, and one change of it."""

    path: str
    source: str
    change: Change

    @property
    def key(self) -> str:
        """The same as long as the source and the change are."""
        told = repr((self.path, self.source, self.change))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def tests(self) -> list[str]:
        """The files of tests that should notice it."""
        here = (self.path, *map(str, Path(self.path).parents))
        names = next(TESTS[at] for at in here if at in TESTS)
        return [f"tests/{name}" if "/" in name else f"tests/minigpt/{name}" for name in names]

    def __str__(self) -> str:
        before, after = self.change.lines(self.source)
        line = self.change.line(self.source)
        return f"{self.path}:{line} ({self.change.kind})\n    - {before}\n    + {after}"


@dataclass(frozen=True)
class Result:
    """What became of a mutant: "killed", "survived" or "timeout", in how many seconds, and what
    noticed it."""

    key: str
    mutant: str
    outcome: str
    seconds: float
    noticed: str


def main() -> None:
    """Draw, run, tell."""
    asked = _asked()
    drawn = draw(asked.module, asked.number, asked.seed)
    known = {} if not RESULTS.exists() else {result.key: result for result in _kept()}
    if asked.again:
        known = {key: result for key, result in known.items() if result.outcome == "killed"}
    new = [mutant for mutant in drawn if mutant.key not in known]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        copy_tree(tree)
        known |= {result.key: result for result in _run_all(tree, new, asked.limit)}
    sys.exit(_tell(drawn, known))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--module", action="append", help="a file or a folder (default: minigpt)")
    parser.add_argument("--number", type=int, default=200, help="how many changes to draw")
    parser.add_argument("--seed", type=int, default=0, help="which changes are drawn")
    parser.add_argument("--limit", type=float, default=120, help="seconds for one change's tests")
    parser.add_argument("--again", action="store_true", help="run what was not killed again")
    asked = parser.parse_args()
    asked.module = asked.module or ["minigpt"]
    return asked


def draw(modules: Sequence[str], number: int, seed: int) -> list[Mutant]:
    """So many changes of the files of these modules, of every kind as many as there are."""
    kinds: dict[str, list[Mutant]] = {}
    for path in chain.from_iterable(map(_files, modules)):
        source = (ROOT / path).read_text()
        for change in changes(source):
            kinds.setdefault(change.kind, []).append(Mutant(path, source, change))
    shuffle = random.Random(seed).shuffle
    for mutants in kinds.values():
        shuffle(mutants)
    in_turn = chain.from_iterable(zip_longest(*(kinds[kind] for kind in sorted(kinds))))
    return [mutant for mutant in in_turn if mutant is not None][:number]


def _files(module: str) -> list[str]:
    found = [ROOT / module] if module.endswith(".py") else sorted((ROOT / module).rglob("*.py"))
    return [path.relative_to(ROOT).as_posix() for path in found]


def copy_tree(tree: Path) -> None:
    """All that the tests need, where it can be broken."""
    tree.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)


def _run_all(tree: Path, mutants: Sequence[Mutant], limit: float) -> Iterator[Result]:
    """Each as it is done; RuntimeError where tests fail though nothing is changed."""
    tests = sorted({name for mutant in mutants for name in mutant.tests})
    if tests and (failed := _fails(tree, tests, None)):
        raise RuntimeError(f"the tests fail as they are: {failed}")
    RESULTS.parent.mkdir(exist_ok=True)
    survived = 0
    with RESULTS.open("a") as kept, tqdm(mutants, unit="mutant") as bar:
        for mutant in bar:
            result = run(tree, mutant, limit)
            kept.write(json.dumps(asdict(result)) + "\n")
            kept.flush()
            survived += result.outcome == "survived"
            bar.set_postfix(survived=survived)
            yield result


def run(tree: Path, mutant: Mutant, limit: float) -> Result:
    """Its tests on a copy of the tree that has the change; the copy is mended afterwards."""
    file, began = tree / mutant.path, time.monotonic()
    try:
        file.write_text(mutant.change.put_into(mutant.source))
        failed = _fails(tree, mutant.tests, limit)
        outcome = "killed" if failed else "survived"
    except subprocess.TimeoutExpired:
        failed, outcome = "", "timeout"
    finally:
        file.write_text(mutant.source)
    return Result(mutant.key, str(mutant), outcome, round(time.monotonic() - began, 1), failed)


def _fails(tree: Path, tests: Sequence[str], limit: float | None) -> str:
    """Which test fails first, or what else stops them; nothing where all pass. What hypothesis
    draws is the same each time."""
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", "not slow and not gpt2"]
    here = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PROFILE": "mutants"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=tree,
        env=os.environ | here | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=limit,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return "" if done.returncode == 0 else (told or done.stderr.splitlines()[-1:] or ["?"])[0]


def _kept() -> list[Result]:
    return [Result(**json.loads(line)) for line in RESULTS.read_text().splitlines()]


def _tell(drawn: Sequence[Mutant], known: dict[str, Result]) -> int:
    """Prints what became of those drawn; how many were not killed, and nobody has explained why."""
    outcomes = [known[mutant.key].outcome for mutant in drawn]
    left = [mutant for mutant in drawn if known[mutant.key].outcome != "killed"]
    unexplained = [mutant for mutant in left if not is_explained(mutant)]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in sorted(set(outcomes)))
    print(f"{len(drawn)} changes: {counts}; {len(unexplained)} of them not in tests/MUTANTS.md")
    print(*unexplained, sep="\n")
    return len(unexplained)


def is_explained(mutant: Mutant) -> bool:
    """Whether MUTANTS.md names its file, and under it the line before and after."""
    sections = (EXPLAINED.read_text() if EXPLAINED.exists() else "").split("\n## ")
    own = [section for section in sections if section.startswith(mutant.path)]
    before, after = mutant.change.lines(mutant.source)
    return any(f"- {before}\n    + {after}\n" in section for section in own)


if __name__ == "__main__":
    main()
