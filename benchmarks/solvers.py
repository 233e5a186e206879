"""Which diffrax solver, at which tolerance, gives log times to a wanted accuracy the fastest."""

import itertools
import statistics

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from ._common import problems, settings, table, take_turns, write

WIDTH, EPS = 64, 0.01
TARGETS = (1e-5, 1e-7, 1e-9)
SOLVERS = {
    "Bosh3": (diffrax.Bosh3(), (1e-5, 1e-7, 1e-9)),
    "Tsit5": (diffrax.Tsit5(), (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11)),
    "Dopri5": (diffrax.Dopri5(), (1e-4, 1e-6, 1e-8, 1e-10)),
    "Dopri8": (diffrax.Dopri8(), (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11)),
}
REFERENCE = qra.ODE(diffrax.Dopri8(), rtol=1e-13, atol=1e-13, max_steps=16384)


def _times(method: qra.ODE):
    """Compiled: `(log T0, log T_eps, steps)` of many problems, in chunks."""

    def one(inputs):
        policy, problem = qra.two_stage(*inputs)
        first = qra.times.entanglement(policy, problem, method=method)
        second = qra.times.convergence(policy, problem, EPS, method=method)
        steps = first.num_steps[0] + second.num_steps[0]
        return jnp.stack([first.log_time[0], second.log_time[0]]), steps

    return jax.jit(lambda inputs: jax.lax.map(one, inputs, batch_size=WIDTH))


def _scipy_log_times(probs: np.ndarray, rates: np.ndarray) -> tuple[float, float]:
    """The same two times from a NumPy field in arc length and SciPy's DOP853."""
    from scipy.integrate import solve_ivp

    theta0 = np.log(probs)
    second = np.sort(rates)[-2]

    def state(theta):
        probs = np.exp(theta - theta.max())
        probs /= probs.sum()
        leader = int(np.argmax(probs))
        above = float(np.sum(probs * (rates - rates[leader])))
        return probs, leader, above

    def velocity(theta):
        probs, leader, above = state(theta)
        v = probs * ((rates - rates[leader]) - above)
        return v, np.linalg.norm(v)

    start = velocity(theta0)[1]

    def field(s, y):
        v, speed = velocity(y[:-1])
        return np.append(v / speed, start * np.exp(-y[-1]) / speed)

    def passes(s, y):
        _, leader, above = state(y[:-1])
        return rates[leader] - second + above

    def converges(s, y):
        probs = state(y[:-1])[0]
        return np.log(probs[0] / probs[1:].sum()) - np.log((1 - EPS) / EPS)

    passes.direction = converges.direction = 1
    converges.terminal = True
    path = solve_ivp(
        field,
        (0, 1e4),
        np.append(theta0, 0.0),
        method="DOP853",
        rtol=1e-12,
        atol=1e-12,
        max_step=1.0,
        events=(passes, converges),
    )
    found = [
        float(np.log(np.expm1(y[0][-1])) - np.log(start)) if len(y) else -np.inf
        for y in path.y_events
    ]
    return found[0], found[1]


def _errors(found, reference) -> np.ndarray:
    found, reference = np.asarray(found), np.asarray(reference)
    solved = np.isfinite(reference)
    errors = np.abs(found[solved] - reference[solved])
    return np.where(np.isnan(errors), np.inf, errors)


def _fastest(rows, target: float) -> dict:
    """Problems per second at an error, by interpolation in the logarithms of both."""
    best = {}
    for solver, group in itertools.groupby(rows, key=lambda row: row["solver"]):
        by_error = sorted((row["max error"], row["per second"]) for row in group)
        errors, speeds = (np.log(np.asarray(x)) for x in zip(*by_error, strict=True))
        if errors[0] <= np.log(target):
            best[solver] = float(np.exp(np.interp(np.log(target), errors, speeds)))
    return dict(sorted(best.items(), key=lambda item: -item[1]))


def _measure(patterns: int, number: int, rounds: int, quick: bool) -> dict:
    probs, rates, strong = problems(number, patterns, seed=patterns)
    inputs = (jnp.asarray(probs), jnp.asarray(rates))
    reference = np.asarray(_times(REFERENCE)(inputs)[0])
    assert np.all(np.isneginf(reference[strong, 0]))
    checked = [*np.flatnonzero(~strong)[:4], *np.flatnonzero(strong)[:2]]
    scipy = np.asarray([_scipy_log_times(probs[i], rates[i]) for i in checked])
    against_scipy = float(_errors(scipy, reference[checked]).max())

    runs = {
        (name, tol): _times(qra.ODE(solver, rtol=tol, atol=tol))
        for name, (solver, tolerances) in SOLVERS.items()
        for tol in (tolerances[::2] if quick else tolerances)
    }
    results = {key: run(inputs) for key, run in runs.items()}  # compiles
    seconds = take_turns({key: lambda run=run: run(inputs) for key, run in runs.items()}, rounds)
    rows = []
    for (name, tol), (found, steps) in results.items():
        errors = _errors(found, reference)
        rows.append(
            {
                "solver": name,
                "rtol = atol": tol,
                "max error": float(errors.max()),
                "median error": float(np.median(errors)),
                "mean steps": float(np.mean(steps)),
                "per second": number / statistics.median(seconds[name, tol]),
            }
        )
    fastest = {f"{target:g}": _fastest(rows, target) for target in TARGETS}
    print(f"K = {patterns}; reference against SciPy DOP853: {against_scipy:.1e}")
    print(table(rows))
    for target, ranking in fastest.items():
        speeds = (f"{name} {speed:.0f}/s" for name, speed in ranking.items())
        print(f"log time to {target}:", ", ".join(speeds))
    return {
        "reference_against_scipy": against_scipy,
        "rows": rows,
        "per_second_at_error": fastest,
    }


def main() -> None:
    """Measure errors against a reference, and throughput with all settings taking turns."""
    quick = settings(__doc__)
    number, rounds = (128, 3) if quick else (512, 15)
    figures = {f"K={k}": _measure(k, number, rounds, quick) for k in (3, 8)}
    config = {
        "quantities": f"log T0 (entangled half) and log T_eps, eps = {EPS}, of each problem",
        "problems": number,
        "width": WIDTH,
        "rounds": rounds,
        "reference": "Dopri8, rtol = atol = 1e-13",
    }
    write("solvers", config, figures, quick)


if __name__ == "__main__":
    main()
