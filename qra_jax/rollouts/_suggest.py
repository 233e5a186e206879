"""Rules suggested from the texts themselves: clusters of their openings, which the user names."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from .._core.checks import require, whole
from ._fields import Fields
from ._reading import PathLike, read_with
from ._rollouts import shown
from ._rules import Sorter

_MOST, _PHRASES, _EXAMPLES = 20_000, 3, 3
_ALL = "all"
_NUMBER = "0"  # all numbers are alike: which one it is belongs to the question


@dataclasses.dataclass(frozen=True)
class SuggestedRule:
    """A rule that finds texts that begin alike.

    - `name`: its commonest phrase; give it a better one.
    - `regex`: what it looks for within the opening.
    - `share`: of the texts that no rule before it finds; `precision`: how many of the texts that it
      finds are of its cluster.
    - `examples`: the openings of a few of them.
    """

    name: str
    regex: str
    share: float
    precision: float
    examples: tuple[str, ...]


class Openings(Sorter):
    """Stands for rules while files are read, and keeps the beginnings of texts: a sample of them
    that does not depend on how files are cut into blocks."""

    names = (_ALL,)

    def __init__(self, letters: int, seed: int):
        self.letters, self.rng = letters, np.random.default_rng(seed)
        self.texts: list[str] = []
        self.seen = 0

    def __call__(self, texts: Sequence[str | None]) -> list[str | None]:
        """One pattern for all; None for None."""
        for text in texts:
            if not text:
                continue
            self.seen += 1
            if len(self.texts) < _MOST:
                self.texts.append(text[: self.letters])
                continue
            at = int(self.rng.integers(self.seen))
            if at < _MOST:
                self.texts[at] = text[: self.letters]
        return [None if text is None else _ALL for text in texts]


def openings(
    path: PathLike | Sequence[PathLike],
    *,
    fields: Fields = Fields(),
    records: str | None = None,
    where: Mapping[str, str | Sequence[str]] | None = None,
    right: str | Sequence[str] = (),
    right_above: float | None = None,
    letters: int = 200,
    seed: int = 0,
) -> list[str]:
    """The beginnings of the texts of rollouts, at most 20,000 of them.

    **Arguments:** those of `read_rollouts`; `letters`: of each text; `seed`: of the choice.

    **Raises:** as `read_rollouts`.
    """
    kept = Openings(whole(letters, "letters", 1), seed)
    read_with(path, kept, fields, records, where, right, right_above)
    return kept.texts


def suggest_rules(
    texts: Sequence[str], *, number: int = 6, letters: int = 200, seed: int = 0
) -> tuple[SuggestedRule, ...]:
    """Rules for texts that begin alike.

    The openings are told apart by words and pairs of words (numbers count as one word, "N" in
    names, since which one it is belongs to the question), weighted by TF-IDF, and put into
    clusters by k-means (both of scikit-learn); a cluster's rule is the phrases that are most its
    own. Clusters without such a phrase have no rule.

    **Arguments:** `texts`; `number`: of clusters, at least 2; `letters`: of a text that count;
    `seed`.

    **Returns:** rules, the most precise first. They are a start: look at the examples, name them,
    and drop those that say what was asked rather than how it is answered.

    **Raises:** `ValueError` if there are fewer texts than clusters, or no words in them;
    `ImportError` without scikit-learn.

    Source: scikit-learn's TfidfVectorizer and KMeans.
    """
    whole(number, "number", 2)
    require(len(texts) >= number, "texts", f"be at least number = {number}", len(texts))
    extraction, cluster = _sklearn()
    short = [text[:letters] for text in texts]
    vectorizer = extraction.TfidfVectorizer(
        ngram_range=(1, 2), max_features=20_000, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"
    )
    try:
        table = vectorizer.fit_transform([re.sub(r"\d+", _NUMBER, text) for text in short])
    except ValueError:
        raise ValueError("texts must hold words, got none") from None
    distinct = len(set(short))
    labels = cluster.KMeans(min(number, distinct), n_init=4, random_state=seed).fit(table).labels_
    contains = table.astype(bool).tocsc()
    names = vectorizer.get_feature_names_out()
    found = [
        rule
        for label in np.unique(labels)
        if (rule := _rule(short, labels == label, contains, names, letters)) is not None
    ]
    found.sort(key=lambda rule: -rule.precision)
    left, rules = np.ones(len(short), bool), []
    for rule in found:
        hit = left & np.array([re.search(rule.regex, text) is not None for text in short])
        left &= ~hit
        rules.append(dataclasses.replace(rule, share=float(hit.mean())))
    return tuple(rules)


def _rule(
    texts: Sequence[str], mine: np.ndarray, contains, names: np.ndarray, letters: int
) -> SuggestedRule | None:
    """The phrases that tell a cluster from the others, added while they find more than they
    spoil."""
    counts = np.asarray(contains.sum(axis=0)).ravel()
    inside = np.asarray(contains[mine].sum(axis=0)).ravel()
    score = 2 * inside / (counts + mine.sum())  # F1 of "has the phrase" for "is of the cluster"
    chosen: list[int] = []
    covered, best = np.zeros(len(texts), bool), 0.0
    pairs = np.array([" " in name for name in names])  # of equal ones the longer phrase
    for at in np.lexsort((~pairs, -score.round(6)))[:50]:
        has = covered | (contains[:, at].toarray().ravel() > 0)
        value = 2 * np.sum(has & mine) / (has.sum() + mine.sum())
        if value > best + 0.01 and len(chosen) < _PHRASES:
            chosen.append(int(at))
            covered, best = has, float(value)
    if not chosen:
        return None
    precision = float(np.sum(covered & mine) / covered.sum())
    phrases = "|".join(
        r"\W+".join(r"\d+" if word == _NUMBER else word for word in names[at].split())
        for at in chosen
    )
    examples = [text for text, one in zip(texts, covered & mine, strict=True) if one][:_EXAMPLES]
    regex = rf"(?is)^.{{0,{letters}}}?\b(?:{phrases})\b"
    name = " ".join("N" if x == _NUMBER else x for x in names[chosen[0]].split())
    return SuggestedRule(name, regex, 0.0, precision, tuple(examples))


def rules_text(rules: Sequence[SuggestedRule]) -> str:
    """The rules as TOML, with what each finds; names are to be changed."""
    lines = [
        "# Suggested from the openings of the texts. Give every rule a name of your own, and",
        "# delete those that tell questions apart rather than ways of answering.",
        'default = "other"',
    ]
    used: dict[str, int] = {}
    for rule in rules:
        used[rule.name] = used.get(rule.name, 0) + 1
        name = rule.name if used[rule.name] == 1 else f"{rule.name} {used[rule.name]}"
        lines += ["", f"# {rule.share:.1%} of the texts"]
        lines += [f"#   {shown(text, 80)}" for text in rule.examples]
        lines += ["[[pattern]]", f'name = "{name}"', f"regex = '{rule.regex}'"]
    return "\n".join(lines) + "\n"


def _sklearn():
    try:
        import sklearn.cluster
        import sklearn.feature_extraction.text
    except ImportError:
        raise ImportError(
            "scikit-learn is needed to suggest rules: python -m pip install 'qra-jax[patterns]'"
        ) from None
    return sklearn.feature_extraction.text, sklearn.cluster
