"""A real engine that is stopped in its tracks: the screen goes on, says so, and learns it when the engine obeys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core import control
from core.events import Command
from core.journal import scan
from core.session import SessionFolder, all_sessions
from core.sources import LiveSource
from tests.support.engines import until
from tests.tui.test_app import press, reads, settled, text_of, tick
from tui.app import SessionApp
from tui.cli.watch import SocketCommands
from tui.view.orders import SILENT_S

pytestmark = pytest.mark.processes
PROGRAM = Path(sys.executable).parent / "autoresearch-tui"


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A simulated session at a slow pace, with its engine's process."""
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    words = ("run", "--executor", "sim", "--gpus", "2xH100", "--hours", "8", "--seed", "5", "--speed", "60", "--detach")
    told = subprocess.run([str(PROGRAM), *words], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    [folder] = all_sessions()
    engine = folder.engine()
    assert engine is not None
    yield folder, engine.pid
    if folder.engine_alive():
        os.kill(engine.pid, signal.SIGCONT)
        os.kill(engine.pid, signal.SIGKILL)
    until(lambda: not folder.engine_alive(), what="the engine's end")


def commands_in(folder: SessionFolder) -> list[Command]:
    return [event for event, _ in scan(folder.journal_dir) if isinstance(event, Command)]


async def test_a_stopped_engine_is_said_to_be_silent_and_what_it_obeys_later_is_shown(session, monkeypatch):
    folder, pid = session
    monkeypatch.setattr(control, "_REPLY_S", 1.0)
    now_s = [0.0]
    app = SessionApp(LiveSource(folder.journal_dir, folder.engine_alive), commands=SocketCommands(folder), ticks_hz=0)
    app.orders.clock = lambda: now_s[0]
    async with app.run_test(size=(120, 40)) as pilot:
        await tick(app, pilot)
        os.kill(pid, signal.SIGSTOP)
        await press(pilot, "p")
        await reads(app, pilot, "… pause: sent")
        now_s[0] += SILENT_S
        await tick(app, pilot)
        assert "no answer yet, still waiting" in text_of(app)
        await press(pilot, "question_mark")
        await reads(app, pilot, "Everywhere")
        await press(pilot, "escape")
        await settled(app, pilot)
        await reads(app, pilot, "✗ pause: the engine of session")
        assert commands_in(folder) == []
        await press(pilot, "p")
        await settled(app, pilot)
        os.kill(pid, signal.SIGCONT)
        until(lambda: bool(commands_in(folder)), what="the command in the journal")
        await tick(app, pilot)
        shown = text_of(app)
        assert "◐ pause" in shown or "✓ pause" in shown
    assert len([command for command in commands_in(folder) if command.verb == "pause"]) == 1


def test_a_drain_and_a_cancel_from_the_command_line_reach_the_engine_and_the_status(session):
    folder, _ = session

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(PROGRAM), *words], capture_output=True, text=True, timeout=60)

    assert "gets no new run" in call("drain", "gpu1").stdout
    again = call("drain", "gpu1")
    assert again.returncode == 1
    assert "gpu1 is drained already" in again.stderr
    assert '"drained":["gpu1"]' in call("status", "--json").stdout.replace(" ", "").replace("\n", "")
    assert "drained   gpu1: no new run starts there" in call("status").stdout
    assert "takes new runs again" in call("drain", "gpu1", "--undo").stdout
    assert "no open run, experiment or design 'zebra'" in call("cancel", "zebra").stderr
    told = call("cancel", "e1")
    assert "being cancelled (" in told.stdout, told.stderr
    assert [command.verb for command in commands_in(folder)] == ["drain", "undrain", "cancel"]
