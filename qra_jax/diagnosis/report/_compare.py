"""A comparison of models in words, as a table, as figures and as a page."""

import csv
import io
import json
import math
from pathlib import Path

from matplotlib.figure import Figure

from ..._core.provenance import provenance
from ..._core.version import VERSION
from ...plot import BEST, LN10, MISLEADING, REST, THEORY, style
from .. import Band, Comparison, Quantity, counted
from ..words import number, share, time
from ._page import inline, rendered, write_files

_TEMPLATE = Path(__file__).with_name("compare.html")
_LINES = ("-", "--", "-.", ":")
_COLOURS = (THEORY, MISLEADING, BEST, REST, "#CC79A7", "#E69F00", "#56B4E9")


def _shown(quantity: Quantity, over: Band, at: tuple[int, ...], ratio: bool = False) -> str:
    """A median and its interval; of times the number itself, or of two the ratio."""
    low, median, high = (float(x[at]) for x in (over.low, over.median, over.high))
    if math.isnan(median):
        return "-"
    if quantity.unit == "log time":
        shown = [time(x, 2) for x in (low, median, high)]
        if ratio:
            shown = [f"x {x}" if x not in ("never", "0") else x for x in shown]
    else:
        show = share if max(abs(low), abs(high)) < 10 else number
        shown = [show(x) for x in (low, median, high)]
    return f"{shown[1]} ({shown[0]} to {shown[2]})"


def comparison_rows(found: Comparison) -> list[list[str]]:
    """The table: a row for each quantity, each model, and each model less the first one."""
    rows = []
    for quantity in found.quantities.values():
        each = [_shown(quantity, quantity.each, (at,)) for at in range(len(found.models))]
        less = [
            _shown(quantity, quantity.less, (at, 0), ratio=True)
            for at in range(1, len(found.models))
        ]
        above = [
            counted(float(quantity.above[at, 0]), found.draws) for at in range(1, len(found.models))
        ]
        rows.append([quantity.name, *each, *less, *above])
    return rows


def comparison_head(found: Comparison) -> list[str]:
    """The names of the columns of `comparison_rows`."""
    first, *others = found.models
    return [
        "quantity",
        *found.models,
        *(f"{name} less {first} (times: ratio)" for name in others),
        *(f"P({name} has more than {first})" for name in others),
    ]


def comparison_lines(found: Comparison) -> list[str]:
    """The lines of the console."""
    number_of = len(found.questions)
    how = "resampled in pairs" if found.paired else "taken as fixed"
    lines = [*found.summary(), "", f"  {number_of} shared questions, {how}"]
    head, rows = comparison_head(found), comparison_rows(found)
    for row in rows:
        lines.append(f"  {row[0]}")
        lines += [
            f"    {name + ':':<32} {value}" for name, value in zip(head[1:], row[1:], strict=True)
        ]
    lines.append("  regime (STRONG, ENTANGLED, MIXED)")
    for name, probs in zip(found.models, found.regimes, strict=True):
        lines.append(
            f"    {name + ':':<32} {', '.join(counted(float(x), found.draws) for x in probs)}"
        )
    return [*lines, "", *(f"  - {note}" for note in found.notes)]


def comparison_csv(found: Comparison) -> str:
    """Numbers of all pairs: quantity, unit, model, other (empty for the model itself), low, median,
    high, and how likely the model has more than the other."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["quantity", "unit", "model", "other", "low", "median", "high", "more"])
    for quantity in found.quantities.values():
        head = [quantity.name, quantity.unit]
        for at, name in enumerate(found.models):
            values = (float(x[at]) for x in vars(quantity.each).values())
            writer.writerow([*head, name, "", *(f"{x:.6g}" for x in values), ""])
            for other, named in enumerate(found.models):
                if other == at:
                    continue
                values = (float(x[at, other]) for x in vars(quantity.less).values())
                chance = f"{quantity.above[at, other]:.4g}"
                writer.writerow([*head, name, named, *(f"{x:.6g}" for x in values), chance])
    return text.getvalue()


def comparison_figures(found: Comparison) -> dict[str, Figure]:
    """Forecast accuracies of all models, and who is ahead when."""
    x = found.log_times / LN10
    with style():
        figures = {}
        for name in ("accuracy", "ahead"):
            figures[name] = Figure(figsize=(4.6, 3.0))
            ax = figures[name].subplots()
            for at, model in enumerate(found.models):
                colour, line = _COLOURS[at % len(_COLOURS)], _LINES[at % len(_LINES)]
                if name == "ahead":
                    ax.plot(x, found.ahead[at], line, color=colour, label=model)
                    continue
                over = found.accuracy
                ax.fill_between(x, over.low[at], over.high[at], color=colour, alpha=0.18, lw=0)
                ax.plot(x, over.median[at], line, color=colour, label=model)
            label = "accuracy" if name == "accuracy" else "P(highest accuracy)"
            ax.set(xlabel=r"$\log_{10}$ of time (learning rate $\times$ steps)", ylabel=label,
                   ylim=(-0.02, 1.02))  # fmt: skip
            ax.legend(fontsize=7)
        return figures


def write_comparison(out: Path, found: Comparison) -> list[Path]:
    """Write `compare.html`, `compare.json`, `compare.csv` and the figures (PNG and PDF).

    **Returns:** the files.

    **Raises:** `ValueError` if the folder cannot be written.
    """
    figures, summary = comparison_figures(found), found.summary()
    numbers = {
        "provenance": provenance(),
        "summary": summary,
        "comparison": found.to_dict(),
    }
    page = rendered(
        _TEMPLATE,
        found=found,
        summary=summary,
        head=comparison_head(found),
        rows=comparison_rows(found),
        shares=[
            [pattern, *(f"{share(float(found.shares.median[at, r]))}" for at in _of(found))]
            + [share(float(found.rates.median[at, r])) for at in _of(found)]
            for r, pattern in enumerate(found.patterns)
        ],
        regimes=[[counted(float(x), found.draws) for x in row] for row in found.regimes],
        images={name: inline(figure) for name, figure in figures.items()},
        version=VERSION,
    )
    texts = {
        "compare.html": page,
        "compare.json": json.dumps(numbers, indent=1, allow_nan=False) + "\n",
        "compare.csv": comparison_csv(found),
    }
    return write_files(out, texts, figures)


def _of(found: Comparison) -> range:
    return range(len(found.models))
