"""The failures that the artefact reader foretells are those of the real train.py, word for word."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from sim.artefact import read
from sim.model import Failure

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.training

SOURCE = (Path(__file__).parents[2] / "train.py").read_text()
VOCAB, SEQ_LEN = 256, 32
TINY = {"DEPTH": "2", "ASPECT_RATIO": "16", "HEAD_DIM": "16", "TOTAL_BATCH_SIZE": "128", "DEVICE_BATCH_SIZE": "4"}


def assign(source: str, name: str, text: str) -> str:
    (line,) = [line for line in source.splitlines() if line.startswith(f"{name} = ")]
    return source.replace(line, f"{name} = {text}")


class FakeRun:
    """The harness's run over random tokens, for a few steps on the CPU."""

    device, vocab_size, seq_len, seed = "cpu", VOCAB, SEQ_LEN, 0

    def __init__(self) -> None:
        self.steps = 0

    @property
    def elapsed_fraction(self) -> float:
        return self.steps / 4

    def warmup_batch(self, batch_rows: int):
        tokens = torch.randint(VOCAB, (batch_rows, SEQ_LEN + 1), generator=torch.Generator().manual_seed(7))
        return tokens[:, :-1], tokens[:, 1:]

    def batches(self, batch_rows: int) -> Iterator:
        while self.steps < 4:
            yield self.warmup_batch(batch_rows)

    def report(self, loss) -> None:
        self.steps += 1
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.steps}")


def run_for_real(path: Path) -> tuple[str, str]:
    """Load, build and train as the harness does; return the outcome and the reason that it would give."""
    torch.set_num_threads(1)
    try:
        module = harness._load_target(str(path))
        torch.manual_seed(0)
        module.train(FakeRun(), harness._build(module, VOCAB, SEQ_LEN, "cpu"))
    except BaseException as error:
        return harness.classify(error), harness.last_line(error, str(path))
    return "ok", ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DEPTH", "'8'"),
        ("DEPTH", "8.0"),
        ("DEPTH", "0"),
        ("DEPTH", "-1"),
        ("DEPTH", "True"),
        ("DEPTH", "int('x')"),
        ("ASPECT_RATIO", "-64"),
        ("ASPECT_RATIO", "0"),
        ("ASPECT_RATIO", "10**17"),
        ("HEAD_DIM", "'8'"),
        ("HEAD_DIM", "0"),
        ("HEAD_DIM", "15"),
        ("MLP_RATIO", "0"),
        ("MLP_RATIO", "-1"),
        ("MLP_RATIO", "1.5"),
        ("TOTAL_BATCH_SIZE", "None"),
        ("TOTAL_BATCH_SIZE", "16.5"),
        ("TOTAL_BATCH_SIZE", "129"),
        ("DEVICE_BATCH_SIZE", "0"),
        ("DEVICE_BATCH_SIZE", "'4'"),
        ("DEVICE_BATCH_SIZE", "2.0"),
        ("WINDOW_PATTERN", "''"),
        ("WINDOW_PATTERN", "'SXL'"),
        ("WINDOW_PATTERN", "3"),
        ("SHORT_WINDOW_RATIO", "None"),
        ("SHORT_WINDOW_RATIO", "float('nan')"),
        ("ROPE_BASE", "(1.0,)"),
        ("ROPE_BASE", "10**30"),
        ("ROPE_BASE", "-1.0"),
        ("ATTENTION_SCALE", "'1'"),
        ("ATTENTION_SCALE", "0"),
        ("SOFTCAP", "0.0"),
        ("RESIDUAL_INIT", "1"),
        ("SKIP_INIT", "None"),
        ("SKIP_INIT", "1e999"),
        ("EMBEDDING_LR", "None"),
        ("MATRIX_LR", "'0.04'"),
        ("MATRIX_LR", "float('nan')"),
        ("MUON_MOMENTUM", "None"),
        ("MUON_MOMENTUM_RATIO", "'0'"),
        ("MUON_BETA2", "None"),
        ("ADAM_BETAS", "(0.9, 1.0)"),
        ("ADAM_BETAS", "(0, 0)"),
        ("ADAM_BETAS", "0.9"),
        ("ADAM_BETAS", "(0.9, 0.95, 0.9)"),
        ("WARMUP_RATIO", "'0'"),
        ("WARMDOWN_RATIO", "None"),
        ("LOG_LINES", "0"),
        ("POLAR_EXPRESS", "((1.0, 2.0),)"),
        ("POLAR_EXPRESS", "()"),
    ],
)
def test_a_bad_constant_fails_in_the_simulator_as_it_does_for_real(tmp_path: Path, name: str, text: str) -> None:
    source = SOURCE
    for tiny, value in TINY.items():
        source = assign(source, tiny, value)
    if name == "POLAR_EXPRESS":
        start = source.index("POLAR_EXPRESS = (")
        source = f"{source[:start]}POLAR_EXPRESS = {text}\n{source[source.index('LOG_LINES') :]}"
    else:
        source = assign(source, name, text)
    path = tmp_path / "train.py"
    path.write_text(source)
    foretold = read(source, seq_len=SEQ_LEN, vocab_size=VOCAB)
    assert isinstance(foretold, Failure)
    assert (foretold.outcome, foretold.reason) == run_for_real(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\nDEPTH = ", "\nDEPTHS = "),
        ("\nFINAL_LR_FRAC = ", "\nFINAL_LR = "),
        ("\nMUON_MOMENTUM_START = ", "\nSTART = "),
        ("def build(", "def built("),
        ("def build(", "def build((("),
        ("linear(h_BTF, self.out_DF)", "linear(h_BFT, self.out_DF)"),
        ("import math\n", ""),
    ],
)
def test_a_broken_file_fails_in_the_simulator_as_it_does_for_real(tmp_path: Path, old: str, new: str) -> None:
    source = SOURCE
    for tiny, value in TINY.items():
        source = assign(source, tiny, value)
    assert source.count(old) == 1
    path = tmp_path / "train.py"
    path.write_text(source.replace(old, new))
    foretold = read(path.read_text(), seq_len=SEQ_LEN, vocab_size=VOCAB)
    assert isinstance(foretold, Failure)
    assert (foretold.outcome, foretold.reason) == run_for_real(path)
