"""Rules suggested from texts that begin alike: they find what the texts were made of."""

import sys

import numpy as np
import pytest

from qra_jax.rollouts import Fields, openings, rules_text, suggest_rules
from qra_jax.rollouts._rules import PatternRules
from qra_jax.rollouts._suggest import Openings

WAYS = {
    "code": "Here is some python: print({} + {})",
    "steps": "Step one: take {} apples. Step two: add {} more.",
    "guess": "It must be {}, or {} at most.",
}


def texts(number=300):
    """Which way, and the text, with numbers and a tail of words."""
    rng = np.random.default_rng(0)
    ways = rng.choice(list(WAYS), size=number, p=(0.5, 0.3, 0.2))
    words = np.array(
        ["sum", "whole", "so", "then", "again", "number", "gives", "both", "left", "right"]
    )
    made = [
        WAYS[way].format(*rng.integers(100, size=2)) + " " + " ".join(rng.choice(words, 6))
        for way in ways
    ]
    return ways, made


def test_ways_are_found(tmp_path):
    """As many rules as ways, each precise; the file reads back and sorts the texts."""
    ways, made = texts()
    rules = suggest_rules(made, number=3)
    assert len(rules) == 3
    assert all(rule.precision > 0.98 for rule in rules)
    assert sum(rule.share for rule in rules) == pytest.approx(1)
    assert sorted(rule.share for rule in rules) == pytest.approx(
        sorted(np.mean(ways == way) for way in WAYS)
    )
    file = tmp_path / "rules.toml"
    file.write_text(rules_text(rules))
    sorted_by = PatternRules(file)(made)
    pairs = set(zip(ways, sorted_by, strict=True))
    assert len(pairs) == 3
    assert suggest_rules(made, number=3) == rules
    # Only the opening counts.
    assert suggest_rules([f"{'x ' * 9}{text}" for text in made], number=2, letters=9) != rules


def test_numbers_are_alike(tmp_path):
    """A number stands for any, in the rule and in its name."""
    made = [f"{n}. add {n}" for n in range(30)] + [f"well {n} it is" for n in range(30)]
    rules = suggest_rules(made, number=2)
    assert any("N" in rule.name for rule in rules)
    file = tmp_path / "rules.toml"
    file.write_text(rules_text(rules))
    found = PatternRules(file)(["77777. add 3", "well 99999 it is"])
    assert len(set(found)) == 2
    assert "other" not in found


def test_openings(tmp_path):
    """Read as rollouts are, cut, and of very many a sample by seed."""
    file = tmp_path / "a.csv"
    file.write_text("q,response,correct\n1,abcdef,1\n1,,0\n2,xyz,1\n")
    assert openings(file, fields=Fields(question="q"), letters=4) == ["abcd", "xyz"]
    many = [str(i) for i in range(50_000)]
    found = []
    for seed, blocks in ((0, 1), (0, 7), (1, 7)):
        kept = Openings(9, seed)
        for part in np.array_split(np.array(many), blocks):
            assert set(kept([*part.tolist(), None])) == {"all", None}
        assert len(set(kept.texts)) == 20_000
        found.append(kept.texts)
        mean = np.mean([int(text) for text in kept.texts])
        assert mean == pytest.approx(25_000, abs=4 * 50_000 / np.sqrt(12 * 20_000))
    assert found[0] == found[1] != found[2]


def test_bad_input(monkeypatch):
    """One line each."""
    with pytest.raises(ValueError, match="number must be at least 2"):
        suggest_rules(["a b", "c"], number=1)
    with pytest.raises(ValueError, match="texts must be at least number = 3, got 2"):
        suggest_rules(["a b", "c"], number=3)
    with pytest.raises(ValueError, match="texts must hold words, got none"):
        suggest_rules(["!", "?", "."], number=2)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"pip install 'qra-jax\[patterns\]'"):
        suggest_rules(["a b", "c"], number=2)
