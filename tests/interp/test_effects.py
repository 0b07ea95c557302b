"""The record that methods return: order, grid, bootstrap, and its other forms."""

from __future__ import annotations

import json

import pytest
import torch

from interp import figures, metrics, patching
from interp.effects import Effects
from interp.tasks import Prompts
from minigpt import Config
from minigpt.errors import MiniGPTError
from tests.conftest import tiny

CONFIG = Config(2, 2, 8, 16, 32, 50)


def effects(per_prompt, addresses=("a0.0", "a0.1", "a1.0", "m0")) -> Effects:
    table = torch.tensor(per_prompt, dtype=torch.float64)
    return Effects(
        "direct effect",
        "logit difference",
        tuple(addresses),
        table,
        torch.ones(table.shape[1], dtype=torch.float64),
        CONFIG,
    )


FOUR = effects([[1.0, 3.0], [-5.0, -5.0], [0.5, 0.5], [4.0, 4.0]])


def test_values_are_means_and_top_goes_by_size_or_by_sign():
    assert FOUR.values.tolist() == [2, -5, 0.5, 4]
    assert FOUR.top(2).addresses == ("a0.1", "m0")
    assert FOUR.top(2, sign=1).addresses == ("m0", "a0.0")
    assert FOUR.top(3, sign=-1).addresses == ("a0.1",)
    assert FOUR["a0.0"] == 2


def test_what_has_no_effect_is_on_neither_side_and_last_by_size():
    table = effects([[1.0, -1.0], [2.0, 2.0], [0.0, 0.0], [-3.0, 1.0]])
    assert table.values.tolist() == [0, 2, 0, -1]
    assert table.top(4, sign=1).addresses == ("a0.1",)
    assert table.top(4, sign=-1).addresses == ("m0",)
    assert table.top(4).addresses == ("a0.1", "m0", "a0.0", "a1.0")
    assert len(effects([[0.0], [0.0], [0.0], [0.0]]).top(sign=1)) == 0


def test_an_unknown_row_is_an_error_that_shows_the_known():
    with pytest.raises(MiniGPTError, match=r"(?s)no row 'a9.9'.*a0.0, a0.1"):
        FOUR["a9.9"]


def test_grid_holds_heads_by_layer_and_nothing_elsewhere():
    grid = FOUR.grid()
    assert grid[0].tolist() == [2, -5]
    assert grid[1, 0] == 0.5
    assert torch.isnan(grid[1, 1])
    assert effects([[1.0], [2.0]], ("a0.0@1", "a0.0@2")).grid()[0, 0] == 3
    assert FOUR.heads().addresses == ("a0.0", "a0.1", "a1.0")


def test_the_bootstrap_covers_the_mean_repeats_by_seed_and_narrows_with_prompts():
    noise = torch.randn(1, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 2
    few, many = effects(noise[:, :10].tolist(), ("a0.0",)), effects(noise.tolist(), ("a0.0",))
    ((low, high),) = many.interval().tolist()
    assert low < float(many.values) < high
    width = 2 * 1.96 * float(noise.std()) / 20
    assert high - low == pytest.approx(width, rel=0.15)
    assert float(few.interval().diff()) > high - low
    assert torch.equal(many.interval(seed=1), many.interval(seed=1))
    assert not torch.equal(many.interval(seed=1), many.interval(seed=2))
    assert torch.isnan(effects([[1.0]], ("a0.0",)).interval()).all()


def test_the_bootstrap_of_a_constant_has_no_width():
    assert effects([[3.0, 3.0, 3.0]], ("a0.0",)).interval()[0].tolist() == pytest.approx([3, 3])


def test_every_form_says_the_same():
    frame, data = FOUR.to_frame(), json.loads(FOUR.to_json())
    assert frame.address.tolist() == list(FOUR.addresses)
    assert frame.value.tolist() == [row["value"] for row in data["rows"]] == FOUR.values.tolist()
    assert data["rows"][0]["per_prompt"] == [1, 3]
    assert "a0.1" in repr(FOUR)
    assert "-5.0000" in FOUR._repr_html_()


def test_pictures_hold_the_numbers():
    heat = FOUR.heads().figure().data[0]
    assert heat.type == "heatmap"
    assert heat.z[0][1] == -5
    bars = FOUR.figure().data[0]
    assert (bars.type, bars.y[0], bars.x[0]) == ("bar", "a0.1", -5)


def test_stream_points_by_positions_are_a_map_and_heads_are_none():
    model = tiny(3, 2, 16, 32)
    clean, corrupt = torch.randint(0, 50, (2, 3, 7), generator=torch.Generator().manual_seed(0))
    pairs = Prompts(clean, corrupt, [1, 2, 3], [4, 5, 6])
    metric = metrics.logit_diff(pairs)
    found = patching.nodes(model, pairs, metric, "resid@")
    rows, columns, values = found.map()
    assert rows[:2] == ["resid0", "resid0.mid"]
    assert columns == [str(i) for i in range(7)]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            assert float(values[i, j]) == found[f"{row}@{column}"]
    assert found.figure().data[0].z[1][3] == found["resid0.mid@3"]
    assert found.figure().data[0].text[1][3] == "resid0.mid at 3"
    backwards = found.rows(list(range(len(found)))[::-1])
    assert backwards.map()[1] == columns
    assert found.rows([0, 1]).map()[0] == ["resid0"]
    assert found.rows([0, 8]).map() is None
    for over in ("heads", "heads@", "mlps", "resid@END"):
        assert patching.nodes(model, pairs, metric, over).map() is None


def test_whole_patterns_stand_side_by_side_with_their_tokens():
    model = tiny(3, 2, 16, 32)
    trace = model.run([[1, 2, 3, 4]])
    heads = {name: trace[f"{name}.pattern"][0] for name in ("a1.0", "a2.1")}
    drawn = figures.patterns(["x", " y", "z", "!"], heads)
    assert [note.text for note in drawn.layout.annotations] == ["a1.0", "a2.1"]
    assert list(drawn.data[1].z[3]) == heads["a2.1"][3].tolist()
    assert drawn.data[0].x[1] == "1 ' y'"
