"""The claims of the portraits map, from its stored data."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from qra_jax.dynamics import Stability

from ..._lab.claim import Claim, Claims, computed, probability_claim, value_claim
from .theory import critical_weight

DERIVED = "derived in docs/dynamics.md#where-objectives-lead"

CLAIMS = Claims()


def _rows(data: xr.Dataset) -> list[xr.Dataset]:
    return [data.isel(objective=index) for index in range(data.sizes["objective"])]


def _winners(data: xr.Dataset) -> dict[str, np.ndarray]:
    """What wins the random starts, by objective."""
    return {str(row["objective"].values): row["start_winner"].values for row in _rows(data)}


@CLAIMS.register
def rlvr_wins_everywhere(data: xr.Dataset) -> Iterator[Claim]:
    """From every start, in both geometries."""
    winners = _winners(data)
    for key in ("RLVR", "RLVR, natural"):
        if key in winners:
            text = f"{key}: every start ends at the best pattern"
            yield value_claim(text, DERIVED, 1.0, float(np.mean(winners[key] == 0)))


@CLAIMS.register
def equally_certain_patterns_win_alike(data: xr.Dataset) -> Iterator[Claim]:
    """Where the right and the bad pattern are equally certain."""
    rates, winners = data["rate"].values, _winners(data)
    if not np.isclose(rates[0] + rates[2], 1):
        return
    for key in ("RLIF, self-certainty", "RLIF, sequence probability"):
        right, bad = (int(np.sum(winners[key] == code)) for code in (0, 2))
        text = f"{key}: the right pattern wins as many starts as the bad, equally certain one"
        yield probability_claim(text, DERIVED, 0.5, right, right + bad)


@CLAIMS.register
def indices_sum_to_one(data: xr.Dataset) -> Iterator[Claim]:
    """The number of panels in which they do, of those whose points are isolated."""
    regular = (data["point_regular"] | (data["point_kind"] < 0)).all("point")
    text = "in all panels whose points of rest are isolated, their indices sum to 1"
    sums = data["index_sum"].where(regular)
    measured = float((sums == 1).sum())
    source = "Hofbauer and Sigmund (1998), chapter 13"
    yield value_claim(text, source, float(regular.sum()), measured)


@CLAIMS.register
def sink_is_that_of_the_closed_form(data: xr.Dataset) -> Iterator[Claim]:
    """The only sink of a penalised flow against its closed form (largest difference)."""
    reference, rates = data["reference"].values, data["rate"].values
    beta, tau = data.attrs["beta"], data.attrs["tau"]

    def normalised(probs):
        return probs / probs.sum()

    def implicit(sink):
        accuracy = sink @ rates
        return normalised(reference * np.exp(rates / (beta * np.sqrt(accuracy * (1 - accuracy)))))

    forms = {
        "RLVR, KL": ("arXiv 2506.04695 v2, Prop. 5.2", lambda _: data["kl_optimum"].values),
        "RLVR, entropy bonus": (DERIVED, lambda _: normalised(np.exp(rates / tau))),
        "GRPO, KL": (DERIVED, implicit),
    }
    for row in _rows(data):
        key = str(row["objective"].values)
        if key in forms:
            sinks = row["point_prob"].values[row["point_kind"].values == Stability.SINK]
            source, form = forms[key]
            apart = np.abs(sinks - form(sinks[0])).max() if len(sinks) == 1 else np.inf
            text = f"{key}: the only attractor is that of the closed form (largest difference)"
            yield value_claim(text, source, 0.0, float(apart), atol=1e-8)


@CLAIMS.register
def patterns_win_up_to_their_critical_weight(data: xr.Dataset) -> Iterator[Claim]:
    """The basin shrinks towards nothing: the last weight at which a start finds it is near."""
    rates, weights = data["rate"].values, data["weight"].values
    for pattern in (1, 2):
        critical = critical_weight(rates, pattern)
        wins = (data["mixture_winner"].values == pattern).sum(axis=1)
        last = weights[wins > 0].max()
        slack = max(0.08, 1.01 * (weights[1] - weights[0]))
        text = (
            f"a mixture with sequence probability: the {data['pattern'].values[pattern]} pattern "
            f"wins nothing beyond its critical weight (predicted), and still wins at a weight of "
            f"the grid (measured) that is at most {slack:.2g} below it"
        )
        agrees = critical - last <= slack and last <= critical
        yield Claim.of(text, DERIVED, computed(critical, last, bool(agrees)))
