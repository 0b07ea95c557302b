"""The shape of the code itself: imports point one way, nothing hooks or differentiates, importing
changes nothing."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each file of minigpt imports only files that stand before it. A new file: put it after the last
# one that it imports.
ORDER = [
    "errors",
    "device",
    "config",
    "address",
    "names",
    "params",
    "ops",
    "tokenizer",
    "batch",
    "receipt",
    "trace",
    "patch.edit",
    "patch.conflict",
    "patch.patch",
    "patch",
    "reference",
    "recompute",
    "recompute.rows",
    "recompute.plan",
    "recompute.lower",
    "recompute.needed",
    "recompute.edits",
    "recompute.attention",
    "recompute.forward",
    "recompute.sweep",
    "model",
    "sample",
]
PACKAGES = {"minigpt": (), "weights": ("minigpt",), "interp": ("minigpt",)}
# The only files of interp that may name a model's weights.
MAY_LOAD = ("interp.cli", "interp.debugger")
# What the debugger's functions do not know: that there is a server. Those of its modules that make
# one up may.
SERVERS = ("fastapi", "starlette", "uvicorn", "nicegui")
MAY_SERVE = (
    "interp.debugger.api",
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


def wrong_order(name: str, source: str) -> list[str]:
    """Imports inside minigpt that point forward or at the package as a whole, which imports
    everything."""
    if name == "minigpt":
        return []
    own = name.removeprefix("minigpt.")
    if own not in ORDER:
        return [
            f"{name} is new: put it into ORDER in tests/test_architecture.py, after the last file "
            "that it imports"
        ]
    earlier = [f"minigpt.{other}" for other in ORDER[: ORDER.index(own)]]
    return [
        f"{name} imports {module}, which does not come before it in {' <- '.join(ORDER)}"
        for module in sorted(imports(name, source))
        if module not in earlier
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
    """The number of lines of every function, from its first decorator to its last line."""
    return [
        node.end_lineno - min([node.lineno, *(d.lineno for d in node.decorator_list)]) + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


# --- the code as it is ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_imports_between_packages_point_one_way(name: str) -> None:
    assert not wrong_package(name, OURS[name]), "\n".join(wrong_package(name, OURS[name]))


@pytest.mark.parametrize("name", OURS)
def test_only_the_debuggers_outside_knows_of_a_server(name: str) -> None:
    assert not served(name, OURS[name]), "\n".join(served(name, OURS[name]))


@pytest.mark.parametrize("name", sources("minigpt"))
def test_each_file_of_the_engine_imports_only_earlier_ones(name: str) -> None:
    assert not wrong_order(name, OURS[name]), "\n".join(wrong_order(name, OURS[name]))


def test_every_file_in_the_order_is_there() -> None:
    assert {f"minigpt.{name}" for name in ORDER} | {"minigpt"} == set(sources("minigpt"))


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
    script = STATE.replace("{foreign}", ", ".join(sorted(foreign))).replace(
        "{importing}", importing
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("names", [["minigpt"], list(OURS)], ids=["the engine", "every module"])
def test_importing_changes_nothing_that_belongs_to_the_process(names: list[str]) -> None:
    assert changed_by("\n".join(f"import {name}" for name in names)) == "[]"


def test_the_length_of_functions_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        for package in PACKAGES:
            found = sorted(
                length for source in sources(package).values() for length in lengths(source)
            )
            long = [
                f"{name} {source.count(chr(10))}"
                for name, source in sources(package).items()
                if source.count("\n") > 350
            ]
            p90 = found[int(0.9 * (len(found) - 1))]
            print(
                f"\n{package}: {len(found)} functions: median {statistics.median(found):.0f}, p90 "
                f"{p90}, max {found[-1]} lines; "
                f"files over 350 lines: {', '.join(long) or 'none'}",
                end="",
            )
            assert len(found) > 10


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
        "minigpt.surprise is new: put it into ORDER in tests/test_architecture.py, after the last "
        "file that it imports"
    ]
    assert (
        wrong_order(
            "minigpt.trace",
            "from minigpt import errors, ops\nfrom minigpt.batch import Batch\nimport torch",
        )
        == []
    )


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
