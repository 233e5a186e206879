"""The claims of the RLIF map, from its stored data."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

import qra_jax as qra

from ..._lab.claim import Claim, Claims, probability_claim, value_claim

DERIVED = "derived in docs/laws.md#internal-rewards-with-many-patterns"

CLAIMS = Claims()
_PAPER = "Thm. 5.6 of arXiv 2506.04695 v2, as summarised"
_SIMULATED = "simulation of arXiv 2506.04695 v2, as summarised"
_SIMULATED_SIZES = (1000, 10_000)
_CLAIMED_TILTS = (0.0, 0.1, 0.5)
# Theory to its digits: P(rise) at tilt 0.1 by R, and the two limits for a correct majority.
_KNOWN_RISE = {10: 0.5385, 100: 0.6199, 1000: 0.8329, 10_000: 0.9989}
_KNOWN_LIMITS = {"rise_by_mean": (0.6768, 5e-5), "rise_by_count": (0.585, 5e-4)}


def _share(claim: str, source: str, predicted: float, happens: xr.DataArray) -> Claim:
    values = happens.values
    return probability_claim(claim, source, predicted, int(values.sum()), values.size)


def _rises(data: xr.Dataset) -> xr.DataArray:
    return data["initial_slope"] > 0


def _drops(data: xr.Dataset) -> xr.DataArray:
    return data["end_accuracy"] < data["start_accuracy"]


def _tilts(data: xr.Dataset) -> list[float]:
    return [tilt for tilt in _CLAIMED_TILTS if tilt in data["tilt"]]


def _by_size(data: xr.Dataset, name: str, happens: xr.DataArray, text: str) -> Iterator[Claim]:
    """Shares against the predictions for finite R."""
    for tilt in _tilts(data):
        for size in data["patterns"].values:
            predicted = float(data[name].sel(patterns=size, theory_tilt=tilt))
            where = happens.sel(patterns=size, tilt=tilt)
            claim = text.format(f"R = {size}, tilt {tilt:g}")
            yield _share(claim, DERIVED, predicted, where)


@CLAIMS.register
def rises_at_first(data: xr.Dataset) -> Iterator[Claim]:
    """By R and tilt."""
    text = "P(rises at first), {}: normal approximation"
    yield from _by_size(data, "predicted_rise", _rises(data), text)


@CLAIMS.register
def ends_below_its_start(data: xr.Dataset) -> Iterator[Claim]:
    """By R and tilt."""
    yield from _by_size(data, "predicted_drop", _drops(data), "P(end below start), {}")


@CLAIMS.register
def most_certain_is_the_worst(data: xr.Dataset) -> Iterator[Claim]:
    """At the largest R, by tilt."""
    largest = data.isel(patterns=-1)
    for tilt in _tilts(data):
        text = f"P(argmax is the worst), R = {int(largest.patterns)}, tilt {tilt:g}: large-R limit"
        where = largest["ends_at_worst"].sel(tilt=tilt)
        limit = float(qra.laws.rlif_drop_probability(np.inf, tilt))
        yield _share(text, DERIVED, limit, where)


@CLAIMS.register
def ends_below_if_at_the_worst(data: xr.Dataset) -> Iterator[Claim]:
    """And only then."""
    same = float((_drops(data) == data["ends_at_worst"]).mean())
    text = "share of draws that end below their start exactly if the argmax is the worst pattern"
    yield value_claim(text, DERIVED, 1.0, same)


@CLAIMS.register
def given_a_right_majority(data: xr.Dataset) -> Iterator[Claim]:
    """No tilt, a correct majority in two readings, against theory and against the paper."""
    level = data.sel(tilt=0.0)
    majority = {
        "rise_by_mean": ("mean p > 1/2", level["start_accuracy"] > 0.5),
        "rise_by_count": ("most patterns p > 1/2", level["share_above_half"] > 0.5),
    }
    size = int(level["patterns"][-1])
    for name, (reading, correct) in majority.items():
        last, right = level.isel(patterns=-1), correct.isel(patterns=-1).values
        rises, drops = _rises(last)[right], _drops(last)[right]
        given, where = f"{reading}: majority right", f"R = {size}, tilt 0"
        rise, limit = f"P(rises at first | {given}), {where}", float(data[name])
        yield _share(f"{rise}: large-R limit", DERIVED, limit, rises)
        yield _share(f"{rise}: large-R limit", _PAPER, 1.0, rises)
        yield _share(f"P(end below start | {given}), {where}: large-R limit", _PAPER, 0.5, drops)


@CLAIMS.register
def ends_above_given_a_right_majority(data: xr.Dataset) -> Iterator[Claim]:
    """No tilt, at the sizes of the paper's simulation."""
    level = data.sel(tilt=0.0)
    for size in _SIMULATED_SIZES:
        if size in level["patterns"]:
            at = level.sel(patterns=size)
            improves = ~_drops(at)[(at["start_accuracy"] > 0.5).values]
            text = f"P(end above start | mean p > 1/2: majority right), R = {size}, tilt 0"
            predicted = float(qra.laws.rlif_end_above_probability(size))
            yield _share(text, _SIMULATED, 0.487, improves)
            yield _share(f"{text}: normal approximation", DERIVED, predicted, improves)


@CLAIMS.register
def predicted_rise_is_the_known_one(data: xr.Dataset) -> Iterator[Claim]:
    """What is computed here, against theory's digits."""
    for size in data["patterns"].values:
        if size in _KNOWN_RISE and 0.1 in data["theory_tilt"]:
            computed = float(data["predicted_rise"].sel(patterns=size, theory_tilt=0.1))
            text = f"normal approximation of P(rise), R = {size}, tilt 0.1"
            yield value_claim(text, DERIVED, _KNOWN_RISE[size], computed, atol=5e-5)


@CLAIMS.register
def predicted_limits_are_the_known_ones(data: xr.Dataset) -> Iterator[Claim]:
    """What is computed here, against theory's digits."""
    for name, (known, atol) in _KNOWN_LIMITS.items():
        text = data[name].attrs["long_name"]
        yield value_claim(text, DERIVED, known, float(data[name]), atol=atol)


@CLAIMS.register
def curves_end_as_the_argmax_says(data: xr.Dataset) -> Iterator[Claim]:
    """The solved curves against what is known of them without a solve."""
    last = data["curve_accuracy"].isel(log_scaled_time=-1)
    below, expected = last < data["curve_start"], data["curve_end"] < data["curve_start"]
    text = "share of solved curves on the side of their start that the argmax says"
    yield value_claim(text, DERIVED, 1.0, float((below == expected).mean()))


@CLAIMS.register
def rises_then_ends_below(data: xr.Dataset) -> Iterator[Claim]:
    """At the largest R, where the two are independent."""
    tilt, size = data.attrs["curve_tilt"], int(data["patterns"][-1])
    if tilt in data["tilt"]:
        at = data.sel(patterns=size, tilt=tilt)
        both = _rises(at) & _drops(at)
        known = data.sel(patterns=size, theory_tilt=tilt)
        predicted = float(known["predicted_rise"] * known["predicted_drop"])
        text = f"P(rises, then ends below start), R = {size}, tilt {tilt:g}: product, large R"
        yield _share(text, DERIVED, predicted, both)
