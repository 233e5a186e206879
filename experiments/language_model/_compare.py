"""What the runs did, and how far it had been said."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.stats import rankdata

import qra_jax as qra

from ._run import reason
from ._said import FORECAST, RLIF
from ._study import KINDS
from ._task import HELD_OUT, NUM_PATTERNS, Pattern

_Z90 = 1.6448536269514722
_NEAR_END = 0.95
_RISE = 0.1
_BY_NUMBER = (qra.Regime.STRONG, qra.Regime.ENTANGLED, qra.Regime.MIXED)


def smoothed(curve: Float[np.ndarray, "*B n"], window: int = 9) -> Float[np.ndarray, "*B n"]:
    """Mean over the steps around each, fewer of them at the ends."""
    number = curve.shape[-1]
    total = np.cumsum(np.pad(curve, [(0, 0)] * (curve.ndim - 1) + [(1, 0)]), axis=-1)
    low = np.maximum(np.arange(number) - window // 2, 0)
    high = np.minimum(np.arange(number) + window // 2 + 1, number)
    return (total[..., high] - total[..., low]) / (high - low)


def inside(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, responses: int
) -> Float[np.ndarray, "*n"]:
    """Whether evaluations lie in a band for the truth that is as wide again as their own noise:
    1 or 0, NaN where there is none.

    **Arguments:** `values`: shares of so many `responses`; `low`, `high`: of the 90 % band.
    """
    noise = _Z90 * np.sqrt(np.clip(values * (1 - values), 1 / responses, None) / responses)
    off = np.abs(values - (low + high) / 2)
    within = off <= np.hypot((high - low) / 2, noise)
    return np.where(np.isnan(off), np.nan, within)


def coverage(data: xr.Dataset) -> xr.Dataset:
    """Which evaluations after the first tenth of each run lie in the band foretold for it.

    **Returns:** `accuracy` and `shares`, 1 or 0, NaN where nothing was foretold; `moving`: the
    accuracy's before it is within a twentieth of its end; `blind`: in the band that was fitted to
    the accuracy alone.
    """
    later = data["look"] > int(data["look"][-1]) // 10

    def judged(values: xr.DataArray, band: xr.DataArray) -> xr.DataArray:
        ends = band.sel(level="low"), band.sel(level="high")
        found = xr.apply_ufunc(inside, values, *ends, kwargs={"responses": len(HELD_OUT)})
        return found.where(later, drop=True)

    accuracy = judged(data["held_accuracy"], data["band_accuracy"])
    shares = data["held_shares"].isel(pattern=slice(NUM_PATTERNS)).rename(pattern="way")
    end = data["said_rates"].max("way")
    return xr.Dataset(
        {
            "accuracy": accuracy,
            "shares": judged(shares.drop_vars("way"), data["band_shares"].drop_vars("way")),
            "blind": judged(data["held_accuracy"], data["band_blind"]),
            "moving": accuracy.where(data["held_accuracy"] < _NEAR_END * end),
        }
    )


def times(data: xr.Dataset) -> xr.DataArray:
    """The first step at which a run's smoothed accuracy is above 90 % of the success rate of the
    best pattern, infinite if none is; `(base, kind, seed)`, NaN where there is no run."""
    level = 0.9 * data["said_rates"].max("way")
    curve = data["accuracy"].transpose("base", "kind", "seed", "step")
    above = smoothed(curve.values) >= level.values[:, None, None, None]
    found = np.where(above.any(axis=-1), data["step"].values[np.argmax(above, axis=-1)], np.inf)
    missing = np.isnan(curve.values).any(axis=-1)
    return curve.isel(step=0, drop=True).copy(data=np.where(missing, np.nan, found))


def ends(data: xr.Dataset) -> xr.DataArray:
    """Held-out accuracy at the end of each run, mean over the last tenth."""
    last = data.sizes["look"] // 10
    return data["held_accuracy"].isel(look=slice(-max(1, last), None)).mean("look", skipna=False)


def regimes(data: xr.Dataset) -> xr.DataArray:
    """What the runs of each kind did, `(base, kind)`: which patterns but the best rose before they
    fell? None: STRONG; one: ENTANGLED; more: MIXED; -1 where there is no run.

    What rises is a pattern's logit, as in the definition of T0: the logarithm of its share less the
    mean of these over patterns, for all seeds together, by more than a tenth and by four standard
    errors.
    """
    shares = data["held_shares"].isel(pattern=slice(NUM_PATTERNS))
    seeds = shares.notnull().all(("look", "pattern")).sum("seed")
    number = len(HELD_OUT) * seeds
    counts = shares.mean("seed") * number + 0.5
    logs = counts.copy(data=np.log(counts.values))
    logits = logs - logs.mean("pattern")
    error = np.sqrt(1 / counts + 1 / counts.isel(look=0))
    risen = (logits - logits.isel(look=0)) > np.maximum(_RISE, 4 * error)
    misleading = risen.any("look").drop_isel(pattern=Pattern.WORKED).sum("pattern")
    found = np.select([misleading == at for at in range(2)], _BY_NUMBER[:2], _BY_NUMBER[2])
    return misleading.copy(data=np.where(seeds == 0, -1, found))


class Drift(NamedTuple):
    """The largest mean change of success rates within patterns over a run, weighted by the shares
    of the moment: `chosen`, of the responses that use a pattern; `given`, on the same questions
    whatever pattern is chosen there."""

    chosen: xr.DataArray
    given: xr.DataArray


def drift(data: xr.Dataset) -> Drift:
    """Of all seeds together, `(base, kind)`."""
    shares = data["held_shares"].isel(pattern=slice(NUM_PATTERNS)).drop_vars("pattern")
    rates = data["held_rates"].isel(pattern=slice(NUM_PATTERNS)).drop_vars("pattern")
    used = shares.mean("seed")
    right = (shares * rates).fillna(0).where(shares.notnull()).mean("seed")

    def largest(rate: xr.DataArray) -> xr.DataArray:
        change = abs(rate - rate.isel(look=0))
        return (used * change).sum("pattern", skipna=False).max("look")

    given = data["forced"].mean("seed").rename(way="pattern")
    return Drift(largest(right / used.where(used > 0, 1)), largest(given))


def off_orbit(data: xr.Dataset) -> xr.DataArray:
    """Total variation between the shares of a run and those of the flow at the same accuracy, mean
    over its evaluations: 0 for a run that keeps to the flow's orbit, whatever its clock."""
    shares = data["held_shares"].isel(pattern=slice(NUM_PATTERNS)).rename(pattern="way")
    apart = abs(shares.drop_vars("way") - data["flow_shares"].drop_vars("way"))
    return (apart.sum("way", skipna=False) / 2).mean("look", skipna=False)


class Agreement(NamedTuple):
    """How far a kind of run was as it had been said, over B base models.

    `regimes`: how many were called right; `order`: Spearman's rank correlation of times to 90 % of
    the final accuracy, medians over seeds, those not reached last; `covered`: share of evaluations
    after the first tenth in the 90 % band of the accuracy; `moving`: of those before the accuracy
    is near its end; `blind`: with the scale fitted to the accuracy alone, not to pattern shares;
    `of_shares`: of the pattern shares; `off_orbit`.
    """

    regimes: int
    order: float
    covered: float
    moving: float
    blind: float
    of_shares: float
    off_orbit: float


def agreement(data: xr.Dataset, kind: str) -> Agreement:
    """Of a kind of run whose curves were foretold."""
    runs = data.sel(kind=[kind])
    called = data["said_regime"].argmax("regime").values
    did = runs["times"].median("seed").values[:, 0]
    found = coverage(runs)
    said = runs["said_log_time"].values[:, 0]
    return Agreement(
        regimes=int(np.sum(called == regimes(runs).values[:, 0])),
        order=float(np.corrcoef(rankdata(said), rankdata(did))[0, 1]),
        covered=float(found["accuracy"].mean()),
        moving=float(found["moving"].mean()),
        blind=float(found["blind"].mean()),
        of_shares=float(found["shares"].mean()),
        off_orbit=float(off_orbit(runs).mean()),
    )


class Loss(NamedTuple):
    """RLIF: of how many base models it was called right whether they end below their start (what
    was the more probable, against the mean over seeds), and how many did."""

    called: int
    did: int


def losses(data: xr.Dataset, kind: str) -> Loss:
    """Of a kind of RLIF."""
    below = ends(data).sel(kind=kind).mean("seed") < data["said_accuracy"]
    called = (data["said_loss"].sel(kind=kind) > 0.5) == below
    return Loss(int(called.sum()), int(below.sum()))


def summary(data: xr.Dataset) -> list[str]:
    """The comparison in lines."""
    number = data.sizes["base"]
    out = [f"{number} base models, {data.sizes['seed']} seeds: said against done"]
    for kind in FORECAST:
        found = agreement(data, kind)
        out.append(
            f"  {KINDS[kind].label:<30} regime {found.regimes} of {number}, rank correlation of "
            f"times {found.order:.2f}, in the 90 % band: accuracy {found.covered:.2f} (while it "
            f"moves {found.moving:.2f}; fitted to accuracy alone {found.blind:.2f}), shares "
            f"{found.of_shares:.2f}"
        )
    for kind in RLIF:
        called, did = losses(data, kind)
        out.append(
            f"  {KINDS[kind].label:<30} ends below its start or not: called for {called} of "
            f"{number}, {did} did"
        )
    stops = data["stop"].stack(run=("base", "kind", "seed"))
    for at in stops[stops >= 0]:
        out.append(f"  stopped: {' '.join(map(str, at['run'].item()))}, {reason(int(at))}")
    return out
