"""Build the documentation site into `site/`; a warning is an error. Nothing is fetched.

`python .ci/site/build.py` needs the extra `docs`. Open `site/index.html` in a browser, or serve the
folder (`python -m http.server -d site`), which the search needs.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FETCHED = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?https?:[^>]*>""")


def fetched(folder: Path) -> list[str]:
    """The elements of a site's pages that a browser would fetch from elsewhere."""
    return [
        f"{page.relative_to(folder)}: {found}"
        for page in sorted(folder.rglob("*.html"))
        for found in _FETCHED.findall(page.read_text())
    ]


def main() -> int:
    """Build, and look through what was built; returns the exit code."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, cwd=ROOT, env=env, check=False)
    if done.returncode != 0:
        return done.returncode
    outside = fetched(ROOT / "site")
    if outside:
        print("a page must fetch nothing from elsewhere:", *outside, sep="\n", file=sys.stderr)
    return bool(outside)


if __name__ == "__main__":
    sys.exit(main())
