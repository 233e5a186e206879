"""Draw one base model under four ways of training: sampled runs, and the equations in the mean.

`python -m experiments.training` writes docs/training.png (a minute on two cores).
"""

import argparse
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import qra_jax as qra
from qra_jax import plot
from qra_jax.training import (
    RLOO,
    AbstractMeanField,
    MeanFieldAdam,
    MeanFieldMomentum,
    solve_mean_field,
)

NUM_STEPS, RUNS = 600, 64
SAMPLER = qra.SampledGroups(8, batch=32, estimator=RLOO())
_LINEAR = optax.linear_schedule(0.02, 0.0, NUM_STEPS)
WAYS: dict[str, tuple[optax.GradientTransformation, AbstractMeanField]] = {
    "gradient ascent, .7": (optax.sgd(0.7), MeanFieldMomentum(0.7)),
    "momentum .9, .07": (optax.sgd(0.07, momentum=0.9), MeanFieldMomentum(0.07, 0.9)),
    "Adam, .01": (optax.adam(0.01), MeanFieldAdam(0.01)),
    "Adam, .02 to 0, linear": (optax.adam(_LINEAR), MeanFieldAdam(_LINEAR)),
}
"""Learning rates at which all rise within the run; what differs is the shape."""


def draw(seed: int = 0) -> Figure:
    """Median and 90 % of sampled runs, and the run in the mean, for each way."""
    policy, problem = qra.two_stage(np.array([0.05, 0.70, 0.25]), np.array([0.9, 0.7, 0.1]))
    rows = np.linspace(0, NUM_STEPS, 101).round()
    with plot.style():
        figure, axes = plt.subplots(2, 2, figsize=(5.5, 4), sharex=True, sharey=True)
        for at, (ax, (name, (optimiser, mean))) in enumerate(
            zip(axes.flat, WAYS.items(), strict=True)
        ):

            def run(key, optimiser=optimiser):
                return qra.train(
                    policy, problem, optimiser, NUM_STEPS, sampler=SAMPLER, key=key, rows=101
                ).accuracy

            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), at), RUNS)
            runs = np.asarray(jax.jit(jax.vmap(run))(keys))
            followed = solve_mean_field(policy, problem, SAMPLER, mean, steps=rows[1:])
            low, middle, high = np.quantile(runs, (0.05, 0.5, 0.95), axis=0)
            ax.fill_between(rows, low, high, color="0.8", lw=0, label="90 % of sampled runs")
            ax.plot(rows, middle, color="C0", label="their median")
            ax.plot(rows[1::8], followed.accuracy[::8], "k.", ms=4, label="equation in the mean")
            ax.set_title(name)
        axes[1, 0].legend(loc="lower right")
        figure.supxlabel("optimiser step", fontsize=9)
        figure.supylabel("accuracy", fontsize=9)
    return figure


def main() -> None:
    """Draw, and write the figure."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(prog="python -m experiments.training", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    figure = draw(asked.seed)
    path = asked.out / "training.png"
    figure.savefig(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
