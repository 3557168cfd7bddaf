"""A run's log: nothing in it can drive a terminal, and it is bounded whatever is printed."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from executors.output import LOG_HEAD_BYTES, LOG_TAIL_BYTES, OutputLog, clean, sentence

NASTY = st.text(alphabet=st.sampled_from("ab[]0;m\x1b\x07\x9b\x9d\\\n\t\r\x00\u202e\u200bé漢"), max_size=60)


@given(st.one_of(st.text(), NASTY))
def test_no_control_or_reordering_character_gets_through(text):
    out = clean(text)
    assert all(unicodedata.category(letter) != "Cc" or letter in "\n\t" for letter in out)
    assert not set(out) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200f\ufeff")
    assert clean(out) == out
    assert len(sentence(text)) <= 300
    assert "\n" not in sentence(text)


def test_ordinary_text_stays_and_sequences_go_whole():
    assert clean("loss 1.5\tgrün 漢字 🙂\n") == "loss 1.5\tgrün 漢字 🙂\n"
    assert clean("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x1b\\ a\r\nb\rc") == "red link a\nb\nc"


def test_unfinished_sequences_cost_no_more_than_their_length():
    # Backtracking would take hours on this.
    assert clean("\x1b]" * 200_000) == ""
    assert len(clean("\x1b[1" * 200_000)) == 0


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_a_short_log_is_kept_whole_however_it_is_cut(tmp_path_factory, chunks):
    path = tmp_path_factory.mktemp("log") / "output.log"
    data = b"".join(chunks).replace(b"\r", b"")
    log = OutputLog(path)
    for start in range(0, len(data), 7):
        log.feed(data[start : start + 7])
    log.finish()
    whole = OutputLog(path.with_name("whole"))
    whole.feed(data)
    whole.finish()
    assert path.read_text() == path.with_name("whole").read_text() == clean(data.decode(errors="replace"))


def test_a_long_log_keeps_head_and_tail_and_says_what_is_missing(tmp_path):
    log = OutputLog(tmp_path / "output.log")
    for number in range(200_000):
        log.feed(b"line %d of an endless log, padded to some length ........\n" % number)
    log.finish()
    text = (tmp_path / "output.log").read_text()
    assert text.startswith("line 0 of")
    assert text.endswith("line 199999 of an endless log, padded to some length ........\n")
    assert " bytes left out]" in text
    assert LOG_HEAD_BYTES < len(text) <= LOG_HEAD_BYTES + LOG_TAIL_BYTES + 60


def test_a_line_that_arrives_in_parts_while_the_head_fills_keeps_its_place(tmp_path):
    log = OutputLog(tmp_path / "output.log")
    text = b"".join(b"line %06d %s\n" % (number, b"x" * 1000) for number in range(3_000))
    for start in range(0, len(text), 65_537):
        log.feed(text[start : start + 65_537])
    log.finish()
    assert (tmp_path / "output.log").read_bytes() == text


def test_a_cut_never_splits_a_character(tmp_path):
    log = OutputLog(tmp_path / "output.log")
    for _ in range(30):
        log.feed("漢".encode() * 100_000)
    log.finish()
    assert set((tmp_path / "output.log").read_text()) <= set("漢\n[]0123456789 bytesleftout\ufffd")
