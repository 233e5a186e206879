"""Suggestions of rules, and what rules find."""

from ..rollouts import openings, rules_text, suggest_rules
from ._rules import SuggestRules
from ._run_reading import reading_of
from ._settings import require_setting


def run(settings: SuggestRules) -> str:
    """Read the texts, suggest rules, and write them.

    **Raises:** `ValueError` or `BadSetting` if the texts cannot be read or the file is there;
    `ImportError` without scikit-learn.
    """
    free = not settings.out.exists()
    require_setting(free, "out", "be a file that is not there yet", settings.out)
    texts = openings(
        settings.files, **reading_of(settings), letters=settings.letters, seed=settings.seed
    )
    rules = suggest_rules(
        texts, number=settings.number, letters=settings.letters, seed=settings.seed
    )
    text = rules_text(rules)
    if settings.dry_run:
        return text
    try:
        settings.out.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"out must be a file that can be written, got {reason}") from None
    lines = [f"{len(rules)} rules from {len(texts)} openings"]
    for rule in rules:
        lines.append(
            f"  {rule.share:6.1%}  {rule.name!r}: {' '.join(rule.examples[0].split())[:60]}"
        )
    named = settings.files[0]
    lines.append(f"  wrote {settings.out}: name the rules, then look at what they find with")
    return "\n".join([*lines, f"  qra diagnose {named} --rules {settings.out} --dry-run"])
