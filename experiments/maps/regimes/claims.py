"""The claims of the regimes map, from its stored data."""

import json
from collections.abc import Iterator

import numpy as np
import xarray as xr

from ..._lab.claim import Claim, Claims, value_claim
from ..._lab.store import OUTSIDE

DERIVED = "derived in docs/laws.md#the-entanglement-law"

CLAIMS = Claims()
_PAPER = "Thm. {} of arXiv 2506.04695, as summarised"


@CLAIMS.register
def gamma_of_the_entangled_case(data: xr.Dataset) -> Iterator[Claim]:
    """The paper's simulated case."""
    yield value_claim(
        "gamma of the paper's entangled case",
        _PAPER.format("5.4"),
        6.0,
        float(data.sel(case="entangled")["case_gamma"]),
        atol=1e-9,
    )


@CLAIMS.register
def t0_of_the_entangled_case(data: xr.Dataset) -> Iterator[Claim]:
    """To the digits that are known."""
    yield value_claim(
        "T0 of that case, p = (.9, .7, .1)",
        DERIVED,
        94.30486,
        float(np.exp(data.sel(case="entangled")["case_log_entanglement_time"])),
        atol=5e-6,
    )


@CLAIMS.register
def entangled_on_the_weak_side(data: xr.Dataset) -> Iterator[Claim]:
    """Of the line on which V is the misleading pattern's rate."""
    inside = data["regime"].values != OUTSIDE
    above = data["misleading"].values[:, None] > data["boundary"].values
    entangled = data["log_entanglement_time"].values > -np.inf
    yield value_claim(
        "share of cells with T0 > 0 exactly on the weak side of V = p(r')",
        _PAPER.format("5.4"),
        1.0,
        float(np.mean((entangled == ~above)[inside])),
    )


@CLAIMS.register
def strong_start_rises(data: xr.Dataset) -> Iterator[Claim]:
    """Monotonically."""
    rises = np.diff(data.sel(case="strong")["case_pattern_prob"].values[:, 0])
    yield value_claim(
        "share of the strong trajectory along which pi(r*) rises",
        _PAPER.format("5.3"),
        1.0,
        float(np.mean(rises > 0)),
    )


@CLAIMS.register
def tail_of_the_value(data: xr.Dataset) -> Iterator[Claim]:
    """The end of the strong trajectory, whose best success rate is .9."""
    end = data.sel(case="strong").isel(row=-1)
    time, value = np.exp(float(end["case_log_time"])), float(end["case_accuracy"])
    yield value_claim(
        "t (p* - V) at the end of the strong trajectory, against (K-1)/K",
        DERIVED,
        2 / 3,
        time * (0.9 - value),
        rtol=1e-2,
    )


@CLAIMS.register
def entanglement_law(data: xr.Dataset) -> Iterator[Claim]:
    """Where it holds in the column of the rarest best pattern, if anywhere."""
    log_t0, law = (data[f"{name}log_entanglement_time"].values for name in ("", "law_"))
    off = np.expm1(log_t0 - law)[:, 0]
    if not np.isfinite(off).any():
        return
    expected = float(np.nanmax(np.abs(data["law_relative_error"].values[:, 0])))
    yield value_claim(
        "largest relative difference of T0 from the entanglement law where pi(r*) is "
        "lowest, against the law's own estimate",
        DERIVED,
        expected,
        float(np.nanmax(np.abs(off))),
        # The solves leave 1e-8; corrections of second order are left out.
        atol=1e-6 + expected**2,
        rtol=0.5,
    )


@CLAIMS.register
def exponent_of_t0(data: xr.Dataset) -> Iterator[Claim]:
    """Over the two lowest columns, away from the edges of the map; not of a measured model, whose
    patterns keep their proportions."""
    if "measured" in data.attrs:
        return
    log_t0 = data["log_entanglement_time"].values
    rows = slice(len(log_t0) // 4, 3 * len(log_t0) // 4)
    slope = np.diff(log_t0[rows, :2], axis=1)[:, 0] / np.diff(np.log(data["best"].values[:2]))
    patterns = len(json.loads(data.attrs["rates"]))
    yield value_claim(
        f"d log T0 / d log pi(r*) where pi(r*) is lowest, K = {patterns}",
        DERIVED,
        -(patterns - 1.0),
        float(np.median(slope)),
        atol=1e-2,
    )
