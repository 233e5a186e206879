"""CPU seconds of first calls in fresh processes without a compile cache.

Each child process imports the library, makes the start of the check case, and times one call. CPU
seconds, not wall time: they depend less on what else runs on the machine.
"""

import json
import statistics
import subprocess
import sys

from ._common import settings, table, write

CALLS = {
    "a trivial jitted program": "jax.jit(lambda x: jnp.exp(x) + 1)(jnp.ones(3))",
    "regime": "qra.regime(policy, problem)",
    "log_entanglement_time": "qra.log_entanglement_time(policy, problem)",
    "its gradient": "jax.grad(log_t0)(policy.pattern_logits)",
    "solve_flow": "qra.solve_flow(policy, problem, log_times=jnp.linspace(0, 8, 50)).accuracy",
    "solve_flow of SFT (ODE)": "qra.solve_flow(policy, sft, log_times=jnp.zeros(1)).accuracy",
}
CHILD = """
import json, time
start = time.process_time()
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
import qra_jax as qra
policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
sft = qra.GradientFlow(qra.SFT(jnp.array([[0.5, 0.5, 0.0]])), problem)
def log_t0(logits):
    return qra.log_entanglement_time(qra.TabularPolicy(logits, policy.answer_logits), problem)[0]
begun = time.process_time()
jax.block_until_ready(CALL)
first = time.process_time()
jax.block_until_ready(CALL)
print(json.dumps([begun - start, first - begun, time.process_time() - first]))
"""


def _seconds(call: str) -> list[float]:
    command = [sys.executable, "-c", CHILD.replace("CALL", call)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Every call in a few processes, one after the other; medians."""
    quick = settings(__doc__)
    rounds = 1 if quick else 3
    rows = []
    for name, call in CALLS.items():
        found = [_seconds(call) for _ in range(rounds)]
        imports, first, second = (statistics.median(x) for x in zip(*found, strict=True))
        rows.append({"call": name, "import and start": imports, "first": first, "second": second})
    print(table(rows))
    config = {"rounds": rounds, "unit": "CPU seconds of a fresh process, no compile cache"}
    write("first_call", config, {"calls": rows}, quick)


if __name__ == "__main__":
    main()
