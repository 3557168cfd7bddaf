"""Searching what was said: smart case, every match found once, and blocks laid out whichever way they are reached."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.events import Note
from core.reduce import fold
from tests.support.story import Story, session
from tui.view.search import Hit, TalkSearch, paragraphs, pattern_of, spans_of
from tui.view.transcript import blocks_of, transcript_view
from tui.widgets.find_bar import marked
from tui.widgets.talk_layout import TalkLayout, block_lines

VIEW = transcript_view(fold(session(experiments=30)))


def searched(text: str, view=VIEW) -> TalkSearch:
    pattern = pattern_of(text)
    assert pattern is not None
    search = TalkSearch(pattern, view)
    while not search.done:
        search.go_on()
    return search


def test_case_matters_only_where_there_is_a_capital_letter() -> None:
    small, capital = pattern_of("lr (x"), pattern_of("LR (x")
    assert small is not None
    assert capital is not None
    assert len(spans_of(small, "MATRIX_LR (x) lr (x)")) == 2
    assert spans_of(capital, "MATRIX_LR (x) lr (x)") == [(7, 12)]
    assert pattern_of("") is None


def test_every_match_is_found_once_in_the_order_it_was_said() -> None:
    search = searched("the")
    expected = [
        Hit(index, block.part, number, start)
        for index, event in enumerate(VIEW.talk)
        for block in blocks_of(event, VIEW.state)
        for number, paragraph in enumerate(paragraphs(block))
        for start, _ in spans_of(search.pattern, paragraph)
    ]
    assert search.hits == expected
    assert len(expected) > 50


def test_matches_go_round_and_know_their_number() -> None:
    search = searched("warmdown")
    first, last = search.hits[0], search.hits[-1]
    assert search.words(last) == f"{len(search.hits)}/{len(search.hits)}"
    assert search.after(last, 1) == first
    assert search.after(first, -1) == last
    assert search.near(len(VIEW.talk)) == last
    assert search.near(first.event) <= search.hits[1]
    nothing = searched("zzzz")
    assert (nothing.near(5), nothing.words(None)) == (None, "nothing found")


def test_what_is_appended_is_searched_too() -> None:
    story = Story()
    story.add(Note(text="a word"))
    search = searched("word", transcript_view(fold(story.events)))
    story.add(Note(text="another word"))
    assert search.follow(transcript_view(fold(story.events)))
    while not search.done:
        search.go_on()
    assert [hit.event for hit in search.hits] == [0, 1]


@given(st.text(max_size=60), st.lists(st.tuples(st.integers(-5, 70), st.integers(0, 20)), max_size=5))
def test_a_marked_line_reads_as_before(text: str, spans: list[tuple[int, int]]) -> None:
    ordered = sorted((start, start + length) for start, length in spans)
    assert "".join(segment.text for segment in marked(text, None, ordered)) == text


@given(st.integers(3, 90), st.integers(0, 40), st.integers(0, 40), st.lists(st.integers(0, 200), max_size=4))
@settings(max_examples=30, deadline=None)
def test_a_stretch_of_talk_is_laid_out_alike_whichever_way_it_came_about(
    width: int, first: int, more: int, folds: list[int]
) -> None:
    count = len(VIEW.talk)
    first = min(first, count)
    end = min(first + more, count)
    grown, whole = TalkLayout(), TalkLayout()
    grown.lay_out(VIEW, first, end, width)
    for fold_at in folds:
        if grown.places:
            index = fold_at % len(grown.places)
            if grown.block(index).folds:
                grown.toggle(index)
    grown.extend(count)
    grown.prepend(0)
    whole.open = grown.open
    whole.lay_out(VIEW, 0, count, width)
    assert grown.places == whole.places
    assert grown.height == whole.height
    assert [grown.top(i) for i in range(len(grown.places))] == [whole.top(i) for i in range(len(whole.places))]
    assert all(grown.at(grown.top(i)) == i == grown.find(grown.event(i), grown.places[i][1]) for i in range(40))


@given(st.integers(3, 90))
def test_each_line_knows_where_in_its_paragraph_it_begins(width: int) -> None:
    for event in VIEW.talk[:60]:
        for block in blocks_of(event, VIEW.state):
            texts = paragraphs(block)
            for line in block_lines(block, width, unfolded=True):
                assert texts[line.paragraph][line.start :].startswith(line.text)
