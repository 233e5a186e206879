"""The processes of a sweep: they agree over JAX's runtime at the start, and by files later."""

import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all

from ._store import StoreError, writing


class Team:
    """All processes that `jax.distributed` knows of; one, where it was not initialised.

    Only the start is a collective operation: processes end at very different times, and what waits
    for hours should not depend on a timeout. The sweep's folder is there for all of them anyway.
    """

    def __init__(self, folder: Path):
        self.index = jax.process_index()
        self.count = jax.process_count()
        self._folder = folder
        self._run = ""

    def agree(self, said: dict[str, Any]) -> dict[str, Any]:
        """What process 0 says, in every process; `run` in it names the run from here on."""
        if self.count > 1:
            text = np.frombuffer(json.dumps(said).encode(), np.uint8)
            length = int(broadcast_one_to_all(np.int32(len(text))))
            padded = np.zeros(length, np.uint8)
            if self.index == 0:
                padded[:] = text
            said = json.loads(np.asarray(broadcast_one_to_all(padded)).tobytes())
        self._run = said["run"]
        return said

    def _mark(self, what: str) -> Path:
        return self._folder / f".{what}-{self._run}"

    def tell(self, what: str) -> None:
        """Let the others know that this process stops; an empty file, if there is room for one."""
        if self.count > 1:
            try:
                self._mark(what).touch()
            except OSError:
                return  # they are ended by the runtime, which misses this process

    def told(self, what: str) -> bool:
        """Whether some process has told so."""
        return self.count > 1 and self._mark(what).exists()

    def gather(self, part: dict[str, Any]) -> list[dict[str, Any]]:
        """In process 0, the parts of all processes, once they are there; elsewhere nothing."""
        if self.count == 1:
            return [part]
        with writing(self._folder):
            if self.index > 0:
                write_json(self._mark(f"part-{self.index}"), part)
                return []
        parts = [part]
        for index in range(1, self.count):
            path = self._mark(f"part-{index}")
            while not path.exists():
                self._pause()
            parts.append(json.loads(path.read_text()))
            path.unlink()
        return parts

    def await_summary(self, path: Path) -> dict[str, Any]:
        """The summary that process 0 writes; only then may any process end."""
        while True:
            if path.exists():
                found = json.loads(path.read_text())
                if found["run"] == self._run:
                    return found
            self._pause()

    def _pause(self) -> None:
        if self.told("failed"):
            raise StoreError("another process of this run has failed, and says why")
        # A thousand processes that wait ask the file system a few hundred times a second in all.
        time.sleep(max(0.1, self.count / 200))


def write_json(path: Path, what: Any) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f"{path.name}.partial")
    fresh.write_text(json.dumps(what, indent=2) + "\n")
    os.replace(fresh, path)
