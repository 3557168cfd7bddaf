"""`export --format source`: the train.py that a session found, as a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core.events import Incumbent, RevisionAdded
from core.patching import unified_diff
from core.reduce import fold
from core.state import SessionState
from tests.support.story import Story
from tui.cli import export as module
from tui.cli.export import export

FIRST, SECOND = "A = 1\n", "A = 2  # \x1b[2J\tπ\n"


def story() -> Story:
    story = Story()
    story.propose("the baseline", {}, [0])
    story.propose("A to 2", {"A": "2"}, [0])
    first, second = (event for event in story.events if isinstance(event, RevisionAdded))
    first.patch = unified_diff("", FIRST)
    second.patch, second.parent = unified_diff(FIRST, SECOND), first.revision
    return story


def exported(monkeypatch: pytest.MonkeyPatch, state: SessionState, *options: str) -> Result:
    monkeypatch.setattr(module, "resolve_session", lambda session: session)
    monkeypatch.setattr(module, "state_of", lambda folder: state)
    return CliRunner().invoke(export, ["--format", "source", *options], catch_exceptions=True)


def test_the_incumbents_file_comes_out_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = story()
    told.add(Incumbent(exp="e2"))
    out = tmp_path / "train.py"
    result = exported(monkeypatch, fold(told.events), "-o", str(out))
    assert result.exit_code == 0, result.output
    assert out.read_text(encoding="utf-8") == SECOND
    assert exported(monkeypatch, fold(told.events)).stdout == SECOND
    assert exported(monkeypatch, fold(told.events), "-e", "e1").stdout == FIRST


def test_what_cannot_be_exported_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = fold(story().events)
    assert "nothing is kept yet" in str(exported(monkeypatch, state).exception)
    assert "'e9'" in str(exported(monkeypatch, state, "-e", "e9").exception)
    missing = tmp_path / "no" / "x.py"
    assert str(missing) in str(exported(monkeypatch, state, "-e", "e1", "-o", str(missing)).exception)
    wrong = CliRunner().invoke(export, ["-e", "e1"])
    assert wrong.exit_code == 2
