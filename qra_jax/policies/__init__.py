"""Problems and policies: questions, reasoning patterns and answers."""

from ._factor import FactorTable as FactorTable
from ._factor import factor_policy as factor_policy
from ._features import FeaturePolicy as FeaturePolicy
from ._features import linear_policy as linear_policy
from ._features import network_policy as network_policy
from ._markov import MarkovPolicy as MarkovPolicy
from ._policy import AbstractPolicy as AbstractPolicy
from ._policy import AbstractSampledPolicy as AbstractSampledPolicy
from ._policy import AbstractTokenPolicy as AbstractTokenPolicy
from ._policy import Outcomes as Outcomes
from ._problem import Problem as Problem
from ._tabular import TabularPolicy as TabularPolicy
from ._tabular import two_stage as two_stage
from ._token_values import TokenValues as TokenValues
from ._two_stage import AbstractTablePolicy as AbstractTablePolicy
from ._two_stage import AbstractTwoStagePolicy as AbstractTwoStagePolicy

__all__ = [
    "AbstractPolicy",
    "AbstractSampledPolicy",
    "AbstractTablePolicy",
    "AbstractTokenPolicy",
    "AbstractTwoStagePolicy",
    "FactorTable",
    "FeaturePolicy",
    "MarkovPolicy",
    "Outcomes",
    "Problem",
    "TabularPolicy",
    "TokenValues",
    "factor_policy",
    "linear_policy",
    "network_policy",
    "two_stage",
]
