"""The comparison of forecasts of runs by Adam: scores and opponents, on curves that are known."""

import json

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
import xarray as xr

from experiments.language_model._bases import load
from experiments.language_model._optimised import (
    OPPONENTS,
    PLAIN,
    Foretold,
    opponent_forecast,
    score,
    time_of,
)
from experiments.language_model._optimised import OWN as ADAMS
from experiments.language_model._results import SHIPPED
from experiments.language_model._task import HELD_OUT, OPENINGS, questions_of
from experiments.language_model.certainty import RESULTS as CERTAINTY
from experiments.language_model.certainty import Answers, alarms, ends
from experiments.language_model.held_out import BASES, FORECAST, OWN, RUNS
from experiments.language_model.optimised import RESULTS
from experiments.language_model.probe import numbers_of
from experiments.small_steps import RESULTS as SMALL
from experiments.small_steps import order
from qra_jax.rollouts import Rollouts

STEPS = np.arange(0.0, 301.0, 10.0)
CURVES = {
    "last value": np.full(31, 0.4),
    "exponential approach": 0.9 - 0.6 * np.exp(-STEPS / 60),
    "sigmoid in log steps": 0.2 + 0.7 / (1 + (60 / np.maximum(STEPS, 1e-9)) ** 2),
    "linear logits": 1 / (1 + np.exp(-(-1 + 0.01 * STEPS))),
}


@pytest.mark.parametrize("name", OPPONENTS)
def test_an_opponent_foretells_its_own_curve(name):
    """Each curve that is of an opponent's own form lies in the band it draws from the first tenth,
    which comes from the seed alone, and not from what is later."""
    band = opponent_forecast(name, CURVES[name], 3)
    assert np.all((band.low <= band.median) & (band.median <= band.high))
    found = score([band], [CURVES[name]])
    assert found.covered == 1
    later = CURVES[name].copy()
    later[5:] = 0.0
    np.testing.assert_array_equal(opponent_forecast(name, later, 3).high, band.high)
    assert np.any(opponent_forecast(name, CURVES[name], 4).high != band.high)


def test_scores_by_hand():
    """Coverage, median width and CRPS of bands around two runs; the first tenth is free."""
    low, middle, high = (np.full(31, x) for x in (0.3, 0.5, 0.6))
    inside, above = np.full(31, 0.5), np.full(31, 0.9)
    inside[:4] = 0.0
    found = score([Foretold(np.stack([low, middle, high]))] * 2, [inside, above])
    assert found.covered == 0.5
    assert found.width == pytest.approx(0.3)
    of_inside = (0.05 * 0.2 + 0.05 * 0.1) / 3
    of_above = (0.05 * 0.6 + 0.5 * 0.4 + 0.95 * 0.3) / 3
    assert found.crps == pytest.approx(of_inside + of_above)


def test_times_of_curves():
    assert time_of(STEPS / 300, 0.5) == 150
    assert time_of(STEPS / 300, 2.0) == np.inf


def test_the_stored_comparison():
    """What docs/training.md says of it: kinds, order, and that no opponent does better."""
    kinds = json.loads(RESULTS.read_text())["kinds"]
    assert [x["kind"] for x in kinds] == [*PLAIN, *ADAMS]
    for found in kinds:
        assert found["order"] >= (1 if found["kind"] in PLAIN else 0.85)
        assert found["all"]["factor table"]["width"] < (0.02 if found["kind"] in PLAIN else 0.15)
        for half in ("A to D", "E to H", "all"):
            ours = found[half]["factor table"]
            assert ours["covered"] >= 0.8
            assert all(ours["crps"] < found[half][name]["crps"] for name in OPPONENTS)


def test_the_stored_held_out_check():
    """Coverage by the forecasts that were made before the runs, as docs/training.md has it."""
    said, did = json.loads(FORECAST.read_text()), json.loads(RUNS.read_text())
    found = {}
    for label in ("as E of two layers", "probed"):
        for kind in OWN:
            bands = [said[name][f"{kind}, {label}"] for name in BASES]
            seen = [np.array(did[f"{name} {kind}"]["held"]) for name in BASES]
            levels = ("low", "median", "high")
            each = [Foretold(np.array([x[level] for level in levels])) for x in bands]
            found[label, kind] = score(each, seen).covered
    assert np.round(list(found.values()), 2).tolist() == [0.97, 0.95, 0.8, 0.71]


def test_the_probe():
    """The numbers of base model E that the forecasts start from; and what they mean: a step of all
    other weights by the sign of their gradient raises the gain by as much as one of the hidden
    values across themselves that is feature_rate as long."""
    model = load(SHIPPED / "base_E.eqx")
    shares, rates = np.array([0.0725, 0.2248, 0.397, 0.3057]), np.array([0.999, 0.539, 0.09, 0.055])
    found = numbers_of(model, shares, rates)
    assert found.norm == pytest.approx(75.0, abs=0.1)
    assert found.feature_rate == pytest.approx(166, abs=2)
    assert found.row_spread == pytest.approx(0.0045, abs=1e-4)
    tokens = questions_of(jnp.asarray(HELD_OUT[:512])).tokens
    rows, pull = model.head[OPENINGS], jnp.asarray(shares * (rates - shares @ rates), jnp.float32)

    @eqx.filter_jit
    def measured(model):
        def gain(model):
            return jnp.mean(model.hidden(tokens)[0][:, -1] @ rows.T @ pull)

        slope = eqx.filter_grad(gain)(model)

        def moved(by):
            def step(x, g):
                return x + by * jnp.sign(g) if eqx.is_inexact_array(x) else x

            return gain(jtu.tree_map(step, model, slope))

        hidden = jnp.mean(model.hidden(tokens)[0][:, -1], axis=0)
        return (moved(1e-5) - moved(-1e-5)) / 2e-5, hidden

    risen, hidden = measured(model)
    back = rows.T @ pull
    across = back - hidden * (hidden @ back) / (hidden @ hidden)
    assert float(risen) == pytest.approx(
        found.feature_rate * float(jnp.abs(across).sum()), rel=0.02
    )


def _rollouts():
    """Three questions, four patterns, the first of which is right and the most certain; two of the
    questions have the same right answer."""
    question = np.repeat([0, 1, 2], 12)
    pattern = np.tile(np.repeat(np.arange(4), 3), 3)
    right = np.where(question == 2, 6, 5)
    answer = np.where(pattern == 0, right, 7)
    answer[-1] = 8
    return Rollouts(
        ("a", "b", "c"),
        ("p", "q", "r", "s"),
        question=question,
        pattern=pattern,
        correct=answer == right,
        confidence=np.where(pattern == 0, 9.0, 1.0),
        answer=answer,
        answers=tuple("0123456789"),
    )


def test_models_of_answers_that_agree_on_rollouts():
    """Both start at the accuracy of the rollouts; each question by itself keeps the right answers
    of the most certain pattern, and all questions together end at one answer, right for
    two of three."""
    answers = Answers.of(_rollouts())
    np.testing.assert_allclose(answers.table.sum(axis=-1), 1)
    np.testing.assert_allclose(answers.weights.sum(axis=0), 1)
    apart, together = ends(answers, False), ends(answers, True)
    assert apart[0] == pytest.approx(0.25, abs=0.01)
    assert together[0] == pytest.approx(apart[0], abs=1e-12)
    assert apart[-1] > 0.95
    assert together[-1] == pytest.approx(2 / 3, abs=0.01)


def test_alarms_of_a_run_by_hand():
    """The steps of a fall, of the top and of the loss; a pattern of few samples raises no alarm."""
    shares = np.tile([0.5, 0.49, 0.005, 0.005, 0.0], (31, 1))
    rates = np.tile([0.9, 0.5, 0.9, 0.9, 0.0], (31, 1))
    rates[5:, 0], rates[9:, 1], rates[3:, 2] = 0.7, 0.2, 0.0
    accuracy = np.full(31, 0.6)
    accuracy[4], accuracy[9:] = 0.7, 0.5
    names = {"held_shares": ("look", "pattern"), "held_rates": ("look", "pattern")}
    arrays = {"held_shares": shares, "held_rates": rates}
    run = xr.Dataset({x: (dims, arrays[x]) for x, dims in names.items()})
    run["held_accuracy"] = ("look", accuracy)
    assert alarms(run) == {"fallen": 50, "largest": 40, "below": 90}
    rates[5:, 0] = 0.95
    assert alarms(run)["fallen"] == 90
    run["held_accuracy"] = ("look", np.full(31, 0.6))
    assert alarms(run)["below"] is None


def test_the_stored_study_of_certainty():
    """What docs/language_model.md says of it."""
    found = json.loads(CERTAINTY.read_text())
    apart, together = found["accuracy"].values()
    assert apart["start"] == together["start"]
    assert apart["end"] > apart["start"] + 0.2
    assert together["end"] < together["start"] - 0.2
    fallen = {kind: sum(x["fallen"] is not None for x in of) for kind, of in found["runs"].items()}
    assert fallen.pop("certainty") == 24
    assert all(number == 0 for number in fallen.values())


def test_small_steps():
    """The stored study, as docs/training.md has it; and the power that it fits, by hand."""
    found = json.loads(SMALL.read_text())
    for row in found["diffusion"]:
        low, high = row["lost"]["99 %"]
        assert low < 0 < high
    assert [x["rate"] for x in found["adam"]] == [0.04, 0.02, 0.01]
    assert all(x["apart"] < 0.03 * x["rate"] + 4 * x["standard_error"] for x in found["adam"])
    assert order(found["adam"]) == pytest.approx(found["order"], abs=0.01)
    assert order([{"rate": x, "mean_apart": 3 * x**2} for x in (0.1, 0.3, 0.4)]) == 2
