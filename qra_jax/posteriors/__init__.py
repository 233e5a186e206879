"""Posteriors of pattern probabilities and success rates."""

from ._clustered import LEAST_QUESTIONS as LEAST_QUESTIONS
from ._clustered import ClusteredPosterior as ClusteredPosterior
from ._clustered import DesignEffects as DesignEffects
from ._clustered import clustered_posterior as clustered_posterior
from ._clustered import design_effects as design_effects
from ._differ import PatternsDiffer as PatternsDiffer
from ._differ import patterns_differ as patterns_differ
from ._posteriors import AbstractPosterior as AbstractPosterior
from ._posteriors import ConjugatePosterior as ConjugatePosterior
from ._posteriors import PartialPosterior as PartialPosterior
from ._posteriors import Prior as Prior
from ._posteriors import partial_posterior as partial_posterior
from ._posteriors import per_question_posterior as per_question_posterior
from ._posteriors import pooled_posterior as pooled_posterior
from ._spread import QuestionSpread as QuestionSpread
from ._spread import question_spread as question_spread
from ._success import SuccessSpread as SuccessSpread
from ._success import quantiles_of as quantiles_of
from ._success import success_spread as success_spread
from ._within import WithinQuestions as WithinQuestions
from ._within import within_questions as within_questions

__all__ = [
    "LEAST_QUESTIONS",
    "AbstractPosterior",
    "ClusteredPosterior",
    "ConjugatePosterior",
    "DesignEffects",
    "PartialPosterior",
    "PatternsDiffer",
    "Prior",
    "QuestionSpread",
    "SuccessSpread",
    "WithinQuestions",
    "clustered_posterior",
    "design_effects",
    "partial_posterior",
    "patterns_differ",
    "per_question_posterior",
    "pooled_posterior",
    "quantiles_of",
    "question_spread",
    "success_spread",
    "within_questions",
]
