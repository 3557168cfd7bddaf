"""A real terminal for a screen: a pty that is read fast, slowly or not at all, and what came out of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]
PATIENCE_S = 10.0


class Terminal:
    """Runs `python -m tui WORDS` on a pty of its own, as its controlling terminal.

    Args:
        environ: on top of an environment that says little: TERM and a UTF-8 locale.
        command: run instead of `python -m tui`.
    """

    def __init__(
        self,
        *words: str,
        home: Path,
        size: tuple[int, int] = (100, 30),
        environ: Mapping[str, str | None] | None = None,
        command: tuple[str, ...] = ("-m", "tui"),
    ) -> None:
        self.output = bytearray()
        self.size = size
        self._screen = pyte.Screen(*(size if all(size) else (80, 24)))
        self._stream = pyte.ByteStream(self._screen)
        self._fed = 0
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
        said: dict[str, str | None] = {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "AUTORESEARCH_HOME": str(home),
            "AUTORESEARCH_CONFIG": str(home / "config.toml"),
            **(environ or {}),
        }
        for name, value in said.items():
            if value is None:
                kept.pop(name, None)
            else:
                kept[name] = value
        self.master, slave = pty.openpty()
        width, height = size
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-P", *command, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=kept,
            preexec_fn=_control,  # noqa: PLW1509  no thread runs in the test that starts it
            close_fds=True,
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self.hang_up()

    def hang_up(self) -> None:
        """The terminal goes away."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def read(self, wait_s: float = 0.05, most: int = 65_536) -> bool:
        """Take what has come, if anything did."""
        if not select.select([self.master], [], [], wait_s)[0]:
            return False
        try:
            data = os.read(self.master, most)
        except OSError:  # the other end is closed
            return False
        self.output += data
        return bool(data)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def text(self) -> str:
        """What the terminal shows."""
        self._stream.feed(bytes(self.output[self._fed :]).replace(b"\x1b[<u", b"").replace(b"\x1b[>25u", b""))
        self._fed = len(self.output)
        return "\n".join(self._screen.display)

    def wipe(self) -> None:
        """Forget what was shown and sent."""
        del self.output[:]
        self._fed = 0
        self._screen.reset()

    def until(self, true: Callable[[Terminal], bool], what: str = "") -> None:
        """Read until it is true."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not true(self):
            assert time.monotonic() < deadline_s, f"{what}\n{self.text()}"
            self.read()

    def shows(self, *words: str) -> None:
        """Read until all these words stand on the screen."""
        self.until(lambda _: all(word in self.text() for word in words), f"waiting for {words}")

    def hides(self, words: str) -> None:
        """Read until these words no longer stand on the screen."""
        self.until(lambda _: words not in self.text(), f"waiting for the end of {words!r}")

    def ends(self) -> int:
        """Read to the end; returns the exit code."""
        self.until(lambda _: self.process.poll() is not None, "waiting for the end")
        while self.read():
            pass
        return self.process.returncode


def _control() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
