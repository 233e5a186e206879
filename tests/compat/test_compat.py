"""The tools themselves write logs, which are read: `pytest -m compat`, with the extra `compat`."""

import importlib.util
import os
import subprocess
import sys

import pytest

import qra_jax as qra

from .writers import PACKAGES, WRITERS

pytestmark = pytest.mark.compat
RULES = 'default = "other"\n[[pattern]]\nname = "wait"\nregex = "Wait"\n'
EXPECTED = {
    "inspect": {"rollouts": 6, "questions": 3, "right": 3, "steps": ()},
    "inspect_json": {"rollouts": 6, "questions": 3, "right": 3, "steps": ()},
    "lm_eval": {"rollouts": 6, "questions": 6, "steps": ()},
    "trl": {"rollouts": 16, "questions": 2, "steps": (1, 2)},
}


@pytest.mark.parametrize("tool", WRITERS)
def test_what_a_tool_writes_is_read(tmp_path, tool):
    """One command, with rules only: all that was written, with the grades that the tool gave."""
    module = PACKAGES[tool].replace("-", "_")
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{PACKAGES[tool]} is not installed: pip install 'qra-jax[compat]'")
    (tmp_path / "rules.toml").write_text(RULES)
    folder = tmp_path / "logs"
    command = [sys.executable, "-m", "tests.compat.writers", tool, str(folder)]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    subprocess.run(command, check=True, capture_output=True, env=quiet)
    found = qra.read_rollouts(folder, rules=tmp_path / "rules.toml")
    expected = EXPECTED[tool]
    assert len(found) == expected["rollouts"]
    assert len(found.questions) == expected["questions"]
    assert found.steps == expected["steps"]
    if "right" in expected:
        assert int(found.correct.sum()) == expected["right"]
