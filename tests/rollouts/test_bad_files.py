"""What cannot be read is told in one line."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qra_jax as qra

from .._support.rollout_files import nested, spelled, write

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
    "short row": (
        "csv",
        HEAD + "#\na,b,1\na,b\n",
        {},
        "line 4: a row must have 3 fields, got 2: 'a,b'",
    ),
    "open quote": ("csv", HEAD + 'a,b,1\n"a,b\n,1\n', {}, "line 3: the row must be comma-sep"),
    "truncated JSON": (
        *("jsonl", GOOD + GOOD[:30], {}),
        'line 2: the line must be one whole JSON object, got \'{"question": 1',
    ),
    "array of no rollouts": ("json", b"[\n{}\n]", {}, "must have a correct field, got "),
    "array of numbers": (
        "json",
        b"[\n1]",
        {},
        "record 1: the record must be one JSON object, got 1",
    ),
    "empty array": ("json", b"[ ]", {}, "must hold records, JSON objects, got none"),
    "array that is cut off": (
        *("json", b'[\n{"question": 1},\n{"question', {}),
        "line 3: the text must be a whole JSON document, got '\"question' (Unterminated string",
    ),
    "array with a comma too many": (
        *("json", b'[\n{"question": 1},\n]', {}),
        "line 3: the text must be a whole JSON document, got ']' (Expecting value)",
    ),
    "two documents": (
        *("json", b'[\n{"question": 1}]\n[]', {}),
        "line 3: the text must be a whole JSON document, got '[]' (Extra data)",
    ),
    "document that is cut off": (
        *("json", b'{\n"rows": [{"question": 1}]', {}),
        "line 2: the text must be a whole JSON document, got the end of the file",
    ),
    "document in Latin-1": (
        *("json", b'[\n{"question": "\xe9"}]', {}),
        "the text must be UTF-8, got the byte 0xe9",
    ),
    "git-lfs": (
        *("jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n", {}),
        "must be the data, got a git-lfs pointer to them: `git lfs pull` fetches them",
    ),
    "git-annex": (
        *("parquet", "/annex/objects/MD5E-s7--0\n", {}),
        "must be the data, got a git-annex pointer to them: `git annex get` fetches them",
    ),
    "no gzip": ("jsonl.gz", GOOD, {}, "must be a whole file, got: Not a gzipped file"),
    "cut gzip": (
        *("csv.gz", gzip.compress((HEAD + "a,b,1\n" * 99).encode())[:-12], {}),
        "must be a whole file, got: Compressed file ended",
    ),
    "no zstd": ("json.zst", GOOD, {}, "must be a whole file, got: Unable to decompress"),
    "no zip": ("eval", GOOD, {}, "must be a log of Inspect, a zip archive, got: File is not a zip"),
    "JSON number": ("json", b"3", {}, "line 1: the line must be one JSON object, got '3'"),
    "deep JSON": ("json", b"[" * 100_000, {}, "line 1: the text must be a whole JSON document"),
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
        "x.jsonl: correct must hold single values to be the correct field, got {}",
    ),
    "question is an object": (
        *("jsonl", b'{"question": {"a": 1}, "pattern": 2, "correct": 1}', {}),
        "x.jsonl: question must hold single values to be the question field, got {'a': 1}",
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


SCRAPS = (b'"', b"[", b"]", b"{", b"}", b",", b"\n", b"\r", b"#", b"\0", b"\xe9", b"null", b"NaN")


WHOLE = [
    {"question": q, "pattern": "ab"[q % 2], "correct": q > 1, "confidence": -0.5 * q, "step": q}
    for q in range(4)
]


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


def test_bad_parquet_row(tmp_path):
    """In Parquet it is the row that is named; a column of lists of numbers is no text."""
    rows = [{"question": "a", "pattern": "p", "correct": 1}] * 3
    file = write(tmp_path / "x.parquet", [*rows, {**rows[0], "correct": 2}])
    with pytest.raises(
        ValueError, match=r"x\.parquet, row 4: correct must be .*, got 2; --right-above X"
    ):
        qra.read_rollouts(file)
