"""The claims ledger: published statements and our own, each put to the test as an experiment.

A claim is a function, named as the claim is, with a decorator in the module of its subject, and a
line in
`tests/experiments/test_claims.py`; the command line is `python -m experiments.claims`.
"""

from . import (
    entanglement,
    fine_tuning,
    internal_rewards,
    iterations,
    language_model,
    natural_gradients,
    penalties,
    regimes,
    rlif,
    tails,
    tokens,
    training,
    utilities,
)
from ._ledger import Entry, ledger_of

SUBJECTS = (
    regimes.SUBJECT,
    fine_tuning.SUBJECT,
    tails.SUBJECT,
    entanglement.SUBJECT,
    natural_gradients.SUBJECT,
    utilities.SUBJECT,
    penalties.SUBJECT,
    iterations.SUBJECT,
    rlif.SUBJECT,
    internal_rewards.SUBJECT,
    tokens.SUBJECT,
    training.SUBJECT,
    language_model.SUBJECT,
)
LEDGER: tuple[Entry, ...] = ledger_of(SUBJECTS)
