"""Which text is which pattern: rules in a TOML file."""

import abc
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._files import needed_polars

_FOLDER = Path(__file__).with_name("rules")
SHIPPED = ("checking", "code", "language", "length", "steps", "tags")
"""Names of rules that come with the library."""

_EXAMPLES = 3


def rules_file(rules: str | os.PathLike) -> Path:
    """The file of rules: a path, or that of rules that come with the library, by name.

    **Raises:** `ValueError` if there is neither.
    """
    path = Path(rules)
    if str(rules) in SHIPPED and not path.exists():
        return _FOLDER / f"{rules}.toml"
    if path.suffix == "" and not path.exists():
        names = ", ".join(SHIPPED)
        raise ValueError(f"rules must be a TOML file or one of {names}, got {rules}")
    return path


class Sorter(abc.ABC):
    """What sorts texts into patterns."""

    names: tuple[str, ...]

    @abc.abstractmethod
    def __call__(self, texts: Sequence[str | None]) -> list[str | None]:
        """The patterns of texts; None for None."""


class PatternRules(Sorter):
    """Ordered regular expressions, of which the first that is found names the pattern.

    The file is TOML: `default = "prose"`, then tables `[[pattern]]` with `name` and `regex`, the
    syntax of the Rust crate regex: no look-around, no back-references, and so a time that grows
    like the length of the text.
    """

    def __init__(self, rules: str | os.PathLike):
        path = rules_file(rules)
        settings = _settings(path)
        unknown = [key for key in settings if key not in ("default", "pattern")]
        tables = settings.get("pattern", [])
        _require(not unknown, path, "keys", "be default and pattern", ", ".join(unknown))
        default = _name(path, "default", settings.get("default"))
        fits = isinstance(tables, list) and all(isinstance(rule, dict) for rule in tables)
        _require(fits and tables != [], path, "pattern", "be tables [[pattern]]", repr(tables))
        polars = needed_polars("rules")
        chosen: Any = polars
        for number, rule in enumerate(tables, start=1):
            where = f"pattern {number}"
            keys = ", ".join(rule)
            _require(set(rule) == {"name", "regex"}, path, where, "have name and regex", keys)
            name = _name(path, f"{where}, name", rule["name"])
            regex = rule["regex"]
            _require(isinstance(regex, str), path, f"{where}, regex", "be a text", repr(regex))
            try:
                polars.Series([""]).str.contains(regex)
            except polars.exceptions.ComputeError as error:
                reason = str(error).split("error: ", 2)[-1].split("\n", 1)[0]
                must = "be a regular expression of Rust's regex"
                _require(False, path, f"{where}, regex", must, f"{regex!r} ({reason})")
            found = polars.col("text").str.contains(regex)
            chosen = chosen.when(found).then(polars.lit(name))
        missing = polars.col("text").is_null()
        self._chosen = polars.when(~missing).then(chosen.otherwise(polars.lit(default)))
        self._polars = polars
        self.names = tuple(dict.fromkeys([*(rule["name"] for rule in tables), default]))

    def __call__(self, texts: Sequence[str | None]) -> list[str | None]:
        """The patterns of texts; None for None."""
        polars = self._polars
        try:
            column = polars.Series("text", texts, polars.String)
        except UnicodeEncodeError:  # half of a surrogate pair, where a text was cut
            whole = [
                None if text is None else text.encode(errors="replace").decode() for text in texts
            ]
            column = polars.Series("text", whole, polars.String)
        return column.to_frame().select(pattern=self._chosen)["pattern"].to_list()


def _settings(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{path} must be a file that can be read, got: {reason}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a TOML file, got: {error}") from None


def _name(path: Path, what: str, name: object) -> str:
    text = name.strip() if isinstance(name, str) else ""
    _require(bool(text), path, what, "be a name", "nothing" if name is None else repr(name))
    return text


def _require(ok: bool, path: Path, what: str, must: str, was: str) -> None:
    if not ok:
        raise ValueError(f"{path}: {what} must {must}, got {was or 'nothing'}")


def keep_examples(
    kept: dict[str, tuple[str, ...]], patterns: Sequence[str | None], texts: Sequence[str | None]
) -> None:
    """A few texts of each pattern, cut, added to those kept."""
    full = {name for name, some in kept.items() if len(some) >= _EXAMPLES}
    for pattern, text in zip(patterns, texts, strict=True):
        if pattern is None or text is None or pattern in full:
            continue
        kept[pattern] = (*kept.get(pattern, ()), text[:200])
        if len(kept[pattern]) >= _EXAMPLES:
            full.add(pattern)
