"""The library as a user meets it, each time in a fresh process: no float64, no run-time types."""

import ast
import operator
import subprocess
import sys
from pathlib import Path

import pytest

import qra_jax as qra

FIXED_NAMES = [
    "Problem",
    "TabularPolicy",
    "two_stage",
    "Verifiable",
    "SelfCertainty",
    "RLVR",
    "RLIF",
    "SFT",
    "Objective",
    "GradientFlow",
    "solve_flow",
    "ODE",
    "flows.Time",
    "flows.LogTime",
    "flows.ArcLength",
    "log_entanglement_time",
    "log_convergence_time",
    "log_time_to_accuracy",
    "regime",
    "Regime",
    "entanglement_ratio",
    "laws.optimal_policy",
    "accuracy",
    "objectives.pass_at_k",
    "Status",
    "AccuracyReaches",
    "PatternReaches",
    "LogitPeaks",
    "flows.TimeReached",
    "flows.Stationary",
    "policies.AbstractPolicy",
    "objectives.AbstractObjective",
    "__version__",
]


def run(script: str) -> list[str]:
    """The lines a script prints in its own process; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def each_of(scripts: dict[str, str]) -> dict[str, list[str]]:
    """The lines that each of some scripts prints, one after the other in one process, with names of
    their own: loading the library takes longer than any of them."""
    mark = "-- next --"
    script = f"for text in {list(scripts.values())!r}:\n    exec(text, {{}})\n    print({mark!r})"
    parts: list[list[str]] = [[]]
    for line in run(script):
        if line == mark:
            parts.append([])
        else:
            parts[-1].append(line)
    assert parts.pop() == []
    return dict(zip(scripts, parts, strict=True))


@pytest.fixture(scope="module")
def said():
    """What is printed by the scripts that give wrong arguments."""
    return each_of(
        {
            "other kinds": OTHER_KINDS,
            "wrong kind": WRONG_KIND,
            "class for instance": CLASS_FOR_INSTANCE,
            "swapped": SWAPPED,
        }
    )


OTHER_KINDS = """
import numpy as np
import optax
import qra_jax as qra
policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
flow = qra.GradientFlow(qra.RLVR(), problem)
for call in (
    lambda: qra.solve_flow(policy, flow, log_times=[1.0], method=qra.Exact),
    lambda: qra.solve_flow(policy, flow, until=qra.LogitPeaks),
    lambda: qra.ODE(clock=qra.flows.LogTime),
    lambda: qra.GradientFlow(qra.RLVR(), problem, trainable=3),
    lambda: qra.train(policy, flow, optax.sgd(0.1), True),
    lambda: qra.train(policy, flow, optax.sgd(0.1), 2.0),
    lambda: qra.train(policy, flow, optax.sgd(0.1), 5, sampler=8, key=0),
    lambda: qra.GRPO(True),
    lambda: qra.GRPO(np.bool_(True)),
    lambda: qra.RLVR(True),
    lambda: qra.RLVR("0.1"),
    lambda: qra.RLVR(qra.ReverseKL(0.1)),
    lambda: qra.PatternReaches(0, True),
    lambda: qra.two_stage([True, False], [0.5, 0.5]),
    lambda: qra.ODE(rtol=True),
    lambda: qra.SampledGroups(4, clip=[0.1, 0.2, 0.3]),
    lambda: qra.SampledGroups(4, clip=[0.1, -0.2]),
    lambda: qra.SampledGroups(4, clip=True),
    lambda: qra.log_convergence_time(policy, flow, [0.1, 0.2]),
    lambda: qra.log_time_to_accuracy(policy, flow, [0.8, 0.9]),
    lambda: qra.passage_times(policy, flow, eps=[[0.1]]),
    lambda: qra.laws.log_convergence_time_law(policy, flow, [0.1, 0.2]),
    lambda: qra.log_convergence_time(policy, flow, True),
    lambda: qra.fixed_points(policy, flow, question=True),
    lambda: qra.solve_flow(policy, flow, log_times=[1.0], reference=problem),
):
    try:
        call()
    except (TypeError, ValueError) as error:
        print(str(error).replace("\\n", "  NEWLINE  "))
whole = qra.GRPO(np.int64(8)), qra.SampledGroups(np.int32(8), np.int64(2), epochs=np.int64(3))
print([type(x) is int for x in (whole[0].group, whole[1].group_size, whole[1].epochs)])
print(qra.SampledGroups(4, clip=[0.1, 0.2]).clip, qra.SampledGroups(4, clip=np.float64(0.1)).clip)
"""


def test_other_kinds(said):
    """True is no number, a class no instance, a pair two numbers, and eps one for each question."""
    *lines, accepted, clips = said["other kinds"]
    starts = (
        *("method must be an instance", "until must be an instance", "clock must be an instance"),
        *("trainable must be", "num_steps must be a whole number, got True", "num_steps must be"),
        *("sampler must be a SampledGroups", "group must be a whole", "group must be a whole"),
        *("beta must hold numbers, got True", "beta must hold numbers", "beta must hold numbers"),
        *("level must hold numbers", "pattern_probs must hold numbers", "rtol must be a number"),
        *("clip must be a number or a pair", "clip must be above 0", "clip must be a number"),
        *("eps must be a scalar or have shape (Q,) = (1,), got shape (2,)", "level must be a sc"),
        *("eps must be a scalar", "eps must be a scalar", "eps must hold numbers, got True"),
        *("question must be a whole number, got True", "reference must be an AbstractPolicy"),
    )
    assert len(lines) == len(starts), lines
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start), line
        assert "NEWLINE" not in line
    assert accepted == "[True, True, True]"
    assert clips == "(0.1, 0.2) (0.1, 0.1)"


@pytest.mark.parametrize("name", FIXED_NAMES)
def test_public_name(name):
    """The names that the design fixes exist."""
    assert operator.attrgetter(name)(qra) is not None


def test_import_is_light():
    """Plotting, labelled data and the command line load on use."""
    script = "import sys, qra_jax; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    loaded = set(run(script)[0].split())
    assert "qra_jax" in loaded
    assert not loaded & {"matplotlib", "xarray", "zarr", "tyro", "tqdm", "pandas", "polars"}


FLOAT32 = """
import warnings
import qra_jax as qra
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
    print(len(caught))
    for _ in range(2):
        log_time = qra.log_entanglement_time(policy, problem)
    qra.regime(policy, problem)
print(log_time.dtype, float(log_time[0]))
print(*(str(w.message) for w in caught if "jax_enable_x64" in str(w.message)), sep="\\n")
print("others:", [str(w.message) for w in caught if "jax_enable_x64" not in str(w.message)])
"""


def test_without_float64():
    """It works in float32, from plain lists, and says exactly once how to switch float64 on."""
    before, result, *advice, others = run(FLOAT32)
    assert before == "0"
    dtype, log_time = result.split()
    assert dtype == "float32"
    assert float(log_time) == pytest.approx(4.5465327, abs=1e-3)
    assert len(advice) == 1
    assert 'jax.config.update("jax_enable_x64", True)' in advice[0]
    assert others == "others: []"


WRONG_KIND = """
import jax
jax.config.update("jax_enable_x64", True)
import qra_jax as qra
policy, problem = qra.two_stage([0.5, 0.5], [0.9, 0.1])
qra.Problem([0, 1], [0.25, 0.75]), qra.SFT([0.5, 0.5])
qra.TabularPolicy([[0.0, 1.0]], [[[0.0, 1.0], [2.0, 0.0]]])
for name, call in {
    "flow": lambda: qra.regime(policy, policy),
    "policy": lambda: qra.regime(problem, problem),
    "objective": lambda: qra.GradientFlow("RLVR", problem),
    "problem": lambda: qra.GradientFlow(qra.RLVR(), policy),
    "reward": lambda: qra.RLIF(3.0),
    "until": lambda: qra.event_time(policy, problem, "never"),
    "direction": lambda: qra.AccuracyReaches(0.5, direction="up"),
    "trainable": lambda: qra.GradientFlow(qra.RLVR(), problem, "x"),
    "geometry": lambda: qra.GradientFlow(qra.RLVR(), problem, geometry="natural"),
    "estimator": lambda: qra.SampledGroups(4, estimator="grpo"),
    "pooling": lambda: qra.diagnosis.diagnose(([9, 3], [1, 2]), pooling="some"),
    "regularisers": lambda: qra.Objective(qra.Verifiable(), regularisers=qra.ReverseKL(0.1)),
}.items():
    try:
        call()
    except (TypeError, ValueError) as error:
        print(name, "|", type(error).__name__, "|", str(error).replace("\\n", "  NEWLINE  "))
"""


def test_wrong_kind_of_argument(said):
    """Lists are arrays; an argument of another kind raises one line that names it and shows it."""
    lines = said["wrong kind"]
    assert len(lines) == 12
    of_value = ("direction", "trainable", "pooling")
    for line in lines:
        name, kind, message = line.split(" | ", maxsplit=2)
        assert kind == ("ValueError" if name in of_value else "TypeError")
        assert message.startswith(f"{name} must be ")
        assert ", got " in message
        assert "NEWLINE" not in message


CLASS_FOR_INSTANCE = """
import qra_jax as qra
right, problem = qra.Verifiable(), qra.Problem([0])
for call in (
    lambda: qra.Objective(qra.SelfCertainty),
    lambda: qra.RLIF(qra.SelfCertainty),
    lambda: qra.objectives.Mixture([right, qra.SelfCertainty], [1.0, 1.0]),
    lambda: qra.Objective(right, utility=qra.GRPO),
    lambda: qra.Objective(right, regularisers=(qra.ReverseKL,)),
    lambda: qra.GradientFlow(qra.SFT, problem),
    lambda: qra.GradientFlow(qra.RLVR(), problem, geometry=qra.Natural),
    lambda: qra.SampledGroups(4, estimator=qra.RLOO),
):
    try:
        call()
    except TypeError as error:
        print(error)
"""


def test_classes_for_instances(said):
    """Many are callable, as a function would be: the error says what to write."""
    kinds = {
        "reward": "SelfCertainty",
        "utility": "GRPO",
        "regularisers": "ReverseKL",
        "objective": "SFT",
        "geometry": "Natural",
        "estimator": "RLOO",
    }
    names = ("reward", "reward", *kinds)
    expected = [
        f"{name} must be an instance, {kinds[name]}(...), got the class {kinds[name]}"
        for name in names
    ]
    assert said["class for instance"] == expected


@pytest.mark.parametrize("name", FIXED_NAMES)
def test_documented(name):
    """Every public function and class says what it is."""
    thing = operator.attrgetter(name)(qra)
    assert name == "__version__" or (thing.__doc__ or "").strip()


PACKAGE = Path(qra.__file__).parent
NAMESPACES = [
    str(path.parent.relative_to(PACKAGE))
    for path in sorted(PACKAGE.glob("[a-z]*/**/__init__.py"))
    if "import" in path.read_text()
]


@pytest.mark.parametrize("name", NAMESPACES)
def test_all_is_all(name):
    """Each namespace lists in `__all__` what it imports for its users, and nothing else."""
    body = ast.parse((PACKAGE / name / "__init__.py").read_text()).body
    imported = [each for line in body if isinstance(line, ast.ImportFrom) for each in line.names]
    (listed,) = (
        ast.literal_eval(line.value)
        for line in body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "__all__"
    )
    assert sorted(listed) == sorted(each.asname or each.name for each in imported)


def test_annotations_are_for_all():
    """Type checkers read those of an installed library only where it says so."""
    assert (PACKAGE / "py.typed").exists()


SWAPPED = """
import inspect
import jax
jax.config.update("jax_enable_x64", True)
import qra_jax as qra
policy, problem = qra.two_stage([0.5, 0.3, 0.2], [0.9, 0.1, 0.4])
rest = {"eps": 0.1, "level": 0.5, "k": 2, "log_odds": 1.0, "log_time": 1.0,
        "until": qra.LogitPeaks(1), "optimiser": None, "num_steps": 1,
        "pattern_probs": [0.5, 0.3, 0.2], "reference": policy,
        "value": 0.0, "bounds": (0.0, 1.0), "sampler": qra.SampledGroups(8),
        "learning_rate": 0.1, "key": jax.random.key(0), "times": [1.0], "steps": [1.0]}
seen = 0
for space in sorted(set(dir(qra)) - {"sweep", "rollouts", "posteriors"}):
    for name in getattr(getattr(qra, space), "__all__", ()):
        function = getattr(getattr(qra, space), name)
        if not inspect.isfunction(function):
            continue
        names = list(inspect.signature(function).parameters)
        if len(names) < 2 or names[0] not in ("policy", "reference"):
            continue
        if names[1] not in ("flow", "problem"):
            continue
        others = list(inspect.signature(function).parameters.values())[2:]
        empty = inspect.Parameter.empty
        given = {x.name: rest[x.name] for x in others if x.default is empty and x.name in rest}
        seen += 1
        try:
            function(problem, policy, **given)
        except Exception as error:
            print(space, name, "|", type(error).__name__, str(error).replace("\\n", " "))
        else:
            print(space, name, "| nothing")
print(seen)
"""


def test_swapped_arguments(said):
    """Every public function of a policy and a flow or problem says that the two were swapped."""
    *lines, seen = said["swapped"]
    assert int(seen) == len(lines) > 25
    for line in lines:
        assert "other way round" in line, line
