"""How a solve ended."""

from .._core.codes import Code


class Status(Code):
    """Why a solve stopped. The first three are successes.

    `Status.names(trajectory.status)` reads the integers of a result.
    """

    COMPLETED = 0
    """All requested times were reached."""
    EVENT = 1
    """The event given as `until` happened."""
    STATIONARY = 2
    """The gradient norm fell below its tolerance: the flow is at rest."""
    MAX_STEPS = 3
    """The solver used up its steps."""
    OVERFLOW = 4
    """Time, or a probability, left the range of the floating-point type."""
    FAILED = 5
    """The solver returned values that are not finite."""
    INVALID_INPUT = 6
    """Some input was not finite (values that are traced cannot be checked earlier)."""

    @property
    def success(self) -> bool:
        """Whether the solve did what was asked."""
        return self <= Status.STATIONARY
