"""A comparison: rollouts of several models are read, compared and reported on."""

from collections.abc import Sequence
from pathlib import Path

import jax

from ..diagnosis import compare
from ..diagnosis.report import comparison_lines, write_comparison
from ..rollouts import Account, Rollouts
from ._compare import Compare
from ._run_reading import account_of, objective_of, sampler_of
from ._settings import require_setting


def run(settings: Compare) -> str:
    """Compare, write the report, and say what came of it.

    **Raises:** `ValueError` or `BadSetting` if the rollouts cannot be read, or there are less than
    two models; `ImportError` if a package of the extra `report` is missing.
    """
    accounts = [account_of(settings, (path,)) for path in settings.files]
    if settings.dry_run:
        return "\n\n".join("\n".join(account.lines()) for account in accounts)
    models = models_of(settings, accounts)
    jax.config.update("jax_enable_x64", True)
    found = compare(
        models,
        objective=objective_of(settings, sampler_of(settings)),
        eps=settings.eps,
        ks=settings.ks,
        group_size=settings.group_size,
        draws=settings.draws,
        seed=settings.seed,
    )
    written = write_comparison(settings.out, found)
    lines = [] if settings.quiet else comparison_lines(found)
    return "\n".join([*lines, *(f"  wrote {path}" for path in written)])


def models_of(settings: Compare, accounts: Sequence[Account]) -> dict[str, Rollouts]:
    """By name: one of each path, or one of each step of a single path."""
    if len(accounts) == 1:
        rollouts = accounts[0].rollouts
        several = len(rollouts.steps) > 1
        must = "name several models, or rollouts of several steps"
        require_setting(several, "path", must, f"{settings.files[0]} without steps")
        return {f"step {step}": rollouts.at_step(step) for step in rollouts.steps}
    names = settings.names or distinct_names(settings.files)
    return dict(zip(names, (account.rollouts for account in accounts), strict=True))


def distinct_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Names of files without endings; with their folders where these alone differ."""
    names = [path.name.split(".")[0] or str(path) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    require_setting(len(set(names)) == len(names), "path", "be given once each", names)
    return tuple(names)
