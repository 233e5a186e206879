"""Sharp laws in closed form, each with its range of validity."""

from ._constant_rewards import log_convergence_time_law as log_convergence_time_law
from ._constant_rewards import log_entanglement_time_law as log_entanglement_time_law
from ._constant_rewards import pattern_tail_law as pattern_tail_law
from ._constant_rewards import value_tail_law as value_tail_law
from ._law import Law as Law
from ._optimum import optimal_policy as optimal_policy
from ._rlif import rlif_drop_probability as rlif_drop_probability
from ._rlif import rlif_end_above_probability as rlif_end_above_probability
from ._rlif import rlif_rise_given_majority as rlif_rise_given_majority
from ._rlif import rlif_rise_probability as rlif_rise_probability
from ._two_patterns import log_two_pattern_time as log_two_pattern_time
from ._two_patterns import two_pattern_log_odds as two_pattern_log_odds

__all__ = [
    "Law",
    "log_convergence_time_law",
    "log_entanglement_time_law",
    "log_two_pattern_time",
    "optimal_policy",
    "pattern_tail_law",
    "rlif_drop_probability",
    "rlif_end_above_probability",
    "rlif_rise_given_majority",
    "rlif_rise_probability",
    "two_pattern_log_odds",
    "value_tail_law",
]
