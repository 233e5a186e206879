"""The command line of the diagnosis: its page, its numbers, and what it says of bad files."""

import csv
import dataclasses
import html.parser
import json
import math
from collections import Counter
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qra_jax as qra
from experiments.diagnose import main
from qra_jax import cli
from qra_jax.commands import Diagnose
from qra_jax.commands._run_diagnose import relative_rates
from qra_jax.diagnosis.report import design
from qra_jax.diagnosis.report._explorer import EXPLORER
from qra_jax.diagnosis.report._figures import _fine_tuning
from qra_jax.diagnosis.words import box
from qra_jax.fine_tuning._curve import TotalTimes
from tests._support.diagnosed import PLAIN, altered

FIGURES = (
    *("shares", "rates", "accuracy", "pattern_shares", "entropy", "signal", "kinds", "pass_at_k"),
    "rlif",
)
UNIT = "Times here are learning rate times steps of plain gradient ascent."
EXAMPLE = Path(__file__).parents[3] / "experiments" / "data" / "rollouts.jsonl"


class _Page(html.parser.HTMLParser):
    """Tags that are open, addresses that are asked for, and the text."""

    void = frozenset({"meta", "img", "br", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        """Note what it loads."""
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Tags close in the order in which they were opened."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Text as a reader sees it."""
        self.text.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of the example, and what the console said."""
    out = tmp_path_factory.mktemp("report")
    assert main([str(EXAMPLE), "--out", str(out), "--draws", "39"]) == 0
    return out


def test_page_needs_nothing_but_itself(report):
    """Well formed, no address but inline images and the explorer beside it, and each section."""
    page = _Page()
    text = (report / "report.html").read_text(encoding="utf-8")
    page.feed(text)
    assert not page.open
    (explorer,) = (source for source in page.sources if not source.startswith("data:"))
    assert explorer.startswith("explorer.html#names=prose,numbered_steps,guess,python&shares=0.5")
    assert (report / "explorer.html").read_bytes() == EXPLORER.read_bytes()
    assert len(page.sources) == 1 + len(FIGURES)
    images = [source for source in page.sources if source != explorer]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in images)
    assert "@import" not in text
    assert "url(" not in text
    shown = "".join(page.text)
    assert "How far to trust this" in shown
    for title in ("Key figures", "Forecast of RLVR", "RLIF", "pass@k", "Stuck questions", "Limits"):
        assert title in shown
    assert "ENTANGLED start" in shown


def test_numbers(report):
    """Strict JSON; the counts are those of the file, the accuracy their share."""

    def refuse(name):
        raise AssertionError(name)

    found = json.loads((report / "report.json").read_text(), parse_constant=refuse)["diagnosis"]
    rows = [json.loads(line) for line in EXAMPLE.read_text().splitlines()]
    assert sum(map(sum, found["data"]["samples"])) == len(rows)
    right = np.mean([row["correct"] for row in rows])
    assert found["start"]["accuracy"]["low"] < right < found["start"]["accuracy"]["high"]
    assert math.isclose(sum(found["regime"]["probs"][0]), 1)
    # What is on them is tested of a diagnosis made by hand.
    files = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")}
    texts = "report.html", "report.json", "questions.csv", "explorer.html"
    assert {path.name for path in report.iterdir()} == {*texts, *files}
    assert "by_question" not in found["signal"]
    table = list(csv.DictReader((report / "questions.csv").read_text().splitlines()))
    each = Counter(row["question"] for row in rows)
    assert {row["question"]: int(row["samples"]) for row in table} == dict(each)


def test_same_seed_same_page(report, tmp_path):
    """Nothing on the page depends on the day, the run or the command's name."""
    assert (
        cli.main(["diagnose", str(EXAMPLE), "--out", str(tmp_path), "--draws", "39", "--quiet"])
        == 0
    )
    for name in ("report.html", "report.json"):
        assert (tmp_path / name).read_bytes() == (report / name).read_bytes()


def test_every_option_arrives(tmp_path, monkeypatch):
    """Each at a value that is not its own, as the library is asked it."""
    asked = {}

    def diagnosed(rollouts, **settings):
        asked.update(settings, rollouts=rollouts)
        return PLAIN

    def designed(found, **settings):
        asked.update(settings, found=found)
        raise ValueError("that is all")

    monkeypatch.setattr("qra_jax.commands._run_diagnose.diagnose", diagnosed)
    monkeypatch.setattr("qra_jax.commands._run_diagnose.design", designed)
    # Every common name is there too, and says something else.
    header = "question,pattern,correct,answer,confidence,step,q,p,c,a,s,t\n"
    rows = "x,y,0,1,0.5,3,Q1,P1,1,17,-0.25,0\nx,y,0,1,0.5,3,Q2,P2,0,18,-0.75,5\n"
    path = _file(tmp_path, "odd.csv", header + rows)
    options = (
        "--question-field q --pattern-field p --correct-field c --answer-field a "
        "--confidence-field s --step-field t --pooling partial --estimator rloo --group-size 5 "
        "--num-steps 70 --learning-rate 0.25 --questions fixed --schedule cosine "
        "--warmup-steps 20 --design --sft-budget 3 --sft-floor 0.2 "
        "--sft-cost 2.5 --eps 0.02 --draws 77 --seed 9 --rollouts-per-step 43"
    )
    assert main([str(path), "--out", str(tmp_path / "out"), *options.split()]) == 2
    rollouts = asked["rollouts"]
    assert set(rollouts.questions) == {"Q1", "Q2"}
    assert set(rollouts.patterns) == {"P1", "P2"}
    assert set(rollouts.answers) == {"17", "18"}
    assert rollouts.steps == (0, 5)
    np.testing.assert_array_equal(sorted(rollouts.confidence), [-0.75, -0.25])
    assert rollouts.count[rollouts.correct].sum() == 1
    assert {key: asked[key] for key in ("pooling", "questions", "eps", "draws", "seed")} == {
        "pooling": "partial", "questions": "fixed", "eps": 0.02, "draws": 77, "seed": 9,
    }  # fmt: skip
    run, sampler = asked["run"], qra.SampledGroups(5, estimator=qra.training.RLOO())
    assert (run.num_steps, run.learning_rate, repr(run.sampler)) == (70, 0.25, repr(sampler))
    # As optax takes them: the warm-up from 1/20 on, then half a period of the cosine.
    decay = optax.cosine_decay_schedule(1.0, 50)(np.arange(50))
    np.testing.assert_allclose(run.rates(), np.append(np.arange(1, 21) / 20, decay), atol=1e-6)
    assert repr(asked["objective"].utility) == repr(sampler.utility)
    groups = asked["groups"]
    assert (groups.group_size, groups.batch) == (5, 8)
    assert repr(groups.estimator) == repr(sampler.estimator)
    assert asked["found"] is PLAIN
    assert {key: asked[key] for key in ("budget", "floor", "cost")} == {
        "budget": 3.0, "floor": 0.2, "cost": 2.5,
    }  # fmt: skip
    assert repr(asked["utility"]) == repr(sampler.utility)


def test_rules_sort_texts(tmp_path, monkeypatch):
    """The field of texts and the file of rules."""
    asked = []

    def diagnosed(rollouts, **settings):
        asked.append((rollouts, settings))
        raise ValueError("that is all")

    monkeypatch.setattr("qra_jax.commands._run_diagnose.diagnose", diagnosed)
    rules = _file(
        tmp_path, "rules.toml", 'default = "prose"\n[[pattern]]\nname = "code"\nregex = "def "\n'
    )
    path = _file(tmp_path, "a.csv", "question,body,correct\nq,def f,1\nq,so it is,0\n")
    arguments = ["--text-field", "body", "--rules", str(rules), "--out", str(tmp_path / "out")]
    assert main([str(path), *arguments]) == 2
    ((rollouts, settings),) = asked
    assert set(rollouts.patterns) == {"code", "prose"}
    assert (settings["run"], repr(settings["objective"])) == (None, repr(qra.RLVR()))
    assert (settings["groups"].group_size, settings["groups"].batch) == (8, 64)
    errs = ["--beta", "0.25", "--tpr", "0.9", "--fpr", "0.2"]
    assert main([str(path), *arguments, *errs, "--estimator", "grpo"]) == 2
    objective = asked[1][1]["objective"]
    assert float(objective.regularisers[0].beta) == 0.25
    assert float(objective.reward.youden) == pytest.approx(0.7)
    assert objective.utility.group == 8


def test_schedules():
    """Linear to 0, or constant after a warm-up; nothing where the rate is constant."""
    plain = Diagnose((Path("a"),), num_steps=8)
    assert relative_rates(plain) is None
    linear = dataclasses.replace(plain, schedule="linear")
    found = relative_rates(linear)
    assert found is not None
    np.testing.assert_allclose(found(np.arange(9)), 1 - np.arange(9) / 8)
    warm = relative_rates(dataclasses.replace(plain, warmup_steps=3))
    assert warm is not None
    np.testing.assert_allclose(warm(np.arange(5)), [1 / 3, 2 / 3, 1, 1, 1])


@pytest.mark.parametrize("gain", [True, False])
def test_design_of_a_diagnosis(monkeypatch, gain):
    """The draws of its own posterior and its settings go into the design; what comes back is said
    in sentences and rows."""
    asked = {}
    numbers = {
        "mixture": [0.75, 0.25], "duration": 2.0 if gain else 0.0,
        "pattern_probs": [[0.6, 0.4]] * 16, "log_time": [math.log(50)] * 16,
        "log_time_nothing": [math.log(200)] * 16, "log_time_naive": [math.log(60)] * 16,
        "log_time_naive_full": [math.log(70)] * 16, "naive_mixture": [1.0, 0],
        "naive_duration": 1.5, "naive_full_duration": 3.0, "score": 4.0,
        "score_nothing": 4 + math.log(4), "score_naive": 4 + math.log(1.2),
        "score_naive_full": 4.5, "entropy": 0.65, "entropy_slack": 0.45, "duration_slack": 1.0,
        "start_scores": [4.0, 4.1, 5], "converged": [True, True, False],
        "start_status": [0, 0, 0], "status": int(qra.Status.COMPLETED),
    }  # fmt: skip
    best = qra.fine_tuning.SFTDesign(
        **{name: jnp.asarray(value) for name, value in numbers.items()}
    )

    def designed(probs, rates, **settings):
        asked.update(settings, probs=probs, rates=rates)
        return best

    def timed(probs, rates, mixture, durations, **settings):
        """RL takes 200 at first, and half as long for each unit of fine-tuning."""
        asked.setdefault("timed", []).append((list(map(float, mixture)), durations, settings))
        left = math.log(200) - math.log(2) * durations
        total = np.logaddexp(np.log(np.maximum(2.5 * durations, 1e-300)), left)
        draws = np.linspace(-0.1, 0.1, 16)
        return TotalTimes(*(x[:, None] + draws for x in (left, total)), 0.7 - durations / 10)

    monkeypatch.setattr("qra_jax.diagnosis.report._design.design_sft", designed)
    monkeypatch.setattr("qra_jax.diagnosis.report._design.total_times", timed)
    found = altered(
        data={
            "samples": np.array([[4e6, 1e6], [2e6, 3e6]]),
            "correct": np.array([[4e6, 0], [0, 3e6]]),
            "weights": np.full(2, 0.5),
            "patterns": ("a", "b"),
        },
        settings={"prior": qra.posteriors.Prior(4e6, 2e6, 1e6), "seed": 3, "eps": 0.07},
    )
    plan = design(found, budget=3.0, floor=0.2, cost=2.5, utility=None)
    assert {key: asked[key] for key in ("budget", "floor", "cost", "eps", "utility")} == {
        "budget": 3.0, "floor": 0.2, "cost": 2.5, "eps": 0.07, "utility": None,
    }  # fmt: skip
    # The pooled posterior under the diagnosis' own prior: 10, 8 of 18; 6 of 9, 5 of 7 right.
    np.testing.assert_allclose(asked["probs"], np.tile([10 / 18, 8 / 18], (16, 1)), atol=2e-3)
    np.testing.assert_allclose(asked["rates"], np.tile([6 / 9, 5 / 7], (16, 1)), atol=2e-3)
    durations = [0, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15]
    for (mixture, given, settings), wanted in zip(
        asked["timed"], ([0.75, 0.25] if gain else [1.0, 0], [1.0, 0]), strict=True
    ):
        assert mixture == wanted
        np.testing.assert_allclose(given, durations)
        assert settings == {"eps": 0.07, "cost": 2.5, "utility": None}
    weak = altered(regime={"probs": np.array([[0.01, 0.98, 0.01]])})
    weak = dataclasses.replace(weak, open_points=())
    assert box(weak, plan)[3].value == plan.sentence
    assert "--design finds" in box(weak)[3].value
    if not gain:
        assert plan.sentence.startswith("No fine-tuning is best")
        return
    assert "RLVR alone takes 4 times as long as such fine-tuning and RLVR" in plan.sentence
    assert (
        "with data of the best pattern only both together take 1.2 times as long" in plan.sentence
    )
    same = dataclasses.replace(best, score_naive=best.score)
    assert "together take as long" in dataclasses.replace(plan, design=same).sentence
    by_duration = {row.duration: row for row in plan.curve_rows}
    assert list(by_duration) == [f"{x:g}" for x in durations]
    assert (by_duration["2"].rl_time, by_duration["2"].time) == ("50", "55")
    assert by_duration["2"].remark == ""
    assert by_duration["5"].time == "18.8"
    assert by_duration["5"].entropy == "0.200"
    assert by_duration["5"].remark == "shortest of these, beyond the budget"
    assert by_duration["7"].remark == "beyond the budget, below the entropy floor"
    assert by_duration["5"].interval == "17 to 20.7"  # 18.75 times exp of -.1 and .1
    said = plan.curve_sentence
    assert "durations from 5 to 7 are within 10 % of the shortest total time, 18.8" in said
    assert said.endswith("a larger --sft-budget would pay. " + UNIT)
    within = dataclasses.replace(plan, budget=5.0)
    assert within.curve_sentence.endswith("RLVR alone takes 200. " + UNIT)
    assert plan.to_dict()["curve"]["own"]["entropy"][-1] == pytest.approx(-0.8)
    bound = dataclasses.replace(
        plan, design=dataclasses.replace(best, duration_slack=jnp.zeros(()))
    )
    assert bound.remarks[0].startswith("the budget binds; some longer fine-tuning in the table")
    none = dataclasses.replace(bound, budget=5.0)
    assert none.remarks[0].startswith("the budget binds; no longer fine-tuning in the table")
    (line,) = _fine_tuning(plan).axes[0].lines[:1]
    np.testing.assert_allclose(line.get_xdata(), durations)
    shown = np.asarray(line.get_ydata(), float)
    np.testing.assert_allclose(10 ** shown[[0, 9, 11]], [200, 55, 18.75], rtol=1e-6)
    assert "Fine-tune on 75 % right answers by way of 'a' and 25 % right answers" in plan.sentence
    assert "for a duration of 2 (learning" in plan.sentence
    assert [(row.duration, row.time) for row in plan.rows] == [
        ("2", "50"), ("0", "200"), ("1.5", "60"), ("3", "70"),
    ]  # fmt: skip
    assert [(row.pattern, row.data, row.after) for row in plan.mixture] == [
        ("a", "0.75", "0.6"), ("b", "0.25", "0.4"),
    ]  # fmt: skip
    assert abs(float(plan.mixture[0].before) - 10 / 18) < 2e-3
    assert plan.remarks[0].startswith("the budget does not bind")
    assert "0.650 nats, 0.450 above the floor" in plan.remarks[0]
    assert plan.remarks[1].startswith("2 of 3 starts of the search had settled")
    assert "hold several patterns" in plan.remarks[2]


def _file(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


HEADER = "question,pattern,correct\n"
LIMITED = {
    "one pattern": ("a,prose,1\n" * 5 + "a,prose,0\n" * 5, "there is one pattern only"),
    "none right": ("a,prose,0\na,python,0\n" * 10, "no rollout is right"),
    "many patterns": (
        "".join(f"q,p{i},{i % 2}\n" for i in range(10_000)),
        "rarest patterns are grouped as one",
    ),
    "some left out": ("a,prose,1\na,python,0\n" * 10 + "a,,1\n", "dropped"),
}


SLOW = pytest.param("many patterns", marks=pytest.mark.slow)


@pytest.mark.parametrize("case", [*(case for case in LIMITED if case != "many patterns"), SLOW])
def test_stated_limits(case, tmp_path, capsys):
    """What the data do not bear is said on the console and on the page; there is no traceback."""
    rows, said = LIMITED[case]
    path = _file(tmp_path, "rollouts.csv", HEADER + rows)
    assert main([str(path), "--out", str(tmp_path / "out"), "--draws", "39"]) == 0
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "text", "options", "said"),
    [
        ("a.csv", "", (), "a.csv"),
        ("a.csv", "question,correct\nq,1\n", (), "pattern"),
        ("a.csv", HEADER + "q,prose,maybe\n", (), "line 2"),
        ("a.csv", HEADER + "q,prose,1\n", ("--pattern-field", "kind"), "'kind'"),
        ("a.csv", HEADER + "q,prose,1\n", ("--draws", "3"), "draws must be at least 20"),
        ("a.csv", HEADER + "q,prose,1\n", ("--eps", "1.5"), "eps must lie"),
        ("a.csv", HEADER + "q,prose,1\n", ("--num-steps", "10"), "num-steps must come with"),
        ("a.csv", HEADER + "q,prose,1\n", ("--learning-rate", "1"), "num-steps must be given"),
        ("a.csv", HEADER + "q,prose,1\n", ("--schedule", "linear"), "num-steps must be given"),
        (
            "a.csv",
            HEADER + "q,prose,1\n",
            ("--warmup-steps", "9", "--num-steps", "9"),
            "warmup-steps must lie",
        ),
        ("a.csv", HEADER + "q,prose,1\n", ("--seed", "-1"), "seed must be at least 0"),
        ("a.jsonl", '{"question": "q", "pattern": "p", "correct": 1}\n{"que', (), "line 2"),
        ("a.csv", "question,text,correct\nq,x,1\n", ("--rules", "none.toml"), "none.toml"),
    ],
)
def test_bad_input(name, text, options, said, tmp_path, capsys):
    """One clear line, and nothing written."""
    path, out = _file(tmp_path, name, text), tmp_path / "out"
    assert main([str(path), "--out", str(out), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not out.exists() or not list(out.iterdir())
