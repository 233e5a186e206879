"""The claims ledger: its verdicts in a quick run, what it writes, and how it fails."""

import json
import re
from pathlib import Path

import pytest

from experiments._lab.claim import Outcome, Verdict
from experiments.claims import LEDGER
from experiments.claims.__main__ import main
from experiments.claims._ledger import Context, Subject, ledger_of

# Every claim and its verdict: a change is noticed, whichever way it goes.
EXPECTED = {
    "success-rates-stay-fixed": "disagrees",
    "trained-answers-pass-early": "agrees",
    "optimum-of-patterns": "agrees",
    "optimum-of-weak-penalty": "agrees",
    "optimum-of-another-reference": "agrees",
    "optimum-of-trained-answers": "agrees",
    "strong-start-rises": "agrees",
    "strong-start-time": "agrees",
    "gamma-of-the-simulation": "agrees",
    "weak-start-follows-the-misleading": "agrees",
    "weak-start-need-not-mislead": "agrees",
    "weak-start-ends-in-regime-1": "agrees",
    "weak-start-bound": "agrees",
    "weak-start-exponential-in-gamma": "agrees",
    "weak-start-needs-the-gap": "agrees",
    "sft-first-cuts-the-slow-phase": "agrees",
    "sft-first-table": "agrees",
    "sft-field": "agrees",
    "orbit-invariants": "agrees",
    "two-patterns": "agrees",
    "softmax-rate": "agrees",
    "value-tail": "agrees",
    "pattern-tail": "agrees",
    "tails-approach-slowly": "agrees",
    "tail-of-ten-patterns": "agrees",
    "tail-of-ten-equal-starts": "agrees",
    "tail-of-unequal-ties": "agrees",
    "tail-of-equal-ties": "agrees",
    "tail-under-a-clock": "agrees",
    "tail-of-grpo-at-certainty": "agrees",
    "t0-of-the-check-case": "agrees",
    "t0-is-the-peak-of-a-logit": "agrees",
    "probability-peaks-before-t0": "agrees",
    "best-pattern-is-rarest-at-46": "agrees",
    "entanglement-law": "agrees",
    "entanglement-exponent": "agrees",
    "entanglement-law-of-the-check-case": "agrees",
    "entanglement-law-knows-its-range": "agrees",
    "two-patterns-are-never-entangled": "agrees",
    "natural-gradient-is-hedge": "agrees",
    "natural-gradient-rate": "agrees",
    "natural-gradient-of-the-check-case": "agrees",
    "natural-gradient-is-not-slowed": "agrees",
    "natural-gradient-moves-the-sum": "agrees",
    "policy-gradient-field": "agrees",
    "rloo-is-unbiased": "agrees",
    "dr-grpo-is-rloo-scaled": "agrees",
    "grpo-is-arcsine": "agrees",
    "rejection-sampling-is-log": "agrees",
    "finite-groups": "agrees",
    "finite-groups-by-number": "agrees",
    "sample-deviation-is-slower": "agrees",
    "redrawn-groups-are-faster": "agrees",
    "maxrl-is-truncated-likelihood": "agrees",
    "centred-maxrl-loses-a-term": "agrees",
    "maxrl-tends-to-likelihood": "agrees",
    "pass-at-k": "agrees",
    "clocks-of-the-check-case": "agrees",
    "clocks-keep-the-orbit": "agrees",
    "cold-start-of-reinforce": "agrees",
    "cold-start-of-likelihood": "agrees",
    "noise-decides-fate-by-its-sign": "agrees",
    "noise-sets-the-rate": "agrees",
    "noise-under-a-utility": "agrees",
    "k3-value-is-unbiased": "agrees",
    "k2-value-is-right-nearby": "agrees",
    "k2-loss-is-k1-in-the-reward": "agrees",
    "k1-loss-does-nothing": "agrees",
    "k3-loss-is-first-order": "agrees",
    "k3-loss-penalises-the-reverse-kl": "disagrees",
    "k3-loss-is-the-forward-kl": "agrees",
    "k3-loss-rests-elsewhere": "agrees",
    "k2-k3-in-the-reward-are-neither": "agrees",
    "grpo-with-kl-rests-implicitly": "agrees",
    "entropy-bonus-is-a-kl": "agrees",
    "entropy-bonus-rests": "agrees",
    "entropy-gives-a-linear-rate": "agrees",
    "natural-gradient-with-kl": "agrees",
    "grpo-iteration": "agrees",
    "grpo-iteration-amplifies": "agrees",
    "mean-only-response": "agrees",
    "gradient-gap": "agrees",
    "entropy-mechanism": "agrees",
    "nothing-to-learn": "agrees",
    "self-certainty-is-a-divergence": "agrees",
    "self-certainty-is-blind": "agrees",
    "self-certainty-moves-no-answer": "agrees",
    "rlif-rises-for-certain": "disagrees",
    "rlif-rises-for-certain-by-count": "disagrees",
    "rlif-rises-if-every-pattern-is-right": "agrees",
    "rlif-rise-given-mean": "agrees",
    "rlif-rise-given-count": "agrees",
    "rlif-rise-differentiated": "agrees",
    "rlif-rise-unconditional": "agrees",
    "rlif-rise-given-a-margin": "agrees",
    "rlif-rise-with-tilt-100": "agrees",
    "rlif-rise-with-tilt-1000": "agrees",
    "rlif-ends-at-the-worst-by-half": "agrees",
    "rlif-simulation": "agrees",
    "rlif-end-given-mean": "agrees",
    "rlif-end-with-tilt": "agrees",
    "rlif-worst-with-tilt": "agrees",
    "internal-rewards-are-replicators": "agrees",
    "differentiating-doubles": "agrees",
    "reference-probability-is-rlvr": "agrees",
    "majority-vote-sharpens": "agrees",
    "majority-vote-collapses-if-wrong": "agrees",
    "majority-vote-is-a-replicator-of-votes": "agrees",
    "two-stages-are-token-columns": "agrees",
    "columns-move-by-visits-and-advantage": "agrees",
    "divergence-by-columns": "agrees",
    "rlvr-changes-few-ranks": "agrees",
    "rlif-changes-more-ranks": "agrees",
    "rlvr-acts-on-few-columns": "agrees",
    "steps-approach-the-flow": "agrees",
    "natural-steps-are-multiplicative-weights": "agrees",
    "sampled-steps-follow-exact-ones": "agrees",
    "noise-of-groups": "agrees",
    "adam-moves-with-the-square-root": "agrees",
    "lm-success-rates-stay-fixed": "disagrees",
    "lm-success-rates-stay-fixed-by-gradient": "agrees",
    "lm-rlvr-selects-the-best": "disagrees",
    "lm-rlvr-selects-the-best-by-gradient": "agrees",
    "lm-two-regimes": "agrees",
    "lm-rlif-rises-then-degrades": "agrees",
    "lm-sft-first-cuts-the-slow-phase": "agrees",
    "lm-rlvr-changes-few-ranks": "undecided",
    "lm-rlvr-reranks-few-positions": "disagrees",
    "lm-rlif-changes-more-ranks": "agrees",
    "lm-regime-gradient": "agrees",
    "lm-order-gradient": "agrees",
    "lm-band-gradient": "agrees",
    "lm-regime-rlvr": "agrees",
    "lm-order-rlvr": "disagrees",
    "lm-order-brief": "agrees",
    "lm-band-rlvr": "disagrees",
    "lm-rlif-end-majority": "agrees",
    "lm-rlif-end-majority-table": "agrees",
    "lm-rlif-end-certainty": "disagrees",
    "lm-rlif-end-certainty-table": "disagrees",
    "lm-order-own-optimiser": "agrees",
    "lm-band-own-optimiser": "agrees",
    "lm-certainty-shows-in-rates": "agrees",
}
KEYS = {
    *("id", "source", "statement", "setting", "predicted", "measured"),
    *("standard_error", "verdict", "ours"),
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick run of the whole ledger: exit code, rows of claims.json by identifier, the page."""
    out = tmp_path_factory.mktemp("claims")
    page = out / "page.md"
    code = main(["--quick", "--quiet", "--out", str(out), "--page", str(page)])
    rows = json.loads((out / "claims.json").read_text())
    return code, {row["id"]: row for row in rows}, page.read_text()


@pytest.mark.parametrize("name", EXPECTED)
def test_verdict(quick, name):
    """Each claim's verdict, in the small; our own agree."""
    _, rows, _ = quick
    assert rows[name]["verdict"] == EXPECTED[name], rows[name]


def test_ledger(quick):
    """Nothing is left out here, ours agree, and the sources are many."""
    code, rows, _ = quick
    assert code == 0
    assert list(rows) == list(EXPECTED)
    assert all(set(row) == KEYS for row in rows.values())
    assert all(row["verdict"] == "agrees" for row in rows.values() if row["ours"])
    papers = {
        paper for row in rows.values() for paper in re.findall(r"\d{4}\.\d{5}", row["source"])
    }
    assert len(papers) >= 10
    assert len(rows) >= 25
    for row in rows.values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row["id"])
        assert isinstance(row["predicted"], float)
        assert isinstance(row["measured"], float)
        assert row["standard_error"] is None or row["standard_error"] >= 0


def test_page(quick):
    """Every claim has its row; every disagreement is explained, by claims that exist."""
    _, rows, page = quick
    explained = page.partition("## Disagreements, explained")[2]
    for row in rows.values():
        assert page.count(f"| `{row['id']}`<br>") == 1
        assert (f"**`{row['id']}`**" in explained) or row["verdict"] == "agrees"
    for entry in LEDGER:
        assert entry.note or EXPECTED[entry.id] == "agrees"
        for name in re.findall(r"\(([a-z0-9]+(?:-[a-z0-9]+){2,})\)", entry.note):
            assert name in rows


def test_shipped_page():
    """The page in the documentation, of a full run, has every claim with the same verdict."""
    page = Path(__file__).parents[2] / "docs/claims.md"
    rows = (line.split(" | ") for line in page.read_text().splitlines())
    found = {row[0][3:].partition("`")[0]: row[-1].strip("*| ") for row in rows if len(row) == 6}
    assert found.pop("---", None) is None
    found = {name: verdict for name, verdict in found.items() if name in EXPECTED}
    assert found == EXPECTED


def test_functions_are_named_as_their_claims():
    """For a traceback to say which claim it is about."""
    for entry in LEDGER:
        assert entry.experiment.__name__ == entry.id.replace("-", "_")


def outcome(verdict):
    """An experiment with this verdict, whatever is measured."""
    return lambda context: Outcome(1.0, 2.0, None, Verdict(verdict))


def broken(context):
    """An experiment that fails."""
    raise ArithmeticError("no root\nfound")


def small_ledger(*cases):
    """A ledger of `(id, ours, experiment)`."""
    subject = Subject("Tests")
    for name, ours, experiment in cases:
        subject.claim(id=name, source="s", statement="a b", setting="c", ours=ours)(experiment)
    return ledger_of([subject])


@pytest.mark.parametrize(
    ("cases", "code"),
    [
        ([("one", True, outcome("agrees")), ("two", False, outcome("disagrees"))], 0),
        ([("one", True, outcome("agrees")), ("two", True, outcome("disagrees"))], 1),
        ([("one", True, outcome("undecided"))], 0),
        ([("one", True, outcome("agrees")), ("two", False, broken)], 0),
        ([("one", True, broken), ("two", True, outcome("agrees"))], 1),
    ],
)
def test_exit_code(tmp_path, capsys, cases, code):
    """1 if a claim of our own disagrees or cannot be run; the others are run all the same."""
    number = len(LEDGER)
    assert main(["--quiet", "--quick", "--out", str(tmp_path)], small_ledger(*cases)) == code
    rows = json.loads((tmp_path / "claims.json").read_text())
    assert [row["id"] for row in rows] == [name for name, _, _ in cases]
    printed = capsys.readouterr().out
    for row, (name, _, experiment) in zip(rows, cases, strict=True):
        if experiment is broken:
            assert row["verdict"] == "undecided"
            assert row["measured"] == "nan"
            assert f"could not be run: {name} (ArithmeticError: no root found)" in printed
            assert "(1 could not be run)" in printed
        if row["verdict"] == "disagrees":
            assert f"disagrees: {name} (s): predicted 1, measured 2" in printed
        assert ("OURS FAIL" in printed) == (code == 1)
    whole = (tmp_path / "claims.txt").read_text()
    assert [line.split()[1] for line in whole.splitlines() if "[s]" in line] == [
        x for x, *_ in cases
    ]
    assert f"wrote {tmp_path}/claims.txt" in printed
    assert len(LEDGER) == number


def test_console_is_short(tmp_path, capsys):
    """However many claims there are, and disagree: the first four in full, the others by name."""
    cases = [(f"c{i}", False, outcome("disagrees" if i < 7 else "agrees")) for i in range(40)]
    assert main(["--quiet", "--quick", "--out", str(tmp_path)], small_ledger(*cases)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) <= 10
    assert printed[0].startswith("40 claims, 0 of them ours: 33 agree, 7 disagree, 0 undecided; ")
    assert "every claim of our own that could be decided holds" in printed
    assert "3 more disagree: c4, c5, c6" in printed
    assert (tmp_path / "claims.txt").read_text().count("predicted 1, measured 2") == 40


def test_only_some(tmp_path, capsys):
    """`--only` runs what it names, `--list` nothing."""
    ledger = small_ledger(("one", True, outcome("agrees")), ("two", True, broken))
    arguments = ["--quiet", "--out", str(tmp_path), "--only", "one"]
    assert main(arguments, ledger) == 0
    assert [row["id"] for row in json.loads((tmp_path / "claims.json").read_text())] == ["one"]
    capsys.readouterr()
    assert main(["--list"], ledger) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["one", "two"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "gamma", "t0"], "only must be identifiers of claims (--list shows them)"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--out", "/dev/null/x"], "out must be a folder that can be written"),
        (["--only", "one", "--page", "."], ". must be writable (Is a directory)"),
    ],
)
def test_bad_settings(tmp_path, monkeypatch, capsys, arguments, message):
    """Each is one line on the error stream, exit code 2."""
    monkeypatch.chdir(tmp_path)
    ledger = small_ledger(("one", True, outcome("agrees")))
    assert main([*arguments, "--quiet"], ledger) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_two_claims_of_one_name():
    """An identifier is that of one claim."""
    with pytest.raises(ValueError, match="ids must differ, got one more than once"):
        small_ledger(("one", True, outcome("agrees")), ("one", False, broken))


def test_draws_depend_on_name_and_seed_only():
    """Not on which other claims are run, nor on how often somebody has drawn."""
    context = Context(True, 3, "one")
    first = context.rng.normal()
    assert context.rng.normal() == first
    assert Context(False, 3, "two").named("one").rng.normal() == first
    assert Context(True, 3, "two").rng.normal() != first
    assert Context(True, 4, "one").rng.normal() != first
    assert (context.size(10, 2), Context(False, 3, "one").size(10, 2)) == (2, 10)
