"""What must be read before anything else, and what is not said because of it."""

import math

import numpy as np

from .._checked import RateChange
from .._result import Findings
from ._numbers import number, share, time

_SOME = 10  # samples of a pattern, first and last, below which its change is not told
_LONG = 20  # times the length of a run, beyond which its learning rate is doubted

_MEANS = {
    "clock": "the shares of patterns move at a speed that changes (no single time scale fits)",
    "rates": "success rates within patterns change",
    "shares": "the shares of patterns leave the path that the rewards give them",
    "accuracy": "the accuracy leaves what shares and success rates give",
    "optimiser": "the run moves otherwise than its optimiser would move the last layer of a network"
    " as it was described",
}


def withheld(found: Findings) -> frozenset[str]:
    """What rests on a refuted assumption: "steps" (times in steps), "ends" (every forecast),
    "gain" (the accuracy in the end, where success rates drift)."""
    check = found.log_check
    if check is None or not check.refuted:
        drifts = check is not None and bool(check.drifting)
        return frozenset({"gain"} if drifts else ())
    if check.refuted == ("clock",) and check.drifting:
        return frozenset({"steps", "gain"})
    return frozenset({"steps"} if check.refuted == ("clock",) else {"steps", "ends"})


def alarms(found: Findings) -> list[str]:
    """In whole sentences, the gravest first."""
    lines, check = [], found.log_check
    if check is not None and check.refuted:
        why = "; ".join(_MEANS[name] for name in check.refuted)
        if check.with_patterns == 0 and "optimiser" not in check.refuted:
            why = (
                "the accuracy leaves every path that the rollouts of the base model allow (logs "
                "without patterns do not tell whether their shares or success rates are why)"
            )
        said = "every forecast is" if "ends" in withheld(found) else "times in steps are"
        lines.append(
            f"The logged steps refute the model of this forecast: {why}. Logs of the model itself "
            f"would depart as far with probability {max(check.chance, 0.001):.3f} or less. So "
            f"{said} withheld; what is said of the base model stands. {_worst(found)}"
        )
    if check is not None and check.drifting:
        changes = [_change(found.data.patterns[i], check.changes[i]) for i in check.drifting]
        others = [
            _change(found.data.patterns[i], x)
            for i, x in enumerate(check.changes)
            if i not in check.drifting and min(x.first[1], x.last[1]) >= _SOME
        ]
        chance = f" (and {'; '.join(others)}, which may be chance)" if others else ""
        lines.append(
            f"Success rates within patterns moved over the logged steps: {'; '.join(changes)}"
            f"{chance}. "
            "The theory takes them as fixed; here that does not hold. The forecast of the accuracy "
            "over steps lets them drift; the accuracy in the end is withheld."
        )
    lines += _rate_contradicted(found)
    compared = found.start.within
    if compared is not None and compared.disagree:
        names = found.data.patterns
        order = sorted(range(len(names)), key=lambda i: -compared.rates[i])
        parts = [
            f"'{names[i]}' {share(float(compared.rates[i]))} within questions, "
            f"{share(float(compared.pooled[i]))} pooled"
            for i in order if compared.compared[i]
        ]  # fmt: skip
        lines.append(
            "Patterns are used on questions of different difficulty, and pooled success rates "
            f"mislead: {'; '.join(parts)}. What is said here uses the rates within questions."
        )
    return lines


def check_sentence(found: Findings) -> str:
    """Whether the logs bear out the model; "" where there is no check."""
    check = found.log_check
    if check is None:
        return ""
    part = "" if check.with_patterns else " (of the accuracy alone, as the logs have no patterns)"
    far = f"logs of the model itself would depart from their best fit as far with probability{part}"
    if check.refuted:
        return f"No: {far} {max(check.chance, 0.001):.3f} or less."
    far += f" {share(check.chance)}."
    if check.drifting:
        return f"Not in full: success rates within patterns moved (above). Taken together, {far}"
    return f"Nothing in them speaks against it: {far}"


def _rate_contradicted(found: Findings) -> list[str]:
    """A learning rate that was given, against the length of the run it was given for."""
    run = found.rlvr.step_forecast
    if run is None or run.optimised or float(run.log_scale.low) != float(run.log_scale.high):
        return []
    last = int(run.steps[-1])
    end = float(np.median(run.log_convergence_step.overall.median))
    if not end > math.log(_LONG * last):
        return []
    return [
        f"The learning rate {number(math.exp(float(run.log_scale.median)))} is read as that of "
        "plain gradient ascent on the logits of patterns, and so RLVR would take about "
        f"{time(end, 2)} steps, where the run has {last:,}. The learning rate of an optimiser such "
        "as AdamW on the weights of a network is another number, which does not give the time per "
        "step: leave --learning-rate out, and give rollouts of a few logged steps."
    ]


def _change(name: str, change: RateChange) -> str:
    first, last = (
        f"{share(x / max(n, 1))} ({x:.0f} of {n:.0f})" for x, n in (change.first, change.last)
    )
    kind = "fell" if change.trend < 0 else "rose" if change.trend > 0 else "stayed, going"
    return f"'{name}' {kind} from {first} to {last}"


def _worst(found: Findings) -> str:
    """The logged step that is farthest from the best fit."""
    check = found.log_check
    assert check is not None
    gaps = np.nan_to_num(abs(check.pattern_shares - check.expected_shares))
    at, pattern = divmod(int(gaps.argmax()), gaps.shape[1])
    by_accuracy = abs(check.accuracy - check.expected_accuracy)
    if by_accuracy.max() >= gaps.max():
        at = int(by_accuracy.argmax())
        what, seen, expected = "the accuracy", check.accuracy[at], check.expected_accuracy[at]
    else:
        what = f"the share of '{found.data.patterns[pattern]}'"
        seen, expected = check.pattern_shares[at, pattern], check.expected_shares[at, pattern]
    return (
        f"Farthest apart: at step {check.steps[at]:.0f} {what} was {share(float(seen))}, and "
        f"{share(float(expected))} in the best fit."
    )
