"""Files that are written to hurt their reader: none hangs it, fills its memory, makes it raise, or forges an answer."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.artefact import Profiler, read
from sim.artefact.reader import MAX_REASON_CHARS
from sim.model import Failure, Setup

SOURCE = (Path(__file__).parents[2] / "train.py").read_text()
DOUBLED = "{0} = (1,)\n" + "{0} = ({0}, {0})\n" * 40


def constant(name: str, value: str) -> str:
    changed, count = re.subn(rf"(?m)^{name} = .*$", lambda _: f"{name} = {value}", SOURCE)
    assert count == 1
    return changed


def inside_forward(statement: str) -> str:
    head = "    def forward(self, tokens_BT: Tensor) -> Tensor:\n"
    assert SOURCE.count(head) == 1
    return SOURCE.replace(head, f"{head}        {statement}\n")


@pytest.mark.parametrize(
    "value",
    [
        '"%0999999999d" % 1',
        "round(5, -1000000000)",
        "len(sum((((1,) * 100000),) * 100000, ()))",
        "10**10**10",
        "1 << 10**9",
        "(1,)\n" + "DEPTH = (DEPTH, DEPTH)\n" * 40,
    ],
)
def test_a_constant_that_would_take_for_ever_is_one_that_cannot_be_read(value):
    failure = read(constant("DEPTH", value), seq_len=2048, vocab_size=8192)
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("the simulator cannot read DEPTH")


def test_values_that_double_on_each_line_are_neither_compared_nor_hashed():
    source = SOURCE + DOUBLED.format("A1") + DOUBLED.format("B1") + "SAME = A1 == B1\nKEPT = {A1: B1}\n"
    assert isinstance(read(source, seq_len=2048, vocab_size=8192), Setup)


@pytest.mark.parametrize(
    "statement",
    ["x = " + "+".join(["1"] * 900), "x = self" + ".a" * 400, "if 1: pass\n" + "        elif 1: pass\n" * 300],
)
def test_code_nested_deeper_than_it_can_be_compared_is_said_to_be_so(statement):
    failure = read(inside_forward(statement), seq_len=2048, vocab_size=8192)
    assert isinstance(failure, Failure)
    assert "nested more than" in failure.reason


@pytest.mark.parametrize("name", ["SOFTCAP", "SHORT_WINDOW_RATIO", "MUON_BETA2", "ROPE_BASE", "WARMUP_RATIO"])
@pytest.mark.parametrize("value", ["10**400", "-(10**400)", 'float("nan")', '"x" * 4000', "(0.8, None)"])
def test_a_value_beyond_all_measure_never_raises_out_of_the_reader(name, value):
    found = read(constant(name, value), seq_len=2048, vocab_size=8192)
    assert isinstance(found, Setup | Failure)
    assert isinstance(found, Setup) or 0 < len(found.reason) <= MAX_REASON_CHARS + 40


def test_any_number_of_layers_is_counted_without_going_through_them():
    source = constant("DEPTH", "900_000_000").replace("\nHEAD_DIM = 128\n", "\nHEAD_DIM = 2\n")
    source = re.sub(r"(?m)^ASPECT_RATIO = .*$", "ASPECT_RATIO = 1e-9", source)
    source = source.replace("value_embeds", "other_embeds").replace("SOFTCAP * torch.tanh", "1 * torch.sin")
    assert isinstance(read(source, seq_len=2048, vocab_size=8192), Setup | Failure)


# ---- What runs in the profiler ----

FORGE = """
import os
import stat
for descriptor in range(3, 256):
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.write(descriptor, {0!r})
    except OSError:
        pass
os._exit(0)
"""


@pytest.fixture(scope="module")
def profiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profiler]:
    pytest.importorskip("torch")
    found = Profiler.find(sys.executable, tmp_path_factory.mktemp("cache"))
    assert found is not None
    yield found
    found.close()


def loading(code: str) -> str:
    return f"{SOURCE}\n\ndef unknown():\n    return None\n{code}"


@pytest.mark.processes
@pytest.mark.parametrize(
    "answer",
    [
        b'{"params": "many", "flops_per_token": null, "constants": {}}\n',
        b'{"params": -1, "flops_per_token": 1.0, "constants": {}}\n',
        b'{"params": 1, "flops_per_token": NaN, "constants": {}}\n',
        b'{"outcome": "won", "reason": 7}\n',
        b'{"outcome": "crash", "reason": "' + b"x" * 1000 + b'"}\n',
        b"[" * 60_000 + b"\n",
        b'{"params": 1',
    ],
)
def test_a_forged_answer_of_other_types_counts_as_none(profiler, answer):
    setup = read(loading(FORGE.format(answer)), seq_len=2048, vocab_size=8192, profiler=profiler)
    assert isinstance(setup, Setup)
    assert setup.cost is None
    assert any("cost and quality not modelled" in label for label in setup.unmodelled)


@pytest.mark.processes
def test_a_file_cannot_answer_for_the_next(profiler):
    twice = b'{"params": 1, "flops_per_token": 1.0, "constants": {}}\n' * 2
    read(loading(FORGE.format(twice)), seq_len=2048, vocab_size=8192, profiler=profiler)
    victim = read(loading("\nUNHEARD_OF = 1\n"), seq_len=2048, vocab_size=8192, profiler=profiler)
    assert isinstance(victim, Setup)
    assert victim.cost is not None
    assert victim.cost.params > 10**6


def processes_below(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


@pytest.mark.processes
def test_processes_that_a_file_leaves_behind_are_killed(profiler):
    measured = read(loading("\nLEFT = 0\n"), seq_len=2048, vocab_size=8192, profiler=profiler)
    assert isinstance(measured, Setup)
    assert profiler._process is not None
    before = processes_below(profiler._process.pid)
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n    os._exit(0)\n"
    read(loading(code), seq_len=2048, vocab_size=8192, profiler=profiler)
    assert processes_below(profiler._process.pid) == before


@pytest.mark.processes
def test_the_users_files_cannot_be_seen(profiler, tmp_path):
    (tmp_path / "secret").write_text("key")
    code = f"if open({str(tmp_path / 'secret')!r}).read():\n    raise ValueError('seen')\n"
    setup = read(loading(code), seq_len=2048, vocab_size=8192, profiler=profiler)
    if profiler.confinement != "bwrap":
        pytest.skip("bubblewrap does not work here")
    assert isinstance(setup, Setup)
