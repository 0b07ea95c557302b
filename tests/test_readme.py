"""What the README shows in Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_python_runs_and_says_what_it_says(monkeypatch):
    import plotly.graph_objects as go

    shown = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S))
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(shown) == 1
    assert names["trace"]["a2.6@-1"].shape == (1, 128)
    assert names["patched"].receipt.changed > 0
    assert str(names["Patch"].read("a0.6>a2.1.v", names["corrupt"])) == "a0.6>a2.1.v = run"
