"""How far to trust a diagnosis: what the project's own studies found of it."""

import functools
import json
from pathlib import Path
from typing import Any

from .._result import Findings

FILE = Path(__file__).with_name("trust.json")


@functools.cache
def stored() -> dict[str, Any]:
    """The numbers of the studies (`python -m experiments.trust` writes them)."""
    return json.loads(FILE.read_text())


class _Trust:
    """The lines of a diagnosis, and single numbers."""

    @staticmethod
    def ends(kind: str) -> tuple[int, int]:
        """For how many models of how many the end of RLIF was called right."""
        return stored()["ends"][kind], stored()["models"]

    def __call__(self, found: Findings) -> list[str]:
        numbers = stored()
        models, plain, adam = numbers["models"], numbers["gradient"], numbers["rlvr"]
        own, steps = numbers["optimised"], found.rlvr.step_forecast
        optimised = steps is not None and steps.optimised
        before, after = zip(*numbers["accuracy_coverage"].values(), strict=True)
        lines = [
            f"Regime: called right for {plain['regimes']} of {models} small transformers trained "
            f"by plain gradient ascent, and for {adam['regimes']} of {models} by GRPO with Adam.",
            f"Order of times to converge: rank correlation {plain['order']:g} by plain gradient "
            f"ascent; by GRPO with Adam {adam['order']:g} from the times of the gradient flow, and "
            f"{own['order']:g} where the optimiser was given and the network's last layer measured "
            f"({'as this forecast asks for' if optimised else 'here they are not'}).",
            f"Accuracy over steps: {plain['covered']:g} of later evaluations lay in the 90 % band "
            f"by plain gradient ascent; by GRPO with Adam {adam['covered']:g} in that of the "
            f"gradient flow, and {own['covered']:g} in that of the optimiser, which is "
            f"{own['width']:g} wide in the median.",
            f"Intervals: over questions of differing difficulty (simulated), 90 % intervals of the "
            f"accuracy held the truth in {min(after):.2f} to {max(after):.2f} of cases "
            f"({min(before):.2f} to {max(before):.2f} if questions are not resampled).",
        ]
        if found.log_check is not None and not optimised:
            parts = [
                f"{alarms} of {runs} ({name})" for name, (alarms, runs) in numbers["check"].items()
            ]
            lines.append(
                "Check of logs, alarms on simulated runs of 1,000 steps with 256 samples every 10: "
                f"{', '.join(parts)}."
            )
        if found.rlif is not None:
            kinds = {
                "majority": "majority vote",
                "majority_table": "majority vote, only patterns trained",
                "certainty": "self-certainty",
                "certainty_table": "self-certainty, only patterns trained",
            }
            parts = [f"{numbers['ends'][key]} ({name})" for key, name in kinds.items()]
            seen = numbers["answers"]
            lines.append(
                f"RLIF: of {models} models the end was called right for {', '.join(parts)}. By "
                "self-certainty with all parameters trained the success rate of a pattern fell "
                f"visibly in {seen['fallen']} of {seen['runs']} runs, in {seen['before']} of them "
                "before the accuracy was below its start: log patterns with their grades."
            )
        return lines


trust_lines = _Trust()
