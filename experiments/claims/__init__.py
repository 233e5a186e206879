"""The claims ledger: published statements and our own, each put to the test as an experiment.

A claim is a function with a decorator in the module of its subject, and a line in
`tests/experiments/test_claims.py`; the command line is `python -m experiments.claims`.
"""

from . import (
    internal_rewards,
    iterations,
    language_model,
    laws,
    penalties,
    regimes,
    tokens,
    training,
    utilities,
)
from ._ledger import Entry, ledger_of

SUBJECTS = (
    regimes.SUBJECT,
    laws.SUBJECT,
    utilities.SUBJECT,
    penalties.SUBJECT,
    iterations.SUBJECT,
    internal_rewards.SUBJECT,
    tokens.SUBJECT,
    training.SUBJECT,
    language_model.SUBJECT,
)
LEDGER: tuple[Entry, ...] = ledger_of(SUBJECTS)
