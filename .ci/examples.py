"""Run every Python example of the given Markdown files, each as a script of its own.

As many processes as there are processors, forks of one that has imported the library and made no
array yet, take a page at a time: what one example compiles serves the next, as compilation takes
most of the time. No example sees another's names or settings. All run, whichever fail. Examples
marked `py` need what is not installed here, and tests run them.
"""

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

# A script of a few lines compiles for longer than it runs.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE"
    " --xla_cpu_parallel_codegen_split_count=1",
)
warnings.simplefilter("error")


def run(title: str, code: str, output: Path) -> bool:
    """The example with names and settings of its own, all that it prints into a file; whether it
    ended without an error."""
    import jax
    import matplotlib.pyplot as plt

    jax.config.update("jax_enable_x64", False)
    plt.close("all")
    plt.rcdefaults()
    good = True
    with output.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    try:
        exec(compile(code, title, "exec"), {"__name__": "__main__"})
    except BaseException:  # one that leaves the interpreter has failed too
        traceback.print_exc()
        good = False
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return good


def run_page(examples: list[tuple[str, str, Path]], figures: Path) -> list[tuple[str, bool]]:
    """In a fork: the examples of a page, one after the other; each title, and whether it ran."""
    from matplotlib.figure import Figure

    save = Figure.savefig
    Figure.savefig = lambda figure, name, **kwargs: save(figure, figures / name, **kwargs)
    try:
        return [(title, run(title, code, output)) for title, code, output in examples]
    finally:
        Figure.savefig = save


def main(names: list[str], folder: Path, figures: Path) -> int:
    """Print each page's output as it ends; 1 if an example failed."""
    import jax
    import matplotlib.pyplot  # noqa: F401

    import qra_jax

    for name in qra_jax.__all__:
        getattr(qra_jax, name)
    assert not jax._src.xla_bridge.backends_are_initialized()  # threads would not survive a fork
    fork, pages, failed = multiprocessing.get_context("fork"), [], []
    for name in names:
        codes = re.findall(r"^```python\n(.*?)^```", Path(name).read_text(), re.DOTALL | re.M)
        titles = [f"example {i} of {name}" for i in range(1, len(codes) + 1)]
        files = [folder / title.replace("/", "-") for title in titles]
        pages.append(list(zip(titles, codes, files, strict=True)))
    pages.sort(key=len, reverse=True)
    with ProcessPoolExecutor(os.cpu_count(), fork) as pool:
        running = {pool.submit(run_page, page, figures): page for page in pages if page}
        for future in as_completed(running):
            ran = dict(future.result()) if future.exception() is None else {}
            for title, _, output in running[future]:
                print(title, output.read_text() if output.exists() else "", sep="\n", flush=True)
                if not ran.get(title, False):
                    failed.append(title)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="+", help="Markdown files")
    parser.add_argument("--figures", type=Path, help="folder that figures are saved into")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        status = main(given.pages, Path(name), given.figures or Path(name))
    sys.exit(status)
