"""Rollouts and counts of a real model, read from files."""

from ._account import Account as Account
from ._fields import Fields as Fields
from ._pattern_tables import PatternTable as PatternTable
from ._pattern_tables import read_pattern_table as read_pattern_table
from ._reading import read_rollouts as read_rollouts
from ._reading import read_with_account as read_with_account
from ._rollouts import Rollouts as Rollouts
from ._rules import SHIPPED as SHIPPED
from ._suggest import SuggestedRule as SuggestedRule
from ._suggest import openings as openings
from ._suggest import rules_text as rules_text
from ._suggest import suggest_rules as suggest_rules

__all__ = [
    "SHIPPED",
    "Account",
    "Fields",
    "PatternTable",
    "Rollouts",
    "SuggestedRule",
    "openings",
    "read_pattern_table",
    "read_rollouts",
    "read_with_account",
    "rules_text",
    "suggest_rules",
]
