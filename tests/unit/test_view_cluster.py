"""What a cluster does to a session, in words: runs that wait or are held, notices, nodes with long names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from core.events import DeviceLost, DeviceSeen, ExecutorNotice, RunFinished, RunWaiting, SessionEnded
from core.summary import summarise
from tests.support.runs import Session
from tui.palette import Role
from tui.plain import _held
from tui.view.detail import detail_view
from tui.view.device_groups import group_words, groups_of
from tui.view.device_lines import device_line, fields_for, tile_lines
from tui.view.device_names import short_name
from tui.view.devices import devices_view
from tui.view.status import SEPARATOR, cluster_words, status_pieces

NODES = ("gke-pool-h100-8f2c-abcd", "gke-pool-h100-8f2c-efgh")


@pytest.fixture
def session() -> Session:
    """Two nodes of two GPUs; r1 waits, r2 is held, r3 is under way."""
    session = Session({f"{node}/{index}": "H100-80GB" for node in NODES for index in range(2)})
    for device in session.classes:
        session.add(DeviceSeen(device=device, seq=2, cls="H100-80GB", node=device.partition("/")[0]))
    session.propose("e1", "the baseline")
    for device in list(session.classes)[:3]:
        session.start("e1", device)
    session.t_s = 125.0
    wait(session, "r1", "queued behind other\x1b[31m teams")
    wait(session, "r2", "the image cannot be had", held=True)
    return session


def wait(session: Session, run: str, reason: str, *, held: bool = False) -> None:
    known = session.state.now.runs[run]
    session.add(RunWaiting(run=run, attempt=known.attempt, seq=known.seq + 1, reason=reason, held=held))


def text_of(spans) -> str:
    return "".join(text for text, _ in spans)


def status_words(session: Session) -> str:
    return SEPARATOR.join(piece.text for piece in status_pieces(summarise(session.state), "live"))


def test_a_device_says_what_its_run_waits_for(session):
    view = devices_view(session.state, session.t_s)
    waiting, held, running, free = view.rows
    assert [row.status for row in view.rows] == ["waiting", "held", "running", "free"]
    assert (waiting.words, held.words) == ("waits: queued behind other teams", "held: the image cannot be had")
    assert (waiting.run, free.run) == ("r1", "")
    assert view.busy == 1, "what waits does not work"
    assert view.waits == "1 run held: the image cannot be had, 1 run waits: queued behind other teams"
    assert running.busy


@pytest.mark.parametrize("width", [34, 60, 100])
def test_a_line_and_a_tile_say_it_too_and_held_ones_stand_out(session, width):
    rows = devices_view(session.state, session.t_s).rows
    line = device_line(rows[1], fields_for(rows, width), width, plain=True, marked=False)
    assert cell_len(text_of(line)) == width
    assert text_of(line).startswith("! ...")
    assert "abcd/1" in text_of(line)
    assert Role.FAILED in {role for _, role in line}
    tile = [text_of(part) for part in tile_lines(rows[1], width, 4, plain=False, marked=False)]
    assert "abcd/1" in tile[0]
    assert "held: the image" in " ".join(tile)


def test_a_class_counts_those_that_wait_and_says_why_of_those_that_are_held(session):
    [group] = groups_of(devices_view(session.state, session.t_s).rows).classes
    words = text_of(group_words(group))
    assert "1/4 busy" in words
    assert "1 held: the image cannot be had" in words
    assert "1 wait" in words
    session.add(RunFinished(run="r2", attempt="r2.1", seq=99, outcome="cancelled"))
    [group] = groups_of(devices_view(session.state, session.t_s).rows).classes
    assert "1 wait: queued behind other teams" in text_of(group_words(group))


def test_a_lost_device_says_why_whatever_its_run_waits_for(session):
    session.add(DeviceLost(device=f"{NODES[0]}/1", seq=3, reason="its node is cordoned"))
    row = devices_view(session.state, session.t_s).rows[1]
    assert row.status == "lost"
    assert "its node is cordoned" in row.words


def test_an_experiment_shows_each_attempt_with_its_device_and_outcome(session):
    session.add(RunFinished(run="r3", attempt="r3.1", seq=99, outcome="device_lost", reason="its node is gone"))
    view = detail_view(session.state, "e1", session.t_s)
    assert view is not None
    rows = {row.attempt: row for row in view.runs}
    assert (rows["r1.1"].status, rows["r1.1"].note) == ("waiting", "queued behind other teams")
    assert (rows["r2.1"].status, rows["r2.1"].role) == ("held", Role.FAILED)
    earlier = next(row for row in view.runs if row.run == "r3.1")
    assert (earlier.device, earlier.status) == (f"{NODES[1]}/0", "device lost")
    assert earlier.note == "its node is gone"


def test_the_status_line_and_a_sentence_say_what_the_cluster_does(session):
    assert "1 run held" in status_words(session)
    assert cluster_words(session.state) == ""
    session.add(ExecutorNotice(text="the API server does not answer", level="error"))
    assert "! cluster" in status_words(session)
    assert cluster_words(session.state) == "Since 2:05 the cluster has trouble: the API server does not answer"
    session.add(ExecutorNotice(text="a node is back", level="info"))
    assert "! cluster" not in status_words(session)
    session.add(ExecutorNotice(text="credentials have expired", level="error"))
    session.add(SessionEnded(reason="stopped"))
    assert "! cluster" not in status_words(session)
    assert cluster_words(session.state) == ""


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("gpu0", "gpu0"),
        ("sim-node-01", "sim-node-01"),
        ("gke-pool-h100-8f2c-abcd/3", "…8f2c-abcd/3"),
        ("ip-10-0-3-7.ec2.internal/0", "…-10-0-3-7/0"),
        ("ip-10-0-3-7.ec2.internal", "ip-10-0-3-7"),
        ("node1.example.com/7", "node1/7"),
        ("10.0.113.107/12", "….113.107/12"),
        ("", ""),
    ],
)
def test_a_long_name_keeps_what_tells_it_apart(name, short):
    assert short_name(name) == short


@given(st.text(st.sampled_from("ab-./9é漢"), max_size=30), st.integers(0, 20), st.sampled_from(("…", "...")))
def test_a_short_name_always_fits(name, width, ellipsis):
    assert cell_len(short_name(name, width, ellipsis)) <= width


def test_a_header_names_a_cluster_and_the_plain_lines_say_once_that_a_run_is_held(session):
    assert session.state.now.started is not None
    session.state.now.started.executor = "kubernetes"
    assert "kubernetes" in status_words(session)
    known: set[tuple[str, str]] = set()
    event = RunWaiting(run="r2", attempt="r2.1", seq=1, reason="no node\x1b[31m fits", held=True, n=1, t=125.0)
    assert list(_held(event, known)) == ["    2:05  r2 is held: no node fits"]
    assert list(_held(event, known)) == []
    assert list(_held(RunWaiting(run="r1", attempt="r1.1", seq=1, reason="queued"), known)) == []
