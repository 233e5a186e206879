"""JSON as one document: arrays, lists within objects, and files that are packed."""

import gzip
import importlib
import json
import sys
import zipfile
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qra_jax as qra
from qra_jax.rollouts import _files

from .._support.rollout_files import spelled, write

zstd = importlib.import_module(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)
ROWS = [
    {"question": f"q{i // 2}", "pattern": "ab"[i % 2], "correct": i % 3 == 0, "note": 'x"\\é\n' * i}
    for i in range(7)
]
READ = [(row["question"], row["pattern"], row["correct"]) for row in ROWS]

value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def document(tmp_path, content, **options):
    """What is read of a document, or the message."""
    file = tmp_path / "x.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    try:
        return spelled(qra.read_rollouts(file, **options))
    except ValueError as error:
        return str(error)


@given(st.lists(value, min_size=1, max_size=5), st.sampled_from([None, 0, 2]), st.integers(1, 40))
def test_arrays_are_read_as_json_reads_them(tmp_path_factory, values, indent, block):
    """Whatever stands beside the fields, however it is laid out and wherever a block ends."""
    rows = [{**ROWS[i % 7], "beside": each} for i, each in enumerate(values)]
    folder = tmp_path_factory.mktemp("array")
    with mock.patch.multiple(_files, BYTES=block):
        found = document(folder, json.dumps(rows, indent=indent, ensure_ascii=block % 2 == 0))
    assert found == [READ[i % 7] for i in range(len(values))]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"rollouts": ROWS}, "rollouts"),
        ({"config": {"a": [1, {"b": 2}]}, "results": {"samples": ROWS}}, "results.samples"),
        ({"a.b": {"c": ROWS}, "empty": [], "texts": ["x"]}, "a.b.c"),
        ({"chat": [{"role": "user", "content": "x"}], "rows": ROWS}, "rows"),
        ([ROWS[:3], ROWS[3:]], ""),
    ],
)
def test_a_list_of_records_is_found(tmp_path, content, place):
    """In objects, three deep; or named."""
    if place:
        assert document(tmp_path, content) == READ
        assert document(tmp_path, content, records=place) == READ
        assert document(tmp_path, json.dumps(content, indent=1)) == READ
        message = document(tmp_path, content, records="config")
        assert "--records must name a list of records, got config" in message
    else:
        assert document(tmp_path, content) == READ


def test_several_lists_of_records(tmp_path):
    """The one of rollouts is taken, and that is said; of two the flag chooses."""
    scores = [{"name": "accuracy", "value": 0.5}]
    both = {"scores": scores, "samples": ROWS}
    assert document(tmp_path, both) == READ
    notes = qra.read_rollouts(tmp_path / "x.json").notes
    assert notes == ("records from samples (and not scores; --records chooses)",)
    two = {"first": ROWS[:2], "second": ROWS[2:]}
    message = document(tmp_path, two)
    assert "got several (first, second): --records first reads one of them" in message
    assert document(tmp_path, two, records="second") == READ[2:]


def test_a_list_for_each_question(tmp_path):
    """Keyed by the question, whose name the records need not repeat."""
    keyed = {"x": [], "eval": {"q0": ROWS[:2], "q1": ROWS[2:4], "q2": ROWS[4:6]}}
    assert document(tmp_path, keyed) == READ[:6]
    bare = {
        key: [{k: v for k, v in row.items() if k != "question"} for row in rows]
        for key, rows in keyed["eval"].items()
    }
    assert document(tmp_path, {"eval": bare}, records="eval") == READ[:6]
    assert document(tmp_path, {"meta": 1, "eval": bare}) == READ[:6]
    assert document(tmp_path, bare) == READ[:6]
    assert document(tmp_path, json.dumps(bare, indent=1)) == READ[:6]
    assert document(tmp_path, keyed["eval"]) == READ[:6]
    lists = [list(rows) for rows in bare.values()]
    assert document(tmp_path, lists) == [(str(i // 2), *row[1:]) for i, row in enumerate(READ[:6])]


def test_what_stands_around_the_records(tmp_path):
    """A step or a model of the whole file is one of every record that has none of its own."""
    around = {
        "step": 40,
        "info": {"model": "m", "other": 1},
        "rows": [*ROWS[:2], {**ROWS[2], "step": 5}],
    }
    found = document(tmp_path, around)
    assert found == [(*READ[0], 40), (*READ[1], 40), (*READ[2], 5)]
    files = [tmp_path / f"x_{model}.json" for model in "ab"]
    for file in files:
        file.write_text(json.dumps({"eval": {"model": file.stem[-1]}, "rows": ROWS}))
    with pytest.raises(ValueError, match=r"of one model, got the field eval\.model with a \(7 row"):
        qra.read_rollouts(files)
    assert spelled(qra.read_rollouts(files, where={"eval.model": "b"})) == READ


def test_a_document_that_is_one_record(tmp_path):
    """Columns of lists, as a data frame is written."""
    lists = {key: [row[key] for row in ROWS] for key in ("question", "pattern", "correct")}
    assert document(tmp_path, lists) == READ
    assert document(tmp_path, json.dumps(lists, indent=1)) == READ


def test_one_line(tmp_path):
    """One row of JSON lines stays one: its own lists of records are rollouts of its question."""
    row = {"question": "a", "rollouts": [{"pattern": "p", "correct": c} for c in (True, False)]}
    assert document(tmp_path, row) == [("a", "p", True), ("a", "p", False)]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("packed", ["gz", "zst"])
def test_packed_files(tmp_path, ending, packed):
    """As the file that was packed, with the lines of its faults."""
    plain = tmp_path / f"x.{ending}"
    if ending == "json":
        plain.write_text(json.dumps(ROWS, indent=1))
    else:
        write(plain, ROWS)
    pack = {"gz": gzip.compress, "zst": zstd.compress}[packed]
    file = tmp_path / f"x.{ending}.{packed}"
    file.write_bytes(pack(plain.read_bytes()))
    assert spelled(qra.read_rollouts(file)) == READ
    spoilt = [*ROWS[:5], {**ROWS[5], "correct": "maybe"}]
    if ending == "json":
        plain.write_text(json.dumps(spoilt))
    else:
        write(
            plain, [{key: row[key] for key in ("question", "pattern", "correct")} for row in spoilt]
        )
    file.write_bytes(pack(plain.read_bytes()))
    place = {"json": "record 6", "jsonl": "line 6"}.get(ending, "line 7")
    with pytest.raises(ValueError, match=rf"x\.{ending}\.{packed}, {place}: correct must be"):
        qra.read_rollouts(file)


def test_an_archive_without_zstd(tmp_path):
    """An older log of Inspect is packed otherwise; one without samples, or cut, is told so."""
    file = tmp_path / "x.eval"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", json.dumps({"eval": {"task": "t", "model": "m"}}))
        for number, row in enumerate(ROWS):
            archive.writestr(f"samples/{number}_epoch_1.json", json.dumps(row))
    assert spelled(qra.read_rollouts(file)) == READ
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"x\.eval must be a log of Inspect, a zip archive, got: "):
        qra.read_rollouts(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.json", "{}")
    with pytest.raises(ValueError, match="must hold records, JSON objects, got none"):
        qra.read_rollouts(file)


def test_a_long_document_is_not_held_in_memory(tmp_path):
    """Its records are decoded one by one, and a fault far down has its number."""
    rows = [{**ROWS[0], "note": "x" * 2000} for _ in range(3000)]
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"rows": [*rows, {**ROWS[0], "correct": 7}]}))
    held = []
    real = json.JSONDecoder.raw_decode

    def decoded(self, s, idx=0):
        held.append(len(s))
        return real(self, s, idx)

    with (
        mock.patch.object(json.JSONDecoder, "raw_decode", decoded),
        mock.patch.multiple(_files, BYTES=1 << 16),
        pytest.raises(ValueError, match=r"x\.json, record 3001: correct must be .*, got 7;"),
    ):
        qra.read_rollouts(file)
    # But for the first line, which might be a row.
    assert sorted(held)[-2] < 1 << 18


@pytest.mark.parametrize("block", [7, 64, 1 << 22])
def test_the_line_of_a_fault_in_a_document(tmp_path, block):
    """Is that of an editor, however many blocks came before."""
    lines = json.dumps({"rows": ROWS * 20}, indent=1).splitlines()
    at = next(i for i, line in enumerate(lines) if i > 400 and '"pattern"' in line)
    lines[at] = lines[at].replace('"pattern"', '"pattern" oh')
    file = tmp_path / "x.json"
    file.write_text("\n".join(lines))
    place = rf"x\.json, line {at + 1}: the text must be a whole JSON document, got 'oh: "
    with (
        mock.patch.multiple(_files, BYTES=block),
        pytest.raises(ValueError, match=place),
    ):
        qra.read_rollouts(file)
