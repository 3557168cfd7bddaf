"""Constants, grids, checks and identities of `train.py`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.patching import (
    PatchError,
    check_source,
    describe_change,
    effective_fingerprint,
    parse_grid,
    parse_variant,
    read_constants,
    revision_id,
    set_constants,
    short,
    unified_diff,
)

SOURCE = '''"""A small target."""

from types import SimpleNamespace as NS

DEPTH = 8  # layers
TOTAL_BATCH_SIZE = 2**19
MATRIX_LR: float = 0.04
ADAM_BETAS = (
    0.8,  # first
    0.95,
)
WINDOW_PATTERN = "SSSL"
OFFSET = -3
DEBUG = False
LIMIT = None
WIDTH = DEPTH * 64
TWICE = 1
TWICE = 2
if DEBUG:
    HIDDEN = 1


def build(vocab_size, seq_len, device):
    """Build."""
    DEPTH = 3  # a local name, not the constant
    return NS(depth=DEPTH, é="ü")


def train(run, model):
    global COUNTED
    COUNTED = 2


COUNTED = 1
é = 1; LAST = 7
'''


def test_constants_are_plain_uppercase_names_bound_once():
    constants = read_constants(SOURCE)
    assert {name: constant.value for name, constant in constants.items()} == {
        "DEPTH": 8,
        "TOTAL_BATCH_SIZE": 524288,
        "MATRIX_LR": 0.04,
        "ADAM_BETAS": (0.8, 0.95),
        "WINDOW_PATTERN": "SSSL",
        "OFFSET": -3,
        "DEBUG": False,
        "LIMIT": None,
        "LAST": 7,
    }
    lines = SOURCE.split("\n")
    for constant in constants.values():
        assert SOURCE[constant.start : constant.end] == constant.literal
        assert constant.name in lines[constant.line - 1]
    assert constants["TOTAL_BATCH_SIZE"].literal == "2**19"


def test_constants_are_found_whatever_ends_the_lines():
    for source in (SOURCE.replace("\n", "\r\n"), SOURCE.replace("\n", "\r"), "\f\n" + SOURCE):
        constants = read_constants(source)
        assert constants["LAST"].value == 7
        assert source[constants["LAST"].start : constants["LAST"].end] == "7"


def test_an_override_replaces_the_literal_and_nothing_else():
    child = set_constants(SOURCE, {"DEPTH": "10", "ADAM_BETAS": (0.9, 0.99), "WINDOW_PATTERN": "'SL'"})
    assert child == SOURCE.replace("DEPTH = 8 ", "DEPTH = 10 ").replace(
        "(\n    0.8,  # first\n    0.95,\n)", "(0.9, 0.99)"
    ).replace('"SSSL"', "'SL'")
    constants = read_constants(child)
    assert constants["DEPTH"].value == 10
    assert constants["ADAM_BETAS"].value == (0.9, 0.99)
    assert child[constants["LAST"].start : constants["LAST"].end] == "7"
    assert constants["LAST"].line == read_constants(SOURCE)["LAST"].line - 3


def test_a_source_reads_the_same_whether_or_not_its_structure_is_known(fresh_cache):
    base = "X = (1)\nY = 2\nbuild = train = None\n"
    children = [
        set_constants(base, {"X": "(2)", "Y": "1, 2"}),
        set_constants(base, {"X": "1, 2", "Y": "(3, 4)"}),
        set_constants(base, {"X": "(1), (2)", "Y": "((5))  # why"}),
        "X = (1, 2)\nY = ((7))\nbuild = train = None\n",
        "X = ((1), (2))\nY = (1), (2)\nbuild = train = None\n",
        "X = (1)\nY = 2 if 1 else 3\nbuild = train = None\n",
        "X = (1)\nY = 2 \nbuild = train = None\n",
    ]
    for child in children:
        warm = read_constants(child), effective_fingerprint(child)
        fresh_cache()
        assert warm == (read_constants(child), effective_fingerprint(child))
        fresh_cache()
        read_constants(base)
    assert children[0] == "X = (2)\nY = (1, 2)\nbuild = train = None\n"
    assert children[2] == "X = (((1), (2)))\nY = 5\nbuild = train = None\n"


@pytest.fixture
def fresh_cache():
    from core.patching import outline

    def clear():
        outline.outline.cache_clear()
        outline._templates.clear()

    clear()
    return clear


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"DEPHT": "9"}, "did you mean DEPTH"),
        ({"depth": "9"}, "did you mean DEPTH"),
        ({"QQQ": "9"}, "its constants are DEPTH"),
        ({"TWICE": "9"}, "bound 2 times .*use an edit"),
        ({"COUNTED": "9"}, "bound 2 times .*use an edit"),
        ({"WIDTH": "9"}, "computed.*use an edit"),
        ({"HIDDEN": "9"}, "not a plain assignment.*use an edit"),
        ({"DEPTH": "__import__('os').system('true')"}, "not a plain literal"),
        ({"DEPTH": "9**9**9"}, "64 bits"),
        ({"DEPTH": "1 << 10**9"}, "64 bits"),
        ({"DEPTH": "2**64"}, "64 bits"),
        ({"DEPTH": "1e999"}, "not finite"),
        ({"DEPTH": float("nan")}, "not a plain literal"),
        ({"DEPTH": "1/0"}, "cannot be computed"),
        ({"DEPTH": "(-8)**0.5"}, "not a plain literal"),
        ({"DEPTH": "1.5 << 2"}, "cannot be computed"),
        ({"DEPTH": "'a' * 3"}, "other than numbers"),
        ({"DEPTH": "True + 1"}, "other than numbers"),
        ({"DEPTH": "1\nimport os"}, "one line"),
        ({"DEPTH": "1; import os"}, "not a Python expression"),
        ({"DEPTH": ""}, "not a Python expression"),
        ({"DEPTH": "-" * 900 + "1"}, "nested too deeply|not a Python expression"),
        ({"DEPTH": "(" * 400 + ")" * 400}, "nested too deeply|not a Python expression"),
        ({"DEPTH": "1" * 2000}, "longer than"),
        ({"DEPTH": tuple(range(65))}, "more than 64 items"),
        ({"DEPTH": "[1]"}, "not a plain literal"),
        ({"DEPTH": r"'\ud800'"}, "surrogate"),
        ({"WINDOW_PATTERN": "SSL"}, 'quotes, WINDOW_PATTERN="SSL"'),
    ],
)
def test_an_override_that_cannot_be_is_refused_with_what_to_do(overrides, message):
    with pytest.raises(PatchError, match=message):
        set_constants(SOURCE, overrides)


numbers = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
values = st.recursive(
    numbers | texts | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=6
)


@given(st.dictionaries(st.sampled_from(sorted(read_constants(SOURCE))), values))
def test_a_constant_that_was_set_is_read_back(overrides):
    child = set_constants(SOURCE, {name: repr(value) for name, value in overrides.items()})
    constants = read_constants(child)
    for name, value in overrides.items():
        assert repr(constants[name].value) == repr(value)
        assert child[constants[name].start : constants[name].end] == constants[name].literal
    check_source(child)


@given(st.text(max_size=40), st.text("0123456789.*+-(),'\"#eE \\", max_size=20))
def test_arbitrary_overrides_succeed_or_raise_only_patch_error(name, literal):
    for override in ({"DEPTH": literal}, {name: literal}):
        child = result_or_refusal(set_constants, SOURCE, override)
        if isinstance(child, str):
            assert read_constants(child).keys() == read_constants(SOURCE).keys()
    variant = result_or_refusal(parse_variant, f"DEPTH={literal}")
    assert isinstance(variant, PatchError) or all(variant.values())


def result_or_refusal(function, *args):
    """Return what the function returns, or the PatchError it raises; any other error fails the test."""
    try:
        return function(*args)
    except PatchError as error:
        return error


def test_a_grid_is_the_full_product_in_a_stable_order():
    assert parse_grid("DEPTH=8,10; ADAM_BETAS=(0.8, 0.9),(0.9, 0.95);") == [
        {"DEPTH": "8", "ADAM_BETAS": "(0.8, 0.9)"},
        {"DEPTH": "8", "ADAM_BETAS": "(0.9, 0.95)"},
        {"DEPTH": "10", "ADAM_BETAS": "(0.8, 0.9)"},
        {"DEPTH": "10", "ADAM_BETAS": "(0.9, 0.95)"},
    ]
    assert parse_grid('W = \'a,b;c\', "d\\"),"') == [{"W": "'a,b;c'"}, {"W": '"d\\"),"'}]
    assert parse_grid("  ") == [{}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DEPTH", "NAME=value"),
        ("depth=3", "capitals"),
        ("DEPTH=", "empty value"),
        ("DEPTH=8,,9", "empty value"),
        ("DEPTH=8,8", "lists DEPTH=8 twice"),
        ("DEPTH=8; DEPTH=9", "gives DEPTH twice"),
        ("DEPTH=(8,9", "lacks a closing '\\)'"),
        ("DEPTH=8,9)", "nothing opens"),
        ("A=1,2,3,4,5,6,7,8,9; B=1,2,3,4,5,6,7,8,9; C=1,2,3,4", r"324 combinations \(9 x 9 x 4\), more than 256"),
    ],
)
def test_a_text_that_is_no_grid_is_refused(text, message):
    with pytest.raises(PatchError, match=message):
        parse_grid(text)


def test_a_huge_grid_is_refused_before_it_is_built():
    with pytest.raises(PatchError, match="combinations"):
        parse_grid("; ".join(f"A{i}=1,2,3,4,5,6,7,8,9" for i in range(60)))


def test_a_variant_is_overrides_separated_by_white_space():
    assert parse_variant("DEPTH=10 MATRIX_LR = 0.03\nADAM_BETAS=(0.8, 0.95)  W='A=1 B' N=2 ** 19") == {
        "DEPTH": "10",
        "MATRIX_LR": "0.03",
        "ADAM_BETAS": "(0.8, 0.95)",
        "W": "'A=1 B'",
        "N": "2 ** 19",
    }
    assert parse_variant("") == {}
    for text in ("DEPTH=1, LR=2", "DEPTH=1; LR=2", "x DEPTH=1", "DEPTH=1 DEPTH=2", "DEPTH= LR=2", "DEPTH==1"):
        with pytest.raises(PatchError):
            parse_variant(text)


@given(st.text(max_size=60) | st.text("ABC=12,; ()'\"\\", max_size=40))
def test_arbitrary_grids_and_variants_raise_only_patch_error(text):
    for parse in (parse_grid, parse_variant):
        assert str(result_or_refusal(parse, text))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "no top-level function build.* and train"),
        (SOURCE.replace("def train", "def trial"), r"no top-level function train\(run, model\)"),
        (SOURCE + "def x(:\n", r"line 36: .*\n +36 \| def x\(:\n +\^"),
        (SOURCE + "\tx = (\n", "line 36"),
        (SOURCE + "return 1\n", "line 36: 'return' outside function"),
        (SOURCE + "\0", "null byte"),
        (SOURCE + "#" * 131072, "more than the 131,072 allowed"),
        (SOURCE + "#\ud800", "half a surrogate pair"),
        (SOURCE + "x = " + "(" * 5000 + ")" * 5000, "not valid Python|nested too deeply"),
        (SOURCE + "x = " + "-" * 50000 + "1", "not valid Python|nested too deeply"),
        (SOURCE + "x = 1" + "+1" * 50000, "not valid Python|nested too deeply"),
        (SOURCE + "x = " + "1" * 5000, "line 36"),
        ("# coding: latin-1\n" + SOURCE, "encoding iso-8859-1"),
        ("# coding: klingon\n" + SOURCE, "encoding"),
        ("\ufeff" + SOURCE, "encoding utf-8-sig"),
    ],
)
def test_a_source_that_cannot_be_a_revision_is_refused(source, message):
    with pytest.raises(PatchError, match=message):
        check_source(source)


def test_the_mark_under_a_syntax_error_stands_below_its_column():
    with pytest.raises(PatchError) as caught:
        check_source("x = 1\n" + "y = [" + "10, " * 100 + "\x1b1 $ 2]\n")
    _, quoted, caret = str(caught.value).split("\n")
    assert len(quoted) < 200
    assert "\x1b" not in quoted
    assert quoted[caret.index("^")] in "\N{REPLACEMENT CHARACTER}$"


@given(st.text(max_size=80) | st.text("ABx=1(\n\t \\'\"#:", max_size=60))
def test_arbitrary_sources_raise_only_patch_error(source):
    for function in (check_source, read_constants, effective_fingerprint, revision_id):
        assert isinstance(result_or_refusal(function, source), type(function(SOURCE)) | PatchError)
    assert describe_change(source, SOURCE)


def test_a_good_source_passes_also_with_other_values():
    check_source(SOURCE)
    check_source(set_constants(SOURCE, {"DEPTH": 12}))
    check_source("# -*- coding: utf-8 -*-\n" + SOURCE.replace("\n", "\r\n"))


def test_a_revision_is_named_by_its_bytes():
    assert revision_id("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert short(revision_id("")) == "e3b0c442"
    assert revision_id(SOURCE) != revision_id(SOURCE + "\n")


@pytest.mark.parametrize(
    "same",
    [
        SOURCE + "\n\n# the end\n",
        SOURCE.replace("# layers", "# blocks"),
        SOURCE.replace("2**19", "524288"),
        SOURCE.replace("0.04", ".040"),
        SOURCE.replace('"SSSL"', "'SS' 'SL'"),
        SOURCE.replace('"""Build."""', ""),
        SOURCE.replace('"""A small target."""', '"""Another."""\n"twice"'),
        SOURCE.replace("(\n    0.8,  # first\n    0.95,\n)", "(0.8, .95)"),
        SOURCE.replace("NS(depth=DEPTH,", "NS(\n        depth = DEPTH,"),
        SOURCE.replace("\n", "\r\n"),
    ],
)
def test_the_fingerprint_ignores_how_a_source_is_written(same):
    assert same != SOURCE
    assert effective_fingerprint(same) == effective_fingerprint(SOURCE)


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace("0.04", "0.05"),
        SOURCE.replace("DEPTH = 8", "DEPTH = 8.0"),
        SOURCE.replace("DEBUG = False", "DEBUG = 0"),
        SOURCE.replace("é=", "è="),
        SOURCE.replace("def train(run, model)", "def train(run, model=None)"),
        SOURCE.replace("def train(run, model)", "def train(*, run, model)"),
        SOURCE.replace("WIDTH = DEPTH * 64", "WIDTH = 64 * DEPTH"),
        SOURCE.replace("TWICE = 2", "TWICE = 3"),
    ],
)
def test_the_fingerprint_tells_what_a_source_does(other):
    assert effective_fingerprint(other) != effective_fingerprint(SOURCE)


def test_an_absent_default_is_not_a_default_of_none():
    assert effective_fingerprint("def f(*, a): ...") != effective_fingerprint("def f(*, a=None): ...")
    assert effective_fingerprint("x = {**a}") != effective_fingerprint("x = {None: a}")


def test_a_change_is_described_in_one_line():
    def describe(overrides):
        return describe_change(SOURCE, set_constants(SOURCE, overrides))

    assert describe({}) == "no change"
    assert describe({"MATRIX_LR": "0.05"}) == "MATRIX_LR 0.04 → 0.05"
    assert describe({"MATRIX_LR": "0.05", "DEPTH": 9}) == "DEPTH 8 → 9, MATRIX_LR 0.04 → 0.05"
    everything = describe(dict.fromkeys(read_constants(SOURCE), 99))
    assert everything.endswith(" and 5 more")
    assert "\n" not in everything
    assert describe_change(SOURCE, SOURCE + "# one\n# two\n") == "+2 −0 lines"
    assert describe_change(SOURCE, SOURCE.replace("Build.", "Make.") + "x\n") == "+2 −1 lines"
    assert describe_change("(", ")") == "+1 −1 lines"


def test_the_diff_of_an_override_is_one_line():
    patch = unified_diff(SOURCE, set_constants(SOURCE, {"MATRIX_LR": 0.05}))
    changed = [line for line in patch.split("\n")[2:] if line[:1] in ("+", "-")]
    assert changed == ["-MATRIX_LR: float = 0.04", "+MATRIX_LR: float = 0.05"]
