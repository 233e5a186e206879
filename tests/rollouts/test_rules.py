"""Rules that sort texts into patterns."""

import pytest

import qra_jax as qra

from .._support.rollout_files import RULES, write


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
