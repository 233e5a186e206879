"""Rollouts: read back from every format, counted, and refused where they are wrong."""

import collections
import csv
import json
import re
import sys
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qra_jax as qra
from qra_jax.rollouts import _files

NAN, INF = float("nan"), float("inf")
RULES = """
default = "prose"
[[pattern]]
name = "python"
regex = "```python"
[[pattern]]
name = "steps"
regex = '(?m)^1\\. '
"""

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


def write(path, rows):
    """Rows of the same keys in the format that the ending of the name says."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            delimiter = {".csv": ",", ".tsv": "\t"}[path.suffix]
            # All quoted: an unquoted # at the begin of a line would make it a comment.
            writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
            writer.writerow(rows[0])
            writer.writerows([row[key] for key in rows[0]] for row in rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    return path


def nested(rows):
    """One row a question, everything else in lists."""
    grouped = {}
    for entry in rows:
        into = grouped.setdefault(entry["question"], {key: [] for key in entry})
        for key, value in entry.items():
            into[key].append(value)
    return [{**lists, "question": question} for question, lists in grouped.items()]


def spelled(rollouts):
    """Every rollout in words, `count` times."""
    columns = [[rollouts.questions[i] for i in rollouts.question]]
    columns.append([rollouts.patterns[i] for i in rollouts.pattern])
    columns.append(rollouts.correct.tolist())
    if rollouts.answer is not None:
        columns.append([None if i < 0 else rollouts.answers[i] for i in rollouts.answer])
    for array in (rollouts.confidence, rollouts.step):
        if array is not None:
            columns.append(array.tolist())
    entries = zip(*columns, strict=True)
    return [e for e, n in zip(entries, rollouts.count, strict=True) for _ in range(n)]


def assert_rows(found, expected):
    """The same rows in the same order; of long files it is the first other one that is shown."""
    pairs = enumerate(zip(found, expected, strict=False))
    assert next(((i, *pair) for i, pair in pairs if pair[0] != pair[1]), None) is None
    assert len(found) == len(expected)


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


def lm_eval(doc, texts, answer, score, kind="strict-match"):
    """As lm-evaluation-harness logs samples."""
    return {
        "doc_id": doc,
        "doc": {"question": "1+1?"},
        "target": "2",
        "resps": [texts],
        "filtered_resps": [answer],
        "filter": kind,
        "exact_match": score,
    }


HARNESSES = {
    "lm-evaluation-harness": (
        "jsonl",
        [
            lm_eval(0, ["1. so\n1. 2"], "2", 1.0),
            lm_eval(1, ["3"], "[invalid]", 0.0),
            lm_eval(0, ["1. so\n1. 2"], "2", 1.0, "flexible-extract"),
            lm_eval(1, ["3"], "3", 0.0, "flexible-extract"),
        ],
        [("0", "steps", True, "2"), ("1", "prose", False, "[invalid]")],
    ),
    "Qwen2.5-Math": (
        "jsonl",
        [
            {
                **{"idx": 3, "gt_cot": "so 2", "gt": "2", "solution": "so 2", "answer": "2"},
                **{"code": ["```python\n1+1", "2"], "pred": ["2", ""], "report": [None, None]},
                "score": [True, False],
            }
        ],
        [("3", "python", True, "2"), ("3", "prose", False, None)],
    ),
    "verl": (
        "jsonl",
        [
            {"input": "1+1?", "output": "2", "gts": "2", "score": 1.0, "step": 5, "acc": True},
            {"input": "1+1?", "output": "3", "gts": "2", "score": -1.0, "step": 5, "acc": False},
        ],
        [("1+1?", "prose", True, 5), ("1+1?", "prose", False, 5)],
    ),
    "TRL": (
        "parquet",
        [
            {"step": 1, "prompt": "1+1?", "completion": "1. 2", "reward": 1.0, "advantage": 0.5},
            {"step": 1, "prompt": "1+1?", "completion": "3", "reward": 0.0, "advantage": -0.5},
        ],
        [("1+1?", "steps", True, 1), ("1+1?", "prose", False, 1)],
    ),
    "Open R1": (
        "parquet",
        [
            {
                **{"problem": "1+1?", "answer": "2", "generations": ["2", "1. 3", "```python"]},
                "correctness_math_verify": [True, False, True],
            }
        ],
        [("1+1?", "prose", True), ("1+1?", "steps", False), ("1+1?", "python", True)],
    ),
}


@pytest.mark.parametrize("harness", HARNESSES)
def test_harness(tmp_path, harness):
    """What evaluation harnesses write is read without naming a field."""
    ending, rows, expected = HARNESSES[harness]
    (tmp_path / "rules.toml").write_text(RULES)
    file = write(tmp_path / f"x.{ending}", rows)
    found = qra.read_rollouts(file, rules=tmp_path / "rules.toml")
    assert spelled(found) == expected
    again = {"graded again by another filter": 2} if harness == "lm-evaluation-harness" else {}
    assert found.dropped == again
    assert found.notes[0].startswith("read ")


def test_choice_of_fields(tmp_path):
    """Fields that are named win; of the others the notes say what was taken and what was not."""
    row = {"id": "b", "idx": "a", "pattern": "p", "kind": "k", "score": 1, "ok": "no"}
    with pytest.raises(ValueError, match=r"field must not be given where rules .*, got 'kind'"):
        qra.read_rollouts(
            write(tmp_path / "x.jsonl", [row]),
            fields=qra.rollouts.Fields(pattern="kind"),
            rules="x.toml",
        )
    file = write(tmp_path / "x.jsonl", [row])
    found = qra.read_rollouts(file)
    assert spelled(found) == [("a", "p", True)]
    assert found.notes == ("read question from idx; correct from score",)
    fields = qra.rollouts.Fields(question="id", pattern="kind", correct="ok")
    found = qra.read_rollouts(file, fields=fields)
    assert spelled(found) == [("b", "k", False)]
    assert found.notes == ()
    file = write(tmp_path / "y.jsonl", [{**row, "question": "c", "acc": True}])
    expected = "read question from question (and not idx); correct from acc (and not score)"
    assert qra.read_rollouts(file).notes == (expected,)


def test_rules(tmp_path):
    """The first rule that is found wins; what no text matches is said; cut emoji do no harm."""
    (tmp_path / "rules.toml").write_text(RULES + '[[pattern]]\nname = "table"\nregex = "[|]--"\n')
    texts = ["so\n1. x", "1. x\n```python", "", None, "\ud83d 1. "]
    rows = [{"question": "q", "text": text, "correct": True, "pattern": "x"} for text in texts]
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows), rules=tmp_path / "rules.toml")
    assert [found.patterns[i] for i in found.pattern] == ["steps", "python", "prose", "prose"]
    assert found.dropped == {"text missing": 1}
    assert found.notes == ("no text is of pattern table",)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (None, "rules.toml must be a file that can be read, got: No such file"),
        ("default = prose", "rules.toml must be a TOML file, got: "),
        ('[[pattern]]\nname="a"\nregex="a"', "default must be a name, got nothing"),
        ('default = "a"', "pattern must be tables [[pattern]], got []"),
        ('default = "a"\npattern = 3', "pattern must be tables [[pattern]], got 3"),
        ('default = "a"\nrules = 3', "keys must be default and pattern, got rules"),
        (RULES + '[[pattern]]\nname = "x"', "pattern 3 must have name and regex, got name"),
        (RULES + '[[pattern]]\nname = ""\nregex = "a"', "pattern 3, name must be a name, got ''"),
        (RULES + '[[pattern]]\nname = "x"\nregex = 1', "pattern 3, regex must be a text, got 1"),
        (
            RULES + '[[pattern]]\nname = "x"\nregex = "(?=a)"',
            "pattern 3, regex must be a regular expression of Rust's regex, got '(?=a)' "
            "(look-around, including look-ahead and look-behind, is not supported)",
        ),
        (RULES + '[[pattern]]\nname = "x"\nregex = "a("', "got 'a(' (unclosed group)"),
    ],
)
def test_bad_rules(tmp_path, rules, message):
    """One line that says what is wrong."""
    if rules is not None:
        (tmp_path / "rules.toml").write_text(rules)
    file = write(tmp_path / "x.jsonl", [{"question": 1, "text": "a", "correct": 1}])
    with pytest.raises(ValueError, match=r"rules\.toml") as caught:
        qra.read_rollouts(file, rules=tmp_path / "rules.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


HEAD = "question,pattern,correct\n"
GOOD = b'{"question": 1, "pattern": "a", "correct": true}\n'
# Ending, content (None: no file), fields, what the message must contain.
BAD = {
    "no file": ("csv", None, {}, "must be a file that can be read, got: No such file"),
    "other ending": ("txt", b"a", {}, "must end in one of .csv, .tsv, .jsonl"),
    "empty file": ("jsonl", b"", {}, "must hold rows, got an empty file"),
    "empty lines": ("jsonl", b"\n \n", {}, "must hold JSON objects, one a line, got an empty file"),
    "no header": ("csv", b"# nothing\n\n", {}, "must hold a header and rows, got an empty file"),
    "no rows": ("csv", HEAD, {}, "must hold rollouts, got none"),
    "binary CSV": ("csv", b"\0\1\2", {}, "line 1: the text must be UTF-8, got binary data"),
    "binary Parquet": ("parquet", b"\0\1\2", {}, "must be a Parquet file, got: "),
    "cut Parquet": ("parquet", b"PAR1" + bytes(99), {}, "must be a Parquet file, got: "),
    "Latin-1 CSV": (
        "csv",
        HEAD.encode() + b"\xe9",
        {},
        "line 2: the text must be UTF-8",
    ),
    "mixed encodings": ("jsonl", GOOD * 3 + b'{"question": "\xe9"}', {}, "line 4: the text must"),
    "missing question": ("csv", "pattern,correct\na,1\n", {}, "question field, got pattern, corr"),
    "missing pattern": (
        *("csv", "question,correct\na,1\n", {}),
        "must have a pattern field, or rules assign patterns, got question, correct",
    ),
    "missing grades": ("csv", "question,pattern\na,1\n", {}, "must have a correct field, got"),
    "unknown field": (
        *("csv", HEAD + "a,b,1\n", {"answer": "answers"}),
        "the answer field must be in x.csv, which has question, pattern, correct, got 'answers'",
    ),
    "shares": (
        "csv",
        "pattern,probability,success_rate\na,1,1\n",
        {},
        "stated shares: read_pattern_table",
    ),
    "same column twice": (
        "csv",
        "a,b,a\n1,2,3\n",
        {},
        "line 1: columns must be all different",
    ),
    "short row": ("csv", HEAD + "#\na,b,1\na,b\n", {}, "line 4: a row must have 3 fields, got 2"),
    "open quote": ("csv", HEAD + 'a,b,1\n"a,b\n,1\n', {}, "line 3: the row must be comma-sep"),
    "truncated JSON": (
        *("jsonl", GOOD + GOOD[:30], {}),
        'line 2: the line must be one whole JSON object, got \'{"question": 1',
    ),
    "JSON array": ("json", b"[\n{}\n]", {}, "line 1: the line must be one whole JSON object, got"),
    "JSON number": ("json", b"3", {}, "line 1: the line must be one JSON object, got '3'"),
    "deep JSON": ("json", b"[" * 100_000, {}, "line 1: the line must be one whole JSON object"),
    "grade in words": (
        *("csv", HEAD + "#\na,b,1\na,b,maybe\n", {}),
        "line 4: correct must be true or false (or 1 or 0, yes or no), got 'maybe'",
    ),
    "grade between": (
        *("jsonl", b'{"question": 1, "pattern": 2, "score": 0.5}', {}),
        "line 1: correct (score) must be true or false (or 1 or 0, yes or no), got 0.5",
    ),
    "grade is an object": (
        *("jsonl", b'{"question": 1, "pattern": 2, "correct": {}}', {}),
        "line 1: correct must be true or false",
    ),
    "question is an object": (
        *("jsonl", b'{"question": {"a": 1}, "pattern": 2, "correct": 1}', {}),
        "line 1: question must be one text or number, got {'a': 1}",
    ),
    "confidence in words": (
        *("csv", "question,pattern,correct,confidence\na,b,1,high\n", {}),
        "line 2: confidence must be a number, got 'high'",
    ),
    "confidence never finite": (
        *("csv", "question,pattern,correct,c\na,b,1,inf\na,b,1,\n", {"confidence": "c"}),
        "confidence (c) must hold finite numbers, got none",
    ),
    "step between": (
        *("csv", "question,pattern,correct,step\na,b,1,0.5\n", {}),
        "line 2: step must be a whole number, got '0.5'",
    ),
    "lists of other lengths": (
        *("jsonl", GOOD + b'{"question": 1, "pattern": ["a"], "correct": [true, false]}', {}),
        "line 2: pattern must be a list of 2, as correct is, got a list of 1",
    ),
    "one grade for a list": (
        *("jsonl", b'{"question": 1, "pattern": ["a", "b"], "correct": true}', {}),
        "line 1: pattern must hold one value, as correct does, got a list of 2",
    ),
    "one confidence for a list": (
        *("jsonl", b'{"question": 1, "pattern": "a", "correct": [1, 0], "confidence": -1}', {}),
        "line 1: confidence must be a list of 2, as correct is, got one value",
    ),
    "nothing whole": (
        *("jsonl", b'{"question": 1, "pattern": "a", "correct": null}\n' * 2, {}),
        "must hold rollouts, got none of them whole (correct missing: 2)",
    ),
    "count above samples": (
        *("csv", "pattern,samples,correct\na,5,6\n", {}),
        "line 2: correct must be at most samples = 5, got 6",
    ),
    "half a sample": (
        *("jsonl", b'{"pattern": "a", "samples": 1.5, "correct": 1}', {}),
        "line 1: samples must be a whole number of at least 0, got 1.5",
    ),
    "no samples": ("csv", "pattern,samples,correct\na,0,0\n", {}, "samples must not all be 0"),
    "counted twice": (
        *("csv", "pattern,samples,correct\na,1,0\na,1,1\n", {}),
        "line 3: pattern must have a name of its own, got 'a' again",
    ),
    "step beyond integers": (
        *("jsonl", b'{"question": 1, "pattern": 2, "correct": 1, "step": 1e300}', {}),
        "line 1: step must be a whole number, got 1e+300",
    ),
    "counted step beyond integers": (
        *("csv", "pattern,step,samples,correct\na,1e300,5,1\n", {}),
        "line 2: step must be a whole number, got 1e300",
    ),
    "confidence of counts": (
        *("csv", "pattern,samples,correct,c\na,5,1,0\n", {"confidence": "c"}),
        "the confidence field must not be given for x.csv, a table of counts, got 'c'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(tmp_path, monkeypatch, case):
    """One line that names the file, where in it, what it must be and what it was."""
    ending, content, fields, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"x.{ending}"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=rf"x\.{ending}") as caught:
        qra.read_rollouts(file.name, fields=qra.rollouts.Fields(**fields))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


SCRAPS = (b'"', b"[", b"]", b"{", b"}", b",", b"\n", b"\r", b"#", b"\0", b"\xe9", b"null", b"NaN")
WHOLE = [
    {"question": q, "pattern": "ab"[q % 2], "correct": q > 1, "confidence": -0.5 * q, "step": q}
    for q in range(4)
]


@given(
    st.sampled_from(["csv", "jsonl", "nested.jsonl", "parquet"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.sampled_from(SCRAPS)), max_size=3),
)
def test_damage_is_told_in_one_line(tmp_path_factory, ending, damages):
    """Whatever is cut out or put in: a `ValueError` of one line, or rollouts, among them those of
    every line that is whole."""
    file = tmp_path_factory.mktemp("damaged") / f"x.{ending}"
    written = write(file, nested(WHOLE) if "nested" in ending else WHOLE).read_bytes()
    written = written.replace(b"\r\n", b"\n")
    raw = bytearray(written)
    for where, length, scrap in damages:
        start = int(where * len(raw))
        raw[start : start + length] = scrap
    file.write_bytes(raw)
    try:
        message, found = "", qra.read_rollouts(file)
    except ValueError as error:
        message, found = str(error), None
    assert "\n" not in message
    if found is None:
        assert str(file) in message
        return
    rollouts = spelled(found)
    assert len(rollouts) > 0
    if ending == "parquet":  # a value in it may become another one, which nothing tells
        return
    # A line that is whole is read as it was written, wherever the damage is.
    lines, left = written.splitlines(), set(bytes(raw).split(b"\n"))
    whole = [entry for entry, line in zip(WHOLE, lines[-len(WHOLE) :], strict=True) if line in left]
    width = 5 if ending != "csv" or lines[0] in left else 3
    expected = [(str(entry["question"]), *list(entry.values())[1:]) for entry in whole]
    order = iter(rollouts)
    assert all(any(e[:width] == r[:width] for r in order) for e in expected)
    if ending != "csv":
        lines = [line for line in raw.split(b"\n") if line.strip()]
        assert len(rollouts) + sum(found.dropped.values()) == len(lines)


def test_endings_of_json_lines(tmp_path):
    """Three names of one format, in letters of either size."""
    rows = [{"question": "a", "pattern": "p", "correct": c} for c in (True, False)]
    file = write(tmp_path / "x.jsonl", rows)
    for ending in ("ndjson", "json", "JSONL"):
        file = file.rename(tmp_path / f"x.{ending}")
        assert spelled(qra.read_rollouts(file)) == [("a", "p", True), ("a", "p", False)]


def test_folder(tmp_path):
    """A folder is not a file."""
    with pytest.raises(ValueError, match=r"must be a file that can be read, got: Is a directory"):
        qra.read_rollouts(tmp_path)


def test_bad_parquet_row(tmp_path):
    """In Parquet it is the row that is named; a column of lists of numbers is no text."""
    rows = [{"question": "a", "pattern": "p", "correct": 1}] * 3
    file = write(tmp_path / "x.parquet", [*rows, {**rows[0], "correct": 2}])
    with pytest.raises(ValueError, match=r"x\.parquet, row 4: correct must be .*, got 2$"):
        qra.read_rollouts(file)


def test_dropped_rows_are_counted(tmp_path):
    """Every row is either kept or counted under the first thing it lacks."""
    whole = {"question": "a", "pattern": "p", "correct": True, "confidence": -1.0, "step": 1}
    lacking = [
        ("question", None, "question missing"),
        ("question", " ", "question missing"),
        ("pattern", None, "pattern missing"),
        ("correct", None, "correct missing"),
        ("correct", NAN, "correct missing"),
        ("confidence", NAN, "confidence missing or not finite"),
        ("confidence", -INF, "confidence missing or not finite"),
        ("confidence", None, "confidence missing or not finite"),
        ("step", None, "step missing"),
    ]
    rows = [whole, *({**whole, key: value} for key, value, _ in lacking), whole]
    expected = collections.Counter(reason for _, _, reason in lacking)
    # Two, three and all of them: once, for what is looked for first.
    for lost in (
        ("question", "step"),
        ("pattern", "correct"),
        ("pattern", "confidence", "step"),
        ("correct", "confidence"),
        ("confidence", "step"),
        ("question", "pattern", "correct", "confidence", "step"),
    ):
        rows.insert(3, {**whole, **dict.fromkeys(lost)})
    expected += collections.Counter(
        {
            "question missing": 2,
            "pattern missing": 2,
            "correct missing": 1,
            "step missing": 1,
        }
    )
    for ending in ("jsonl", "csv"):
        found = qra.read_rollouts(write(tmp_path / f"x.{ending}", rows))
        assert spelled(found) == [("a", "p", True, -1.0, 1)] * 2
        assert found.dropped == expected
        assert len(found) + sum(found.dropped.values()) == len(rows)


def test_dropped_rows_of_lists(tmp_path):
    """Questions without rollouts and without grades, in files of lists."""
    rows = [
        {"question": "a", "pattern": ["p", "q", "p"], "correct": [True, None, False]},
        {"question": "b", "pattern": [], "correct": []},
        {"question": "c", "pattern": ["p", "q"], "correct": None},
        {"question": "d", "pattern": "p", "correct": [True, True]},
    ]
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows))
    kept = [("a", "p", True), ("a", "p", False), ("d", "p", True), ("d", "p", True)]
    assert spelled(found) == kept
    assert found.dropped == {"no rollouts of the question": 1, "correct missing": 3}
    assert found.questions == ("a", "d")
    assert found.patterns == ("p",)


def test_confidence_of_nothing_is_not_read(tmp_path):
    """A field of confidence that nobody named and that is empty does not cost the rows."""
    rows = [{"question": "a", "pattern": "p", "correct": 1, "confidence": None}] * 2
    found = qra.read_rollouts(write(tmp_path / "x.csv", rows))
    assert found.confidence is None
    assert found.dropped == {}
    assert found.notes == ("confidence holds no finite number and was not read",)


def test_reference_answer_is_not_an_answer(tmp_path):
    """An answer that is one for right and wrong rollouts alike is that of the solution."""
    rows = [{"question": "a", "pattern": "p", "correct": c, "answer": "4"} for c in (0, 1)]
    found = qra.read_rollouts(write(tmp_path / "x.csv", rows))
    assert found.answer is None
    assert "the reference" in found.notes[0]
    named = qra.read_rollouts(tmp_path / "x.csv", fields=qra.rollouts.Fields(answer="answer"))
    assert named.answers == ("4",)
    without = qra.read_rollouts(tmp_path / "x.csv", fields=qra.rollouts.Fields(answer=""))
    assert without.answer is None
    assert without.notes == ()


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
    file.write_text(HEAD + "a,b,1\n", encoding="utf-8-sig")
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


def rollouts(**changes):
    """Two rollouts, with changes."""
    given = {"questions": ("q",), "patterns": ("a", "b"), "question": [0, 0], "pattern": [0, 1]}
    given |= {"correct": [True, False]} | changes
    arrays = ("question", "pattern", "correct", "count", "confidence", "answer", "step")
    return qra.Rollouts(**{k: np.array(v) if k in arrays else v for k, v in given.items()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": [0, 1]}, "question must lie in [0, 0], got question[1] = 1"),
        ({"pattern": [-1, 0]}, "pattern must lie in [0, 1], got pattern[0] = -1"),
        ({"pattern": [0]}, "pattern must have shape (2,), got (1,)"),
        ({"pattern": [0.5, 1.0]}, "pattern must be of type int32, got float64"),
        ({"question": [[0, 0]]}, "question must have shape (N,), got (1, 2)"),
        ({"patterns": ("a", "a")}, "patterns must be all different"),
        ({"count": [1, 0]}, "count must be at least 1, got count[1] = 0"),
        ({"confidence": [0.5, NAN]}, "confidence must be finite, got confidence[1] = nan"),
        ({"answer": [0, -1]}, "answer must lie in [-1, -1], got answer[0] = 0"),
    ],
)
def test_bad_rollouts(changes, message):
    """Checked at construction."""
    with pytest.raises(ValueError, match="must") as caught:
        rollouts(**changes)
    assert message in str(caught.value)


def test_rollouts_cannot_change():
    """Nor can their arrays; without steps all are of the base model."""
    found = rollouts()
    with pytest.raises(ValueError, match="read-only"):
        found.correct[0] = False
    assert found.base_model() is found
    assert found.steps == ()
    assert repr(found) == "Rollouts(2 of 1 questions, 2 patterns)"
    assert [table.tolist() for table in found.counts()] == [[[1, 1]], [[1, 0]]]


def test_rollouts_that_stand_for_several():
    """Rows of unequal counts; a question and a pattern without rows; steps in no order."""
    found = qra.Rollouts(
        ("q0", "none", "q2"),
        ("a", "never", "c"),
        question=np.array([0, 2, 0, 2, 0]),
        pattern=np.array([0, 2, 2, 2, 0]),
        correct=np.array([True, False, True, True, False]),
        count=np.array([3, 1, 5, 7, 11]),
        confidence=np.array([-1.0, -2.0, -3.0, -4.0, -5.0]),
        answer=np.array([1, -1, 0, 1, 0]),
        answers=("x", "y"),
        step=np.array([8, -2, 8, 5, -2]),
        dropped={"pattern missing": 4},
        notes=("a note",),
    )
    samples, correct = found.counts()
    assert samples.tolist() == [[14, 0, 5], [0, 0, 0], [0, 0, 8]]
    assert correct.tolist() == [[3, 0, 5], [0, 0, 0], [0, 0, 7]]
    assert found.samples_per_question().tolist() == [19, 0, 8]
    assert (len(found), found.steps) == (27, (-2, 5, 8))
    assert repr(found) == "Rollouts(27 of 3 questions, 3 patterns)"
    base, last = found.base_model(), found.at_step(8)
    assert sorted(set(spelled(base))) == [
        ("q0", "a", False, "x", -5.0, -2),
        ("q2", "c", False, None, -2.0, -2),
    ]
    assert sorted(set(spelled(last))) == [
        ("q0", "a", True, "y", -1.0, 8),
        ("q0", "c", True, "x", -3.0, 8),
    ]
    assert base.count.tolist() == [1, 11]
    assert base.samples_per_question().tolist() == [11, 0, 1]
    assert last.counts()[0].tolist() == [[3, 0, 5], [0, 0, 0], [0, 0, 0]]
    for part in (base, last):
        assert (part.questions, part.patterns) == (found.questions, found.patterns)
        assert (part.dropped, part.notes) == (found.dropped, found.notes)


# Longer than two blocks of 4,096 rows, and of 512, and a part of one; what comes first is not
# what there is most of, and no two rows are the same.
MANY = [
    {
        "question": f"q{i // 2}",
        "pattern": "late" if i > 3000 else ("first", "second")[i % 3 == 1],
        "correct": i % 5 == 2,
        "answer": f"a{i % 7}",
        "confidence": -0.25 * i,
        "step": 10 * (i % 4) - 10,
    }
    for i in range(2 * 4096 + 700)
]
# Rows to spoil, from 0: in the second block of each kind, and far down.
FAR = (512, 4096, 2 * 4096 + 600)


def write_many(path, rows):
    """As `write`; in JSON lines so much beside it that there are more than two blocks of 4 MB."""
    if path.suffix != ".jsonl":
        return write(path, rows)
    path.write_text("".join(json.dumps({**row, "log": "x" * 1200}) + "\n" for row in rows))
    assert path.stat().st_size > 2.5 * (1 << 22)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_files_longer_than_blocks(tmp_path, ending):
    """Every row of them, once and in its place; patterns in the order of all their counts."""
    found = qra.read_rollouts(write_many(tmp_path / f"x.{ending}", MANY))
    assert_rows(spelled(found), [tuple(entry.values()) for entry in MANY])
    assert found.patterns == ("late", "first", "second")
    assert found.answers == tuple(f"a{i}" for i in range(7))
    assert found.steps == (-10, 0, 10, 20)
    assert found.dropped == {}


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_places_in_files_longer_than_blocks(tmp_path, ending):
    """The line (of Parquet the row) of a fault, and how much was left out, in every block."""
    rows = [dict(entry) for entry in MANY]
    for at in FAR:
        rows[at - 1] |= {"pattern": None, "step": None}
    rows[FAR[-1] + 3]["question"] = None
    file = write_many(tmp_path / f"x.{ending}", rows)
    found = qra.read_rollouts(file)
    assert found.dropped == {"pattern missing": len(FAR), "question missing": 1}
    left = [tuple(entry.values()) for entry in rows if entry["pattern"] and entry["question"]]
    assert_rows(spelled(found), left)
    unit, header = {"parquet": ("row", 0), "jsonl": ("line", 0)}.get(ending, ("line", 1))
    for at in FAR:
        spoilt = [*MANY[:at], {**MANY[at], "step": 0.5}, *MANY[at + 1 :]]
        file = write_many(tmp_path / f"y.{ending}", spoilt)
        place = f"{file}, {unit} {at + 1 + header}: step must be a whole number, got "
        with pytest.raises(ValueError, match=f"^{re.escape(place)}'?0.5'?$"):
            qra.read_rollouts(file)


@pytest.mark.parametrize("at", [512, 1100])
def test_lines_of_long_files_are_those_of_an_editor(tmp_path, at):
    """Comments, empty lines and texts of several lines count too; so do wrong bytes."""
    head, line = "question,pattern,correct,text\n", 'q{0},p,1,"{0}\n# not one\n"\n'
    between = "# a comment\n\n"
    parts = [line.format(i) + between * (i % 100 == 7) for i in range(at)]
    before = head + "".join(parts)
    lines = before.count("\n")
    file = tmp_path / "x.csv"
    comments = "lines below the header that are comments (#): "
    for bad, place, message in (
        ("q,p,2,x\n", 1, "correct must be true or false (or 1 or 0, yes or no), got '2'"),
        ("q,p,1\n", 1, "a row must have 4 fields, got 3"),
        ('q,p,1,"a\nb\n', 1, "the row must be comma-separated values"),
        ('q,p,1,"a\nb\n\xe9"\n', 3, "the text must be UTF-8, got the byte 0xe9"),
        ('q,p,1,"a\n\0"\n', 2, "the text must be UTF-8, got binary data"),
    ):
        file.write_bytes((before + bad).encode("latin-1"))
        with pytest.raises(ValueError, match="must") as caught:
            qra.read_rollouts(file)
        assert str(caught.value).startswith(f"{file}, line {lines + place}: {message}")
    file.write_text(before)
    found = qra.read_rollouts(file)
    assert found.notes == (f"{comments}{sum(i % 100 == 7 for i in range(at))}",)
    assert found.questions == tuple(f"q{i}" for i in range(at))
    # JSON lines, some of them empty.
    good = [
        f'{{"question": {i}, "pattern": 1, "correct": 1}}' + "\n \n" * (i % 3) for i in range(at)
    ]
    good = "\n".join(good) + "\n"
    file = tmp_path / "x.jsonl"
    for bad, message in (
        ("[1]\n", "the line must be one JSON object, got '[1]'"),
        ("{\n", "the line must be one whole JSON object, got '{'"),
        ('{"question": "\xe9"}\n', "the text must be UTF-8, got the byte 0xe9"),
    ):
        file.write_bytes((good + bad).encode("latin-1"))
        with pytest.raises(ValueError, match="must") as caught:
            qra.read_rollouts(file)
        number = good.count("\n") + 1
        assert str(caught.value).startswith(f"{file}, line {number}: {message}")


def test_long_files_of_lists(tmp_path):
    """Rows of several rollouts each: all of them, and the row of a fault, not the rollout."""
    lengths = [1 + i % 3 for i in range(1300)]
    rows = [
        {
            "question": i,
            "pattern": [f"p{i % 5}"] * n,
            "correct": [(i + j) % 4 == 0 for j in range(n)],
            "confidence": [-float(i), -0.5, -0.25][:n],
        }
        for i, n in enumerate(lengths)
    ]
    expected = [
        (str(row["question"]), *each)
        for row in rows
        for each in zip(row["pattern"], row["correct"], row["confidence"], strict=True)
    ]
    for ending, unit in (("jsonl", "line"), ("parquet", "row")):
        found = qra.read_rollouts(write(tmp_path / f"x.{ending}", rows))
        assert_rows(spelled(found), expected)
        spoilt = [*rows[:1200], {**rows[1200], "pattern": ["a"] * 9}]
        file = write(tmp_path / f"y.{ending}", spoilt)
        message = (
            f"{file}, {unit} 1201: pattern must be a list of 1, as correct is, got a list of 9"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            qra.read_rollouts(file)


def test_what_is_known_of_a_file_is_of_all_its_blocks(tmp_path):
    """Rules, filters, reference answers and columns beyond the first block."""
    (tmp_path / "rules.toml").write_text(RULES)
    texts = ["so", "1. so\n", "```python"]
    rows = [lm_eval(i, [texts[i % 3 if i > 600 else 0]], "2", i % 2) for i in range(1300)]
    rows += [lm_eval(i, ["1. x"], "3", 1, "flexible-extract") for i in range(1300)]
    found = qra.read_rollouts(write(tmp_path / "x.jsonl", rows), rules=tmp_path / "rules.toml")
    names = ["prose", "steps", "python"]
    expected = [(str(i), names[i % 3 if i > 600 else 0], i % 2 == 1, "2") for i in range(1300)]
    assert_rows(spelled(found), expected)
    assert found.dropped == {"graded again by another filter": 1300}
    assert found.notes == (
        "read question from doc_id; correct from exact_match; text from resps; "
        "answer from filtered_resps",
    )
    # Of a pattern that first occurs late, nothing is said; of one that never does, it is.
    few = qra.read_rollouts(write(tmp_path / "y.jsonl", rows[:600]), rules=tmp_path / "rules.toml")
    assert few.notes[-1] == "no text is of pattern python, steps"
    # One answer for a question, up to the last row.
    same = [
        {"question": i % 3, "pattern": "p", "correct": i % 2, "answer": i % 3} for i in range(999)
    ]
    assert qra.read_rollouts(write(tmp_path / "a.jsonl", same)).answer is None
    same[-1]["answer"] = 9
    found = qra.read_rollouts(write(tmp_path / "a.jsonl", same))
    assert found.answers == ("0", "1", "2", "9")
    # A field that most lines lack.
    late = [{"question": i, "pattern": "p", "correct": 1} for i in range(700)]
    late[650] |= {"step": 4, "confidence": -2}
    found = qra.read_rollouts(write(tmp_path / "b.jsonl", late))
    assert spelled(found) == [("650", "p", True, -2.0, 4)]
    assert found.dropped == {"step missing": 699}


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


# As the documentation lists them, the first first.
NAMES = {
    "question": "question question_id problem_id prompt_id problem prompt doc_id task_id idx input",
    "pattern": "pattern",
    "correct": "correct is_correct passed acc score exact_match reward symbolic_correct "
    "correctness_math_verify",
    "text": "text response responses completion completions generation generations output outputs "
    "resps code",
    "answer": "pred prediction predicted_answer extracted_answer model_answer filtered_resps "
    "answer",
    "confidence": "confidence self_certainty mean_logprob mean_log_prob avg_logprob",
    "step": "step global_step training_step",
}


def taken(row, **options):
    """What each role was read as, of a file of one row."""
    found = qra.read_rollouts(row, **options)
    return {
        "question": found.questions[0],
        "pattern": found.patterns[0],
        "correct": bool(found.correct[0]),
        "answer": None if found.answer is None else found.answers[0],
        "confidence": None if found.confidence is None else float(found.confidence[0]),
        "step": None if found.step is None else int(found.step[0]),
    }


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


def test_fields_of_json_lines_are_those_of_4_mb(tmp_path):
    """One that occurs first a little before that is found, one a little after is not."""
    file = tmp_path / "x.jsonl"
    length, block = 10_000, 1 << 22
    row = {"question": "q", "pattern": "p", "correct": True, "beside": "." * length}
    number = block // length + 20
    for at, found in ((number - 60, True), (number - 1, False)):
        rows = [json.dumps({**row, **({"confidence": 0.5} if i == at else {})})
                for i in range(number)]  # fmt: skip
        file.write_text("\n".join(rows))
        some = qra.read_rollouts(file)
        assert (some.confidence is not None) == found


@pytest.mark.parametrize("role", NAMES)
def test_every_common_name(tmp_path, role):
    """Each is found, those before it in the list first, and left out where another is asked for."""
    (tmp_path / "rules.toml").write_text('default="t0"\n' + "".join(
        f'[[pattern]]\nname = "t{i}"\nregex = "^x{i}$"\n' for i in range(1, 12)
    ))  # fmt: skip
    by_rules = {"rules": tmp_path / "rules.toml"} if role == "text" else {}
    plain = {"question": "q", "pattern": "p", "correct": True}
    values = {
        "question": lambda i: f"q{i}",
        "pattern": lambda i: f"p{i}",
        "correct": lambda i: i == 0,
        "text": lambda i: f"x{i}",
        "answer": lambda i: f"a{i}",
        "confidence": lambda i: -1.0 - i,
        "step": lambda i: i + 1,
    }[role]
    names, shown = NAMES[role].split(), "pattern" if role == "text" else role
    others = {key: value for key, value in plain.items() if key != role}
    for first, name in enumerate(names):
        # Numbered from the first that is there, so that another one's value is seen.
        row = {key: values(i) for i, key in enumerate(names[first:])}
        file = write(tmp_path / "x.jsonl", [dict(reversed((others | row).items()))])
        expected = f"t{0}" if role == "text" else values(0)
        assert taken(file, **by_rules)[shown] == expected, name
        if first:
            # By its name, whatever else there is.
            row = {key: values(int(key != name)) for key in names}
            write(file, [others | row])
            fields = qra.rollouts.Fields(**{role: name})
            assert taken(file, fields=fields, **by_rules)[shown] == expected, name
            assert qra.read_rollouts(file, fields=fields, **by_rules).notes[:1] in (
                (), ("no text is of pattern " + ", ".join(f"t{i}" for i in range(1, 12)),)
            )  # fmt: skip
    if role in ("answer", "confidence", "step"):
        found = taken(file, fields=qra.rollouts.Fields(**{role: ""}))
        assert found[role] is None
        assert found["question"] == "q"
    elif role != "text":
        with pytest.raises(ValueError, match=f"must have a {role} field"):
            qra.read_rollouts(file, fields=qra.rollouts.Fields(**{role: ""}))
