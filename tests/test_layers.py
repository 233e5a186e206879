"""The order of floors, read from the imports; and that the reading finds what breaks it."""

import shutil
from pathlib import Path

import pytest

from tests._support.layers import PACKAGES, RULES, House, complaints, depth, floors_seen

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The sources, to be spoiled."""
    root = tmp_path_factory.mktemp("house")
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            there = root / path.relative_to(ROOT)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, there)
    return root


@pytest.mark.parametrize("rule", RULES)
def test_order(rule):
    """Nothing breaks it."""
    assert complaints(House.read(ROOT), [rule]) == []


def test_few_floors():
    """Imports between floors, without circles: at most 20 nodes on 10 layers."""
    edges = floors_seen(House.read(ROOT))
    assert 10 < len(edges) <= 20
    assert 5 < depth(edges) <= 10


FAULTS = [
    ("floors", "qra_jax/flows/_status.py", "from ..solvers._method import AbstractMethod"),
    ("floors", "qra_jax/flows/_status.py", "from ..solvers import solve_flow"),
    ("floors", "qra_jax/laws/_law.py", "from .. import dynamics"),
    ("floors", "qra_jax/flows/_status.py", "def f():\n    from ..times import regime"),
    ("floors", "qra_jax/flows/_status.py", "if TYPE_CHECKING:\n    from ..times import regime"),
    ("floors", "qra_jax/rollouts/_files.py", "from ..policies._problem import Problem"),
    ("floors", "qra_jax/attic/_new.py", "x = 1"),
    ("floors", "qra_jax/_core/checks.py", "import experiments.sweep"),
    ("floors", "experiments/_lab/claim.py", "from ..maps.tokens.known import REPORTED"),
    ("floors", "experiments/maps/sft/known.py", "from ...claims import LEDGER"),
    ("floors", "benchmarks/chunks.py", "from tests._support import systems"),
    ("root", "qra_jax/flows/_status.py", "import qra_jax as qra"),
    ("root", "qra_jax/flows/_status.py", "from qra_jax import policies, TabularPolicy"),
    ("root", "qra_jax/solvers/exact/_walk.py", "from ... import __version__"),
    ("circles", "qra_jax/policies/_problem.py", "from ._tabular import TabularPolicy"),
    ("circles", "qra_jax/policies/_problem.py", "from . import TabularPolicy"),
    ("circles", "experiments/_lab/claim.py", "from .map import Map"),
    ("functions", "qra_jax/flows/_flow.py", "def f():\n    from ._status import Status"),
    ("functions", "qra_jax/flows/_flow.py", "class A:\n    def f(self):\n        import optax"),
    ("functions", "experiments/sweep.py", "def f():\n    from ._lab.settings import Progress"),
    ("private", "experiments/_lab/start.py", "from qra_jax.flows._status import Status"),
    ("private", "experiments/_lab/start.py", "from qra_jax.diagnosis import _solve"),
    ("private", "experiments/_lab/start.py", "import qra_jax.diagnosis._solve"),
    ("private", "experiments/_lab/start.py", "x = qra.diagnosis._solve.Solver"),
    ("private", "benchmarks/chunks.py", "x = map_chunks(1)\ny = map_chunks._hidden(1)"),
    ("private", "qra_jax/times/_regime.py", "from ..flows._events import _hidden"),
    ("figures", "experiments/maps/sft/figure.py", "from .compute import Sft"),
    ("figures", "experiments/maps/sft/figure.py", "from ..gap.claims import CLAIMS"),
    ("figures", "experiments/maps/sft/figure.py", "def f():\n    from .compute import Sft"),
    ("figures", "experiments/maps/portraits/theory.py", "from .compute import Portraits"),
    ("figures", "experiments/language_model/_figures.py", "from .._lab.map import Map"),
]


@pytest.mark.parametrize(("rule", "file", "fault"), FAULTS)
def test_fault_is_found(copied, rule, file, fault):
    """An import that breaks a rule is said, with its file."""
    path = copied / file
    before = path.read_text() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{before or ''}\n{fault}\n")
    try:
        found = complaints(House.read(copied), [rule])
    finally:
        if before is None:
            shutil.rmtree(path.parent)
        else:
            path.write_text(before)
    assert found
    said = "\n".join(found)
    assert file in said or rule in ("circles", "figures")
    assert said.startswith(f"{rule}: ")


HARMLESS = [
    ("qra_jax/times/_regime.py", "def f():\n    import matplotlib.pyplot\n    import polars"),
    ("qra_jax/solvers/_solve.py", "def f():\n    from ._dataset import trajectory_dataset"),
    ("qra_jax/times/_regime.py", "from ..flows._events import ValuePasses\nimport optax"),
    ("experiments/_lab/start.py", "x = qra.__version__\ny = qra.flows.Status"),
    ("experiments/maps/sft/figure.py", "from .known import CHECK_START"),
]


@pytest.mark.parametrize(("file", "text"), HARMLESS)
def test_harmless(copied, file, text):
    """What breaks no rule is not complained of."""
    path = copied / file
    before = path.read_text()
    path.write_text(f"{before}\n{text}\n")
    try:
        assert complaints(House.read(copied)) == []
    finally:
        path.write_text(before)
