"""The log of a pod: the launcher's progress as lines of our own, and the trainer's output, which can never pass for it.

Standard library only: it travels with the runner of a pod.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

HEAD_BYTES: Final = 1_200_000
TAIL_BYTES: Final = 800_000
"""Of the trainer's output: a node rotates logs at 10 MB, and then forgets. The end is where a traceback is."""
MOST_LINE_BYTES: Final = 8192
LOOK_S: Final = 0.25
END_CAP_S: Final = 5.0


class Voice:
    """The pod's standard output, spoken by a thread: nobody need listen, and the launcher's clock goes on.

    Args:
        folder: the attempt's, where the launcher writes progress.log and output.log.
        device: what the device did since it was last asked: util (0 to 1), mem_mb and more.
    """

    def __init__(self, folder: Path, device: Callable[[], dict[str, float]]) -> None:
        self._folder = folder
        self._device = device
        self._offsets = {"progress.log": 0, "output.log": 0}
        self._head_left = HEAD_BYTES
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Pass on the rest."""
        self._over.set()
        self._thread.join(END_CAP_S)

    def _speak(self) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more: the result goes another way
            while not self._over.wait(LOOK_S):
                self._look()
            self._look()
            self._tail()

    def _look(self) -> None:
        for line in self._new("progress.log", 1 << 20):
            self._print_ours(line)
        if self._head_left > 0:
            for line in self._new("output.log", self._head_left):
                self._print_trainers(line)

    def _new(self, name: str, most: int) -> list[bytes]:
        """The whole lines that were added to a file, up to about `most` bytes."""
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(self._offsets[name])
                data = file.read(most)
        except OSError:
            return []
        end = len(data) if self._over.is_set() or len(data) == most else data.rfind(b"\n") + 1
        self._offsets[name] += end
        if name == "output.log":
            self._head_left -= end
        return data[:end].splitlines()

    def _tail(self) -> None:
        """The end of a long output."""
        try:
            with (self._folder / "output.log").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = max(self._offsets["output.log"], size - TAIL_BYTES)
                file.seek(start)
                data = file.read()
        except OSError:
            return
        if left_out := start - self._offsets["output.log"]:
            _write(f"[{left_out} bytes left out]")
        for line in data.splitlines():
            self._print_trainers(line)

    def _print_ours(self, line: bytes) -> None:
        try:
            told = {"ar": 1, **json.loads(line)}
        except ValueError:
            return
        if told.get("kind") == "progress":
            # What the trainer says of its memory is what it asked for; the device's figure holds the driver's share.
            told |= {key: value for key, value in self._device().items() if told.get(key) is None}
        _write(json.dumps(told))

    def _print_trainers(self, line: bytes) -> None:
        for start in range(0, max(1, len(line)), MOST_LINE_BYTES):
            text = line[start : start + MOST_LINE_BYTES].decode(errors="ignore")  # the launcher cleaned it
            _write(f"| {text}" if text.lstrip().startswith('{"ar"') else text)


def _write(text: str) -> None:
    data = text.encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]
