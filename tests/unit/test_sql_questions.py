"""The questions that the console offers have an answer in every session."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.projection import SNAPSHOT_NAME
from core.projection.ingest import rebuild
from core.sql_questions import QUESTIONS
from core.sql_worker import answer
from tests.support.snapshots import published
from tests.support.story import Story, session
from tests.support.talking import conversation

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Published sessions, from one that has only begun to those of earlier releases."""
    room = tmp_path_factory.mktemp("sessions")
    modelled = Story()
    conversation(modelled)
    folders = [
        published(room / "begun", session(experiments=0)[:1]),
        published(room / "young", session(experiments=1)[:20]),
        published(room / "ended", session(experiments=40, ended=True)),
        published(room / "modelled", modelled.events),
    ]
    for release in sorted(GOLDEN.iterdir()):
        shutil.copytree(release / "journal", room / release.name / "journal")
        assert rebuild(room / release.name) is None
        folders.append(room / release.name)
    return folders


def rows(folder: Path, sql: str) -> list[list]:
    head, *found, foot = map(json.loads, answer([str(folder / SNAPSHOT_NAME)], sql, 10_000))
    assert head["columns"]
    assert not foot["truncated"]
    return found


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.asks)
def test_each_question_can_be_asked_in_each_session(sessions, question):
    for folder in sessions:
        rows(folder, question.sql)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.asks)
def test_each_question_finds_something_somewhere(sessions, question):
    assert any(rows(folder, question.sql) for folder in sessions)


def test_there_are_a_dozen_and_more_each_with_a_name_of_its_own():
    assert len({question.asks for question in QUESTIONS}) == len(QUESTIONS) >= 12
    assert all(len(question.asks) <= 38 for question in QUESTIONS)
    assert max(len(line) for question in QUESTIONS for line in question.sql.splitlines()) <= 76, "or it wraps"
