"""The lab: maps, claims, diagnosis and the language model, each a program of its own."""

import os as _os
import signal as _signal
import sys as _sys


def _interrupted(number, frame):
    _os.write(2, b"interrupted: nothing was written\n")
    _os._exit(130)


# `python -m experiments.NAME` is still loading its modules, which takes seconds; when done, it says
# for itself what becomes of Ctrl-C.
if _sys.argv[:1] == ["-m"]:
    _signal.signal(_signal.SIGINT, _interrupted)
