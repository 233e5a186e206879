"""The claims of the SFT map, from its stored data."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from ..._lab.claim import Claim, Claims, computed, value_claim
from .known import CHECK_DURATIONS, CHECK_QUALITIES, CHECK_START, CHECK_TIMES

DERIVED = "derived in docs/derivations.md#the-flow-of-supervised-fine-tuning"

CLAIMS = Claims()
_PAPER, _HERE = "arXiv 2506.04695 v1", "conjectured by this map"


@CLAIMS.register
def t0_without_sft(data: xr.Dataset) -> Iterator[Claim]:
    """Of the check case, to its digits."""
    if "check_entanglement_time" in data:
        start = float(np.exp(data["start_log_entanglement_time"]))
        yield value_claim("T0 without SFT", DERIVED, CHECK_START, start, atol=5e-6)


@CLAIMS.register
def t0_after_sft(data: xr.Dataset) -> Iterator[Claim]:
    """Of the check case, to its digits."""
    if "check_entanglement_time" not in data:
        return
    for quality, row in zip(CHECK_QUALITIES, CHECK_TIMES, strict=True):
        for duration, predicted in zip(CHECK_DURATIONS, row, strict=True):
            cell = data.sel(curve_quality=quality, curve_duration=duration)
            measured = float(np.exp(cell["curve_log_entanglement_time"]))
            text = f"T0 after SFT with f = {quality:g}, s = {duration:g}"
            yield value_claim(text, DERIVED, predicted, measured, atol=5e-4)


def _savings(data: xr.Dataset, name: str, without: str, text: str) -> Iterator[Claim]:
    """The least total time of each quality, over the time without SFT."""
    whole = float(np.exp(data[without]))
    for quality, total in zip(data["curve_quality"].values, data[name].values, strict=True):
        ratio = float(total) / whole
        claim = f"{text}, is below 1, f = {quality:g}"
        yield Claim.of(claim, _PAPER, computed(1.0, ratio, ratio < 1))


@CLAIMS.register
def sft_cuts_the_slow_phase(data: xr.Dataset) -> Iterator[Claim]:
    """By the least s + T0."""
    text = "SFT first cuts the slow phase: least (s + T0) / T0 without"
    yield from _savings(data, "curve_best_total", "start_log_entanglement_time", text)


@CLAIMS.register
def sft_cuts_the_time_to_eps(data: xr.Dataset) -> Iterator[Claim]:
    """By the least s + T_eps."""
    text = f"the same for the time to pi(r*) = {1 - data.attrs['eps']:g}"
    yield from _savings(data, "curve_best_total_to_eps", "start_log_convergence_time", text)


@CLAIMS.register
def sft_pays_from_a_low_quality(data: xr.Dataset) -> Iterator[Claim]:
    """If it pays at all within the map."""
    own = float(data["initial_prob"][np.argmax(data["success_rate"].values)])
    even = float(data["break_even_quality"])
    text = "SFT pays from a quality on that lies below the model's own share of the best pattern"
    if np.isfinite(even):
        yield Claim.of(text, _HERE, computed(own, even, even < own))


def _log_line(data: xr.Dataset) -> xr.DataArray:
    """The log duration after which the start is strong, by quality."""
    line = data["log_strong_duration"].sel(line_quality=data["quality"])
    return line.drop_vars("line_quality")


@CLAIMS.register
def best_sft_ends_at_the_strong_line(data: xr.Dataset) -> Iterator[Claim]:
    """Where the line is on the map."""
    at_end = data["best_on_line"] | (data["best_duration"] == 0)
    at_end = at_end[_log_line(data).notnull().values]
    text = "share of qualities whose best SFT is none, or lasts just until the start is strong"
    if at_end.size:
        yield value_claim(text, _HERE, 1.0, float(at_end.mean()))


@CLAIMS.register
def strong_beyond_the_strong_line(data: xr.Dataset) -> Iterator[Claim]:
    """Cell by cell."""
    expected = np.log(data["duration"]) >= _log_line(data)
    strong = np.isneginf(data["log_entanglement_time"])
    text = "share of cells with T0 = 0 exactly where the strong line says so"
    yield value_claim(text, _HERE, 1.0, float((strong == expected).mean()))
