"""The artefact reader with torch: what it measures, what it reports as the file's own failure, how it is confined."""

import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import pytest

from core.patching import Edit, apply_edits, set_constants
from core.patching.outline import outline
from core.profile import PROFILES
from core.researchers.catalogue import STRUCTURAL
from sim.artefact import Profiler, read
from sim.artefact.profiler import Profile
from sim.model import Failure, Setup

pytest.importorskip("torch")
pytestmark = pytest.mark.processes

SOURCE = (Path(__file__).parents[2] / "train.py").read_text()
RELU2 = "h_BTF = F.relu(linear(x_BTD, self.in_FD)).square()"


@pytest.fixture(scope="module")
def profiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profiler]:
    found = Profiler.find(sys.executable, tmp_path_factory.mktemp("cache"))
    assert found is not None
    yield found
    found.close()


def swap(old: str, new: str) -> str:
    assert SOURCE.count(old) == 1, old
    return SOURCE.replace(old, new)


def measured(profiler: Profiler, source: str, seq_len: int = 2048, vocab_size: int = 8192) -> Profile:
    found = profiler.profile(source, outline(source), seq_len=seq_len, vocab_size=vocab_size)
    assert isinstance(found, Profile), found
    return found


def test_rules_give_the_cost_that_the_meta_device_measures(profiler: Profiler) -> None:
    everything = [edit for edit in STRUCTURAL if edit.key != "plain-muon"]
    sizes = {"DEPTH": 5, "ASPECT_RATIO": 48, "HEAD_DIM": 64, "MLP_RATIO": 3, "WINDOW_PATTERN": "'SL'"}
    for edits, overrides in (
        (everything[:1], {}),
        (everything, sizes),
        (everything[3:5], sizes | {"SHORT_WINDOW_RATIO": 0.125}),
        ([edit for edit in STRUCTURAL if edit.key == "no-values"], PROFILES["cuda-small"].overrides),
    ):
        edited = reduce(
            lambda text, edit: apply_edits(text, [Edit(old, new) for old, new in edit.edits]), edits, SOURCE
        )
        source = set_constants(edited, overrides)
        setup = read(source, seq_len=2048, vocab_size=8192)
        assert isinstance(setup, Setup)
        assert setup.cost == measured(profiler, source).cost


def test_an_unknown_structure_is_measured_and_its_quality_still_unknown(profiler: Profiler) -> None:
    source = swap("matrix(MLP_RATIO * dim, dim,", "matrix(MLP_RATIO * dim + dim, dim,")
    source = source.replace("matrix(dim, MLP_RATIO * dim,", "matrix(dim, MLP_RATIO * dim + dim,")
    setup = read(source, seq_len=2048, vocab_size=8192, profiler=profiler)
    assert isinstance(setup, Setup)
    assert setup.unmodelled == ("__init__ of MLP changed: quality not modelled",)
    assert setup.cost is not None
    assert setup.cost.params == 50_339_856 + 8 * 2 * 512 * 512
    assert setup.cost.flops_per_token == 239_124_480 + 6 * 8 * 2 * 512 * 512


def test_a_shape_error_is_the_real_crash_with_its_line(profiler: Profiler) -> None:
    source = swap(RELU2, RELU2 + ".flatten()")
    failure = read(source, seq_len=2048, vocab_size=8192, profiler=profiler)
    line = source[: source.index("return F.linear(x")].count("\n") + 1
    assert isinstance(failure, Failure)
    assert failure.outcome == "crash"
    assert failure.reason.startswith("RuntimeError: ")
    assert failure.reason.endswith(f"(train.py, line {line})")


def test_an_optimizer_that_misses_a_parameter_is_caught(profiler: Profiler) -> None:
    source = swap(
        "        self.residual_L = ", "        self.extra = nn.Linear(8, 8, device=device)\n        self.residual_L = "
    )
    failure = read(source, seq_len=2048, vocab_size=8192, profiler=profiler)
    assert isinstance(failure, Failure)
    assert "the parameter extra.weight must be in exactly one optimizer group" in failure.reason


def test_constants_that_only_a_run_can_tell_are_asked_for(profiler: Profiler) -> None:
    source = swap("\nDEPTH = 8\n", "\nDEPTH = len(set(str(torch.float32)))\n")
    setup = read(source, seq_len=2048, vocab_size=8192, profiler=profiler)
    assert isinstance(setup, Setup)
    assert setup.depth == len(set("torch.float32"))
    assert setup.unmodelled == ()


@pytest.mark.parametrize(
    "statement",
    ["open('/var/tmp/mark', 'w').write('x')", "import socket; socket.create_connection(('127.0.0.1', 9))"],
)
def test_what_the_confinement_forbids_is_no_failure_of_the_run(profiler: Profiler, statement: str) -> None:
    source = swap("def lr_scale", f"{statement}\n\n\ndef lr_scale")
    setup = read(source, seq_len=2048, vocab_size=8192, profiler=profiler)
    assert isinstance(setup, Setup)
    assert setup.unmodelled
    assert not Path("/var/tmp/mark").exists()


def test_a_file_that_kills_its_process_costs_a_measurement_and_nothing_else(profiler: Profiler) -> None:
    source = swap("def lr_scale", "import os\nos._exit(3)\n\n\ndef lr_scale")
    setup = read(source, seq_len=2048, vocab_size=8192, profiler=profiler)
    assert isinstance(setup, Setup)
    assert setup.unmodelled == ("the top level of module changed: cost and quality not modelled",)
    assert measured(profiler, SOURCE).cost.params == 50_339_856


def test_measurements_are_kept_on_disk_and_serve_all_learning_rates(profiler: Profiler, tmp_path: Path) -> None:
    first = Profiler(sys.executable, tmp_path, profiler.kind)
    cost = measured(first, SOURCE).cost
    first.close()
    second = Profiler("/nonexistent/python", tmp_path, profiler.kind)
    assert measured(second, set_constants(SOURCE, {"MATRIX_LR": 0.07})).cost == cost
    assert len(list(tmp_path.iterdir())) == 1


def test_a_python_without_torch_gives_no_profiler(tmp_path: Path) -> None:
    assert Profiler.find("/nonexistent/python", tmp_path) is None
