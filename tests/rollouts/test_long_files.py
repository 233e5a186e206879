"""Files longer than the blocks that they are read in."""

import json
import re

import pytest

import qra_jax as qra

from .._support.rollout_files import RULES, assert_rows, lm_eval, spelled, write

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
        with pytest.raises(ValueError, match=f"^{re.escape(place)}'?0.5'?; the row is "):
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
        "graded by the filter strict-match, and not by flexible-extract (--where "
        "filter=flexible-extract chooses another)",
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
