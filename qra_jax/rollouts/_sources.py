"""Which files are meant: files, patterns of names and folders; with the steps in their names."""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ._open import KINDS
from ._rollouts import listed
from ._streams import kind_of


class Source(NamedTuple):
    """A file, the training step and the data set that its name tells, and whether it was found
    rather than named."""

    path: Path
    step: int | None = None
    dataset: str | None = None
    found: bool = False


_DATE = re.compile(
    r"[_-]?\d{4}-?\d{2}-?\d{2}[T_-]?\d{2}[-:]?\d{2}[-:]?\d{2}(?:[.]\d+)?(?:Z|[+-]\d{2}-?\d{2})?"
)
_LOGGED = re.compile(r"(?:completions|rollouts?|generations)[-_]?(\d+)", re.IGNORECASE)
_STAMPED = re.compile(r"(\d+)_\d{6}_\d{6}")
_WITHIN = re.compile(
    r"(?:^|[^a-z])(?:global_?step|steps?|checkpoint|ckpt|iter(?:ation)?|update)s?"
    r"[-_ =]?(\d+)(?!\d)",
    re.IGNORECASE,
)
# Numbers that tell parts or repetitions of one data set apart.
_PART = re.compile(
    r"(?:^|[-_./])(?:shard|rank|part|worker|chunk|proc|seed|rs|run|rep|repeat|sample|try|trial|k)?"
    r"[-_]?[\d#]+(?:[-_]of[-_]\d+)?$",
    re.IGNORECASE,
)
_TASK = re.compile(r"(?:samples|details)_(.+)")


def found_files(paths: Sequence[str | os.PathLike]) -> tuple[list[Source], list[str]]:
    """The files, in the order of numbers in their names, and what to say about them.

    **Raises:** `ValueError` if there are none, of several kinds, or of two runs.
    """
    sources: list[Source] = []
    notes: list[str] = []
    if not paths:
        raise ValueError("path must name at least one file, got none")
    for given in paths:
        path = Path(given)
        if path.is_dir():
            files, skipped = _in_folder(path)
            notes += skipped
        elif not path.exists() and glob.has_magic(str(path)):
            names = glob.glob(str(path), recursive=True)
            files = sorted((Path(n) for n in names if Path(n).is_file()), key=_natural)
            if not files:
                raise ValueError(f"{path} must match files, got none")
        else:
            sources.append(Source(path, _step(path, path.parent) if len(paths) > 1 else None))
            continue
        root = path if path.is_dir() else Path(os.path.commonpath([f.parent for f in files]))
        sources += [Source(file, _step(file, root), found=True) for file in files]
    seen: set[Path] = set()
    for source in sources:
        real = source.path.resolve()
        if real in seen:
            raise ValueError(f"path must name every file once, got {source.path} again")
        seen.add(real)
    if len(sources) > 1:
        _one_run([source for source in sources if source.found])
        sources = _with_sets(sources)
    return sources, notes


def _in_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder that hold rows, and what else there is."""
    every = sorted(
        (p for p in folder.rglob("*") if p.is_file() and not _hidden(p, folder)), key=_natural
    )
    kinds: dict[str, list[Path]] = {}
    for path in every:
        kind = kind_of(path)
        if kind in KINDS:
            kinds.setdefault(_ALIKE.get(kind, kind), []).append(path)
    names = tuple(path.relative_to(folder) for path in every)
    if not kinds:
        got = f"only {listed(names, 4)}" if names else "an empty folder"
        raise ValueError(
            f"{folder} must hold files that end in one of {', '.join(KINDS)}, got {got}"
        )
    # Beside the rows themselves, a document is what was set or came of it.
    chosen = [kind for kind in kinds if kind != ".json"] or [".json"]
    if len(chosen) > 1:
        example = f"'{folder}/**/*{chosen[0]}'"
        raise ValueError(
            f"{folder} must hold rollouts in files of one kind, got {', '.join(sorted(chosen))}: "
            f"a pattern such as {example} names some of them"
        )
    files = kinds[chosen[0]]
    left = tuple(path.relative_to(folder) for path in every if path not in set(files))
    return files, [f"files of {folder} that are not read: {listed(left, 6)}"] if left else []


_ALIKE = {".ndjson": ".jsonl", ".tsv": ".csv"}


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Names in the order of the numbers in them."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(p), 0, "") if p.isdigit() else (-1, 1, p) for p in parts]


def _stem(path: Path) -> str:
    name = path.name
    while Path(name).suffix.lower() in (*KINDS, ".gz", ".zst"):
        name = Path(name).stem
    return name


def _step(path: Path, root: Path) -> int | None:
    """The step in the name of a file, or of a folder between it and the root."""
    folders = [path.parent, *path.parent.parents]
    between = folders[: folders.index(root)] if root in folders else []
    for name in (_stem(path), *(folder.name for folder in between)):
        bare = _DATE.sub("", name)
        for rule in (_STAMPED, _LOGGED):
            if found := rule.fullmatch(name):
                return int(found[1])
        if bare.isdigit():
            return int(bare)
        if found := _WITHIN.findall(bare):
            return int(found[-1])
    return None


def _one_run(sources: Iterable[Source]) -> None:
    """Raise where files of a folder tell the same step, or the same task, of two runs."""
    first: dict[tuple, Path] = {}
    runs: dict[int, dict[str, Path]] = {}
    twins: dict[Path, Path] = {}
    for source in sources:
        path, stem = source.path, _DATE.sub("", _stem(source.path))
        twin = twins.setdefault(path.parent / _stem(path), path)
        if twin != path:
            raise ValueError(
                f"the files must be different ones, got {twin} and {path}, which differ in their "
                "endings only: name one of them"
            )
        task = _task(path)
        if source.step is None or task:
            key = (source.step, task or (path.name if stem == _stem(path) else stem))
            before = first.setdefault(key, path)
            if before != path:
                raise _two_runs(before, path, f"the same name, {key[1]}")
            continue
        number = rf"(?<!\d)0*{source.step}(?!\d)"
        run = re.sub(number, "#", _DATE.sub("", str(path.parent / _stem(path))))
        of_step = runs.setdefault(source.step, {})
        of_step.setdefault(_PART.sub("", run), path)
        if len(of_step) > 1:
            one, other, *_ = of_step.values()
            raise _two_runs(one, other, f"step {source.step}")


def _two_runs(one: Path, other: Path, what: str) -> ValueError:
    return ValueError(
        f"the files must be of one run, got {one} and {other}, both of {what}: give one of them "
        "(or name the files one by one)"
    )


def _task(path: Path) -> str | None:
    """The task in the names that lm-evaluation-harness and lighteval give, which end in a date."""
    stem = _stem(path)
    bare = _DATE.sub("", stem)
    found = _TASK.fullmatch(bare) if bare != stem else None
    return found[1].strip("_") if found else None


def _with_sets(sources: list[Source]) -> list[Source]:
    """Files whose names differ in more than numbers are of different data sets."""
    tasks = [_task(source.path) for source in sources]
    if all(tasks):
        names = tasks
    elif any(source.step is not None for source in sources):
        return sources
    else:
        names = [_PART.sub("", _DATE.sub("", _stem(source.path))) for source in sources]
        names = [name if name else None for name in names]
    if len(set(names)) < 2 or None in names:
        return sources
    return [s._replace(dataset=name) for s, name in zip(sources, names, strict=True)]
