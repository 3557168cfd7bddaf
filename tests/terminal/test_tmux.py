"""The screen in a real terminal: started, used, resized and ended within tmux."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.story import session, write_journal

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

ROOT = Path(__file__).parents[2]
LAUNCH = """
import os, sys
from pathlib import Path
from tui.app import run_app
from core.sources import LiveSource
folder = Path(sys.argv[1])
(folder / "pid").write_text(str(os.getpid()))
sys.exit(run_app(LiveSource(folder / "journal", lambda: False), crash_log=folder / "crash.log"))
"""
PATIENCE_S = 20.0


class Terminal:
    """A tmux server of its own, with one window that runs the screen and then says how it ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._socket = str(folder / "tmux")
        write_journal(folder / "journal", session(experiments=12))
        command = shlex.join([sys.executable, "-c", LAUNCH, str(folder)])
        shell = f"{command}; echo left with $?; exec cat"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", f"sh -c {shlex.quote(shell)}")

    def tmux(self, *args: str) -> str:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        environ.pop("TMUX", None)
        done = subprocess.run(
            ["tmux", "-S", self._socket, *args], env=environ, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def text(self) -> str:
        return self.tmux("capture-pane", "-p")

    def until(self, true: Callable[[str], bool]) -> str:
        """Wait until the window's text is as wanted; returns it."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not true(text := self.text()):
            assert time.monotonic() < deadline_s, text
            time.sleep(0.05)
        return text

    def in_full_screen(self) -> bool:
        return self.tmux("display-message", "-p", "#{alternate_on}").strip() == "1"

    def pid(self) -> int:
        return int((self.folder / "pid").read_text())


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    try:
        terminal.until(lambda text: "best confirmed" in text)
        yield terminal
    finally:
        terminal.tmux("kill-server")


def test_keys_work_resizes_do_no_harm_and_leaving_restores_the_terminal(terminal: Terminal) -> None:
    terminal.keys("4", "Enter")
    terminal.until(lambda text: "hypothesis" in text)
    terminal.keys("Escape")
    terminal.until(lambda text: "1 val_bpb" in text)
    for width, height in ((80, 24), (20, 5), (200, 60), (1, 1), (99, 30), (120, 40)) * 3:
        terminal.tmux("resize-window", "-x", str(width), "-y", str(height))
    terminal.until(lambda text: "╭─ 3 reasoning" in text and "4 experiments" in text)
    terminal.keys("?")
    terminal.until(lambda text: "Everywhere" in text)
    terminal.keys("Escape")
    terminal.until(lambda text: "Everywhere" not in text)
    terminal.keys("q")
    terminal.until(lambda text: "left with 0" in text)
    assert not terminal.in_full_screen()
    assert not (terminal.folder / "crash.log").exists()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_killed_screen_leaves_the_terminal_clean(terminal: Terminal, signum: signal.Signals) -> None:
    assert terminal.in_full_screen()
    os.kill(terminal.pid(), signum)
    text = terminal.until(lambda text: "left with" in text)
    assert "Traceback" not in text
    assert not terminal.in_full_screen()
