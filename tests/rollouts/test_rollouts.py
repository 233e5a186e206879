"""Rollouts: read back from every format, counted, and refused where they are wrong."""

import collections
import csv
import json
import math
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qra_jax as qra

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


@given(st.lists(row, min_size=1, max_size=12), st.sampled_from(sorted(WRITTEN)))
def test_every_format_agrees(tmp_path_factory, rows, style):
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
    """Whatever is cut out or put in: rollouts, or a `ValueError` of one line."""
    file = tmp_path_factory.mktemp("damaged") / f"x.{ending}"
    raw = bytearray(write(file, nested(WHOLE) if "nested" in ending else WHOLE).read_bytes())
    for where, length, scrap in damages:
        start = int(where * len(raw))
        raw[start : start + length] = scrap
    file.write_bytes(raw)
    try:
        message, number = "", len(qra.read_rollouts(file))
    except ValueError as error:
        message, number = str(error), 0
    assert number > 0 or str(file) in message
    assert "\n" not in message


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
    expected = dict(collections.Counter(reason for _, _, reason in lacking))
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
    assert math.isclose(found.counts()[0].sum(), 2)
