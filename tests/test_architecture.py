"""The shape of the code itself: imports point one way, nothing hooks or differentiates, importing
changes nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = "CONTRIBUTING.md"
# The lines of a function: the median, the ninetieth percentile and the longest, at most.
LONGEST = {"minigpt": (6, 15, 30), "weights": (10, 21, 31), "interp": (8, 22, 45)}
PACKAGES = {"minigpt": (), "weights": ("minigpt",), "interp": ("minigpt",)}
# The only files of interp that may name a model's weights.
MAY_LOAD = ("interp.cli", "interp.debugger", "interp.learn")
# What the debugger's functions do not know: that there is a server. Those of its modules that make
# one up may.
SERVERS = ("fastapi", "starlette", "uvicorn", "nicegui")
MAY_SERVE = (
    "interp.debugger.api",
    "interp.debugger.arrival",
    "interp.debugger.component_page",
    "interp.debugger.departure",
    "interp.debugger.guard",
    "interp.debugger.handshake",
    "interp.debugger.refusal",
    "interp.debugger.start",
    "interp.debugger.page",
    "interp.debugger.cards",
)
FORBIDDEN = (
    "backward",
    "requires_grad",
    "requires_grad_",
    "enable_grad",
    "set_grad_enabled",
    "autograd",
)


def sources(package: str) -> dict[str, str]:
    """The source of every module of a package, by its name."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path.read_text()
        for path in paths
    }


OURS = {name: text for package in PACKAGES for name, text in sources(package).items()}


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a module, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from statements(child)


def imports(name: str, source: str) -> set[str]:
    """The modules of this project that a module imports, anywhere in it."""
    return {module for module in imported(name, source) if module.partition(".")[0] in PACKAGES} - {
        name
    }


def imported(name: str, source: str) -> set[str]:
    """The modules that a module imports; `from minigpt import ops` is minigpt.ops, not minigpt."""
    found = set()
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in OURS else base
                for alias in node.names
            }
    return found


def wrong_package(name: str, source: str) -> list[str]:
    """Imports against minigpt <- weights, minigpt <- interp, weights <- interp's command line and
    debugger only."""
    own = name.partition(".")[0]
    allowed = {own, *PACKAGES[own], *(["weights"] if name.startswith(MAY_LOAD) else [])}
    return [
        f"{name} imports {module}: {own} may import "
        f"{' and '.join(sorted(allowed - {own})) or 'nothing'} of this project"
        for module in sorted(imports(name, source))
        if module.partition(".")[0] not in allowed
    ]


def served(name: str, source: str) -> list[str]:
    """Imports of a server's libraries where only functions from a question to a record belong."""
    if name.startswith(MAY_SERVE):
        return []
    return [
        f"{name} imports {module}: only {', '.join(MAY_SERVE)} know of a server"
        for module in sorted(imported(name, source))
        if module.partition(".")[0] in SERVERS
    ]


def rooms(table: str) -> dict[str, list[str]]:
    """The rooms of each package in the order of the table that draws the house."""
    found: dict[str, list[str]] = {}
    package = ""
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and "`" in cells[2]:
            package = cells[0].strip("`") or package
            found.setdefault(package, []).extend(re.findall(r"`([\w.]+)`", cells[2]))
    return found


ROOMS = rooms((ROOT / HOUSE).read_text())


def room(name: str) -> str | None:
    """The room that a module is in, by its name in the table: its own file or a folder above it."""
    package, _, rest = name.partition(".")
    above = [rest.rsplit(".", n)[0] for n in range(rest.count(".") + 1)]
    return next((place for place in above if place in ROOMS.get(package, ())), None)


def wrong_order(name: str, source: str) -> list[str]:
    """Imports inside a package that point to a later room, or at the package as a whole, which
    imports everything."""
    package, _, rest = name.partition(".")
    own, order = room(name), ROOMS[package]
    if not rest:
        return []
    if own is None:
        return [f"{name} is new: put it into the table of {HOUSE}, after the last room it imports"]
    return [
        f"{name} imports {module}, which does not come before it in {' <- '.join(order)}"
        for module in sorted(imports(name, source))
        if module.partition(".")[0] == package
        and (other := room(module)) != own
        and (other is None or order.index(other) > order.index(own))
    ]


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves by way of others. A package stands for its __init__ alone."""

    def reached(start: str) -> set[str]:
        found, waiting = set(), [start]
        while waiting:
            for module in graph.get(waiting.pop(), ()):
                if module not in found:
                    found.add(module)
                    waiting.append(module)
        return found

    return [
        f"{name} imports itself by way of "
        f"{', '.join(sorted(other for other in reached(name) if name in reached(other)))}"
        for name in graph
        if name in reached(name)
    ]


def hooks_and_gradients(name: str, source: str) -> list[str]:
    """Names by which a module would hook into a pass, or ask for derivatives. no_grad is none of
    them."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [getattr(node, field, None) for field in ("id", "attr", "arg", "module")] + [
            alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)
        ]
        for word in {part for text in names if isinstance(text, str) for part in text.split(".")}:
            if word in FORBIDDEN or (word.startswith("register_") and "hook" in word):
                line = getattr(node, "lineno", "?")
                found.append(
                    f"{name}, line {line}: {word}: values are read and edited by address, without "
                    "hooks and gradients"
                )
    return found


def lengths(source: str) -> list[int]:
    """The number of lines of every function, from its first decorator to its last line, but for
    the example in its docstring."""
    return [
        node.end_lineno
        - min([node.lineno, *(d.lineno for d in node.decorator_list)])
        + 1
        - example(ast.get_docstring(node) or "")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def example(docstring: str) -> int:
    """How many lines the example takes, with the blank line and the quotes around it."""
    _, mark, lines = docstring.partition("\n\n>>> ")
    return lines.count("\n") + 3 if mark else 0


def spread(found: list[int]) -> tuple[int, int, int]:
    """Median, ninetieth percentile, longest."""
    ordered = sorted(found)
    return ordered[len(ordered) // 2], ordered[int(0.9 * (len(ordered) - 1))], ordered[-1]


# --- the code as it is ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_imports_between_packages_point_one_way(name: str) -> None:
    assert not wrong_package(name, OURS[name]), "\n".join(wrong_package(name, OURS[name]))


@pytest.mark.parametrize("name", OURS)
def test_only_the_debuggers_outside_knows_of_a_server(name: str) -> None:
    assert not served(name, OURS[name]), "\n".join(served(name, OURS[name]))


@pytest.mark.parametrize("name", OURS)
def test_each_room_imports_only_earlier_ones(name: str) -> None:
    assert not wrong_order(name, OURS[name]), "\n".join(wrong_order(name, OURS[name]))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_of_the_table_is_there(package: str) -> None:
    assert {room(name) for name in sources(package)} - {None} == set(ROOMS[package])


def test_nothing_imports_itself_by_way_of_others() -> None:
    found = cycles({name: imports(name, source) for name, source in OURS.items()})
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", [name for name in OURS if not name.startswith("weights")])
def test_nothing_registers_a_hook_or_asks_for_a_gradient(name: str) -> None:
    assert not hooks_and_gradients(name, OURS[name]), "\n".join(
        hooks_and_gradients(name, OURS[name])
    )


STATE = """
import random, signal, sys, warnings, logging, os
import numpy, torch, pandas, plotly.io, {foreign}
def state():
    return {
        "dtype": torch.get_default_dtype(), "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(), "seed": torch.initial_seed(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "torch print": vars(torch._tensor_str.PRINT_OPTS).copy(),
        "numpy": (numpy.geterr(), numpy.get_printoptions()),
        "theme": plotly.io.templates.default, "pandas": pandas.get_option("display.max_rows"),
        "warnings": list(warnings.filters),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "environment": dict(os.environ),
        "hooks": (sys.excepthook, sys.displayhook, signal.getsignal(signal.SIGINT)),
        "random": random.getstate()[1][:9],
    }
before = state()
{importing}
after = state()
changed = [name for name in before if before[name] != after[name]]
print([f"{name}: {before[name]} -> {after[name]}" for name in changed])
"""


def changed_by(importing: str) -> str:
    """What of a process's own settings some lines change, once everything foreign has been
    imported."""
    foreign = (
        {module for name, source in OURS.items() for module in imported(name, source)}
        - set(OURS)
        - {"__future__"}
    )
    # An optional library that is not installed changes nothing.
    foreign = {name for name in foreign if find_spec(name.partition(".")[0])}
    script = STATE.replace("{foreign}", ", ".join(sorted(foreign))).replace(
        "{importing}", importing
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "names",
    [list(OURS), pytest.param(["minigpt"], marks=pytest.mark.slow)],
    ids=["every module", "the engine"],
)
def test_importing_changes_nothing_that_belongs_to_the_process(names: list[str]) -> None:
    assert changed_by("\n".join(f"import {name}" for name in names)) == "[]"


@pytest.mark.parametrize("package", LONGEST)
def test_functions_are_short(package: str) -> None:
    measured = spread(
        [length for source in sources(package).values() for length in lengths(source)]
    )
    within = all(x <= bound for x, bound in zip(measured, LONGEST[package], strict=True))
    assert within, f"{package}: median, p90, longest {measured}, at most {LONGEST[package]}"


# --- twins: each of the checks above complains of what it is for ----------------------------------


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("minigpt.ops", "import interp"),
        ("minigpt.ops", "def f():\n    from weights.load import load"),
        ("weights.load", "from interp import metrics"),
        ("interp.metrics", "import weights"),
        ("interp.tasks.ioi", "from weights import load"),
        ("interp.clique", "x = 1\nif x:\n    import interp.cli, weights.load"),
    ],
)
def test_twin_an_import_against_the_direction_is_seen(name: str, source: str) -> None:
    if name == "interp.clique":  # a name that merely begins like one that may
        assert not wrong_package("interp.cli", source)
        name = "interp.card"
    (complaint,) = wrong_package(name, source)
    assert f"{name} imports " in complaint


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("interp.cli", "from weights import load"),
        ("interp.debugger.server", "import weights"),
        ("weights.load", "import minigpt"),
        ("minigpt.ops", "import torch\nfrom minigpt import errors"),
        ("minigpt.ops", "if TYPE_CHECKING:\n    import interp"),
    ],
)
def test_an_import_along_the_direction_is_not(name: str, source: str) -> None:
    assert not wrong_package(name, source)


@pytest.mark.parametrize(
    "source",
    [
        "from minigpt.model import GPT2",
        "from minigpt import model",
        "import minigpt.trace",
        "from minigpt import GPT2",
        "from . import trace",
        "from .trace import Trace",
        "def f():\n    import minigpt.sample",
    ],
)
def test_twin_an_import_of_a_later_file_is_seen(source: str) -> None:
    (complaint,) = wrong_order("minigpt.ops", source)
    assert complaint.startswith("minigpt.ops imports minigpt")


def test_twin_a_function_that_knows_of_a_server_is_seen() -> None:
    (complaint,) = served("interp.debugger.nodes", "def f():\n    from fastapi import Request")
    assert complaint.startswith("interp.debugger.nodes imports fastapi")
    assert not served("interp.debugger.api", "from fastapi import FastAPI")


def test_twin_a_file_that_is_not_in_the_order_is_seen() -> None:
    assert wrong_order("minigpt.surprise", "") == [
        "minigpt.surprise is new: put it into the table of CONTRIBUTING.md, after the last room it "
        "imports"
    ]
    assert (
        wrong_order(
            "minigpt.trace",
            "from minigpt import errors, ops\nfrom minigpt.batch import Batch\nimport torch",
        )
        == []
    )


def test_twin_a_study_that_a_method_imports_is_seen() -> None:
    (complaint,) = wrong_order("interp.circuit.criteria", "from interp.ioi import study")
    assert complaint.startswith("interp.circuit.criteria imports interp.ioi")
    assert not wrong_order(
        "interp.circuit.criteria", "from interp.circuit.ablation import Ablation"
    )


def test_twin_a_long_function_is_seen() -> None:
    assert spread([1, 2, 3, 4, 5, 6, 7, 8, 9, 90]) == (6, 9, 90)


def test_twin_a_cycle_is_seen() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [
        f"{one} imports itself by way of a, b, c" for one in "abc"
    ]


@pytest.mark.parametrize(
    "source",
    [
        "model.register_forward_hook(f)",
        "x.register_hook(f)",
        "loss.backward()",
        "x.requires_grad_()",
        "torch.zeros(3, requires_grad=True)",
        "with torch.enable_grad(): pass",
        "torch.autograd.grad(y, x)",
        "import torch.autograd",
        "from torch.autograd import grad",
        "from torch import autograd as a",
        "torch.set_grad_enabled(True)",
        "x.requires_grad = True",
        "register_full_backward_hook",
    ],
)
def test_twin_a_hook_or_a_gradient_is_seen(source: str) -> None:
    assert hooks_and_gradients("somewhere", source)
    assert not hooks_and_gradients(
        "somewhere", "@torch.no_grad()\ndef run(hook_z): return 'blocks.9.attn.hook_z backward'"
    )


@pytest.mark.slow
def test_twin_a_changed_setting_is_seen() -> None:
    found = changed_by("""
torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)
torch.set_num_threads(7); torch.manual_seed(3)
torch.use_deterministic_algorithms(True); warnings.simplefilter("ignore")
plotly.io.templates.default = "none"
os.environ["X"] = "1"; random.seed(0)""")
    settings = (
        "dtype",
        "gradients",
        "threads",
        "deterministic",
        "warnings",
        "theme",
        "environment",
        "random",
        "seed",
    )
    assert [name for name in settings if f"{name}: " not in found] == []


def test_twin_the_length_of_a_function_counts_its_decorators() -> None:
    assert lengths(
        "@a\n@b\ndef f():\n    x = 1\n\n    return x\n\nclass C:\n    def g(self): ...\n"
    ) == [6, 1]
