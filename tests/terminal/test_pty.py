"""The screen on real terminals, poor, slow, hostile or gone: what exactly is sent to them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.session import SessionFolder
from tests.support.hostile import MARK, POISON, SHOWS, hostile_session
from tests.support.story import session, write_journal
from tests.support.terminals import PATIENCE_S, ROOT, Terminal

pytestmark = pytest.mark.processes

_POINTER = re.compile(rb"\x1b\]22;[a-z-]+\x07")
"""The shape of the mouse's pointer: Textual's own, made of its own words."""

_SEQUENCES = re.compile(
    rb"\x1b\[([0-?]*)([ -/]*)([@-~])"  # CSI
    rb"|\x1b([\]PX^_])"  # OSC, DCS and their like
    rb"|\x1b(.)"  # any other
    rb"|\xc2([\x80-\x9f])",  # C1 in UTF-8
    re.DOTALL,
)
_OURS = frozenset((b"m", b"H", b"h", b"l", b"u", b"p", b"t"))
"""Colours, positions, modes, the keyboard's protocol and queries: all that Textual sends."""


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionFolder:
    """An ended session by the name of `night`."""
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    folder = hostile_session("night", b"step 1\n")
    for path in folder.journal_dir.iterdir():
        path.unlink()
    write_journal(folder.journal_dir, session(experiments=12, devices=8))
    return folder


def leaves_clean(output: bytes) -> None:
    """The last word on each mode is off, the alternate screen is left and the cursor shown."""
    last = dict(re.findall(rb"\x1b\[\?(\d+)([hl])", output))
    assert {mode for mode, value in last.items() if value == b"h"} - {b"25", b"7"} == set()
    assert last[b"1049"] == b"l"
    assert last[b"25"] == b"h"


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        ((), {"LANG": "C"}),
        ((), {"LANG": "POSIX", "LC_ALL": "POSIX"}),
        ((), {"LANG": "de_DE.ISO-8859-1"}),
        ((), {"TERM": "linux"}),
        (("--ascii",), {}),
    ],
    ids=["C", "POSIX", "latin1", "console", "--ascii"],
)
def test_a_terminal_without_unicode_gets_nothing_but_ascii(
    night: SessionFolder, tmp_path: Path, flags: tuple[str, ...], environ: dict[str, str]
) -> None:
    with Terminal("attach", "night", *flags, home=tmp_path, environ=environ) as terminal:
        terminal.shows("best confirmed", "1 val_bpb")
        for keys, words in (("4\r", "hypothesis"), ("\x1b", "4 experiments"), ("?", "Everywhere")):
            terminal.type(keys)
            terminal.shows(words)
        terminal.type("\x1b")
        terminal.hides("Everywhere")
        terminal.type("\x10")  # ctrl+p
        terminal.shows("1 % back")
        terminal.type("\x1b")
        terminal.hides("1 % back")
        terminal.type("q")
        assert terminal.ends() == 0
    assert max(terminal.output) < 128
    assert len(terminal.output) > 5_000


def test_no_color_sends_no_colour_and_loses_nothing_that_colour_said(night: SessionFolder, tmp_path: Path) -> None:
    with Terminal("attach", "night", home=tmp_path, environ={"NO_COLOR": "1"}) as terminal:
        terminal.shows("best confirmed")
        terminal.type("4j")
        terminal.shows("e11", "┏━ 4 experiments")
        terminal.type("q")
        assert terminal.ends() == 0
    codes = {code for group in re.findall(rb"\x1b\[([\d;]*)m", bytes(terminal.output)) for code in group.split(b";")}
    assert codes <= {b"", b"0", b"1", b"2", b"3", b"4", b"7", b"39", b"49", b"22", b"27"}
    assert b"7" in codes  # the cursor's row


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=["TERM", "HUP", "INT"])
@pytest.mark.parametrize("words", [("attach", "night"), ()], ids=["session", "home"])
def test_a_signal_leaves_the_terminal_clean(
    night: SessionFolder, tmp_path: Path, signum: signal.Signals, words: tuple[str, ...]
) -> None:
    if signum == signal.SIGINT and words:
        pytest.skip("one look at it is enough: Textual's own")
    with Terminal(*words, home=tmp_path) as terminal:
        terminal.shows(*(("mar5", "detach") if words else ("night", "leave")))
        os.kill(terminal.process.pid, signum)
        terminal.ends()
    leaves_clean(bytes(terminal.output))
    assert b"Traceback" not in terminal.output


def test_a_terminal_that_vanishes_takes_the_screen_with_it(night: SessionFolder, tmp_path: Path) -> None:
    with Terminal("attach", "night", home=tmp_path) as terminal:
        terminal.shows("best confirmed")
        terminal.hang_up()
        assert terminal.process.wait(PATIENCE_S) is not None


def test_a_terminal_that_vanishes_without_a_signal_takes_the_screen_with_it(
    night: SessionFolder, tmp_path: Path
) -> None:
    ignoring = "import signal, sys; from tui.__main__ import main; sys.argv[0] = 'x'; main()"
    with Terminal("attach", "night", home=tmp_path, command=("-c", f"import os; os.setpgrp; {ignoring}")) as terminal:
        terminal.shows("best confirmed")
        os.kill(terminal.process.pid, signal.SIGSTOP)
        terminal.hang_up()
        os.kill(terminal.process.pid, signal.SIGCONT)
        assert terminal.process.wait(PATIENCE_S) is not None


def test_ctrl_z_gives_the_shell_back_and_fg_the_screen(night: SessionFolder, tmp_path: Path) -> None:
    with Terminal("attach", "night", home=tmp_path) as terminal:
        terminal.shows("best confirmed")
        terminal.type("\x1a")
        terminal.until(lambda _: stopped(terminal.process.pid), "a stopped process")
        while terminal.read():
            pass
        leaves_clean(bytes(terminal.output))
        terminal.wipe()
        terminal.process.send_signal(signal.SIGCONT)
        terminal.shows("best confirmed", "1 val_bpb", "detach", "#324")
        terminal.type("q")
        assert terminal.ends() == 0
    leaves_clean(bytes(terminal.output))


def test_ctrl_l_draws_all_anew(night: SessionFolder, tmp_path: Path) -> None:
    with Terminal("attach", "night", home=tmp_path, size=(80, 24)) as terminal:
        terminal.shows("best confirmed", "[1 val_bpb]", "detach", "#324")
        terminal.wipe()  # noise on the line
        terminal.type("\x0c")
        terminal.shows("best confirmed", "[1 val_bpb]", "detach", "#324")
        terminal.type("q")
        assert terminal.ends() == 0


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("size", [(20, 5), (1, 1)], ids=str)
def test_a_tiny_terminal_shows_what_it_can(night: SessionFolder, tmp_path: Path, size: tuple[int, int]) -> None:
    environ = {"COLUMNS": "many", "LINES": "-3"}
    with Terminal("attach", "night", home=tmp_path, size=(80, 24), environ=environ) as terminal:
        terminal.shows("best confirmed", "[1 val_bpb]", "detach")
        terminal.resize(*size)
        sent = len(terminal.output)
        terminal.until(lambda terminal: len(terminal.output) > sent)
        terminal.resize(80, 24)
        terminal.type("4")
        terminal.shows("best confirmed", "[4 experiments]", "detach")
        terminal.type("q")
        assert terminal.ends() == 0
    assert not (tmp_path / "screen.log").exists()


def test_a_terminal_that_does_not_know_its_size_is_taken_for_one_of_80_by_24(
    night: SessionFolder, tmp_path: Path
) -> None:
    with Terminal("attach", "night", home=tmp_path, size=(0, 0)) as terminal:
        terminal.shows("best confirmed", "[1 val_bpb]", "detach")
        terminal.type("q")
        assert terminal.ends() == 0


def test_columns_of_another_terminal_are_not_believed(night: SessionFolder, tmp_path: Path) -> None:
    environ = {"COLUMNS": "300", "LINES": "90"}
    with Terminal("attach", "night", home=tmp_path, size=(80, 24), environ=environ) as terminal:
        terminal.shows("[1 val_bpb]", "detach")


@pytest.mark.parametrize("words", [(), ("replay", "night")], ids=["home", "replay"])
def test_a_dumb_terminal_is_told_what_to_run_instead(
    night: SessionFolder, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with Terminal(*words, home=tmp_path, environ={"TERM": "dumb"}) as terminal:
        assert terminal.ends() == 2
    said = terminal.output.decode()
    assert "--plain" in said
    assert said.count("\n") == 1
    assert "\x1b" not in said


def test_on_a_dumb_terminal_attach_prints_lines(night: SessionFolder, tmp_path: Path) -> None:
    with Terminal("attach", "night", home=tmp_path, environ={"TERM": "dumb"}) as terminal:
        terminal.ends()
    said = terminal.output.decode()
    assert "confirmed" in said
    assert fit_for_a_screen_reader(said.replace("\r\n", "\n"))


def test_without_a_mouse_the_terminal_keeps_it(night: SessionFolder, tmp_path: Path) -> None:
    with Terminal("attach", "night", "--no-mouse", home=tmp_path) as terminal:
        terminal.shows("best confirmed")
        terminal.type("q")
        assert terminal.ends() == 0
    assert not re.search(rb"\x1b\[\?100[036]h", terminal.output)


def test_slow_sends_256_colours_and_looks_once_a_second(night: SessionFolder, tmp_path: Path) -> None:
    with Terminal("--slow", "attach", "night", home=tmp_path) as terminal:
        terminal.shows("best confirmed")
        terminal.type("q")
        assert terminal.ends() == 0
    assert b"38;5;" in terminal.output
    assert b"38;2;" not in terminal.output


def test_a_terminal_that_reads_slowly_is_asked_to_read_less(night: SessionFolder, tmp_path: Path) -> None:
    """A replay at high speed on a terminal that takes 8 kB/s: its ticks become rare, and keys still work."""
    probe = tmp_path / "pace"
    launch = (
        "import sys; from pathlib import Path; from core.replay import ReplaySource; from tui import app\n"
        "tick = app.SessionApp.tick\n"
        "def watched(self):\n"
        "    tick(self)\n"
        f"    Path({str(probe)!r}).write_text(str(self.pace.every))\n"
        "app.SessionApp.tick = watched\n"
        f"source = ReplaySource(Path({str(night.journal_dir)!r}), playing=True)\n"
        f"sys.exit(app.run_app(source, crash_log=Path({str(tmp_path / 'crash')!r})))\n"
    )
    with Terminal(home=tmp_path, size=(200, 50), command=("-c", launch)) as terminal:
        terminal.shows("1 val_bpb")
        terminal.type(" ")
        deadline_s = time.monotonic() + PATIENCE_S
        while not (probe.exists() and probe.read_text() == "4"):
            assert time.monotonic() < deadline_s, probe.read_text()
            terminal.type("z")  # each repaints all
            terminal.read(0.01, most=400)
            time.sleep(0.05)
        terminal.until(lambda _: probe.read_text() == "1", "the old pace")
        terminal.type("q")
        assert terminal.ends() == 0


def test_hostile_text_never_reaches_the_terminal_as_anything_but_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    hostile_session(f"evil{POISON}", f"log {POISON}\n".encode() * 30)
    back = "4 experiments"
    steps = (
        *(("2", ""), ("3", ""), ("g\r", ""), ("G\r", ""), ("5", ""), ("c", "device-hours"), ("\x1b", "!device-hours")),
        *(("4", back), ("\r", "hypothesis"), ("2", ""), ("3", ""), ("4", ""), ("5", ""), ("\x1b", "!hypothesis")),
        *(("1", ""), ("b\r", "hypothesis"), ("\x1b", "!hypothesis"), ("?", "Everywhere"), ("\x1b", "!Everywhere")),
        *(("p", ""), ("i", "A hint"), ("x\r", "!A hint"), ("\x10", "1 % back"), ("\x1b", "!1 % back")),
    )
    for size in ((80, 24), (200, 60)):
        with Terminal("attach", "s-hostile", home=tmp_path, size=size) as terminal:
            terminal.shows("val_bpb", "#74")
            for keys, words in steps:
                terminal.type(keys)
                if words.startswith("!"):
                    terminal.hides(words[1:])
                else:
                    terminal.shows(words)
            terminal.type("q")
            terminal.ends()
        only_ours(bytes(terminal.output))
    with Terminal(home=tmp_path) as terminal:  # the list of sessions
        terminal.shows(SHOWS)
        terminal.type("q")
        terminal.ends()
    only_ours(bytes(terminal.output))


def only_ours(output: bytes) -> None:
    """Every sequence is one that Textual sends; nothing of the poison does anything."""
    output = _POINTER.sub(b"", output)
    found = list(_SEQUENCES.finditer(output))
    assert len(found) > 100
    for match in found:
        params, _, final, opened, other, c1 = match.groups()
        assert final in _OURS, match
        assert not opened
        assert not other
        assert c1 is None
        assert (params, final) != (b"31", b"m")
    rest = _SEQUENCES.sub(b"", output).decode()
    assert not re.search("[\x00-\x07\x0b-\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028\u202a-\u202e]", rest)
    assert MARK in rest


@pytest.mark.parametrize(
    "words", [("attach", "s-hostile", "--plain"), ("status", "s-hostile"), ("sessions",)], ids=lambda words: words[0]
)
def test_hostile_text_never_leaves_the_command_line_as_anything_but_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    hostile_session(f"evil{POISON}", b"")
    done = subprocess.run([sys.executable, "-P", "-m", "tui", *words], capture_output=True, env=_environ(tmp_path))
    said = (done.stdout + done.stderr).decode()
    assert MARK in said
    assert fit_for_a_screen_reader(said), repr(said)


def test_status_as_json_is_json_for_hostile_sessions_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    hostile_session(f"evil{POISON}", b"")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tui", "status", "s-hostile", "--json"],
        capture_output=True,
        env=_environ(tmp_path),
    )
    assert json.loads(done.stdout)["session"].startswith("evil\x1b")
    assert b"\x1b" not in done.stdout


def fit_for_a_screen_reader(said: str) -> bool:
    """Plain lines: no control characters, no carriage returns, no box drawing, no blocks, no braille."""
    return not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028\u202a-\u202e\u2500-\u259f\u2800-\u28ff]", said)


def _environ(home: Path) -> dict[str, str]:
    return {**os.environ, "AUTORESEARCH_HOME": str(home), "PYTHONPATH": str(ROOT)}
