"""A measured base model: its regime, gamma, times and trajectory, with posterior bands."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import qra_jax as qra
from qra_jax.sweep import map_chunks

from .start import first_look, first_times

_ROWS = 160
_LEVELS = (0.05, 0.5, 0.95)


def measure(table: qra.rollouts.PatternTable, eps: float, draws: int, seed: int) -> xr.Dataset:
    """The model itself (entry 0: posterior means or the stated values) and posterior draws.

    **Arguments:** `table`; `eps`: converged means a best pattern of probability 1 - eps; `draws`
    from the posterior and their `seed`; a table of stated shares has one draw, itself.

    **Returns:** variables `model_*` over `draw`, and accuracy and pattern shares over `log_time`.
    """
    probs, rates = _posterior(table, draws, seed)
    probs = np.concatenate([table.probs[None], probs])
    rates = np.concatenate([table.rates[None], rates])
    times = first_times(probs, rates, eps)
    look = first_look(probs, rates)

    latest = times["log_convergence_time"]
    last = np.nanquantile(latest[np.isfinite(latest)], 0.75) + 2.0
    log_times = np.linspace(-1.0, max(last, 4.0), _ROWS)

    def follow(x):
        policy, problem = qra.two_stage(*x)
        traj = qra.solve_flow(policy, problem, log_times=jnp.asarray(log_times))
        return traj.accuracy, traj.pattern_probs[:, 0], traj.status

    accuracy, shares, status = map_chunks(follow, (probs, rates), width=32)
    data = xr.Dataset(coords={"model_log_time": log_times, "model_pattern": list(table.patterns)})
    for key, value in {**times, "regime": look["regime"], "gamma": look["gamma"]}.items():
        data[f"model_{key}"] = "draw", value
    data["model_prob"] = ("draw", "model_pattern"), probs
    data["model_rate"] = ("draw", "model_pattern"), rates
    data["model_accuracy"] = "model_log_time", accuracy[0]
    data["model_share"] = ("model_log_time", "model_pattern"), shares[0]
    data["model_trajectory_status"] = "draw", status
    over = accuracy[1:] if len(accuracy) > 2 else accuracy
    bands = np.quantile(over, _LEVELS, axis=0)
    data["model_accuracy_band"] = ("level", "model_log_time"), bands
    return data.assign_coords(level=list(_LEVELS))


def _posterior(
    table: qra.rollouts.PatternTable, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shares and success rates from their posterior under uniform priors, `(draws, R)` each; the
    stated values themselves where there are no counts."""
    if table.samples is None or table.correct is None:
        return table.probs[None], table.rates[None]
    posterior = qra.posteriors.pooled_posterior(table.samples, table.correct)
    probs, rates = posterior.draw(jax.random.key(seed), draws)
    return np.asarray(probs)[:, 0], np.asarray(rates)[:, 0]


def describe(data: xr.Dataset) -> list[str]:
    """The measured model in words: regime, gamma and times with 90 % posterior intervals."""
    kinds = data["model_regime"].values
    draws = kinds[1:] if len(kinds) > 2 else kinds[:1]
    shares = [
        f"{kind.name} {np.mean(draws == kind):.2f}" for kind in qra.Regime if (draws == kind).any()
    ]
    lines = [f"regime {qra.Regime(int(kinds[0])).name}"]
    if len(kinds) > 2:
        lines[0] += f" at the posterior mean; posterior: {', '.join(shares)}"
    for key, name in (
        ("gamma", "gamma"),
        ("log_entanglement_time", "log10 T0"),
        ("log_convergence_time", "log10 convergence time"),
    ):
        values = data[f"model_{key}"].values / (1 if key == "gamma" else np.log(10))
        text = f"{name} {_number(values[0])}"
        if len(values) > 2 and not np.isnan(values[1:]).all():
            known = values[1:][~np.isnan(values[1:])]
            low, high = np.quantile(known, [0.05, 0.95], method="nearest")
            part = "90 %" if len(known) == len(values) - 1 else "90 % of the draws with one"
            text += f" ({part}: {_number(low)} to {_number(high)})"
        lines.append(text)
    return lines


def _number(value: float) -> str:
    if np.isnan(value):
        return "does not apply"
    return "-inf (at once)" if value == -np.inf else f"{value:.2f}"
