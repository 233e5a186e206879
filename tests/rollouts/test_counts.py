"""Tables of counts, and of shares and rates."""

import re

import numpy as np
import pytest

import qra_jax as qra

from .._support.rollout_files import spelled, write


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_counts_are_rollouts(tmp_path, ending):
    """A table of counts is the rollouts that it counts; a pattern without samples stays."""
    rows = [
        {"question": q, "step": s, "pattern": p, "samples": n, "correct": c}
        for q, s, p, n, c in [
            ("a", 0, "prose", 5, 3),
            ("a", 0, "python", 0, 0),
            ("b", 0, "prose", 2, 0),
            ("a", 9, "steps", 9, 9),
        ]
    ]
    found = qra.read_rollouts(write(tmp_path / f"x.{ending}", rows))
    assert found.patterns == ("steps", "prose", "python")
    samples, correct = found.counts()
    assert samples.tolist() == [[9, 5, 0], [0, 2, 0]]
    assert correct.tolist() == [[9, 3, 0], [0, 0, 0]]
    assert len(found) == 16
    assert found.steps == (0, 9)
    base = found.base_model()
    assert base.patterns == found.patterns
    assert base.counts()[0].tolist() == [[0, 5, 0], [0, 2, 0]]
    assert len(found.at_step(9)) == 9
    with pytest.raises(ValueError, match=r"step must be one of 0, 9, got 3"):
        found.at_step(3)


def test_pooled_counts(tmp_path):
    """Without questions, counts are those of one question; the same table as `PatternTable`."""
    file = tmp_path / "table.csv"
    file.write_text("# pooled\npattern,samples,correct\nprose,412,373\npython,5,5\n")
    found = qra.read_rollouts(file)
    assert found.questions == ("all questions",)
    assert "no field of questions" in found.notes[0]
    table = qra.rollouts.read_pattern_table(file)
    assert table.patterns == found.patterns
    assert np.array_equal(table.samples, found.counts()[0][0])
    assert np.array_equal(table.correct, found.counts()[1][0])
    assert table.probs == pytest.approx(np.array([413, 6]) / 419, abs=1e-15)
    assert table.rates == pytest.approx(np.array([374 / 414, 6 / 7]), abs=1e-15)


def test_long_tables_of_counts(tmp_path):
    """Counts and shares of more patterns than a block has rows, and where they are wrong."""
    number = 700
    samples = [(7 * i) % 11 for i in range(number)]
    right = [n // 3 if i % 2 else n for i, n in enumerate(samples)]
    rows = [
        {"question": f"q{i % 9}", "step": i % 2, "pattern": f"p{i}", "samples": n, "correct": c}
        for i, (n, c) in enumerate(zip(samples, right, strict=True))
    ]
    order = sorted(range(number), key=lambda i: -samples[i])
    for ending, unit, header in (("csv", "line", 1), ("jsonl", "line", 0), ("parquet", "row", 0)):
        found = qra.read_rollouts(write(tmp_path / f"x.{ending}", rows))
        assert found.patterns == tuple(f"p{i}" for i in order)
        for table, expected in zip(found.counts(), (samples, right), strict=True):
            assert table.sum(axis=0).tolist() == [expected[i] for i in order]
            assert table.sum(axis=1).tolist() == [sum(expected[q::9]) for q in range(9)]
        assert len(found.at_step(1)) == sum(samples[1::2])
        for change, message in (
            ({**rows[3], "samples": 1}, "pattern must have a name of its own, got 'p3' again"),
            ({**rows[600], "samples": -1}, "samples must be a whole number of at least 0, got -1"),
            (
                {**rows[600], "samples": 4, "correct": 5},
                "correct must be at most samples = 4, got 5",
            ),
            ({**rows[600], "pattern": " "}, "pattern must have a name, got nothing"),
        ):
            spoilt = [*rows[:600], change, *rows[601:]]
            file = write(tmp_path / f"y.{ending}", spoilt)
            place = f"{file}, {unit} {601 + header}: {message}"
            with pytest.raises(ValueError, match=f"^{re.escape(place)}"):
                qra.read_rollouts(file)
    file = tmp_path / "table.csv"
    counts = "".join(f"p{i},{n},{c}\n" for i, (n, c) in enumerate(zip(samples, right, strict=True)))
    file.write_text("pattern,samples,correct\n" + counts)
    table = qra.rollouts.read_pattern_table(file)
    assert table.patterns == tuple(f"p{i}" for i in range(number))
    assert (table.samples.tolist(), table.correct.tolist()) == (samples, right)
    n, c = np.array(samples), np.array(right)
    np.testing.assert_allclose(table.probs, (n + 1) / (n.sum() + number), rtol=1e-14)
    np.testing.assert_allclose(table.rates, (c + 1) / (n + 2), rtol=1e-14)
    assert table.note == ""
    probs = 1.004 * (np.arange(number) + 1) / np.sum(np.arange(number) + 1)
    stated = [f"p{i},{i / number},{p}\n" for i, p in enumerate(probs)]
    file.write_text("pattern,success_rate,probability\n" + "".join(stated))
    table = qra.rollouts.read_pattern_table(file)
    assert table.patterns == tuple(f"p{i}" for i in range(number))
    np.testing.assert_allclose(table.probs, probs / 1.004, rtol=1e-14)
    np.testing.assert_allclose(table.rates, np.arange(number) / number, rtol=1e-15)
    assert (table.samples, table.correct) == (None, None)
    assert table.note == "probabilities summed to 1.004 and were renormalised"
    for at, bad, message in (
        (690, "p7,0.5,0\n", "pattern must have a name of its own, got 'p7' again"),
        (650, "x,1.5,0\n", "success_rate must lie in [0, 1], got 1.5"),
        (512, "x,0.5,-0.1\n", "probability must lie in [0, 1], got -0.1"),
    ):
        spoilt = [*stated[:at], bad, *stated[at + 1 :]]
        file.write_text("pattern,success_rate,probability\n" + "".join(spoilt))
        place = f"{file}, line {at + 2}: {message}"
        with pytest.raises(ValueError, match=f"^{re.escape(place)}$"):
            qra.rollouts.read_pattern_table(file)


def test_tables_of_shares(tmp_path):
    """Names, shares and rates as stated; a sum near 1 is made 1, and that is said."""
    file = tmp_path / "table.csv"
    file.write_text("# stated\nsuccess_rate,pattern,probability\n0.9,a,0.125\n0.2,b,0.875\n")
    table = qra.rollouts.read_pattern_table(file)
    assert table.patterns == ("a", "b")
    assert (table.probs.tolist(), table.rates.tolist()) == ([0.125, 0.875], [0.9, 0.2])
    assert (table.samples, table.correct, table.note) == (None, None, "")
    file.write_text("pattern,probability,success_rate\na,0.125,0.9\nb,0.87,0.2\n")
    table = qra.rollouts.read_pattern_table(file)
    np.testing.assert_allclose(table.probs, np.array([0.125, 0.87]) / 0.995, rtol=1e-15)
    assert table.note == "probabilities summed to 0.995 and were renormalised"
    file.write_text("pattern,probability,success_rate\na,0.5,0.9\nb,0.25,0.2\na,0.25,0.2\n")
    with pytest.raises(ValueError, match=r"line 4: pattern must have a name of its own, got 'a'"):
        qra.rollouts.read_pattern_table(file)


NAMED = [
    ("n_rollouts", "n_correct"), ("n", "c"), ("k", "num_correct"), ("total", "successes"),
    ("num_samples", "correct"), ("n_samples", "passes"), ("attempts", "n_passed"),
]  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("samples", "right"), NAMED)
def test_counts_by_other_names(tmp_path, samples, right, ending):
    """Are read as counts, and that is said."""
    rows = [{"question": i, "pattern": "p", samples: 8, right: 3 * i} for i in range(3)]
    found = qra.read_rollouts(write(tmp_path / f"x.{ending}", rows))
    assert [table.tolist() for table in found.counts()] == [[[8]] * 3, [[0], [3], [6]]]
    assert found.notes == (f"read counts from {samples}, and of right ones {right}",)


def test_counts_that_are_none(tmp_path):
    """Rollouts that say beside each how many there are of the question stay rollouts."""
    rows = [{"question": 1, "pattern": "p", "correct": i > 2, "n": 8} for i in range(8)]
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows))
    assert found.correct.tolist() == [False] * 3 + [True] * 5
    both = [{**row, "n_rollouts": 8, "n_correct": 5} for row in rows]
    assert qra.read_rollouts(write(tmp_path / "x.jsonl", both)).correct.sum() == 5
    # 1 of 8 and 0 of 8, or a grade: said.
    bits = [{"question": i, "pattern": "p", "correct": i % 2, "n": 8} for i in range(4)]
    file = write(tmp_path / "x.csv", bits)
    found = qra.read_rollouts(file)
    assert len(found) == 4
    assert found.notes == (
        "each row is read as one rollout: --samples-field n would read n and correct as counts",
    )
    counted = qra.read_rollouts(file, fields=qra.rollouts.Fields(samples="n"))
    assert (len(counted), int(counted.counts()[1].sum())) == (32, 2)
    assert len(qra.read_rollouts(file, fields=qra.rollouts.Fields(samples=""))) == 4
    file = write(tmp_path / "y.csv", [{"question": 1, "n_rollouts": 8, "n_correct": 2}])
    with pytest.raises(ValueError, match=r"a table of counts, must have a pattern field, got ques"):
        qra.read_rollouts(file)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("samples", 10**400, "samples must be a whole number of at least 0, got 1000000000"),
        ("samples", True, "samples must be a number, got True"),
        ("samples", [4], "samples must be a number, got [4]"),
        ("samples", float("nan"), "samples must be a whole number of at least 0, got nan"),
        ("samples", float("inf"), "samples must be a whole number of at least 0, got inf"),
        ("samples", None, "samples must be a number, got None"),
        ("correct", {"a": 1}, "correct must be a number, got {'a': 1}"),
        ("correct", -(10**400), "correct must be a whole number of at least 0, got -100000000"),
        ("pattern", True, "pattern must be one text or number, got True"),
        ("pattern", ["p"], "pattern must be one text or number, got ['p']"),
        ("pattern", {"p": 1}, "pattern must be one text or number, got {'p': 1}"),
        ("pattern", float("nan"), "pattern must have a name, got nothing"),
        ("question", False, "question must be one text or number, got False"),
        ("question", None, "question must have a name, got nothing"),
        ("step", 10**400, "step must be a whole number, got 100000000"),
    ],
)
def test_counts_of_another_type(tmp_path, name, value, message):
    """One line, with the place."""
    row = {"question": "q", "pattern": "p", "samples": 4, "correct": 1, "step": 0}
    file = write(tmp_path / "x.jsonl", [row, {**row, "pattern": "r", name: value}])
    with pytest.raises(ValueError, match=r"x\.jsonl, line 2: ") as caught:
        qra.read_rollouts(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_names_of_counts_that_look_alike(tmp_path):
    """1, 1.0 and "1" are one name, and so one row too many."""
    row = {"samples": 4, "correct": 1}
    for first, second in ((1, "1"), (1.0, 1), ("1", 1.0)):
        rows = [{"pattern": first, **row}, {"pattern": second, **row}]
        with pytest.raises(ValueError, match="line 2: pattern must have a name of its own"):
            qra.read_rollouts(write(tmp_path / "x.jsonl", rows))


def test_an_empty_first_field_of_tabs(tmp_path):
    """Is a field, not white space before a comment."""
    file = tmp_path / "x.tsv"
    file.write_text("step\tquestion\tpattern\tcorrect\n\t#1\tp\t1\n7\t#2\tp\t0\n\t\t\t\n\n# c\n")
    found = qra.read_rollouts(file, fields=qra.rollouts.Fields(step=""))
    assert spelled(found) == [("#1", "p", True), ("#2", "p", False)]
    assert found.dropped == {"question missing": 1}
    assert found.notes == ("lines below the header that are comments (#): 1",)
    assert qra.read_rollouts(file).dropped == {"question missing": 1, "step missing": 1}
