"""Files of rollouts, written and read back."""

import csv
import json

import polars as pl

RULES = """
default = "prose"
[[pattern]]
name = "python"
regex = "```python"
[[pattern]]
name = "steps"
regex = '(?m)^1\\. '
"""


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
