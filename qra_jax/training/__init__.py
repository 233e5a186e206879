"""Training in steps: optimisers, sampled groups and estimators, and what they are in the mean and
in the limit of small steps."""

from ._diffusion import Diffusion as Diffusion
from ._diffusion import solve_diffusion as solve_diffusion
from ._estimators import REINFORCE as REINFORCE
from ._estimators import RLOO as RLOO
from ._estimators import AbstractEstimator as AbstractEstimator
from ._estimators import RejectionFineTuning as RejectionFineTuning
from ._estimators import SampledDrGRPO as SampledDrGRPO
from ._estimators import SampledGRPO as SampledGRPO
from ._estimators import SampledMaxRL as SampledMaxRL
from ._estimators import SampledPassAtK as SampledPassAtK
from ._groups import SampledGroups as SampledGroups
from ._mean_field import AbstractMeanField as AbstractMeanField
from ._mean_field import MeanFieldAdam as MeanFieldAdam
from ._mean_field import MeanFieldMomentum as MeanFieldMomentum
from ._mean_field import MeanFieldRun as MeanFieldRun
from ._mean_field import solve_mean_field as solve_mean_field
from ._train import Training as Training
from ._train import train as train

__all__ = [
    "REINFORCE",
    "RLOO",
    "AbstractEstimator",
    "AbstractMeanField",
    "Diffusion",
    "MeanFieldAdam",
    "MeanFieldMomentum",
    "MeanFieldRun",
    "RejectionFineTuning",
    "SampledDrGRPO",
    "SampledGRPO",
    "SampledGroups",
    "SampledMaxRL",
    "SampledPassAtK",
    "Training",
    "solve_diffusion",
    "solve_mean_field",
    "train",
]
