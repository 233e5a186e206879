"""What a ledger of claims is made of: experiments with an identifier, a source and a statement."""

import dataclasses
import functools
import threading
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np

from .._lab.claim import Claim, Outcome, Verdict


@dataclasses.dataclass(frozen=True)
class Context:
    """What an experiment is told: how large it may be, and its own random numbers.

    They depend on the seed and a name, so that no result depends on which other claims are run.
    """

    quick: bool
    seed: int
    name: str

    @property
    def key(self) -> jax.Array:
        """The key of JAX's random numbers."""
        return jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(self.name.encode()))

    @property
    def rng(self) -> np.random.Generator:
        """NumPy's random numbers, from the start."""
        return np.random.default_rng([self.seed, zlib.crc32(self.name.encode())])

    def named(self, name: str) -> "Context":
        """The context of something that several claims share."""
        return dataclasses.replace(self, name=name)

    def size(self, full: int, quick: int) -> int:
        """A number of draws: the first in a full run, the second in a quick one."""
        return quick if self.quick else full


Experiment = Callable[[Context], Outcome]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A claim before it is put to the test."""

    id: str
    subject: str
    source: str
    statement: str
    setting: str
    ours: bool
    note: str
    experiment: Experiment


@dataclasses.dataclass(frozen=True)
class Result:
    """A claim put to the test; `error` says why there is no measurement, if there is none."""

    entry: Entry
    claim: Claim
    error: str | None = None

    @property
    def fails(self) -> bool:
        """Whether a claim of our own does not hold, or could not be put to the test."""
        refuted = self.claim.verdict is Verdict.DISAGREES
        return self.entry.ours and (refuted or self.error is not None)


class Subject:
    """The claims on one subject, in the order in which they were written."""

    def __init__(self, title: str):
        self.title = title
        self.entries: list[Entry] = []

    def claim(
        self,
        *,
        id: str,
        source: str,
        statement: str,
        setting: str,
        ours: bool = False,
        note: str = "",
    ) -> Callable[[Experiment], Experiment]:
        """Register a function `(context) -> Outcome` as the experiment of a claim.

        **Arguments:** `id`: stable, in kebab case; `source`: who says so; `statement`: what is
        said; `setting`: in which case it is tried here; `ours`: derived for this project, so that
        the ledger fails if it does not hold; `note`: why it does not hold, or what does.
        """

        def register(experiment: Experiment) -> Experiment:
            self.entries.append(
                Entry(id, self.title, source, statement, setting, ours, note, experiment)
            )
            return experiment

        return register


def ledger_of(subjects: Iterable[Subject]) -> tuple[Entry, ...]:
    """All claims of some subjects.

    **Raises:** `ValueError` if two of them have the same identifier.
    """
    entries = tuple(entry for subject in subjects for entry in subject.entries)
    ids = [entry.id for entry in entries]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ValueError(f"ids must differ, got {', '.join(twice)} more than once")
    return entries


def put_to_the_test(entry: Entry, quick: bool, seed: int) -> Result:
    """Run one experiment. One that raises leaves its claim undecided, with the error as reason."""
    try:
        outcome = entry.experiment(Context(quick, seed, entry.id))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        outcome = Outcome(float("nan"), float("nan"), None, Verdict.UNDECIDED)
        return Result(entry, Claim.of(entry.statement, entry.source, outcome), reason)
    return Result(entry, Claim.of(entry.statement, entry.source, outcome))


def run(
    entries: Iterable[Entry],
    quick: bool,
    seed: int,
    progress: Callable[[int], Any] | None = None,
) -> list[Result]:
    """Run experiments two at a time, one compiling while another runs; results in their order."""

    def one(entry: Entry) -> Result:
        result = put_to_the_test(entry, quick, seed)
        if progress is not None:
            progress(1)
        return result

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, entries))


_T = TypeVar("_T")


def once(function: Callable[..., _T]) -> Callable[..., _T]:
    """Remember results by the arguments; whoever asks meanwhile waits, and does not run it too."""
    remembered, lock = functools.cache(function), threading.Lock()

    @functools.wraps(function)
    def locked(*arguments):
        with lock:
            return remembered(*arguments)

    return locked
