"""Run every Python example of the given Markdown files, each in a process of its own.

The processes are forks of one that has imported the library and made no array yet: imports took
most of the time. As many run at once as there are processors. All run, whichever fail. Examples
marked `py` need what is not installed here, and tests run them.
"""

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import warnings
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
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


def run(title: str, code: str, output: Path, figures: Path) -> None:
    """In the fork: the example as a script of its own, all that it prints into a file."""
    from matplotlib.figure import Figure

    save = Figure.savefig
    Figure.savefig = lambda figure, name, **kwargs: save(figure, figures / name, **kwargs)
    with output.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    exec(compile(code, title, "exec"), {"__name__": "__main__"})
    sys.stdout.flush()


def main(names: list[str], folder: Path, figures: Path) -> int:
    """Print each example's output as it ends; 1 if one failed."""
    import jax

    import qra_jax

    for name in qra_jax.__all__:
        getattr(qra_jax, name)
    assert not jax._src.xla_bridge.backends_are_initialized()  # threads would not survive a fork
    fork, waiting, failed = multiprocessing.get_context("fork"), [], []
    for name in names:
        codes = re.findall(r"^```python\n(.*?)^```", Path(name).read_text(), re.DOTALL | re.M)
        waiting += [(f"example {i} of {name}", code) for i, code in enumerate(codes, 1)]
    running: dict[int, tuple[str, Path, BaseProcess]] = {}
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            title, code = waiting.pop(0)
            output = folder / title.replace("/", "-")
            process = fork.Process(target=run, args=(title, code, output, figures))
            process.start()
            running[process.sentinel] = title, output, process
        for sentinel in wait(list(running)):
            title, output, process = running.pop(sentinel)
            process.join()
            print(title, output.read_text(), sep="\n", flush=True)
            if process.exitcode != 0:
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
