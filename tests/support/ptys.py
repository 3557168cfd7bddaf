"""A program on a pseudo-terminal of our own: keys in, bytes out, and what a terminal would show of them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


class PtyProgram:
    """Runs a command on a terminal of `columns` x `rows` cells.

    `output` is all that it wrote; `lines()` what stands on the terminal now. Use as a context manager: at its end the
    program is sent SIGTERM, then SIGKILL.

    Args:
        environ: added to an environment with true colours, UTF-8 and nothing that tells of SSH or tmux.
    """

    def __init__(
        self, command: Sequence[str], columns: int, rows: int, environ: Mapping[str, str] | None = None
    ) -> None:
        self.output = bytearray()
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            given = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
            kept = {
                name: value for name, value in os.environ.items() if name not in ("SSH_CONNECTION", "TMUX", "LC_ALL")
            }
            os.execvpe(command[0], list(command), kept | given | dict(environ or {}))
        self.resize(columns, rows)

    def __enter__(self) -> PtyProgram:
        return self

    def __exit__(self, *_: object) -> None:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if self.ended():
                break
            os.kill(self.pid, signum)
            self.read(3.0, until_ended=True)
        os.close(self._fd)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def send(self, keys: str) -> None:
        """Type."""
        os.write(self._fd, keys.encode())

    def read(self, seconds: float, *, until_ended: bool = False) -> int:
        """Take in what comes within so many seconds; returns how many bytes that was."""
        total, end_s = 0, time.perf_counter() + seconds
        while (left_s := end_s - time.perf_counter()) > 0 and not (until_ended and self.ended()):
            total += self.read_once(min(left_s, 0.1))
        return total

    def read_once(self, seconds: float) -> int:
        """Take in what comes first within so many seconds; returns how many bytes that was."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return 0
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # the other end is closed
            time.sleep(seconds)
            return 0
        self.output += data
        self._stream.feed(data)
        return len(data)

    def first_byte(self) -> None:
        """Wait for the first sign of life after a key. Raises TimeoutError where none comes."""
        deadline_s = time.perf_counter() + PATIENCE_S
        while not self.read_once(0.01):
            if time.perf_counter() > deadline_s:
                raise TimeoutError("the program does not react")

    def lines(self) -> list[str]:
        """What stands on the terminal."""
        return [line.rstrip() for line in self.screen.display]

    def until(self, *words: str) -> str:
        """Wait until all these words stand on the terminal; returns its text. Raises TimeoutError with that text."""
        deadline_s = time.perf_counter() + PATIENCE_S
        while True:
            text = "\n".join(self.lines())
            if all(word in text for word in words):
                return text
            if time.perf_counter() > deadline_s or self.ended():
                raise TimeoutError(f"{words} did not appear on\n{text}")
            self.read(0.05)

    def quiet(self, seconds: float = 0.4) -> None:
        """Wait until nothing came for so long. Raises TimeoutError where it never rests."""
        deadline_s = time.perf_counter() + PATIENCE_S
        while self.read(seconds):
            if time.perf_counter() > deadline_s:
                raise TimeoutError("the terminal never rests")

    def ended(self) -> bool:
        """Whether the program is gone."""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True

    def cpu_s(self) -> float:
        """Processor seconds that the program has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Resident memory of the program."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
