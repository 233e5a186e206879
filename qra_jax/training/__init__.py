"""Training in steps: optimisers, sampled groups and estimators."""

from ._estimators import REINFORCE as REINFORCE
from ._estimators import RLOO as RLOO
from ._estimators import AbstractEstimator as AbstractEstimator
from ._estimators import RejectionFineTuning as RejectionFineTuning
from ._estimators import SampledDrGRPO as SampledDrGRPO
from ._estimators import SampledGRPO as SampledGRPO
from ._estimators import SampledMaxRL as SampledMaxRL
from ._estimators import SampledPassAtK as SampledPassAtK
from ._groups import SampledGroups as SampledGroups
from ._train import Training as Training
from ._train import train as train

__all__ = [
    "REINFORCE",
    "RLOO",
    "AbstractEstimator",
    "RejectionFineTuning",
    "SampledDrGRPO",
    "SampledGRPO",
    "SampledGroups",
    "SampledMaxRL",
    "SampledPassAtK",
    "Training",
    "train",
]
