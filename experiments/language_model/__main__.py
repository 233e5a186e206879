"""A small language model, trained here: does the lab predict its RL run?"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro
from matplotlib.figure import Figure
from tqdm import tqdm

from qra_jax import plot
from qra_jax.commands import (
    BadSetting,
    leaving_on_interrupt,
    require_setting,
    require_writable,
)

from ._bases import MIXTURES, SHIPPED_BASE, load
from ._compare import summary
from ._figures import draw_live
from ._live import LIVE, QUICK, Size, live, told
from ._results import SHIPPED, figures, read_study, store, with_foretold
from ._said import say
from ._study import KINDS, all_jobs, collect, run_all
from ._task import Pattern


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Train a small language model by RLVR and by RLIF beside what the diagnosis of its rollouts
    says (a few minutes), or repeat the whole study."""

    out: Path = Path("results/language_model")
    """folder that figures, curves and checkpoints are written into"""
    quick: bool = False
    """a few small steps, for a first look and for tests"""
    full: bool = False
    """pre-train all base models, train each in every way, and compare: over an hour on two cores;
    goes on where it was interrupted"""
    seed: int = 0
    """seed of the live runs, a whole number of at least 0"""
    workers: int = 2
    """runs of the full study beside each other"""
    quiet: bool = False
    """no progress bars"""

    def __post_init__(self) -> None:
        require_setting(self.seed >= 0, "seed", "be at least 0", self.seed)
        require_setting(self.workers >= 1, "workers", "be at least 1", self.workers)
        require_setting(not (self.quick and self.full), "full", "not come with quick", self.full)

    def one_of_each(self) -> tuple[list[str], list[Path], dict[str, Figure]]:
        """Live runs of the shipped base model: a summary, files written, and figures, those of the
        study among them."""
        size = QUICK if self.quick else Size()
        base = load(SHIPPED / f"base_{SHIPPED_BASE}.eqx")
        how = size.of(KINDS[LIVE[0]]).how
        said = say(base, how, self.seed, size.draws, size.held_out)
        share = 100 * MIXTURES[SHIPPED_BASE][Pattern.WORKED]
        title = f"base model {SHIPPED_BASE} (best pattern in {share:g} % of its texts)"
        print("\n".join([title, *(f"  {line}" for line in told(said))]), flush=True)
        with tqdm(total=len(LIVE) * size.num_steps, unit="step", disable=self.quiet) as bar:

            def seen(label: str, step: int) -> None:
                bar.set_description(label)
                bar.update()

            found = live(base, said, self.out, self.seed, size, seen)
        data = read_study()
        behind = None if self.quick else data.sel(base=SHIPPED_BASE)
        drawn = {"live": draw_live(found.logs(), found.band, behind)}
        files = [self.out / f"live_{name}.npz" for name in found.curves]
        lines = [*(f"  {line}" for line in found.lines()), "the whole study, as it is shipped"]
        return [*lines, *summary(data)], files, drawn | figures(data)

    def study(self) -> tuple[list[str], list[Path], dict[str, Figure]]:
        """All runs and the comparison: a summary, files written, and figures."""
        jobs = all_jobs()
        todo = [job for job in jobs if not job.done(self.out)]
        total = sum(job.num_steps for job in todo)
        with tqdm(total=total, desc="all runs", unit="step", disable=self.quiet) as bar:
            run_all(self.out, jobs, self.workers, bar.update)
        curves = collect(self.out)
        names = [str(name) for name in curves["base"].values]
        bar = tqdm(names, desc="comparison", unit="model", disable=self.quiet)
        data = with_foretold(self.out, curves, bar)
        return summary(data), [store(self.out, data)], figures(data)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, compare, write and print; returns the exit code (2 for bad input, 130 after
    Ctrl-C)."""
    with leaving_on_interrupt("interrupted", arguments is None):
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    jax.config.update("jax_enable_x64", True)
    try:
        settings = tyro.cli(
            Annotated[LanguageModel, tyro.conf.arg(name="")],
            args=arguments,
            prog="python -m experiments.language_model",
            description=__doc__,
        )
        require_writable(settings.out)
        lines, files, drawn = settings.study() if settings.full else settings.one_of_each()
    except (BadSetting, ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, figure in drawn.items():
        for suffix in ("png", "pdf"):
            files.append(settings.out / f"{name}.{suffix}")
            with plot.style():  # it says how many dots an inch has
                figure.savefig(files[-1])
    print("\n".join([*lines, *(f"  wrote {path}" for path in files)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
