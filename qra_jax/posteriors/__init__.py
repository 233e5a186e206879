"""Posteriors of pattern probabilities and success rates."""

from ._posteriors import AbstractPosterior as AbstractPosterior
from ._posteriors import ConjugatePosterior as ConjugatePosterior
from ._posteriors import PartialPosterior as PartialPosterior
from ._posteriors import Prior as Prior
from ._posteriors import partial_posterior as partial_posterior
from ._posteriors import per_question_posterior as per_question_posterior
from ._posteriors import pooled_posterior as pooled_posterior

__all__ = [
    "AbstractPosterior",
    "ConjugatePosterior",
    "PartialPosterior",
    "Prior",
    "partial_posterior",
    "per_question_posterior",
    "pooled_posterior",
]
