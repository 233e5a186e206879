"""CPU seconds of first calls in fresh processes without a compile cache.

Each child process imports the library, makes the start of the check case, and times one call. CPU
seconds, not wall time: they depend less on what else runs on the machine.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys

from ._common import settings, table, write

README = pathlib.Path(__file__).parents[1] / "README.md"
ROLLOUTS = pathlib.Path(__file__).parents[1] / "experiments" / "data" / "rollouts.jsonl"
# What is called, and what lowers the program that is most of it.
CALLS = {
    "a trivial jitted program": (
        "jax.jit(small)(jnp.ones(3))",
        "jax.jit(small).lower(jnp.ones(3))",
    ),
    "regime": ("qra.regime(policy, problem)", "jax.jit(qra.regime).lower(policy, problem)"),
    "log_entanglement_time": (
        "qra.log_entanglement_time(policy, problem)",
        "jax.jit(log_t0).lower(policy.pattern_logits)",
    ),
    "its gradient": (
        "jax.grad(log_t0)(policy.pattern_logits)",
        "jax.jit(jax.value_and_grad(log_t0)).lower(policy.pattern_logits)",
    ),
    "solve_flow": ("follow(policy, problem)", "jax.jit(follow).lower(policy, problem)"),
    "solve_flow of SFT (ODE)": ("follow(policy, sft)", "jax.jit(follow).lower(policy, sft)"),
    "the README's example": ("exec(EXAMPLE, {})", None),
    "design_sft": (
        "qra.design_sft([0.05, 0.70, 0.25], [0.9, 0.7, 0.1], budget=5.0, floor=0.5, "
        "key=jax.random.key(0)).mixture",
        None,
    ),
    "diagnose, 999 draws": ("diagnose(qra.read_rollouts(ROLLOUTS)).start.accuracy.median", None),
}
CHILD = """
import json, time
start = time.process_time()
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
import qra_jax as qra
from qra_jax.diagnosis import diagnose
policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
sft = qra.GradientFlow(qra.SFT(jnp.array([[0.5, 0.5, 0.0]])), problem)
def small(x):
    return jnp.exp(x) + 1
def log_t0(logits):
    return qra.log_entanglement_time(qra.TabularPolicy(logits, policy.answer_logits), problem)[0]
def follow(policy, flow):
    return qra.solve_flow(policy, flow, log_times=jnp.linspace(0, 8, 50)).accuracy
def call():
    return jax.block_until_ready(CALL)
begun = time.process_time()
call()
first = time.process_time()
call()
second = time.process_time()
lines = LINES
print(json.dumps([begun - start, first - begun, second - first, lines]))
"""


def _measured(call: str, lower: str | None) -> list[float]:
    """CPU seconds of imports and start, of the first call and of the second; lines of StableHLO."""
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.M)
    lines = "0" if lower is None else f"{lower}.as_text().count(chr(10))"
    program = CHILD.replace("CALL", call).replace("LINES", lines)
    constants = f"EXAMPLE, ROLLOUTS = {example!r}, {str(ROLLOUTS)!r}\n"
    command = [sys.executable, "-c", constants + program]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Every call in a few processes, one after the other; medians."""
    quick = settings(__doc__)
    rounds = 1 if quick else 3
    rows = []
    for name, (call, lower) in CALLS.items():
        found = [_measured(call, lower) for _ in range(rounds)]
        imports, first, second, lines = (statistics.median(x) for x in zip(*found, strict=True))
        row = {"call": name, "import and start": imports, "first": first, "second": second}
        rows.append({**row, "lines lowered": int(lines) if lower else "-"})
    print(table(rows))
    config = {"rounds": rounds, "unit": "CPU seconds of a fresh process, no compile cache"}
    write("first_call", config, {"calls": rows}, quick)


if __name__ == "__main__":
    main()
