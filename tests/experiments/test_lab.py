"""What maps and claims share: verdicts, and maps that are computed beside each other."""

import dataclasses
import threading
from typing import ClassVar

import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import binomtest, norm

from experiments import sweep
from experiments._lab.claim import (
    Claim,
    Verdict,
    above,
    below,
    close,
    estimate,
    probability_claim,
    wilson_interval,
)
from experiments._lab.map import Map, MapResult
from experiments._lab.text import counted, disagreements, table
from experiments._lab.together import run_maps


@pytest.mark.parametrize(("successes", "draws"), [(0, 200), (3, 50), (487, 1000), (200, 200)])
def test_wilson_interval(successes, draws):
    """Against SciPy."""
    expected = binomtest(successes, draws).proportion_ci(0.99, method="wilson")
    assert wilson_interval(successes, draws) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("predicted", "successes", "draws", "verdict"),
    [
        (0.5, 520, 1000, "agrees"),
        (0.5, 600, 1000, "disagrees"),
        (1.0, 1000, 1000, "agrees"),
        (1.0, 999, 1000, "disagrees"),
        (0.5, 11, 20, "undecided"),
        (0.5, 0, 20, "disagrees"),
        (0.5, 0, 0, "undecided"),
    ],
)
def test_verdict_on_a_probability(predicted, successes, draws, verdict):
    """The 99 % interval, not the estimate, decides; one wider than 0.2 decides nothing."""
    claim = probability_claim("c", "s", predicted, successes, draws)
    assert claim.verdict is Verdict(verdict)
    if draws:
        low, high = binomtest(successes, draws).proportion_ci(0.99, method="wilson")
        assert (verdict == "disagrees") is not (low <= predicted <= high)


def test_verdict_on_an_estimate():
    """The same for a number with a normal error, at SciPy's quantile."""
    quantile = norm.ppf(0.995)
    for off, verdict in ((quantile - 1e-6, "agrees"), (quantile + 1e-6, "disagrees")):
        assert estimate(1.0 + 0.01 * off, 1.0, 0.01).verdict == verdict
    assert estimate(1.0, 1.0, 0.21 / (2 * quantile)).verdict == "undecided"


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(0.5, "agrees"), (0.1, "undecided"), (-0.1, "undecided"), (-0.5, "disagrees")],
)
def test_bounds_are_decided_by_the_interval(measured, verdict):
    """2.58 standard errors to either side."""
    assert above(1.0, 1 + measured, 0.1).verdict == verdict
    assert below(1.0, 1 - measured, 0.1).verdict == verdict


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(1.05, "agrees"), (1.2, "disagrees"), (float("nan"), "disagrees")],
)
def test_verdict_on_a_number(measured, verdict):
    """Within the tolerance or not; what is not a number agrees with nothing."""
    assert close(1.0, measured, rtol=0.1).verdict == verdict
    assert close(1.0, measured, atol=0.1).verdict == verdict


@dataclasses.dataclass(frozen=True)
class _Waits(Map):
    """A map that reports progress for ever, until it is stopped."""

    name: ClassVar[str] = "waits"
    begun: ClassVar[threading.Event] = threading.Event()

    def shrunk(self) -> "Map":
        return self

    def ticks(self) -> int:
        return 1

    def compute(self, progress) -> xr.Dataset:
        self.begun.set()
        while True:
            progress(0)

    @staticmethod
    def claims(data: xr.Dataset) -> list:
        return []

    @staticmethod
    def draw(data: xr.Dataset) -> Figure:
        return Figure()


class _Fails(_Waits):
    name: ClassVar[str] = "fails"

    def compute(self, progress) -> xr.Dataset:
        assert self.begun.wait(60)
        raise ValueError("a reason")


class _Succeeds(_Waits):
    name: ClassVar[str] = "succeeds"

    def compute(self, progress) -> xr.Dataset:
        progress(1)
        return xr.Dataset({"status": ("cell", [0])})


def test_a_failing_map_stops_the_others(tmp_path):
    """Its error comes out, and nothing is left behind."""
    with pytest.raises(ValueError, match="a reason"):
        run_maps([_Waits(tmp_path, quiet=True), _Fails(tmp_path, quiet=True)])
    assert not list(tmp_path.iterdir())


def test_results_come_in_the_order_of_the_maps(tmp_path):
    """Whichever is computed first; folders are those of the maps."""
    maps = [_Succeeds(tmp_path / folder, quiet=True) for folder in "abc"]
    results = run_maps(maps)
    assert [one.folder for one in results] == [settings.folder for settings in maps]
    assert all((one.folder / "figure.pdf").exists() for one in results)


def test_claims_as_text():
    """The console has the largest differences and how many more; the table has every claim."""
    kinds = ["disagrees"] * 5 + ["agrees"] * 3 + ["undecided"]
    claims = [
        Claim(f"c{i}", "s", 1.0, 1.0 + i, 0.25 if i == 4 else None, Verdict(kind))
        for i, kind in enumerate(kinds)
    ]
    assert counted(claims) == "3 of 9 claims agree, 5 disagree, 1 are undecided"
    assert counted(claims[5:8]) == "3 of 3 claims agree"
    assert disagreements(claims) == [
        "DISAGREES: c4: predicted 1, measured 5 ± 0.25 [s]",
        "DISAGREES: c3: predicted 1, measured 4 [s]",
        "DISAGREES: c2: predicted 1, measured 3 [s]",
        "and 2 more that disagree",
    ]
    assert disagreements(claims[:3])[-1].startswith("DISAGREES: c0")
    assert disagreements(claims[5:]) == []
    whole = table(claims)
    assert [line.split()[1] for line in whole.splitlines()[2::2]] == [f"c{i}" for i in range(9)]
    assert whole.count("DISAGREES") == 5


def test_console_of_a_sweep(tmp_path, monkeypatch, capsys):
    """What was found, what disagrees, cells that failed, and the folder: a few lines."""
    claims = [Claim("c", "s", 1.0, 2.0, None, Verdict.DISAGREES)]
    result = MapResult(tmp_path / "gap", {"MAX_STEPS": 3, "NOT_FINITE": 1}, claims, ["found this"])
    monkeypatch.setattr(sweep, "run_maps", lambda maps: [result])
    assert sweep.main(["gap", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "gap: 0 of 1 claims agree, 1 disagree; 4 cells FAILED (3 x MAX_STEPS, 1 x NOT_FINITE)",
        "  found this",
        "  DISAGREES: c: predicted 1, measured 2 [s]",
        f"  wrote {tmp_path / 'gap'}: claims.txt (all claims), figure.png, data.zarr",
    ]
