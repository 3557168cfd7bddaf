"""The harness's parts without processes: checkpoint format, windows, clock and report, scoring arithmetic."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.support.attempts import load_harness, make_corpus

torch = pytest.importorskip("torch")
harness = load_harness()
POOL = ThreadPoolExecutor(2)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "f32": torch.randn(3, 5, generator=generator),
        "transposed": torch.randn(4, 2, generator=generator).T,
        "bf16": torch.randn(7, generator=generator).bfloat16(),
        "f16": torch.randn(2, 2, generator=generator).half(),
        "scalar": torch.tensor(3),
        "flags": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 4),
        "f8": torch.randn(6, generator=generator).to(torch.float8_e4m3fn),
    }
    path = tmp_path / "c.safetensors"
    harness.write_safetensors(path, tensors)
    back = harness.read_safetensors(path)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert (
            back[name].reshape(-1).view(torch.uint8).tolist()
            == tensor.contiguous().reshape(-1).view(torch.uint8).tolist()
        )


def test_a_checkpoint_is_in_the_safetensors_format(tmp_path):
    path = tmp_path / "c.safetensors"
    harness.write_safetensors(path, {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([7], dtype=torch.int16)})
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    assert length % 8 == 0
    assert json.loads(data[8 : 8 + length]) == {
        "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "I16", "shape": [1], "data_offsets": [8, 10]},
    }
    assert data[8 + length :] == struct.pack("<ffh", 1.0, 2.0, 7)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
    ],
)
def test_a_checkpoint_whose_header_lies_is_refused(tmp_path, entry):
    header = json.dumps({"a": entry}).encode()
    path = tmp_path / "c.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    with pytest.raises(ValueError, match="does not fit"):
        harness.read_safetensors(path)


def test_a_state_that_no_checkpoint_can_hold_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"'z' is a torch\.complex64"):
        harness.write_safetensors(tmp_path / "c", {"z": torch.zeros(1, dtype=torch.complex64)})


def test_windows_follow_the_seed_and_cover_the_corpus_before_they_repeat():
    tokens, seq_len = 1_000, 16
    first = [start for start, _ in zip(harness.window_starts(tokens, seq_len, 5), range(300), strict=False)]
    again = [start for start, _ in zip(harness.window_starts(tokens, seq_len, 5), range(300), strict=False)]
    other = [start for start, _ in zip(harness.window_starts(tokens, seq_len, 6), range(300), strict=False)]
    assert first == again != other
    assert min(first) >= 0
    assert max(first) + seq_len + 1 <= tokens
    epoch = first[: (tokens - 1 - min(first[:60])) // seq_len]
    assert len(set(epoch)) == len(epoch) > 55
    assert len({start % seq_len for start in epoch}) == 1


@pytest.mark.parametrize("tokens", [17, 18, 33, 40])
def test_a_corpus_barely_longer_than_a_window_still_gives_windows(tokens):
    for start, _ in zip(harness.window_starts(tokens, 16, 0), range(20), strict=False):
        assert 0 <= start <= tokens - 17


def test_no_evaluation_window_holds_the_last_target_of_another_as_an_input():
    windows = harness.eval_windows(np.arange(1_000), 500, 16)
    assert windows.shape == (500 // 17, 17)
    inputs, last_targets = set(windows[:, :-1].flatten()), set(windows[:, -1])
    assert not inputs & last_targets
    assert windows.max() < 500


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float16, 2e-3)])
def test_nats_are_those_of_a_float64_cross_entropy(dtype, tolerance):
    rng = np.random.default_rng(1)
    logits_NV = (rng.normal(size=(3_000, 300)) * 12).astype(dtype)
    targets_N = rng.integers(0, 300, 3_000).astype(np.uint16)
    exact = logits_NV.astype(np.float64)
    expected = np.log(np.exp(exact - exact.max(1, keepdims=True)).sum(1)) + exact.max(1)
    expected -= exact[np.arange(3_000), targets_N]
    np.testing.assert_allclose(harness.nats_of(logits_NV, targets_N, POOL), expected, atol=tolerance)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_single_logit_that_is_not_finite_stops_the_score(bad):
    logits_NV = np.zeros((5_000, 64), np.float32)
    logits_NV[4_999, 63] = bad
    with pytest.raises(FloatingPointError):
        harness.nats_of(logits_NV, np.zeros(5_000, np.uint8), POOL)


def serve_table(table_VV, tokens_fd, logits_fd, seq_len, *, answers=10**9):
    """Be a model server whose logits are a table; stop after `answers` rows."""
    with (
        contextlib.suppress(BrokenPipeError),
        os.fdopen(tokens_fd, "rb") as requests,
        os.fdopen(logits_fd, "wb", buffering=0) as logits,
    ):
        while answers > 0 and (header := requests.read(4)):
            (rows,) = struct.unpack("<I", header)
            tokens = np.frombuffer(requests.read(rows * seq_len * 2), "<u2")
            harness._write_all(logits.fileno(), memoryview(table_VV[tokens].tobytes()))
            answers -= rows


def score_with(tmp_path, table_VV, *, seq_len=20, answers=10**9, token_bytes=None, val_tokens=60_000):
    corpus = make_corpus(tmp_path / "corpus", val_tokens=val_tokens)
    if token_bytes is not None:
        (corpus / "token_bytes.bin").write_bytes(token_bytes.tobytes())
    tokens_r, tokens_w = os.pipe()
    logits_r, logits_w = os.pipe()
    server = threading.Thread(
        target=serve_table, args=(table_VV, tokens_r, logits_w, seq_len), kwargs={"answers": answers}
    )
    server.start()
    config = harness.ScoreConfig(
        corpus_dir=str(corpus), corpus_dtype="uint8", tokens_fd=tokens_w, logits_fd=logits_r, vocab_size=256,
        seq_len=seq_len, eval_tokens=50_000, logits_dtype="float32", threads=2,
    )  # fmt: skip
    try:
        return harness.score(config), np.frombuffer((corpus / "val.bin").read_bytes(), np.uint8)
    finally:
        os.close(tokens_w)
        os.close(logits_r)
        server.join()


@pytest.mark.parametrize("width", [1, 3])
def test_bits_per_byte_count_the_bytes_that_tokens_stand_for(tmp_path, width):
    # 50,000 tokens take several requests; separators are predicted but not counted.
    table_VV = np.random.default_rng(2).normal(size=(256, 256)).astype(np.float32)
    token_bytes = np.full(256, width, np.uint8 if width == 1 else np.uint16)
    token_bytes[0] = 0
    answer, val = score_with(tmp_path, table_VV, token_bytes=token_bytes)
    pairs = [(i, i + 1) for start in range(0, 50_000 - 20, 21) for i in range(start, start + 20)]
    here, target = val[[a for a, _ in pairs]], val[[b for _, b in pairs]]
    log_p = torch.log_softmax(torch.from_numpy(table_VV).double(), dim=1).numpy()[here, target]
    counted = target != 0
    assert answer["val_bpb"] == pytest.approx(-log_p[counted].sum() / math.log(2) / counted.sum() / width, rel=1e-7)
    assert answer["tokens"] == len(pairs)
    assert 0 < (~counted).sum() < len(pairs) / 10


def test_a_server_that_goes_away_is_no_score(tmp_path):
    answer, _ = score_with(tmp_path, np.zeros((256, 256), np.float32), answers=1)
    assert answer == {"error": "server"}


def test_logits_that_are_not_finite_are_no_score(tmp_path):
    table_VV = np.zeros((256, 256), np.float32)
    table_VV[ord("a"), 3] = np.nan
    answer, _ = score_with(tmp_path, table_VV)
    assert answer == {"error": "nan"}


@pytest.fixture
def run(tmp_path):
    """A Run with a launcher at the other end that hands the data over; `run.lines()` reads its progress."""
    corpus = make_corpus(tmp_path / "corpus")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    progress_r, progress_w = os.pipe()

    def hand_over():
        with (corpus / "train.bin").open("rb") as file, contextlib.suppress(OSError):
            if ours.recv(64) != b"data":
                return  # the test ended without a batch
            socket.send_fds(ours, [b'{"dtype": "uint8"}'], [file.fileno()])

    launcher = threading.Thread(target=hand_over, daemon=True)
    launcher.start()
    config = harness.TrainConfig(
        train_py="", out_dir="", progress_fd=progress_w, control_fd=theirs.fileno(), seed=4, device="cpu",
        vocab_size=256, seq_len=24, budget_kind="steps", budget_s=1.0, max_steps=100,
    )  # fmt: skip
    made = harness.Run(config, harness.Progress(progress_w))
    made.lines = lambda: [json.loads(line) for line in os.read(progress_r, 1 << 16).splitlines()]
    made.corpus = (corpus / "train.bin").read_bytes()
    yield made
    for fd in (progress_r, progress_w):
        os.close(fd)
    ours.close()
    theirs.close()


def test_batches_come_from_the_corpus_shifted_by_one_and_end_with_the_budget(run):
    assert run.elapsed_fraction == 0.0
    count = 0
    for inputs_BT, targets_BT in run.batches(3):
        assert inputs_BT.shape == targets_BT.shape == (3, 24)
        assert inputs_BT.dtype == targets_BT.dtype == torch.int64
        assert torch.equal(inputs_BT[:, 1:], targets_BT[:, :-1])
        assert bytes(inputs_BT[0].tolist()) + bytes(targets_BT[0, -1:].tolist()) in run.corpus
        run.report(torch.tensor(2.0, requires_grad=True))
        count += 1
    assert count == run.steps == 100
    assert run.tokens == 100 * 3 * 24
    assert run.elapsed_fraction == 1.0


def test_progress_is_throttled_to_24_lines_with_the_first_and_the_last_step(run):
    for _ in run.batches(1):
        run.report(1.5)
    lines = run.lines()
    assert 20 <= len(lines) <= harness.PROGRESS_LINES
    assert (lines[0]["step"], lines[-1]["step"], lines[-1]["frac"]) == (1, 100, 1.0)
    assert {line["loss"] for line in lines} == {1.5}


def test_a_loss_that_is_not_finite_ends_the_run(run):
    run.report(1.0)
    with pytest.raises(FloatingPointError, match="the loss is inf at step 2"):
        run.report(torch.tensor(math.inf))


def test_a_warm_up_batch_is_random_and_costs_no_budget(run):
    inputs_BT, targets_BT = run.warmup_batch(2)
    assert inputs_BT.shape == targets_BT.shape == (2, 24)
    assert torch.equal(inputs_BT[:, 1:], targets_BT[:, :-1])
    assert inputs_BT.unique().numel() > 20
    assert run.elapsed_fraction == 0.0
    assert run.tokens == 0


def test_a_batch_of_no_rows_is_refused(run):
    with pytest.raises(ValueError, match="at least one row"):
        run.batches(0)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MemoryError(), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "oom"),
        (FloatingPointError("nan"), "nan"),
        (RuntimeError("shape"), "crash"),
        (KeyboardInterrupt(), "crash"),
    ],
)
def test_exceptions_are_classed(error, outcome):
    assert harness.classify(error) == outcome
