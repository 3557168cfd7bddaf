"""The list as wished: every order holds every experiment once, filters mean what they say, news keeps it true."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.events import AnyEvent, Verdict
from core.reduce import apply, fold
from core.state import SessionState
from tests.support.story import Story, session
from tui.palette import Role
from tui.view import listing as listing_module
from tui.view.experiment_filter import parse_filter
from tui.view.experiments import ExperimentRow
from tui.view.listing import ORDERS, ListedRows, Listing, Wish, is_header

EVENTS = session(experiments=24)
STATE = fold(EVENTS)


def keys_of(rows) -> list[str]:
    return [rows.key(index) for index in range(len(rows))]


def row(**fields) -> ExperimentRow:
    base = {
        "exp": "e12",
        "sign": "●",
        "role": Role.KEPT,
        "status": "kept",
        "val_bpb": 0.9812,
        "cls": "H100-80GB",
        "delta": -0.001,
        "done": 3,
        "owed": 3,
        "title": "Longer Warmdown",
        "design": "D3 screen",
    }
    return ExperimentRow(**(base | fields))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("warmdown", True),
        ("WARM longer", True),
        ("warmup", False),
        ("e12", True),
        ("e1", False),
        ("kept", True),
        ("-kept", False),
        ("failed", False),
        ("-failed warmdown", True),
        ("<0.982 >0.98", True),
        ("<=.9812", True),
        ("<0.98", False),
        ("design:d3", True),
        ("design:d4", False),
        ("class:h100", True),
        ("-class:h100", False),
        ("title:longer status:kept", True),
        ("h200", False),
        ("< design: -", True),  # not finished: asks for nothing
    ],
)
def test_a_filter_means_what_it_says(text: str, fits: bool) -> None:
    assert parse_filter(text).matches(row()) is fits


def test_standing_words_look_at_where_an_experiment_stands_only() -> None:
    failed = row(role=Role.FAILED, status="crash", val_bpb=None, title="what was kept")
    assert parse_filter("failed").matches(failed)
    assert parse_filter("crash").matches(failed)
    assert not parse_filter("kept").matches(failed)
    assert not parse_filter(">0").matches(failed)
    assert parse_filter("->0").matches(failed)
    assert parse_filter("kept").matches(row(status="incumbent"))


@given(st.text(max_size=60))
def test_any_text_is_a_filter(text: str) -> None:
    assert parse_filter(text).matches(row()) in (True, False)


wishes = st.builds(
    Wish,
    order=st.sampled_from(list(ORDERS)),
    reverse=st.booleans(),
    filter=st.sampled_from(["", "kept", "-kept", "matrix", "failed", "<1.0"]).map(parse_filter),
    grouped=st.booleans(),
    folded=st.sampled_from([frozenset(), frozenset({"screen"})]),
)


@given(st.lists(wishes, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_every_experiment_that_is_left_stands_in_the_list_once_whatever_the_order(asked: list[Wish]) -> None:
    listing = Listing()
    for wish in asked:
        rows = listing.show(STATE, wish, 0.0)
        keys = keys_of(rows)
        shown = [key for key in keys if not is_header(key)]
        everything = Listing().show(STATE, Wish(), 0.0)
        fitting = {
            everything.key(index)
            for index in range(len(everything))
            if wish.filter.matches(everything.experiment(index))
            and not (wish.grouped and everything.experiment(index).design in wish.folded)
        }
        assert len(shown) == len(set(shown))
        assert set(shown) == fitting
        assert all(rows.index(key) == index for index, key in enumerate(keys))
        assert all(rows.row(index) for index in range(len(rows)))


@given(st.lists(st.tuples(wishes, st.integers(1, 60)), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_list_that_was_kept_up_to_date_equals_one_made_afresh(looks: list[tuple[Wish, int]]) -> None:
    state, listing, done = SessionState(), Listing(), 0
    for wish, count in looks:
        for event in EVENTS[done : done + count]:
            apply(state, event)
        done = min(len(EVENTS), done + count)
        kept, fresh = listing.show(state, wish, 5.0), Listing().show(state, wish, 5.0)
        assert keys_of(kept) == keys_of(fresh)
        assert [str(kept.row(i)) for i in range(len(kept))] == [str(fresh.row(i)) for i in range(len(fresh))]


def test_orders_put_the_best_first_and_what_has_no_number_last_either_way() -> None:
    listing = Listing()
    best = listing.show(STATE, Wish(order="best"), 0.0)
    worst = listing.show(STATE, Wish(order="best", reverse=True), 0.0)

    def scores(rows: ListedRows) -> list[float | None]:
        return [listing.rows[listing.place(key)].val_bpb for key in keys_of(rows)]

    for rows, sign in ((best, 1), (worst, -1)):
        found = scores(rows)
        measured = [value for value in found if value is not None]
        assert measured == sorted(measured, key=lambda value: sign * value)
        assert len(measured) < len(found)
        assert all(value is None for value in found[len(measured) :])


def test_designs_have_a_header_with_their_sums_and_fold() -> None:
    listing = Listing()
    wish = Wish(grouped=True)
    rows = listing.show(STATE, wish, 0.0)
    assert keys_of(rows)[0] == "design:screen"
    header = rows.row(0).plain
    assert header.startswith("▾ screen (folded Plackett-Burman) · 24 experiments · 50/50 runs · best −0.00")
    assert "which of the six knobs matter at all" in header
    folded = listing.show(STATE, wish.fold("design:screen"), 0.0)
    assert keys_of(folded) == ["design:screen"]
    assert folded.row(0).plain.startswith("▸ screen")
    assert folded.index("e7") == 0, "the cursor of a row that is folded away goes to its header"
    assert wish.fold("design:screen").fold("design:screen") == wish


def test_titles_say_order_filter_and_counts() -> None:
    listing = Listing()
    wish = Wish(order="best", filter=parse_filter("  kept   -e1 "))
    count = len(listing.show(STATE, wish, 0.0))
    assert listing.title(wish) == f"{count} of 24 /kept -e1 · best first"
    listing.show(STATE, Wish(), 0.0)
    assert listing.title(Wish()) == ""
    assert listing.title(Wish(reverse=True)) == "oldest first"


def test_a_long_list_is_read_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "AT_ONCE", 10)
    listing, wish = Listing(), Wish(order="best")
    sizes = [len(listing.show(STATE, wish, 0.0))]
    assert "reading 42%" in listing.title(wish)
    while listing.behind:
        sizes.append(len(listing.show(STATE, wish, 0.0)))
    assert sizes == [10, 20, 24]
    monkeypatch.undo()
    assert keys_of(listing.show(STATE, wish, 0.0)) == keys_of(Listing().show(STATE, wish, 0.0))


def test_a_jump_in_time_makes_the_list_afresh() -> None:
    listing, wish = Listing(), Wish(order="delta")
    listing.show(STATE, wish, 0.0)
    earlier: list[AnyEvent] = EVENTS[: len(EVENTS) // 2]
    rows = listing.show(fold(earlier), wish, 0.0)
    assert 0 < len(rows) < 24
    assert keys_of(rows) == keys_of(Listing().show(fold(earlier), wish, 0.0))


def test_a_later_verdict_moves_its_experiment() -> None:
    story = Story()
    for index in range(6):
        story.experiment(f"idea {index}", runs=2)
    state, listing, wish = fold(story.events), Listing(), Wish(order="delta")
    listing.show(state, wish, 0.0)
    version = listing.version
    listing.show(state, wish, 0.0)
    assert listing.version == version, "nothing happened: the table has nothing to do"
    apply(state, story.add(Verdict(exp="e3", verdict="kept", reason="", delta=-9.0)))
    assert listing.show(state, wish, 0.0).key(0) == "e3"
    assert listing.version == version + 1
