"""How many solver steps entangled solves take, however long the entangled phase is."""

import jax
import numpy as np

import qra_jax as qra

from ._common import problems, settings, table, write

MOST_STEPS, MOST_GROWTH = 300, 1.5
METHOD = qra.ODE(rtol=1e-10)


@jax.jit
@jax.vmap
def _solve(probs, rates):
    found = qra.times.entanglement(*qra.two_stage(probs, rates), method=METHOD)
    return found.log_time[0] / np.log(10), found.num_steps[0], found.status[0]


def _family(patterns: int, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One misleading pattern at probability 0.7, the others alike."""
    others = patterns - 2
    probs = [best, np.full_like(best, 0.7), *([(0.3 - best) / others] * others)]
    rates = [0.9, 0.6, *[0.1] * others]
    return np.stack(probs, axis=1), np.broadcast_to(rates, (best.size, patterns))


def _scattered(probs: np.ndarray, seed: int) -> np.ndarray:
    """The same, but with the rare patterns' probabilities log-uniform over five decades."""
    best, misleading, rest = probs[:, :1], probs[:, 1:2], probs[:, 2:]
    rare = 10 ** np.random.default_rng(seed).uniform(-6, -1, rest.shape)
    probs = np.concatenate([best, misleading, rare], axis=1)
    return probs / probs.sum(axis=1, keepdims=True)


def _at(log10_time: np.ndarray, steps: np.ndarray, target: float) -> int:
    return int(steps[np.argmin(np.abs(log10_time - target))])


def main() -> None:
    """Count accepted and rejected steps over a fixed family and over random problems."""
    quick = settings(__doc__)
    points = 120 if quick else 1181
    rows = []
    for patterns in range(3, 9):
        # Down to 1e-60, or to where T0 leaves the range of float64 and the status says so.
        best = np.logspace(-1, -min(60, 290 / (patterns - 1)), points)
        log10_time, steps, status = (np.asarray(x) for x in _solve(*_family(patterns, best)))
        probs, rates, _ = problems(256 if quick else 2048, patterns, patterns, strong_share=0)
        random_steps, random_status = (np.asarray(x) for x in _solve(probs, rates)[1:])
        _, spread_steps, spread_status = _solve(_scattered(probs, patterns), rates)
        spread_steps, spread_status = np.asarray(spread_steps), np.asarray(spread_status)
        over = log10_time[steps > MOST_STEPS]
        peak = int(np.argmax(steps))
        rows.append(
            {
                "K": patterns,
                "pi* down to": float(best[-1]),
                "largest log10 T0": float(log10_time.max()),
                "most steps": int(steps[peak]),
                "at pi*": float(best[peak]),
                "fewest": int(steps.min()),
                "at T0 = 1e15": _at(log10_time, steps, 15),
                "at T0 = 1e60": _at(log10_time, steps, 60),
                "over 300 from log10 T0": float(over.min()) if over.size else None,
                "most, random": int(random_steps.max()),
                "most, scattered": int(spread_steps.max()),
                "not solved": int(
                    sum(
                        np.sum(x != qra.Status.EVENT)
                        for x in (status, random_status, spread_status)
                    )
                ),
            }
        )
    print(table(rows))
    most = {
        name: max(row[name] for row in rows)
        for name in ("most steps", "most, random", "most, scattered")
    }
    within = min(row["over 300 from log10 T0"] or np.inf for row in rows)
    growth = max(row["at T0 = 1e60"] / row["at T0 = 1e15"] for row in rows)
    print(f"{most} (at most {MOST_STEPS}); the family exceeds it from T0 = 1e{within:.0f}")
    print(f"steps at T0 = 1e60 / at T0 = 1e15: {growth:.2f} (at most {MOST_GROWTH})")
    figures = {
        "rows": rows,
        "most_steps": most,
        "family_exceeds_limit_from_log10_t0": within,
        "growth": growth,
        "limits": {"most_steps": MOST_STEPS, "growth": MOST_GROWTH},
    }
    write("steps", {"solver": "Tsit5", "rtol": 1e-10, "atol": "default (1e-9)"}, figures, quick)


if __name__ == "__main__":
    main()
