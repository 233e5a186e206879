"""The example files, and the program that draws them."""

import json

import numpy as np

import qra_jax as qra
from experiments.data import example_rollouts
from experiments.data.example_rollouts import DATA


def test_example_data():
    """The files that are shipped are those that the script draws, and of the regime it says."""
    rows = [json.loads(line) for line in (DATA / "rollouts.jsonl").read_text().splitlines()]
    drawn = example_rollouts.rollouts()
    exact = ("question", "pattern", "correct", "answer")
    assert [[row[key] for key in exact] for row in rows] == [[r[k] for k in exact] for r in drawn]
    confidence = np.array([[r["confidence"] for r in rs] for rs in (rows, drawn)])
    assert np.abs(confidence[0] - confidence[1]).max() < 2e-4
    found = qra.read_rollouts(DATA / "rollouts.jsonl")
    assert len(found) == 1600
    assert found.notes == ()
    samples, correct = (array.sum(axis=0) for array in found.counts())
    assert qra.regime(*qra.two_stage(samples / 1600, correct / samples)) == qra.Regime.ENTANGLED


def test_example_texts():
    """The rules that are shipped recover the patterns that the texts were made from."""
    rows = example_rollouts.texts()
    lines = (DATA / "samples.jsonl").read_text().splitlines()
    assert rows == [json.loads(line) for line in lines]
    found = qra.read_rollouts(DATA / "samples.jsonl", rules=DATA / "rules.toml")
    begins = {"Add": "prose", "1. ": "numbered_steps", "It ": "guess", "```": "python"}
    expected = [begins[text[:3]] for row in rows for text in row["response"]]
    assert [found.patterns[i] for i in found.pattern] == expected
    assert len(found.questions) == len(rows)
