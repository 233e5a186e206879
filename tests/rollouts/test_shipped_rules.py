"""Rules that come with the library, on texts of every pattern that they know."""

import tomllib
from pathlib import Path

import pytest

import qra_jax as qra
from qra_jax.rollouts import SHIPPED
from qra_jax.rollouts._rules import PatternRules, rules_file

TEXTS = {
    "checking": {
        "goes back": [
            "So x = 3. Wait, that gives 7.",
            "Let's try again.",
            "That\u2019s it. Hmm, no.",
        ],
        "verifies": ["Let me verify this.", "Plugging it back gives 9.", "To check, add them."],
        "straight on": ["It is 3, as awaited.", "The waiter pays 4."],
    },
    "code": {
        "code and its output": ["```python\nprint(1)\n```\n```output\n1\n```"],
        "python": ["```python\nprint(1)\n```", "def f(x):\n    return x", "import math\n"],
        "other code": ["So:\n```cpp\nint a;\n```"],
        "no code": ["We define f as the sum.", "Important: import taxes rise."],
    },
    "language": {
        "latin and chinese or japanese, mixed": [
            "首先 we have the equation",
            "so then it is 答案是",
        ],
        "chinese": ["答案是 x = 3"],
        "japanese": ["答えは 3 です"],
        "korean": ["답은 3 입니다"],
        "cyrillic": ["Ответ 3"],
        "arabic": ["الجواب 3"],
        "devanagari": ["उत्तर 3"],
        "latin": ["The answer is 3", "La r\u00e9ponse"],
        "other or none": ["3 + 4 = 7"],
    },
    "length": {
        "below 200": ["", "a" * 199],
        "200 to 800": ["a\n" * 100, "\u00e9" * 799],
        "800 to 1,600": ["a" * 800],
        "1,600 to 6,400": ["a" * 6399],
        "6,400 and more": ["a\n" * 3200],
    },
    "steps": {
        "headings": ["## Step 1\nAdd.", "**Step 1**: add"],
        "numbered steps": ["1. Add them.\n2. Done.", "So:\n 1) Add", "Step 1: add", "First, add."],
        "bullets": ["We know:\n- a is 3"],
        "answer only": ["42", " \\boxed{7}\n"],
        "prose": ["It has 1.5 of them, and so on.", "We add at first and then stop there."],
    },
    "tags": {
        "think and answer tags": ["<think>a\n</think>\n<answer>3</answer>"],
        "think tags, closed": ["a </think> it is \\boxed{3}"],
        "think tags, not closed": ["<think> and so on"],
        "answer tags only": ["<answer>3</answer>"],
        "boxed": ["It is $\\boxed {3}$."],
        "final answer in words": ["So.\nThe answer is 3", "Final answer: 3", "#### 3"],
        "no format": ["So it must be 3."],
    },
}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_pattern(name):
    """Each text is of its pattern, and every pattern of the file is there."""
    rules = PatternRules(name)
    assert set(TEXTS[name]) == set(rules.names)
    pairs = [(text, pattern) for pattern, texts in TEXTS[name].items() for text in texts]
    found = rules([text for text, _ in pairs])
    wrong = [(*pair, is_) for pair, is_ in zip(pairs, found, strict=True) if pair[1] != is_]
    assert wrong == []


def test_names(tmp_path, monkeypatch):
    """All that are shipped are named; a file of the same name goes first; others are an error."""
    files = sorted(path.stem for path in rules_file("code").parent.glob("*.toml"))
    assert files == list(SHIPPED)
    for name in SHIPPED:
        assert tomllib.loads(rules_file(name).read_text())["default"] in TEXTS[name]
    monkeypatch.chdir(tmp_path)
    Path("code").write_text('default = "mine"\n[[pattern]]\nname = "x"\nregex = "x"\n')
    assert PatternRules("code").names == ("x", "mine")
    with pytest.raises(ValueError, match="rules must be a TOML file or one of checking, code, "):
        PatternRules("cod")
    Path("a.csv").write_text("question,text,correct\nq,print(1),1\nq,Let me check,0\n")
    found = qra.read_rollouts("a.csv", rules="checking")
    assert set(found.patterns) == {"straight on", "verifies"}
