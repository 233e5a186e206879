"""CSV, JSON lines and Parquet: the same rows from each."""

import collections
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qra_jax as qra
from qra_jax.rollouts import _files

from .._support.rollout_files import RULES, nested, spelled, write

name = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6)
name = name.map(str.strip).filter(bool)


row = st.fixed_dictionaries(
    {
        "question": st.sampled_from(["q1", "7", "a, b", "#", 'x"\ny']) | name,
        "pattern": st.sampled_from(["prose", "python", "steps"]) | name,
        "correct": st.booleans(),
        "answer": st.none() | st.sampled_from(["42", "-1"]) | name,
        "confidence": st.floats(-30, 0),
        "step": st.integers(0, 10**12),
    }
)


WRITTEN = {
    "booleans": (False, True),
    "numbers": (0, 1),
    "floats": (0.0, 1.0),
    "words": ("no", "Yes"),
    "capitals": ("False", "TRUE"),
}


# Sizes of the blocks that files are read in: those in use, and some that a dozen rows exceed.
BLOCKS = [{"ROWS": 512}, {"BYTES": 150, "ROWS": 2, "PARQUET_ROWS": 5}]


@given(
    st.lists(row, min_size=1, max_size=12),
    st.sampled_from(sorted(WRITTEN)),
    st.sampled_from(BLOCKS),
)
def test_every_format_agrees(tmp_path_factory, rows, style, blocks):
    """The same rows, in their order, from every format, and from lists exploded together."""
    folder = tmp_path_factory.mktemp("formats")
    words = [{**entry, "correct": WRITTEN[style][entry["correct"]]} for entry in rows]
    answered = any(entry["answer"] is not None for entry in rows)
    order = list(dict.fromkeys(entry["question"] for entry in rows))
    keys = ("question", "pattern", "correct", *(["answer"] if answered else []))
    keys += ("confidence", "step")
    expected = [tuple(entry[key] for key in keys) for entry in rows]
    tally = collections.Counter((e["question"], e["pattern"]) for e in rows)
    right = collections.Counter((e["question"], e["pattern"]) for e in rows if e["correct"])
    fields = qra.rollouts.Fields(
        answer="answer"
    )  # by name, as any answer may look like the reference
    for ending, listed in [(e, x) for e in ("csv", "tsv", "jsonl", "parquet") for x in (0, 1)]:
        if listed and ending in ("csv", "tsv"):
            continue
        file = write(folder / f"{listed}.{ending}", nested(words) if listed else words)
        with mock.patch.multiple(_files, **blocks):
            found = qra.read_rollouts(file, fields=fields)
        if listed:
            assert spelled(found) == sorted(expected, key=lambda e: order.index(e[0]))
        else:
            assert spelled(found) == expected
        assert len(found) == len(rows)
        assert found.dropped == {}
        assert found.questions == tuple(order)
        samples, correct = found.counts()
        for (q, p), number in np.ndenumerate(samples):
            key = found.questions[q], found.patterns[p]
            assert (number, correct[q, p]) == (tally[key], right[key])
        assert (np.diff(samples.sum(axis=0)) <= 0).all()
        assert np.array_equal(found.samples_per_question(), samples.sum(axis=1))


def test_endings_of_json_lines(tmp_path):
    """Three names of one format, in letters of either size."""
    rows = [{"question": "a", "pattern": "p", "correct": c} for c in (True, False)]
    file = write(tmp_path / "x.jsonl", rows)
    for ending in ("ndjson", "json", "JSONL"):
        file = file.rename(tmp_path / f"x.{ending}")
        assert spelled(qra.read_rollouts(file)) == [("a", "p", True), ("a", "p", False)]


def test_comments_are_outside_quotes(tmp_path):
    """A heading within a quoted text is text; a comment between rows is one, and is told."""
    (tmp_path / "rules.toml").write_text('default="x"\n[[pattern]]\nname="h"\nregex="(?m)^# Sol"')
    file = tmp_path / "x.csv"
    file.write_text('# one\nquestion,text,correct\n1,"so\n# Sol\n\n2",1\n  # two\n2,b,0\n')
    found = qra.read_rollouts(file, rules=tmp_path / "rules.toml")
    assert spelled(found) == [("1", "h", True), ("2", "x", False)]
    assert found.notes == ("lines below the header that are comments (#): 1",)


def test_byte_order_mark(tmp_path):
    """As spreadsheets write it."""
    file = tmp_path / "x.csv"
    file.write_text("question,pattern,correct\na,b,1\n", encoding="utf-8-sig")
    assert qra.read_rollouts(file).questions == ("a",)


def test_extreme_data_is_data(tmp_path):
    """One pattern, no correct sample, 10,000 patterns."""
    rows = [{"question": i % 7, "pattern": f"p{i}", "correct": False} for i in range(10_000)]
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows))
    samples, correct = found.counts()
    assert samples.shape == (7, 10_000)
    assert samples.sum() == 10_000
    assert correct.sum() == 0
    one = qra.read_rollouts(write(tmp_path / "y.jsonl", rows[:1]))
    assert one.counts()[0].tolist() == [[1]]


def test_without_polars(tmp_path, monkeypatch):
    """CSV and JSON lines need no extra; for the rest the error names it."""
    rows = [{"question": "a", "pattern": "p", "text": "t", "correct": True}]
    parquet = write(tmp_path / "x.parquet", rows)
    (tmp_path / "rules.toml").write_text(RULES)
    monkeypatch.setitem(sys.modules, "polars", None)
    for ending in ("csv", "jsonl"):
        assert len(qra.read_rollouts(write(tmp_path / f"x.{ending}", rows))) == 1
    for file, rules in ((parquet, None), (tmp_path / "x.csv", tmp_path / "rules.toml")):
        with pytest.raises(ImportError, match=r"pip install 'qra-jax\[report\]'"):
            qra.read_rollouts(file, rules=rules)
