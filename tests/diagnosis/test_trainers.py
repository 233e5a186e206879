"""The examples of docs/trainers.md, executed on the files that the tools wrote; a diagnosis by
name."""

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import qra_jax as qra
from tests._support.diagnosed import PLAIN

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```py(?:thon)?\n(.*?)```", (ROOT / "docs/trainers.md").read_text(), re.DOTALL)
TRL = ROOT / "tests" / "rollouts" / "data" / "trl"


def executed(block: str) -> dict:
    names: dict = {}
    exec(compile(block, "docs/trainers.md", "exec"), names)
    return names


def test_callback_for_trl(monkeypatch, capsys, tmp_path):
    """What TRL 1.16.0 logged in two steps: the first is the base model, the second a log."""
    transformers = types.ModuleType("transformers")
    transformers.TrainerCallback = object  # of the trainer nothing else is used
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    rules = tmp_path / "rules.toml"
    rules.write_text('default = "on"\n[[pattern]]\nname = "wait"\nregex = "Wait"\n')
    forecast = executed(BLOCKS[0])["Forecast"](rules=rules)
    args = types.SimpleNamespace(output_dir=str(TRL))
    state = types.SimpleNamespace(max_steps=40, global_step=2)
    forecast.on_save(args, state, control=None)
    said = capsys.readouterr().out
    assert "Start:" in said
    assert "the base model is that of step 1; later steps are logs" in said
    assert "'wait'" in said


def test_reader_for_verl(tmp_path):
    """The same rollouts as by rules; steps in order of their numbers."""
    for step in (5, 10):
        rows = [
            {"input": f"q{i % 3}", "output": "1. so" if i < step // 3 else "so", "gts": "3"}
            | {"score": 1.0 if i % 4 else -1.0, "step": step}
            for i in range(6)
        ]
        (tmp_path / f"{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules = tmp_path / "rules.toml"
    rules.write_text('default = "prose"\n[[pattern]]\nname = "steps"\nregex = \'1[.] \'\n')
    read = executed(BLOCKS[1])["verl_rollouts"]
    found = read(tmp_path, lambda text: "steps" if "1. " in text else "prose")
    expected = qra.read_rollouts(tmp_path, rules=rules)
    assert found.steps == expected.steps == (5, 10)
    for name, names in (("question", "questions"), ("pattern", "patterns")):
        one, other = ([getattr(x, names)[i] for i in getattr(x, name)] for x in (found, expected))
        assert one == other
    np.testing.assert_array_equal(found.correct, expected.correct)


def test_labels():
    """The numbers of a diagnosis by name, with and without steps and RLIF."""
    data = PLAIN.to_dataset()
    start, rlvr = PLAIN.start, PLAIN.rlvr
    assert data.share.sel(pattern="beta", level="low").item() == start.pattern_probs.low[0, 1]
    assert data.rate.sel(pattern="alpha", level="high").item() == start.success_rates.high[0, 0]
    assert data.regime_probability.sel(regime="ENTANGLED").item() == 0.95
    assert (
        float(data.pattern_share.isel(time=3).sel(pattern="gamma", level="median"))
        == (rlvr.forecast.pattern_shares.median[3, 2])
    )
    assert data.step_accuracy.sel(step=4, level="low").item() == rlvr.step_forecast.accuracy.low[4]
    assert data.measured_pass_at_k.sel(k=2).item() == pytest.approx(0.6)
    assert data.rlif_accuracy_end.sel(level="high").item() == pytest.approx(0.3)
    assert PLAIN.summary()[0].startswith("Start:")
