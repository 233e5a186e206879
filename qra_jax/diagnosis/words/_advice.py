"""What a report may say of fine-tuning first."""

import abc


class Advice(abc.ABC):
    """A fine-tuning that was designed, in words."""

    @property
    @abc.abstractmethod
    def sentence(self) -> str:
        """What to do next."""

    @abc.abstractmethod
    def summary(self) -> list[str]:
        """The lines of the console."""
