"""The report of a diagnosis: a page that needs nothing but itself, the numbers, and figures."""

import base64
import io
import json
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from ..._core.folders import writing_to
from ..._core.provenance import provenance
from ..._core.version import VERSION
from ...plot import style
from .. import Diagnosis
from ..words import (
    alarms,
    box,
    check_sentence,
    key_figures,
    open_lines,
    pattern_rows,
    questions_csv,
    share,
    signal_lines,
    size_rows,
    slowest,
    trust_lines,
    verdict,
    withheld,
)
from ._design import Plan
from ._explorer import EXPLORER, explorer_link
from ._figures import draw_figures

try:
    import jinja2
    from markupsafe import Markup
except ImportError:
    # Said before anything is computed, not after it.
    raise ImportError(
        "jinja2 is needed for the report: python -m pip install 'qra-jax[report]'"
    ) from None

_TEMPLATE = Path(__file__).with_name("page.html")
_MOST_STUCK = 40


def inline(figure: Figure) -> str:
    """The figure as SVG, in base 64."""
    image = io.BytesIO()
    # A date, or random names inside, would make the page differ from run to run.
    with matplotlib.rc_context({"svg.hashsalt": "qra"}):
        figure.savefig(image, format="svg", metadata={"Date": None})
    return base64.b64encode(image.getvalue()).decode()


def rendered(template: Path, **values: object) -> str:
    """A page of a template, in which every text is escaped and every name must be given."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)


def write_files(out: Path, texts: dict[str, str], figures: dict[str, Figure]) -> list[Path]:
    """Texts by the names of their files, and figures as PNG and PDF; the files.

    **Raises:** `ValueError` if the folder cannot be written.
    """
    written = []
    with writing_to(out):
        for name, text in texts.items():
            written.append(out / name)
            written[-1].write_text(text, encoding="utf-8")
        for name, figure in figures.items():
            for suffix in ("png", "pdf"):
                written.append(out / f"{name}.{suffix}")
                with style():  # it says how many dots an inch has
                    figure.savefig(written[-1])
    return written


def page(source: str, found: Diagnosis, plan: Plan | None, figures: dict[str, Figure]) -> str:
    """The page as HTML, with the figures in it.

    **Arguments:** `source`: what was read, for the heading; `found`; `plan`: the fine-tuning, if it
    was designed; `figures`: by name.
    """
    images = {name: inline(figure) for name, figure in figures.items()}

    def figure(name: str, caption: str) -> Markup:
        image = f'<img alt="{name}" src="data:image/svg+xml;base64,{images[name]}">'
        return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(
            Markup(image), caption
        )

    questions = found.data.num_questions
    return rendered(
        _TEMPLATE,
        title=f"Diagnosis of {source}",
        source=f"{source}: {found.data.samples.sum():.0f} rollouts of the base model, "
        f"{questions} question{'' if questions == 1 else 's'}, "
        f"{len(found.data.patterns)} patterns",
        found=found,
        alarms=alarms(found),
        withheld=withheld(found),
        box=box(found, plan),
        check_sentence=check_sentence(found),
        trust=trust_lines(found),
        key_figures=key_figures(found),
        explorer=explorer_link(found),
        patterns=pattern_rows(found),
        slowest=slowest(found),
        figure=figure,
        drawn=set(figures),
        signal=signal_lines(found),
        sizes=size_rows(found),
        design=None if "ends" in withheld(found) else plan,
        stuck_counts=[sum(question.at == at for question in found.data.stuck) for at in (0, 1)],
        most_stuck=_MOST_STUCK,
        open_lines=open_lines(found),
        statuses=", ".join(f"{count} {name}" for name, count in found.status.items()),
        share=share,
        version=VERSION,
    )


def write_report(out: Path, source: str, found: Diagnosis, plan: Plan | None) -> list[Path]:
    """Write `report.html`, `report.json`, `questions.csv`, the figures (PNG and PDF), and
    `explorer.html`, which the report links to with its numbers.

    **Arguments:** `out`: the folder; `source`, `found`, `plan`: as for `page`.

    **Returns:** the files.

    **Raises:** `ValueError` if the folder cannot be written.
    """
    figures = draw_figures(found, plan)
    diagnosis = found.to_dict()
    if found.signal is not None:
        # Of each question there is a row in questions.csv.
        del diagnosis["signal"]["by_question"]
    numbers = {
        "source": source,
        "provenance": provenance(),
        "alarms": alarms(found),
        "box": {row.name: row.value for row in box(found, plan)},
        "verdict": verdict(found),
        "diagnosis": diagnosis,
        "design": None if plan is None else plan.to_dict(),
    }
    texts = {
        "report.html": page(source, found, plan, figures),
        "report.json": json.dumps(numbers, indent=1, allow_nan=False) + "\n",
    }
    if found.signal is not None:
        texts["questions.csv"] = questions_csv(found)
    if explorer_link(found):
        texts[EXPLORER.name] = EXPLORER.read_text(encoding="utf-8")
    return write_files(out, texts, figures)
