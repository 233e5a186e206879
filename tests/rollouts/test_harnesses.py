"""What trainers and evaluation harnesses write."""

import pytest

import qra_jax as qra

from .._support.rollout_files import RULES, lm_eval, spelled, write

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
    "NeMo-Skills": (
        "jsonl",
        [
            {
                **{"problem": "1+1?", "expected_answer": "2", "generation": "1. 2"},
                **{"predicted_answer": "2", "symbolic_correct": True, "judgement": "Yes"},
            },
            {
                **{"problem": "1+1?", "expected_answer": "2", "generation": "3"},
                **{"predicted_answer": "3", "symbolic_correct": False, "judgement": "No"},
            },
        ],
        [("1+1?", "steps", True, "2"), ("1+1?", "prose", False, "3")],
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
