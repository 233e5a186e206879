"""The order of floors, read from the imports; and that the reading finds what breaks it."""

from pathlib import Path

import pytest

from tests._support.layers import RULES, House, complaints, depth, floors_seen, read_sources

SOURCES = read_sources(Path(__file__).parents[1])


@pytest.mark.parametrize("rule", RULES)
def test_order(rule):
    """Nothing breaks it."""
    assert complaints(House.of(SOURCES), [rule]) == []


def test_few_floors():
    """Imports between floors, without circles: at most 20 nodes on 10 layers."""
    edges = floors_seen(House.of(SOURCES))
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
    ("circles", "qra_jax/policies/_problem.py", "def f():\n    from . import _tabular"),
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


def planted(file: str, text: str) -> House:
    """The sources with some lines more at the end of one file, or in a new one."""
    return House.of({**SOURCES, file: f"{SOURCES.get(file, '')}\n{text}\n"})


@pytest.mark.parametrize(("rule", "file", "fault"), FAULTS)
def test_fault_is_found(rule, file, fault):
    """An import that breaks a rule is said, with its file."""
    found = complaints(planted(file, fault), [rule])
    assert found
    assert all(line.startswith(f"{rule}: ") for line in found)
    # A circle is that of several files, a figure may be led astray by another one.
    assert file in "\n".join(found) or rule in ("circles", "figures")


HARMLESS = [
    ("qra_jax/times/_regime.py", "def f():\n    import matplotlib.pyplot\n    import polars"),
    ("qra_jax/diagnosis/_run.py", "def f():\n    from ..plot._elements import style"),
    ("qra_jax/times/_regime.py", "from ..flows._events import ValuePasses\nimport optax"),
    ("experiments/_lab/start.py", "x = qra.__version__\ny = qra.flows.Status"),
    ("experiments/maps/sft/figure.py", "from .known import CHECK_START"),
]


@pytest.mark.parametrize(("file", "text"), HARMLESS)
def test_harmless(file, text):
    """What breaks no rule is not complained of."""
    assert complaints(planted(file, text)) == []
