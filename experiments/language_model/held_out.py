"""A check that nothing was tuned to: transformers of three layers, forecast before they are run.

`python -m experiments.language_model.held_out --folder FOLDER` pre-trains four base models of three
layers and another seed, and writes what is foretold of their runs to
experiments/data/held_out_forecast.json, unless that is there already. With `--run` it then makes
one run of each kind and writes its evaluations beside it. Twenty minutes on two cores.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from qra_jax.posteriors import question_spread

from ._bases import base_model
from ._optimised import HEAD, forecast_of, time_of
from ._run import Run, train
from ._said import rollouts_of
from ._study import KINDS, NUM_STEPS
from .probe import numbers_of

DATA = Path(__file__).parents[1] / "data"
FORECAST, RUNS = DATA / "held_out_forecast.json", DATA / "held_out_runs.json"
BASES, OWN, LAYERS, SEED = "ACEG", ("adam", "rlvr"), 3, 1


def foretell(folder: Path) -> dict:
    """Of each base model: its numbers, and bands of its runs from the numbers of base model E of
    two layers, and from its own."""
    out = {}
    for name in BASES:
        model = base_model(name, folder, seed=SEED, layers=LAYERS)
        key = jax.random.fold_in(jax.random.key(1000 + ord(name)), 77)
        counts = [x.astype(float) for x in rollouts_of(model, key, 8).counts()]
        samples, correct = (x.sum(axis=0) for x in counts)
        shares, rates = samples / samples.sum(), correct / np.maximum(samples, 1)
        own = numbers_of(model, shares, rates)
        ranges = {x: (getattr(own, x) / 1.67, getattr(own, x) * 1.67) for x in own._fields[1:]}
        heads = {
            "probed": dataclasses.replace(HEAD, norm=own.norm, **ranges),
            "as E of two layers": HEAD,
        }
        said: dict = {"shares": shares.tolist(), "rates": rates.tolist(), **own._asdict()}
        for label, head in heads.items():
            for kind in OWN:
                band = forecast_of(
                    samples, correct, question_spread(*counts), kind, head, 2000, ord(name)
                )
                said[f"{kind}, {label}"] = {
                    x: getattr(band, x).round(4).tolist() for x in ("low", "median", "high")
                }
                said[f"{kind}, {label}"]["step of 90 %"] = time_of(band.median, 0.9 * rates.max())
        out[name] = said
    return out


def run(folder: Path) -> dict:
    """The runs themselves: accuracies at evaluations, and at every step."""
    out = {}
    for name in BASES:
        model = base_model(name, folder, seed=SEED, layers=LAYERS)
        for at, kind in enumerate(OWN):
            how = Run(KINDS[kind].how, NUM_STEPS, 770_000 + 10 * ord(name) + at)
            curves = train(how, model, folder / f"run_{name}_{kind}.eqx").curves
            seen = {"held": curves.held_out.sight.accuracy, "train": curves.log.sight.accuracy}
            out[f"{name} {kind}"] = {x: np.asarray(y).round(4).tolist() for x, y in seen.items()}
            print(f"ran {name} {kind}", flush=True)
    return out


def main() -> None:
    """Foretell, and run if asked for."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(
        prog="python -m experiments.language_model.held_out", description=__doc__
    )
    parser.add_argument("--folder", type=Path, required=True, help="of the models and checkpoints")
    parser.add_argument("--run", action="store_true", help="make the runs, too")
    asked = parser.parse_args()
    if not FORECAST.exists():
        FORECAST.write_text(json.dumps(foretell(asked.folder), indent=1) + "\n")
    if asked.run:
        RUNS.write_text(json.dumps(run(asked.folder)) + "\n")


if __name__ == "__main__":
    main()
