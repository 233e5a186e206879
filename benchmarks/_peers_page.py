"""The page and the plot of `benchmarks.peers`, made from its stored results.

`python -m benchmarks._peers_page` makes both again.
"""

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from qra_jax.plot import style

from ._common import RESULTS

DOCS = RESULTS.parent.parent / "docs"
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"


def _number(value: Any) -> str:
    """Three digits, thousands as k and millions as M."""
    if not isinstance(value, (int, float)):
        return "-" if value is None else str(value)
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-2:
        return f"{value:.1e}"
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def _markdown(head: Sequence[str], body: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *([_number(cell) for cell in row] for row in body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _speed(row: dict[str, Any]) -> Any:
    """The speed, or why there is none; a target that was missed is marked."""
    if row["per second"] is None:
        return row["target"]
    return _number(row["per second"]) + ("" if row["target"] == "met" else " (missed)")


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["peer"] for row in rows))


def _dense(rows: list[dict[str, Any]]) -> list[str]:
    cells = {(row["peer"], row["K"], row["B"]): row for row in rows}
    sizes = list(dict.fromkeys((row["K"], row["B"]) for row in rows))
    patterns = list(dict.fromkeys(k for k, _ in sizes))
    numbers = [b for _, b in sizes]
    speeds = _markdown(
        ["trajectories/s", *(f"K = {k}, B = {b}" for k, b in sizes)],
        ([name, *(_speed(cells[name, *size]) for size in sizes)] for name in _names(rows)),
    )
    keys = ("tolerance", "max error", "compile s")
    tuned = [
        (name, [_tuned(cells, name, k, (max(numbers), min(numbers))) for k in patterns])
        for name in _names(rows)
    ]
    tuning = _markdown(
        ["", *(f"{key}, K = {k}" for k in patterns for key in keys)],
        ([name, *(row[key] for row in found for key in keys)] for name, found in tuned),
    )
    return [speeds, "Tolerance, largest error and compile time:", tuning]


def _tuned(cells, name, patterns, numbers) -> dict[str, Any]:
    """The row of the first size at which a peer was run."""
    found = [cells[name, patterns, number] for number in numbers]
    return next((row for row in found if row["per second"] is not None), found[0])


def _list(rows: list[dict[str, Any]], keys: Sequence[str]) -> str:
    shown = [{**row, "per second": _speed(row)} for row in rows]
    return _markdown(keys, ([row[key] for key in keys] for row in shown))


def page(record: dict[str, Any]) -> str:
    """The part of the page that is made from results."""
    machine, config, figures = (record[key] for key in ("machine", "settings", "figures"))
    versions = {**machine["versions"], **config["peers"]}
    columns = ("tolerance", "max error", "per second", "compile s", "ours is x faster")
    times = figures["times"]
    growth = [
        [row["peer"], row["cost ratio"], *(row["median log10 T0"] or (None, None))]
        for row in times["cost over T0"]
    ]
    keys = ("per second", "peak RSS GB", "before the solve GB", "not solved")
    many = [[row["peer"], row["problems"], *map(row.get, keys)] for row in times["one million"]]
    return "\n\n".join(
        [
            f"Measured on {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; "
            + ", ".join(f"{name} {found}" for name, found in versions.items())
            + ".",
            "![Trajectories per second](benchmarks.png)",
            "### Trajectories",
            *_dense(figures["dense"]),
            "### Gradients of the final state",
            _list(figures["gradient"], ("peer", *columns)),
            "### Event times",
            _list(times["rows"], ("quantity", "peer", *columns)),
            _markdown(
                ["", "cost at T0 near 1e60 / near 1e2", "median log10 T0, near 1e2", "near 1e60"],
                growth,
            ),
            _markdown(["", "problems, log T_eps (compile included)", *keys], many),
        ]
    )


def plot(record: dict[str, Any], path: pathlib.Path) -> None:
    """Trajectories per second over the number of problems, a panel for each K; and gradients."""
    rows, gradients = record["figures"]["dense"], record["figures"]["gradient"]
    patterns = list(dict.fromkeys(row["K"] for row in rows))
    with style():
        fig, axes = plt.subplots(1, len(patterns) + 1, figsize=(2.6 * len(patterns) + 3, 3.6))
        colours = [*plt.rcParams["axes.prop_cycle"].by_key()["color"], "0.5"]
        for ax, k in zip(axes, patterns, strict=False):
            if ax is not axes[0]:
                ax.sharey(axes[0])
            for name, marker, colour in zip(_names(rows), "o^vsDPX*", colours, strict=False):
                ran = [r for r in rows if (r["peer"], r["K"]) == (name, k) and r["per second"]]
                speeds = [row["per second"] for row in ran]
                ax.plot([row["B"] for row in ran], speeds, color=colour, marker=marker, ms=4)
            ax.set(xscale="log", yscale="log", xlabel="problems", title=f"K = {k}")
        axes[0].set_ylabel("trajectories per second")
        absent = {row["peer"] for row in rows if row["target"] == "absent"}
        names = [name + " (absent)" * (name in absent) for name in _names(rows)]
        fig.legend(axes[0].lines, names, loc="outside lower center", ncols=4)
        ran = [row for row in gradients if row["per second"]]
        labels = [row["peer"].replace(", ", ",\n").replace("Adjoint", "") for row in ran]
        axes[-1].barh(labels, [row["per second"] for row in ran])
        axes[-1].invert_yaxis()
        axes[-1].set(title="Gradients, K = 8", xlabel="gradients per second")
        fig.savefig(path)
        plt.close(fig)


def update() -> None:
    """Make `docs/benchmarks.md` (between its markers) and `docs/benchmarks.png` again."""
    record = json.loads((RESULTS / "peers.json").read_text())
    path = DOCS / "benchmarks.md"
    before, rest = path.read_text().split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{page(record)}\n{END}{after}")
    plot(record, DOCS / "benchmarks.png")


if __name__ == "__main__":
    update()
