"""What the reader of a diagnosis must know before it is believed."""

import numpy as np

from ..flows._status import Status
from ..posteriors._differ import patterns_differ
from ..posteriors._posteriors import AbstractPosterior, PartialPosterior
from ..rollouts._rollouts import Rollouts
from ._result import Findings
from .words._patterns import difference

_FEW = 10
_DECIDES = 0.1
_DRIFT = 0.15  # of a success rate, that the check of logs should find
_ALIKE = 2  # rollouts per independent one beyond which it is said


def limits_of(
    found: Findings, source: Rollouts, grouped: int, missing: int, posterior: AbstractPosterior
) -> tuple[str, ...]:
    """One sentence each. `grouped`: how many patterns are one; `missing`: questions without
    rollouts."""
    lines = [*_of_source(source, missing), *_of_counts(found, grouped), *_of_patterns(source)]
    lines += _of_model(found, source)
    if found.settings.pooling == "pooled":
        lines += _alike(found, source)
    if isinstance(posterior, PartialPosterior):
        worst = min(float(posterior.patterns.effective), float(posterior.answers.effective.min()))
        if worst < 100:
            lines.append(
                f"the strength of partial pooling rests on {worst:.0f} effective particles only"
            )
    return tuple(lines)


def _of_source(source: Rollouts, missing: int) -> list[str]:
    lines = [f"{number} rollouts were dropped: {why}" for why, number in source.dropped.items()]
    if missing:
        lines.append(f"questions left out, as the base model has no rollouts of them: {missing}")
    if len(source.steps) > 1:
        lines.append(f"the base model is that of step {source.steps[0]}; later steps are logs")
    return lines


def _of_counts(found: Findings, grouped: int) -> list[str]:
    samples, correct = found.data.samples.sum(axis=0), found.data.correct.sum(axis=0)
    total, lines = samples.sum(), []
    missed = 1 - 0.05 ** (1 / total)
    lines.append(
        f"a pattern that is in no rollout is not in the model: among {total:.0f} rollouts, one of "
        f"probability {missed:.2g} goes unseen in 5 % of cases"
    )
    if len(samples) == 1:
        lines.append("there is one pattern only: nothing can be selected, and nothing can mislead")
    if correct.sum() == 0:
        lines.append(
            "no rollout is right: success rates, and all that follows, come from the prior alone"
        )
    elif correct.sum() == total and len(samples) > 1:
        lines.append("every rollout is right: which pattern is the best comes from the prior alone")
    if grouped:
        lines.append(
            f"the {grouped} rarest patterns are grouped as one, {found.data.patterns[-1]!r}: a "
            "good one among them would go unnoticed"
        )
    weight = found.settings.prior.concentration * len(samples) * found.data.samples.shape[0]
    if weight > 0.1 * total:
        lines.append(
            f"the prior weighs as much as {weight:.3g} rollouts beside {total:.0f}: "
            "it shows in everything that is said"
        )
    best, misleading = (
        x.mean(axis=0) for x in (found.regime.best_probs, found.regime.misleading_probs)
    )
    for index in np.flatnonzero((samples < _FEW) & (np.maximum(best, misleading) > _DECIDES)):
        lines.append(
            f"pattern {found.data.patterns[index]!r} has {samples[index]:.0f} samples: it is the "
            f"best with probability {best[index]:.2f} and misleads with {misleading[index]:.2f}, "
            "and the result hangs on so few"
        )
    return lines


def _of_patterns(source: Rollouts) -> list[str]:
    """Whether patterns differ in success where questions do not."""
    differ = patterns_differ(*source.base_model().counts())
    if differ.questions == 0 or differ.chance <= 0.05:
        return []
    return [difference(differ)]


def _alike(found: Findings, source: Rollouts) -> list[str]:
    """What rollouts of the same question are worth, if one policy stands for all questions."""
    samples = source.base_model().samples_per_question()
    asked, total = int(np.sum(samples > 0)), int(samples.sum())
    if found.start.worth is not None:
        if found.start.worth > total / _ALIKE:
            return []
        return [
            f"rollouts of the same question are alike: the {total} from {asked} questions are "
            f"worth {found.start.worth:.0f} independent ones for the accuracy over questions like "
            "these; the intervals say so (ask more questions, not more often)"
        ]
    if asked > 1 and samples.max() > 1:
        few = f"only {asked} questions were asked" if found.settings.questions == "sampled" else (
            "questions are taken as fixed")  # fmt: skip
        return [f"{few}: intervals are for these very questions, and say nothing of others"]
    return []


def _of_check(found: Findings) -> list[str]:
    """What the check of logs could not see."""
    check, lines = found.log_check, []
    if check is None:
        return []
    number = check.with_patterns + check.without_patterns
    steps = "the logged step has" if number == 1 else f"the {number} logged steps have"
    if check.with_patterns == 0:
        lines.append(
            f"{steps} no patterns: the accuracy alone was checked; whether the shares of patterns "
            "follow the model, and whether success rates within patterns stay as they are, was not"
        )
    elif check.without_patterns:
        lines.append(
            f"{check.without_patterns} of {number} logged steps have no patterns: of these the "
            "accuracy alone was checked, and the forecast over steps is fitted to the others"
        )
    if found.settings.pooling != "pooled":
        lines.append(
            "with questions told apart the logs were checked over all questions together: success "
            "rates within patterns, and whether the speed changes, were not looked at by themselves"
        )
        return lines
    if number == 1:
        lines.append("one logged step cannot show whether the speed of the run changes")
    elif check.least_slowing > 0.5:
        what = f"it takes a loss of {100 * check.least_slowing:.0f} % to be found in 9 of 10 runs"
        if check.least_slowing >= 1:
            what = "even one that stops would often go unnoticed"
        lines.append(
            f"the logs are too short to show a run that halves its speed in their middle: {what}"
        )
    if check.least_drift > _DRIFT:
        what = f"it takes {check.least_drift:.2f} in all of them to be found in 9 of 10 runs"
        if check.least_drift >= 0.5:
            what = "even much larger drifts would often go unnoticed"
        lines.append(
            f"the logs are too short to show that success rates drift by {_DRIFT:g} over them: "
            f"{what}"
        )
    return lines


def _of_rates(found: Findings, source: Rollouts) -> list[str]:
    """What was made of logged learning rates."""
    run, logged = found.rlvr.step_forecast, source.learning_rates
    if run is None or logged is None or run.optimised:
        return []
    parts = logged[:, 1] / logged[:, 1].max()
    steps = logged[:, 0] - source.steps[0]
    line = (
        f"the learning rates of the file are the schedule of the run, as parts of the largest, "
        f"{logged[:, 1].max():.3g}: {parts[0]:.2g} at step {steps[0]:.0f}, {parts[-1]:.2g} at step "
        f"{steps[-1]:.0f}"
    )
    if run.steps[-1] > steps[-1]:
        line += "; after that it is taken to stay, unless --schedule says otherwise"
    if float(run.log_scale.low) == float(run.log_scale.high):
        line += (
            f"; the time per step is that of --learning-rate, {np.exp(run.log_scale.median):.3g}, "
            "another number"
        )
    return [line]


def _of_model(found: Findings, source: Rollouts) -> list[str]:
    lines = ["success rates within patterns are taken as fixed while training moves patterns"]
    if found.log_check is not None and found.log_check.drifting:
        lines = [
            "success rates within patterns drift: the forecast of accuracies over steps lets them, "
            "that of the shares of patterns takes them as they are at the start"
        ]
    if found.settings.pooling == "pooled" and found.data.num_questions > 1:
        lines.append(
            "one policy stands for all questions: it says nothing of pass@k after training"
        )
    if found.settings.pooling != "pooled":
        lines.append(
            "questions do not learn from each other here: shared parameters would be faster"
        )
    if found.rlif is not None and np.isnan(found.rlif.pattern_rewards.median).any():
        lines.append("RLIF is judged among the patterns with an internal reward only")
    if found.start.within is not None and not found.start.within.compared.all():
        lines.append(
            "some patterns are beside others in too few questions to be compared within these: "
            "their success rates are pooled ones"
        )
    lines += _of_rates(found, source)
    run = found.rlvr.step_forecast
    if run is not None and run.optimised:
        lines.append(
            "steps are those of the optimiser that was given, on the last layer of a network as it "
            "was described: tested on small transformers of one task (docs/training.md)"
        )
    elif run is not None and found.log_check is None and len(run.logged):
        lines.append(
            "whether the logs bear out the model was not checked: that takes a log after the first "
            "step"
        )
    if run is not None and run.optimised and found.log_check is not None:
        which = "the share of the best pattern" if found.log_check.with_patterns else "the accuracy"
        lines.append(
            f"the logs were checked by {which} alone, each against what was foretold given those "
            "before: the pace may wander, so a change of it shows only if it is large or sudden"
        )
    elif run is None or not run.optimised:
        lines += _of_check(found)
    if run is not None and run.noise == "":
        lines.append(
            "the forecast over steps has no training noise: it is that of very large batches"
        )
    if run is not None and run.effective_draws < 30:
        lines.append(
            f"the logs leave {run.effective_draws:.0f} effective draws: they fit "
            "few base models that the rollouts allow, or the draws are too few"
        )
    failed = {name: n for name, n in found.status.items() if not Status[name].success}
    if failed:
        why = ", ".join(f"{number} x {name}" for name, number in failed.items())
        lines.append(f"solves that failed: {why}")
    return lines
