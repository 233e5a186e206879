"""The documentation's figures from shipped data: those of full runs, and they can be drawn."""

import json
import sys

import matplotlib.image
import pytest

from experiments import redraw
from experiments.maps.branches.compute import Branches
from experiments.maps.calibration.compute import Calibration
from experiments.maps.forecast.compute import ForecastMap
from experiments.maps.gap.compute import Gap
from experiments.maps.portraits.compute import Portraits
from experiments.maps.regimes.compute import Regimes
from experiments.maps.tokens.compute import Tokens

MAPS = (Branches, Calibration, ForecastMap, Gap, Portraits, Regimes, Tokens)


@pytest.mark.parametrize("kind", MAPS, ids=lambda kind: kind.name)
def test_shipped_data(kind):
    """They are those of the defaults as they are now, with versions, and their claims agree."""
    data = redraw.read_map(kind.name)
    stored, now = json.loads(data.attrs["settings"]), vars(kind())
    assert stored == {key: _plain(now[key]) for key in stored}
    assert {"seed", "versions", "precision"} <= data.attrs.keys()
    assert [claim.statement for claim in kind.claims(data) if claim.verdict != "agrees"] == []


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def test_drawn_again(tmp_path, monkeypatch, capsys):
    """As PNG of 300 dots an inch at a column's width, and as PDF."""
    monkeypatch.setattr(sys, "argv", ["", "gap", "--out", str(tmp_path / "new")])
    redraw.main()
    assert matplotlib.image.imread(tmp_path / "new" / "gap.png").shape[1] == 5.5 * 300
    assert (tmp_path / "new" / "gap.pdf").read_bytes().startswith(b"%PDF")
    assert capsys.readouterr().out.count("wrote") == 2


def test_every_map_that_is_shown():
    assert sorted(redraw.MAPS) == sorted(kind.name for kind in MAPS)
    assert all((redraw.DOCS / f"{name}.png").exists() for name in redraw.MAPS)
