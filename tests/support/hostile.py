"""Sessions whose every free text tries to take over the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from core.events import AnyEvent, Limits
from core.session import SessionConfig, SessionFolder, sessions_dir
from tests.support.story import Story, write_journal
from tests.support.talking import conversation

MARK = "PWNED"
POISON = (
    f"\x1b]52;c;{MARK}\x07\x1b[31m{MARK}\x1b[2J\x9b2J{MARK}\x07\x08\x1b]8;;http://{MARK}\x1b\\{MARK}\x1b]8;;\x1b\\"
    f"[red]{MARK}[/red][@click=app.quit]{MARK}[/]\u202e{MARK}\u200b\x1bP{MARK}\x1b\\\x9d0;{MARK}\x9c\x1b]0;{MARK}\x07"
    f"\x00\r{MARK}\u2028[/]{MARK}[bold"
)
_FREE = frozenset(
    (
        "title",
        "hypothesis",
        "rationale",
        "why",
        "text",
        "detail",
        "reason",
        "note",
        "arg",
        "patch",
        "phase",
        "category",
        "message",
        "words",
        "thinking",
        "content",
        "client",
        "device",
        "cls",
        "node",
    )
)
_EVERYWHERE_ALIKE = frozenset(("device", "cls", "node"))
"""Names that events share: the same poison goes into each."""

SHOWS = f"[red]{MARK}"
"""What is left of it on a screen, among other things."""


def poisoned(events: Sequence[AnyEvent]) -> list[AnyEvent]:
    """The same session with poison in all that runs, models and people wrote."""
    return [msgspec.convert(_poison(msgspec.to_builtins(event)), type(event)) for event in events]


def _poison(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _poison(found, key) for key, found in value.items()}
    if isinstance(value, list | tuple):
        return [_poison(found, name) for found in value]
    if not isinstance(value, str) or name not in _FREE or not value or (name == "reason" and value in _REASONS):
        return value
    return value.replace("\n", f"{POISON}\n") + POISON if name not in _EVERYWHERE_ALIKE else value + POISON


_REASONS = frozenset(("baseline", "screen", "confirm", "replicate"))


def hostile_events() -> list[AnyEvent]:
    """A small session with a model, a crash and a run that goes on, all of it poisoned."""
    story = Story(devices=3)
    story.phase("noise", "see what varies")
    story.experiment("the baseline, replicated", runs=2)
    story.declare("screen", "which knobs matter")
    conversation(story)
    story.experiment("a crash", crash=True)
    story.start(story.propose("at work", {"DEPTH": "2"}, [0]), 0, "gpu1")
    return poisoned(story.events)


def hostile_session(name: str, log: bytes) -> SessionFolder:
    """A session folder of them under AUTORESEARCH_HOME, its name poisoned too, with a log for each attempt."""
    folder = SessionFolder(sessions_dir() / "s-hostile")
    events = hostile_events()
    write_journal(folder.journal_dir, events)
    config = SessionConfig(
        session="s-hostile", name=name, created_unix_s=1.7e9, seed=1, executor="local", researcher="claude",
        limits=Limits(hours=8.0), target_dir="/", corpus_dir="/", python="/usr/bin/python3", budget_s=20.0,
        budget_kind="cpu", seq_len=256, eval_tokens=2**16, profile="small", title=name,
    )  # fmt: skip
    folder.write(folder.meta_path, config)
    for number in range(1, 12):
        attempt = folder.runs_dir / f"r{number}.1"
        attempt.mkdir(parents=True)
        (attempt / "output.log").write_bytes(log)
    return folder
