"""The claims ledger from the command line: `python -m experiments.claims [options]`.

Every claim is put to the test; the console says what disagrees, and a file has all beside what was
measured. The exit code is 1 if one of the
project's own claims does not hold, and 2 for bad input.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import tyro
from tqdm import tqdm

from qra_jax.commands import (
    BadSetting,
    leaving_on_interrupt,
    require_setting,
    require_writable,
    written_whole,
)

from .._lab.claim import Verdict, plain
from . import LEDGER
from ._ledger import Entry, Result, run
from ._page import counts, number, page, table

_PAGE = Path(__file__).parents[2] / "docs" / "claims.md"


@dataclasses.dataclass(frozen=True)
class Claims:
    """Put published statements, and our own, to the test."""

    out: Path = Path("results/claims")
    """folder that claims.txt and claims.json are written into"""
    page: Path | None = None
    """where the page of the documentation is written; docs/claims.md of the repository if not
    given, unless the run is quick, partial or of another seed"""
    quick: bool = False
    """fewer random draws, for tests"""
    only: tuple[str, ...] = ()
    """identifiers of the claims to put to the test; all if not given"""
    seed: int = 0
    """seed of all random draws, a whole number of at least 0"""
    list: bool = False
    """say which claims there are, and stop"""
    quiet: bool = False
    """no progress bar"""

    def __post_init__(self) -> None:
        require_setting(self.seed >= 0, "seed", "be at least 0", self.seed)

    def chosen(self, ledger: Sequence[Entry]) -> tuple[Entry, ...]:
        """The claims asked for.

        **Raises:** `BadSetting` for an identifier that no claim has.
        """
        known = [entry.id for entry in ledger]
        unknown = [name for name in self.only if name not in known]
        must = "be identifiers of claims (--list shows them)"
        require_setting(not unknown, "only", must, ", ".join(unknown))
        return tuple(entry for entry in ledger if not self.only or entry.id in self.only)

    @property
    def page_written(self) -> Path | None:
        """Where the page goes, if it is written."""
        default = None if self.quick or self.only or self.seed else _PAGE
        return default if self.page is None else self.page


def _as_json(result: Result) -> dict[str, object]:
    entry, claim = result.entry, result.claim
    return {
        "id": entry.id,
        "source": entry.source,
        "statement": entry.statement,
        "setting": entry.setting,
        "predicted": plain(claim.predicted),
        "measured": plain(claim.measured),
        "standard_error": plain(claim.standard_error),
        "verdict": claim.verdict.value,
        "ours": entry.ours,
    }


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise ValueError(f"{path} must be writable ({error.strerror or error})") from None


_SHOWN = 4
"""Disagreements that the console names; the table has all."""


def _end(results: Sequence[Result], seconds: float, table: Path) -> str:
    """What was found and what disagrees, in about ten lines; the rest is in the file named."""
    lines = [f"{counts(results)}; {seconds:.0f} s"]
    fails = [result for result in results if result.fails]
    lines.append(
        f"OURS FAIL: {', '.join(result.entry.id for result in fails)}"
        if fails
        else "every claim of our own that could be decided holds"
    )
    lines += [
        f"could not be run: {result.entry.id} ({result.error})"
        for result in results
        if result.error is not None
    ]
    refuted = [one for one in results if one.claim.verdict is Verdict.DISAGREES]
    for result in refuted[:_SHOWN]:
        claim = result.claim
        figures = f"predicted {number(claim.predicted)}, measured {number(claim.measured)}"
        lines.append(f"disagrees: {result.entry.id} ({result.entry.source}): {figures}")
    if rest := refuted[_SHOWN:]:
        names = ", ".join(result.entry.id for result in rest)
        lines.append(f"{len(rest)} more disagree: {names}")
    lines.append(f"wrote {table}: every claim, what was predicted and what was measured")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, ledger: Sequence[Entry] = LEDGER) -> int:
    """Put a ledger to the test; returns the exit code (1: a claim of ours fails, 2: bad input,
    130: Ctrl-C)."""
    with leaving_on_interrupt("interrupted: nothing was written", arguments is None):
        return _main(arguments, ledger)


def _main(arguments: Sequence[str] | None, ledger: Sequence[Entry]) -> int:
    jax.config.update("jax_enable_x64", True)
    # Compiling takes nearly all of the time, and a third less like this.
    jax.config.update("jax_disable_most_optimizations", True)
    began = time.monotonic()
    try:
        settings = tyro.cli(
            Claims, args=arguments, prog="python -m experiments.claims", description=__doc__
        )
        entries = settings.chosen(ledger)
        if settings.list:
            for entry in entries:
                print(f"{entry.id:<40} {entry.statement}")
            return 0
        require_writable(settings.out)
        if settings.page is not None:
            require_writable(settings.page.parent)
        bar = tqdm(total=len(entries), desc="claims", unit="claim", disable=settings.quiet)
        with bar:
            results = run(entries, settings.quick, settings.seed, bar.update)
        whole, written = settings.out / "claims.txt", [settings.out / "claims.json"]
        with written_whole():
            _write(whole, f"{counts(results)}\n\n{table(results)}\n")
            _write(written[0], json.dumps([_as_json(one) for one in results], indent=2) + "\n")
            if settings.page_written is not None:
                written.append(settings.page_written)
                _write(written[1], page(results))
    except (BadSetting, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_end(results, time.monotonic() - began, whole))
    for path in written:
        print(f"wrote {path}")
    return 1 if any(result.fails for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
