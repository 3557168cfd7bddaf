"""A person closes the terminal and comes back: the engine never noticed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.journal import scan
from core.reduce import fold
from core.session import resolve_session
from tests.support.engines import tiny_corpus, until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.training,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


class Tmux:
    """A tmux server of our own with one window."""

    def __init__(self, socket: Path, home: Path, *words: str) -> None:
        self._socket = str(socket)
        self._environment = {**os.environ, "AUTORESEARCH_HOME": str(home), "TERM": "xterm-256color"}
        self._environment.pop("TMUX", None)
        command = shlex.join([sys.executable, "-P", "-m", "tui", *words])
        self.call("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", command)

    def call(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words], env=self._environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shows(self, text: str) -> None:
        until(lambda: text in self.call("capture-pane", "-p"), 60, f"{text!r} on the screen")


def test_a_closed_terminal_leaves_the_engine_working_and_attach_finds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    corpus = tiny_corpus(tmp_path / "corpus")
    first = Tmux(
        *(tmp_path / "first", tmp_path, "run", "--name", "night", "--corpus", str(corpus)),
        *("--budget-steps", "100000", "--seed", "1"),
    )
    first.shows("night")
    folder = resolve_session("night")
    until(lambda: any(run.status == "running" for run in state_of(folder).now.runs.values()), what="a running run")
    screen = int(first.call("list-panes", "-F", "#{pane_pid}"))
    first.call("kill-server")
    until(lambda: not works(screen), what="the end of the screen without a terminal")
    assert folder.engine_alive()

    second = Tmux(tmp_path / "second", tmp_path, "attach", "night")
    try:
        second.shows("● live")
        second.call("send-keys", "q")
        until(lambda: not server_lives(second), what="the end of the screen")
        assert folder.engine_alive()
    finally:
        stop = [sys.executable, "-P", "-m", "tui", "stop", "night"]
        assert subprocess.run(stop, env={**os.environ, "AUTORESEARCH_HOME": str(tmp_path)}).returncode == 0
    state = state_of(folder)
    assert state.now.ended is not None
    assert state.now.counts.attempts >= 2


def state_of(folder):
    return fold(event for event, _ in scan(folder.journal_dir))


def works(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def server_lives(terminal: Tmux) -> bool:
    """A tmux server ends with its last window."""
    try:
        terminal.call("list-sessions")
    except AssertionError:
        return False
    return True
