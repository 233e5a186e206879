"""The study of the small language model: what is read from its runs, and its command line."""

import dataclasses
import runpy
import shutil
import sys

import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import qra_jax as qra
from experiments.language_model import _compare as compare
from experiments.language_model.__main__ import main
from experiments.language_model._bases import SHIPPED_BASE, load
from experiments.language_model._live import QUICK
from experiments.language_model._results import SHIPPED, read_study, store
from experiments.language_model._said import Flow, band_at, forecast, say
from experiments.language_model._study import KINDS, Job, collect, run_all
from experiments.language_model._task import HELD_OUT, NUM_PATTERNS, Pattern

RATES = np.array([1.0, 0.55, 0.35, 0.05])
STARTS = {
    qra.Regime.STRONG: np.array([0.2, 0.74, 0.04, 0.02]),
    qra.Regime.ENTANGLED: np.array([0.1, 0.25, 0.4, 0.25]),
    qra.Regime.MIXED: np.array([0.005, 0.05, 0.1, 0.845]),
}
TIMES = np.concatenate([[0.0], np.geomspace(0.5, 3000, 30)])


def exact(start, objective=None):
    """Shares of the flow at the times that stand for evaluations, `(L, R)`."""
    policy, problem = qra.two_stage(start, RATES)
    flow = problem if objective is None else qra.GradientFlow(objective, problem)
    rows = qra.solve_flow(policy, flow, log_times=np.log(TIMES[1:]), method=qra.Exact())
    return np.concatenate([start[None], rows.pattern_probs[:, 0]])


@pytest.fixture
def blank(tmp_path):
    """A study without runs."""
    return collect(tmp_path)


def with_runs(data, curves, kind="table"):
    """Runs of all seeds with these held-out shares, by base model, at fixed success rates."""
    data = data.copy(deep=True)
    for base, shares in curves.items():
        at = {"base": base, "kind": kind}
        data["held_shares"].loc[at] = np.pad(shares, ((0, 0), (0, 1)))[None]
        data["held_rates"].loc[at] = np.append(RATES, np.nan)
        data["held_accuracy"].loc[at] = (shares @ RATES)[None]
        data["forced"].loc[at] = RATES
    return data


def test_regimes_are_read_from_shares(blank):
    """What exact flows do is what the library calls their starts; no run is no regime."""
    curves = dict(zip("ABC", map(exact, STARTS.values()), strict=True))
    found = compare.regimes(with_runs(blank, curves)).sel(kind="table").values
    policies = [qra.two_stage(start, RATES) for start in STARTS.values()]
    named = [int(qra.regime(*policy)[0]) for policy in policies]
    assert named == [int(kind) for kind in STARTS]
    np.testing.assert_array_equal(found[:3], named)
    np.testing.assert_array_equal(found[3:], -1)


def test_a_run_by_another_clock_keeps_to_the_orbit(blank):
    """GRPO moves along the orbit of plain RLVR, read at the same accuracy; shares that are mixed
    otherwise do not."""
    start = STARTS[qra.Regime.ENTANGLED]
    policy, problem = qra.two_stage(start, RATES)
    rows = np.linspace(-3, 9, 400)
    path = qra.solve_flow(policy, problem, log_times=rows, method=qra.Exact())
    flow = Flow(rows, np.asarray(path.accuracy), np.asarray(path.pattern_probs[:, 0]))
    other = exact(start, qra.Objective(qra.Verifiable(), utility=qra.GRPO()))[3:20]
    accuracy = other @ RATES
    np.testing.assert_allclose(flow.shares_at(accuracy), other, atol=1e-3)
    ahead = flow.log_time_at(accuracy) - np.log(TIMES[3:20])
    assert np.all(np.diff(flow.log_time_at(accuracy)) > 0)
    assert ahead.min() > 0.1  # a faster clock
    data = with_runs(blank, {"A": exact(start)})
    data["flow_shares"] = (
        data["held_shares"].isel(pattern=slice(NUM_PATTERNS)).rename(pattern="way")
    )
    assert float(compare.off_orbit(data).sel(base="A", kind="table").max()) == 0
    data["flow_shares"] = data["flow_shares"] + xr.DataArray([0.1, -0.1, 0, 0], dims="way")
    found = compare.off_orbit(data).sel(base="A", kind="table").values
    np.testing.assert_allclose(found, 0.1, rtol=1e-5)


def test_drift_by_choice_and_by_answers(blank):
    """A pattern that is chosen where it is right changes its success rate among its responses; one
    whose answers change does on the same questions too."""
    data = with_runs(blank, {"A": exact(STARTS[qra.Regime.STRONG])})
    at = {"base": "A", "kind": "table"}
    assert float(compare.drift(data).chosen.sel(at)) < 1e-6
    chosen = data.copy(deep=True)
    chosen["held_rates"].loc[{**at, "look": 10, "pattern": "direct"}] = 0.95
    share = float(data["held_shares"].sel(at).sel(look=10, pattern="direct")[0])
    found = compare.drift(chosen)
    np.testing.assert_allclose(found.chosen.sel(at), 0.4 * share, rtol=1e-4)
    np.testing.assert_allclose(found.given.sel(at), 0, atol=1e-6)
    learnt = chosen.copy(deep=True)
    learnt["forced"][{"way": Pattern.DIRECT}] = learnt["forced"][{"way": Pattern.DIRECT}].where(
        learnt["look"] != 10, 0.95
    )
    np.testing.assert_allclose(compare.drift(learnt).given.sel(at), 0.4 * share, rtol=1e-4)


def test_noise_of_evaluations_widens_bands():
    """An evaluation of the truth at the end of a 90 % band is inside nine times in ten or more; a
    band without width holds nine in ten of its evaluations."""
    rng, truth, number = np.random.default_rng(0), 0.3, 1429
    seen = rng.binomial(number, truth, 20_000) / number
    share = compare.inside(seen, np.full(20_000, truth), np.full(20_000, truth), number).mean()
    assert abs(share - 0.9) < 5 * np.sqrt(0.09 / 20_000) + 0.01
    # The truth itself is normal, of which the band is the middle 90 %.
    width = 0.02
    truths = rng.normal(truth, width / norm.ppf(0.95), 20_000)
    seen = rng.binomial(number, truths) / number
    low, high = np.full(20_000, truth - width), np.full(20_000, truth + width)
    assert abs(compare.inside(seen, low, high, number).mean() - 0.9) < 0.02
    assert np.isnan(compare.inside(np.array([np.nan]), np.zeros(1), np.ones(1), number))


def test_times_and_ends(blank):
    """The first smoothed step above 90 % of the best success rate; infinite, or none."""
    data = with_runs(blank, {"A": exact(STARTS[qra.Regime.STRONG])})
    data["said_rates"] = xr.DataArray(np.tile(RATES, (8, 1)), dims=("base", "way"))
    at = {"base": "A", "kind": "table"}
    ramp = np.minimum((np.arange(300) + 0.5) / 200, 1.0)
    data["accuracy"].loc[at] = ramp
    found = compare.times(data)
    np.testing.assert_array_equal(found.sel(at), 180)
    assert np.isnan(found.sel(base="B", kind="table")).all()
    data["accuracy"].loc[at] = 0.5
    assert np.isinf(compare.times(data).sel(at)).all()
    last = data["held_accuracy"].sel(at).values[:, -3:].mean(axis=1)
    np.testing.assert_allclose(compare.ends(data).sel(at), last, rtol=1e-6)
    smooth = compare.smoothed(np.arange(30.0))
    np.testing.assert_allclose(smooth[4:-4], np.arange(30.0)[4:-4])
    np.testing.assert_allclose(smooth[0], 2)


def test_what_is_said_of_a_model_follows_from_its_rollouts():
    """Counts, answers and grades of drawn responses agree; a forecast that is fitted to the model's
    own first evaluations holds at the steps it was fitted to."""
    base, how = load(SHIPPED / f"base_{SHIPPED_BASE}.eqx"), QUICK.of(KINDS["rlvr"]).how
    said = say(base, how, 0, QUICK.draws, QUICK.held_out)
    rollouts, found = said.rollouts, said.found
    answer = HELD_OUT[: QUICK.held_out].sum(axis=1)[rollouts.question]
    np.testing.assert_array_equal(rollouts.correct, rollouts.answer == answer)
    samples, correct = (x.sum(axis=0) for x in rollouts.counts())
    assert samples.sum() + rollouts.dropped["opens no pattern"] == 512
    rates = correct / samples
    assert rates[Pattern.WORKED] > 0.9
    assert rates[Pattern.WORKED] > rates[Pattern.DIRECT] > rates[Pattern.SHORTCUT]
    assert found.rlif is not None
    flow = Flow.of(found)
    accuracy = np.linspace(flow.accuracy[0], flow.accuracy[-1], 11)
    band = forecast(rollouts, how, accuracy, None, 256, draws=39, particles=100)
    low, _, high = band_at(band, np.array([0, 10]))[0]
    noise = 3 * np.sqrt(0.25 / 256)
    assert np.all((low - noise < accuracy[:2]) & (accuracy[:2] < high + noise))


def test_jobs_are_done_once_and_collected(tmp_path, monkeypatch):
    """A job leaves its curves, and reads no more than its base model; another call does nothing."""
    few = dataclasses.replace(KINDS["table"].how, sampler=qra.SampledGroups(2, batch=2))
    monkeypatch.setitem(KINDS, "table", dataclasses.replace(KINDS["table"], how=few))
    shutil.copy(SHIPPED / f"base_{SHIPPED_BASE}.eqx", tmp_path / f"base_{SHIPPED_BASE}.eqx")
    job, steps = Job(SHIPPED_BASE, "table", 0, num_steps=2, held_out=8), []
    for _ in range(2):
        run_all(tmp_path, [job], 1, lambda: steps.append(1))
    assert len(steps) == 2
    assert not (tmp_path / "trunk.eqx").exists()
    data = collect(tmp_path, num_steps=2)
    run = data.sel(base=SHIPPED_BASE, kind="table", seed=0)
    assert run["accuracy"].notnull().all()
    assert run["held_accuracy"].notnull().all()
    assert data["accuracy"].notnull().sum() == 2
    assert int(data["stop"].max()) == -1


def test_a_study_is_stored_and_read(tmp_path):
    """The shipped one, again: what is derived from it is the same."""
    data = read_study()
    stopped = data.assign(stop=data["stop"].copy())
    stopped["stop"].loc[{"base": "A", "kind": "adam", "seed": 1}] = 7
    lines = compare.summary(stopped)
    assert (
        lines[-1].strip() == "stopped: A adam 1, not finite at step 7: the model before it is kept"
    )
    again = data.drop_vars("step").rename(step="old").isel(old=np.repeat(np.arange(30), 10))
    store(tmp_path, again.rename(old="step").assign_coords(step=np.arange(300)))
    assert compare.summary(read_study(tmp_path)) == compare.summary(data)


def test_what_is_shipped_is_small_and_whole():
    """Under 2 MB; every run is there, with three seeds and more than one for all but one kind."""
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 2e6
    data = read_study()
    for name, kind in KINDS.items():
        runs = data["held_accuracy"].sel(kind=name, base=list(kind.bases)).isel(look=-1)
        assert int(runs.notnull().sum()) == len(kind.bases) * kind.seeds
    assert data.sizes["base"] == 8


@pytest.mark.slow  # runs are trained in test_language_model.py, figures drawn in test_redraw.py
def test_quick_command(tmp_path, monkeypatch, capsys):
    """As `python -m` runs it: two live runs and the study's figures, all files."""
    monkeypatch.delitem(sys.modules, "experiments.language_model.__main__")
    monkeypatch.setattr(sys, "argv", ["", "--quick", "--quiet", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as done:
        runpy.run_module("experiments.language_model", run_name="__main__", alter_sys=True)
    printed = capsys.readouterr()
    assert done.value.code == 0, printed.err
    for words in ("regime: ", "held-out accuracy", "8 base models, 3 seeds"):
        assert words in printed.out
    for name in ("live", "accuracy", "patterns", "forecast", "tokens", "comparison"):
        # Curves are in colour; axes, ticks and letters alone are not.
        drawn = matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3]
        assert np.mean(np.ptp(drawn, axis=-1) > 0.2) > 0.002
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    with np.load(tmp_path / "live_rlvr.npz") as curves:
        assert int(curves["stop"]) == -1
        assert np.isfinite(curves["log.gradient_norm"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--workers", "0"], "workers must be at least 1, got 0"),
        (["--quick", "--full"], "full must not come with quick"),
        (["--out", "/dev/null/x"], "out must be a folder that can be written"),
    ],
)
def test_bad_settings(capsys, arguments, message):
    """One line, exit code 2, before anything is computed."""
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_kinds_differ_by_one_thing_each():
    """The ablation: all parameters, the deviation of groups, the optimiser, both."""
    table, every, grouped, adam, both = (
        KINDS[name].how for name in ("table", "gradient", "grouped", "adam", "rlvr")
    )
    assert dataclasses.replace(table, openings_only=False) == every
    assert dataclasses.replace(every, sampler=both.sampler, optimiser=grouped.optimiser) == grouped
    assert dataclasses.replace(every, optimiser=adam.optimiser) == adam
    assert dataclasses.replace(adam, sampler=grouped.sampler) == both
