"""Numbers in words: every one with as many digits as it is known to."""

import math

from ...plot import LN10
from .._bands import Band, counted
from .._result import Findings, StepForecast

_WIDE = 1.3  # an interval that spans more than this factor bears two digits


def share(value: float) -> str:
    """A probability or a rate, to three decimals at most."""
    return "-" if math.isnan(value) else f"{value:.3f}".rstrip("0").rstrip(".")


def chance(value: float, found: Findings) -> str:
    """A probability that was counted in the draws of a diagnosis: never quite 0 or 1."""
    return counted(value, found.settings.draws)


def number(value: float, digits: int = 3) -> str:
    """A number of any size, with commas: 2,660 and not 2.66e+03."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    if math.isinf(value):
        return "infinite"
    power = math.floor(math.log10(abs(value)))
    if not -4 < power < 6:
        return f"{value:.{digits - 1}e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    places = max(0, digits - 1 - power)
    shown = f"{round(value, digits - 1 - power):,.{places}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def time(log_time: float, digits: int = 3, beyond: str = "never") -> str:
    """A time from its natural logarithm, however large; `beyond` names an infinite one."""
    if math.isnan(log_time):
        return "-"
    if math.isinf(log_time):
        return beyond if log_time > 0 else "0"
    if log_time < 290:
        return number(math.exp(log_time), digits)
    power = log_time / LN10
    return f"{10 ** (power % 1):.1f}e{int(power // 1)}"


def digits_of(low: float, high: float) -> int:
    """Of logarithms of the ends of an interval: how many digits the number between bears."""
    return 3 if high - low < math.log(_WIDE) else 2


def interval(band: Band, index=(), show=number) -> str:
    """The 90 % interval of one entry."""
    low, high = float(band.low[index]), float(band.high[index])
    return "" if math.isnan(low) or math.isnan(high) else f"{show(low)} to {show(high)}"


def within(band: Band, index=(), show=share) -> str:
    """The median and its interval: ".51 (.49 to .53)"."""
    return f"{show(float(band.median[index]))} ({interval(band, index, show)})"


def time_within(band: Band, index=0, unit: str = "", beyond: str = "never") -> str:
    """The same of log times."""
    low, high = float(band.low[index]), float(band.high[index])
    digits = digits_of(low, high) if math.isfinite(low) and math.isfinite(high) else 2
    unit = f" {unit}" if unit else ""

    def show(x):
        return time(x, digits, beyond)

    return f"{show(float(band.median[index]))}{unit} ({interval(band, index, show)})"


def beyond(steps: StepForecast) -> str:
    """What a step is called that a forecast does not get to."""
    return f"later than step {steps.steps[-1]:,}" if steps.optimised else "never"
