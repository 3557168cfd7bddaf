"""Edits of `train.py` and the diffs that the journal keeps."""

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.patching import Edit, PatchError, apply_edits, apply_patch, unified_diff

FILE = """import torch


class Block:
    def forward(self, x):
        y = self.norm(x)
        if y is None:
            return x
        return x + y


def step(lr):
    lr = lr * 0.5
    return lr
"""


def edited(old, new, source=FILE):
    return apply_edits(source, [Edit(old, new)])


def test_an_exact_unique_match_is_replaced():
    assert edited("lr * 0.5", "lr * 0.25") == FILE.replace("lr * 0.5", "lr * 0.25")


def test_edits_apply_one_after_the_other():
    child = apply_edits(FILE, [Edit("return x + y", "return x + z"), Edit("x + z", "x - z")])
    assert child == FILE.replace("x + y", "x - z")
    assert apply_edits(FILE, []) == FILE


def test_an_empty_old_replaces_the_whole_file():
    assert edited("", "x = 1\r\n") == "x = 1\r\n"


def test_lines_with_another_indentation_are_reindented():
    old = "y = self.norm(x)\nif y is None:\n    return x"
    new = "y = self.norm(x)\n\nif y is None:\n    if x:\n        return x"
    want = """        y = self.norm(x)

        if y is None:
            if x:
                return x
"""
    have = "        y = self.norm(x)\n        if y is None:\n            return x\n"
    assert edited(old, new) == FILE.replace(have, want)
    assert edited(old + "\n", new + "\n") == FILE.replace(have, want)
    deeper = "\n".join(" " * 12 + line if line else line for line in (old, new)[1].split("\n"))
    assert edited("\n".join(" " * 12 + line for line in old.split("\n")), deeper) == FILE.replace(have, want)


def test_a_line_further_left_than_the_old_ones_is_placed_in_proportion():
    assert edited("                return x + y", "                return x\n            # end\n        z = 1") == (
        FILE.replace("        return x + y\n", "        return x\n    # end\nz = 1\n")
    )
    with pytest.raises(PatchError, match="cannot be indented like the file at 'z = 1'"):
        edited("     return lr", "     return 1\nz = 1")


def test_lines_that_match_are_deleted_by_an_empty_new():
    assert edited("        lr = lr * 0.5", "") == FILE.replace("    lr = lr * 0.5\n", "")


def test_indentation_that_does_not_correspond_is_refused():
    with pytest.raises(PatchError, match="indented unlike"):
        edited("y = self.norm(x)\nif y is None:\nreturn x", "pass")


def test_a_file_with_tabs_keeps_them():
    source = "def f():\n\tif x:\n\t\treturn 1\n"
    child = edited("    if x:\n        return 1\n", "    if y:\n        return 2\n", source)
    assert child == "def f():\n\tif y:\n\t\treturn 2\n"


def test_windows_line_ends_are_kept():
    source = FILE.replace("\n", "\r\n")
    old, new = "    lr = lr * 0.5\n    return lr\n", "    lr = 1\n    return 2\n"
    assert edited(old, new, source) == edited(old, new).replace("\n", "\r\n")
    assert edited("lr = lr * 0.5\nreturn lr", "lr = 1\nreturn 2", source) == edited(old, new).replace("\n", "\r\n")
    assert edited(old.replace("\n", "\r\n"), new.replace("\n", "\r\n")) == edited(old, new)


def test_a_missing_final_newline_stays_missing():
    assert edited("  return lr\n", "  return 1\n", FILE[:-1]) == FILE[:-1].replace("return lr", "return 1")


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ("return x", "occurs at lines 8, 9;"),
        ("y", "occurs at lines"),
        (
            "    lr = lr * 0.75\n",
            r"(?s)not in train\.py; it first differs at 'lr = lr \* 0\.75'.*   13 \|     lr = lr \* 0\.5",
        ),
        (
            "y = self.norm(x)\nif y is not None:\n    return x",
            r"(?s)differs at 'if y is not None:'.*    6 \| .*    7 \| ",
        ),
        ("%%%%%%%", "no line resembles it"),
        ("\n \n \n \n", "`old` is not in train.py"),
    ],
)
def test_an_edit_that_does_not_fit_says_where_to_look(old, message):
    with pytest.raises(PatchError, match=message):
        edited(old, "pass")


def test_ambiguity_modulo_indentation_lists_the_lines():
    source = "if a:\n    x = 1\n    z = 2\nif b:\n        x = 1\n        z = 2\n"
    with pytest.raises(PatchError, match="lines 2, 5;"):
        edited("x = 1\nz = 2", "y", source)
    with pytest.raises(PatchError, match="lines 1, 1;"):
        edited("aa", "b", "aaa")
    with pytest.raises(PatchError, match=r"19, 20 and more;"):
        edited("q", "r", "q\n" * 500)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([Edit("lr * 0.5", "lr * 0.5")], "the edit changes nothing"),
        ([Edit("x + y", "x"), Edit("", "import torch"), Edit("", "import torch")], "edit 3 of 3 changes nothing"),
        ([Edit("x + y", "x - y"), Edit("x - y", "x + y")], "together change nothing"),
        ([Edit("x + y", "x - y"), Edit("x + y", "x")], "edit 2 of 2 does not apply"),
    ],
)
def test_edits_that_come_to_nothing_are_refused(edits, message):
    with pytest.raises(PatchError, match=message):
        apply_edits(FILE, edits)


def test_terminal_escapes_of_the_file_are_not_quoted():
    with pytest.raises(PatchError) as caught:
        edited("value = 12346", "x", "value = 12345 \x1b[2J\n")
    assert "value = 12345" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_hostile_file_is_refused_in_bounded_work():
    source = "\n".join(f"value_{i} = {i % 7} " + "x" * 50 for i in range(1500))
    with pytest.raises(PatchError, match=r"not in train\.py"):
        edited("valve_77 = 3 " + "y" * 50000 + "\nz" * 2000, "x", source)
    with pytest.raises(PatchError):
        edited("a\n" * 30000 + "b", "x", "a\n" * 60000)


pieces = st.sampled_from(
    ["a", "b", "x = 1", " ", "\t", "\n", "\n", "\r\n", "\r", "\f", "\u2028", "\x85", "é", "\ud800"]
)
texts = st.lists(pieces, max_size=30).map("".join) | st.text(max_size=30)


@given(texts, texts, texts)
def test_an_old_that_occurs_once_is_replaced_exactly(before, old, after):
    source = before + old + after
    new = old + "!"
    if not old or source.find(old) != source.rfind(old) or "\r" in source + new or "\n" not in source:
        return
    assert edited(old, new, source) == before + new + after


@given(texts, st.lists(st.builds(Edit, texts, texts), max_size=3))
def test_arbitrary_edits_raise_only_patch_error(source, edits):
    child = result_or_refusal(apply_edits, source, edits)
    assert isinstance(child, PatchError) or (child == source) == (not edits)


def result_or_refusal(function, *args):
    """Return what the function returns, or the PatchError it raises; any other error fails the test."""
    try:
        return function(*args)
    except PatchError as error:
        return error


def change(lines_and_moves):
    lines, moves = lines_and_moves
    child = list(lines)
    for at, replacement in moves:
        child[at % (len(child) + 1) : at % (len(child) + 1) + at % 3] = replacement
    return "".join(lines), "".join(child)


lines = st.lists(
    st.sampled_from(["a\n", "b\n", "c\r\n", "\n", "d\f\n", "--- a/train.py\n", "\\ No newline\n"]), max_size=40
)
changed_texts = st.tuples(lines, st.lists(st.tuples(st.integers(0, 40), st.lists(texts, max_size=3)), max_size=4)).map(
    change
)


@given(changed_texts | st.tuples(texts, texts))
@example(("", "a"))
@example(("a", "a\n"))
@example(("a\n", ""))
@example(("x\n" * 9 + "a", "x\n" * 9 + "a\n"))
@example(("\n", "\r\n"))
@example(("\\ No newline at end of file\n", "\\ No newline at end of file"))
def test_a_patch_is_the_exact_inverse_of_a_diff(pair):
    parent, child = pair
    patch = unified_diff(parent, child)
    assert apply_patch(parent, patch) == child
    assert (patch == "") == (parent == child)
    assert not patch or patch.endswith("\n")
    back = unified_diff(child, parent)
    assert apply_patch(child, back) == parent


@given(texts, texts | st.text("@-+ ,0123\n\\", max_size=40).map("--- a/train.py\n+++ b/train.py\n".__add__))
def test_arbitrary_patches_raise_only_patch_error(parent, patch):
    child = result_or_refusal(apply_patch, parent, patch)
    assert isinstance(child, str) or "patch" in str(child)


def test_a_patch_that_does_not_fit_is_refused():
    numbers = "".join(f"{i}\n" for i in range(30))
    patch = unified_diff(numbers, numbers.replace("\n5\n", "\nfive\n").replace("25\n", ""))
    assert patch.count("@@ -") == 2
    for wrong in (numbers.replace("\n4\n", "\nfour\n"), "0\n" + numbers, numbers[2:], ""):
        with pytest.raises(PatchError, match="does not fit its parent"):
            apply_patch(wrong, patch)
    header, second = patch.index("@@ -"), patch.rindex("@@ -")
    for damaged in (
        patch[:-3],
        patch + "junk\n",
        patch[header:],
        patch[:header],
        patch.replace("+3,7", "+4,7"),
        patch.replace("-3,7 +3,7", "-3,7 +3,8"),
        patch.replace("-3,7 +3,7", "-3,6 +3,7"),
        patch[:header] + patch[second:] + patch[header:second],
    ):
        assert damaged != patch
        with pytest.raises(PatchError):
            apply_patch(numbers, damaged)


def test_git_accepts_the_patch(tmp_path):
    child = FILE.replace("x + y", "x - y").replace("import torch\n", "") + "# end"
    (tmp_path / "train.py").write_text(FILE)
    patch = unified_diff(FILE, child)
    done = subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch, text=True, capture_output=True)
    assert done.stderr == ""
    assert (tmp_path / "train.py").read_text() == child
