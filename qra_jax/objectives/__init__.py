"""What is maximised: rewards, utilities, penalties, and the metrics of a policy."""

from ._internal_rewards import MajorityVote as MajorityVote
from ._internal_rewards import ReferenceProbability as ReferenceProbability
from ._internal_rewards import SelfConsistency as SelfConsistency
from ._internal_rewards import SequenceProbability as SequenceProbability
from ._internal_rewards import TokenEntropy as TokenEntropy
from ._internal_rewards import TopTwoMargin as TopTwoMargin
from ._internal_rewards import TrajectoryEntropy as TrajectoryEntropy
from ._metrics import accuracy as accuracy
from ._metrics import advantage as advantage
from ._metrics import mean_accuracy as mean_accuracy
from ._metrics import pass_at_k as pass_at_k
from ._metrics import success_rate_drift as success_rate_drift
from ._objective import RLIF as RLIF
from ._objective import RLVR as RLVR
from ._objective import AbstractObjective as AbstractObjective
from ._objective import Objective as Objective
from ._regularisers import AbstractRegulariser as AbstractRegulariser
from ._regularisers import EntropyBonus as EntropyBonus
from ._regularisers import ForwardKL as ForwardKL
from ._regularisers import KLEstimator as KLEstimator
from ._regularisers import ReverseKL as ReverseKL
from ._rewards import AbstractReward as AbstractReward
from ._rewards import Mixture as Mixture
from ._rewards import NoisyVerifier as NoisyVerifier
from ._rewards import PatternReward as PatternReward
from ._rewards import SelfCertainty as SelfCertainty
from ._rewards import Verifiable as Verifiable
from ._sft import SFT as SFT
from ._token_rewards import EndsIn as EndsIn
from ._token_rewards import MeanSelfCertainty as MeanSelfCertainty
from ._token_rewards import MeanTokenEntropy as MeanTokenEntropy
from ._utilities import GRPO as GRPO
from ._utilities import AbstractUtility as AbstractUtility
from ._utilities import DrGRPO as DrGRPO
from ._utilities import LogLikelihood as LogLikelihood
from ._utilities import MaxRL as MaxRL
from ._utilities import Mean as Mean
from ._utilities import PassAtK as PassAtK
from ._utilities import Tsallis as Tsallis

__all__ = [
    "GRPO",
    "RLIF",
    "RLVR",
    "SFT",
    "AbstractObjective",
    "AbstractRegulariser",
    "AbstractReward",
    "AbstractUtility",
    "DrGRPO",
    "EndsIn",
    "EntropyBonus",
    "ForwardKL",
    "KLEstimator",
    "LogLikelihood",
    "MajorityVote",
    "MaxRL",
    "Mean",
    "MeanSelfCertainty",
    "MeanTokenEntropy",
    "Mixture",
    "NoisyVerifier",
    "Objective",
    "PassAtK",
    "PatternReward",
    "ReferenceProbability",
    "ReverseKL",
    "SelfCertainty",
    "SelfConsistency",
    "SequenceProbability",
    "TokenEntropy",
    "TopTwoMargin",
    "TrajectoryEntropy",
    "Tsallis",
    "Verifiable",
    "accuracy",
    "advantage",
    "mean_accuracy",
    "pass_at_k",
    "success_rate_drift",
]
