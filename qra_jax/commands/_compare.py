"""The settings of a comparison."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from ._reading import Reading
from ._settings import require_setting


@dataclasses.dataclass(frozen=True)
class Compare(Reading):
    """Say which of several models to start RL from, and how sure that is: each path is the rollouts
    of one model, or one path those of a run, of which every step is a model. Models are compared in
    pairs on the questions that they share."""

    name: ClassVar[str] = "compare"

    out: Path = Path("results/compare")
    """folder that compare.html, compare.json, compare.csv and the figures are written into"""
    names: tuple[str, ...] = ()
    """names of the models, one for each path; those of the files if not given"""
    ks: tuple[int, ...] = (1, 4, 8)
    """numbers of samples for pass@k and maj@k"""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = len(self.names) in (0, len(self.files))
        must = f"be one for each of the {len(self.files)} paths"
        require_setting(fits, "names", must, len(self.names))
        require_setting(len(set(self.names)) == len(self.names), "names", "differ", self.names)
        require_setting(all(k >= 1 for k in self.ks), "ks", "be at least 1", self.ks)
