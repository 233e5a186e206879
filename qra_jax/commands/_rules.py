"""The settings of suggestions of rules."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from ._reading import Reading
from ._settings import require_setting


@dataclasses.dataclass(frozen=True)
class SuggestRules(Reading):
    """Suggest rules that sort texts into patterns, from how they begin: clusters of openings by
    TF-IDF and k-means (needs the extra: pip install 'qra-jax[patterns]'). Names are for you."""

    name: ClassVar[str] = "rules"

    out: Path = Path("rules.toml")
    """file that the rules are written into; it must not be there yet"""
    number: int = 6
    """how many clusters"""
    letters: int = 200
    """how many letters of each text are its opening"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_setting(self.number >= 2, "number", "be at least 2", self.number)
        require_setting(self.letters >= 1, "letters", "be at least 1", self.letters)
        none = self.rules is None
        require_setting(none, "rules", "not be given: they are what is suggested", self.rules)
