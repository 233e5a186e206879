"""The command line of the diagnosis: its page, its numbers, and what it says of bad files."""

import html.parser
import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments.diagnose import main
from qra_jax import cli

EXAMPLE = Path(__file__).parents[3] / "experiments" / "data" / "rollouts.jsonl"


class _Page(html.parser.HTMLParser):
    """Tags that are open, addresses that are asked for, and the text."""

    void = frozenset({"meta", "img", "br", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        """Note what it loads."""
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Tags close in the order in which they were opened."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Text as a reader sees it."""
        self.text.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of the example, and what the console said."""
    out = tmp_path_factory.mktemp("report")
    assert main([str(EXAMPLE), "--out", str(out), "--draws", "39"]) == 0
    return out


def test_page_needs_nothing_but_itself(report):
    """Well formed, no address but inline images, and each section there."""
    page = _Page()
    text = (report / "report.html").read_text(encoding="utf-8")
    page.feed(text)
    assert not page.open
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert "@import" not in text
    assert "url(" not in text
    shown = "".join(page.text)
    for title in ("Key figures", "Forecast of RLVR", "RLIF", "pass@k", "Stuck questions", "Limits"):
        assert title in shown
    assert "Entangled start" in shown


def test_numbers(report):
    """Strict JSON; the counts are those of the file, the accuracy their share."""

    def refuse(name):
        raise AssertionError(name)

    found = json.loads((report / "report.json").read_text(), parse_constant=refuse)["diagnosis"]
    rows = [json.loads(line) for line in EXAMPLE.read_text().splitlines()]
    assert sum(map(sum, found["data"]["samples"])) == len(rows)
    right = np.mean([row["correct"] for row in rows])
    assert found["start"]["accuracy"]["low"] < right < found["start"]["accuracy"]["high"]
    assert math.isclose(sum(found["regime"]["probs"][0]), 1)
    for name in ("patterns", "forecast", "pass_at_k", "rlif"):
        assert (report / f"{name}.png").stat().st_size > 5000
        assert (report / f"{name}.pdf").stat().st_size > 5000


def test_same_seed_same_page(report, tmp_path):
    """Nothing on the page depends on the day, the run or the command's name."""
    assert (
        cli.main(["diagnose", str(EXAMPLE), "--out", str(tmp_path), "--draws", "39", "--quiet"])
        == 0
    )
    for name in ("report.html", "report.json"):
        assert (tmp_path / name).read_bytes() == (report / name).read_bytes()


def _file(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


HEADER = "question,pattern,correct\n"
LIMITED = {
    "one pattern": ("a,prose,1\n" * 5 + "a,prose,0\n" * 5, "there is one pattern only"),
    "none right": ("a,prose,0\na,python,0\n" * 10, "no rollout is right"),
    "many patterns": (
        "".join(f"q,p{i},{i % 2}\n" for i in range(10_000)),
        "rarest patterns are grouped as one",
    ),
    "some left out": ("a,prose,1\na,python,0\n" * 10 + "a,,1\n", "dropped"),
}


SLOW = pytest.param("many patterns", marks=pytest.mark.slow)


@pytest.mark.parametrize("case", [*(case for case in LIMITED if case != "many patterns"), SLOW])
def test_stated_limits(case, tmp_path, capsys):
    """What the data do not bear is said on the console and on the page; there is no traceback."""
    rows, said = LIMITED[case]
    path = _file(tmp_path, "rollouts.csv", HEADER + rows)
    assert main([str(path), "--out", str(tmp_path / "out"), "--draws", "39"]) == 0
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "text", "options", "said"),
    [
        ("a.csv", "", (), "a.csv"),
        ("a.csv", "question,correct\nq,1\n", (), "pattern"),
        ("a.csv", HEADER + "q,prose,maybe\n", (), "line 2"),
        ("a.csv", HEADER + "q,prose,1\n", ("--pattern-field", "kind"), "'kind'"),
        ("a.csv", HEADER + "q,prose,1\n", ("--draws", "3"), "draws must be at least 20"),
        ("a.csv", HEADER + "q,prose,1\n", ("--eps", "1.5"), "eps must lie"),
        ("a.csv", HEADER + "q,prose,1\n", ("--num-steps", "10"), "num-steps must come with"),
        ("a.csv", HEADER + "q,prose,1\n", ("--learning-rate", "1"), "num-steps must be given"),
        ("a.csv", HEADER + "q,prose,1\n", ("--seed", "-1"), "seed must be at least 0"),
        ("a.jsonl", '{"question": "q", "pattern": "p", "correct": 1}\n{"que', (), "line 2"),
        ("a.csv", "question,text,correct\nq,x,1\n", ("--rules", "none.toml"), "none.toml"),
    ],
)
def test_bad_input(name, text, options, said, tmp_path, capsys):
    """One clear line, and nothing written."""
    path, out = _file(tmp_path, name, text), tmp_path / "out"
    assert main([str(path), "--out", str(out), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not out.exists() or not list(out.iterdir())
