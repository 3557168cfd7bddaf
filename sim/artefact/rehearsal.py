"""Go through what `train.py` does with its constants, in its order, up to the first thing that a real run trips over.

The operators are Python's own, so their complaints are; torch's are in `complaints`. What a researcher has rewritten
is left out: its words are not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from sim.artefact import complaints
from sim.artefact.complaints import Allocator
from sim.artefact.cost import mlp_shapes
from sim.artefact.evaluate import UnreadableError
from sim.artefact.structure import Structure

REPORT: Final = "run.report(loss)"
MAX_LIST_BYTES: Final = 2**41
"""A list of micro-batches beyond 2 TiB fits no host."""

GATED: Final = frozenset({"swiglu", "geglu"})


class Knobs:
    """The constants as the file's functions see them: a name that is not there is a NameError."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise NameError(f"name '{name}' is not defined") from None


class Rehearsal:
    """One run of the file in which only the constants matter.

    After an exception, `where` is the text in the file that it came from, and `at_frac` the share of the budget
    spent by then (negative: before training).

    Args:
        values: the constants.
        structure: what was changed apart from them.
        seq_len: tokens in a row.
        vocab_size: different tokens.
    """

    def __init__(self, values: Mapping[str, Any], structure: Structure, *, seq_len: int, vocab_size: int) -> None:
        self.k = Knobs(values)
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.where = ""
        self.at_frac = -1.0
        self.width: Any = 0
        self.rows: Any = 0
        self.ns_steps = 0
        self._file = structure
        self._intact = structure.intact
        self._structure = structure.names
        self._memory = Allocator()

    def run(self) -> None:
        """Build and train; raises what a run would."""
        if "build" in self._intact:
            self._check_build()
        self._divide_batch()
        self._measure_width()
        if "GPT.__init__" in self._intact:
            self._build_model()
        else:
            self._assume_model()
        if "make_optimizers" in self._intact:
            self._make_optimizers()
        self._warm_up()
        self._train()

    def _check_build(self) -> None:
        k = self.k
        self.where = "assert set(WINDOW_PATTERN)"
        assert set(k.WINDOW_PATTERN) <= set("SL"), f"WINDOW_PATTERN {k.WINDOW_PATTERN!r} may hold only S and L"
        self.where = "assert HEAD_DIM % 2"
        assert k.HEAD_DIM % 2 == 0, f"HEAD_DIM {k.HEAD_DIM} must be even: rotary embeddings turn pairs of channels"

    def _divide_batch(self) -> None:
        k = self.k
        self.where = "rows = min("
        rows = min(k.DEVICE_BATCH_SIZE, k.TOTAL_BATCH_SIZE // self.seq_len)
        self.where = "whole = "
        whole = rows > 0 and k.TOTAL_BATCH_SIZE % (rows * self.seq_len) == 0
        if not whole and "rows_per_pass" not in self._intact:
            raise UnreadableError(f"batch of {k.TOTAL_BATCH_SIZE} tokens in rows of {self.seq_len}, {rows} at a time")
        self.where = "assert whole"
        assert whole, (
            f"TOTAL_BATCH_SIZE {k.TOTAL_BATCH_SIZE} must be a multiple of DEVICE_BATCH_SIZE * seq_len = "
            f"{rows} * {self.seq_len}"
        )
        self.rows = rows

    def _measure_width(self) -> None:
        k = self.k
        self.where = "self.dim = "
        self.width = -(-k.DEPTH * k.ASPECT_RATIO // k.HEAD_DIM) * k.HEAD_DIM

    def _assume_model(self) -> None:
        """A model that is built in an unknown way: its constants must give a size, and that size must fit somewhere."""
        self.where = ""
        if not isinstance(self.width, int) or not isinstance(self.k.DEPTH, int) or self.width < 1 or self.k.DEPTH < 1:
            raise UnreadableError(f"model of {self.k.DEPTH} layers and width {self.width}")
        self._memory.take(self.vocab_size, self.width)
        self._memory.take(4 * self.width, self.width, count=self.k.DEPTH)

    def _build_model(self) -> None:
        k, width = self.k, self.width
        self.where = "self.embed = "
        self._memory.take(self.vocab_size, width)
        if "no-values" not in self._structure:
            self.where = "self.value_embeds = "
            self._memory.take(self.vocab_size, width, count=len(range((k.DEPTH - 1) % 2, k.DEPTH, 2)))
        self._build_blocks()
        self.where = "self.residual_L = "
        complaints.check_full(k.DEPTH, k.RESIDUAL_INIT)
        self.where = "self.skip_L = "
        complaints.check_full(k.DEPTH, k.SKIP_INIT)
        if "weight-tying" not in self._structure:
            self.where = "self.head_VD = "
            self._memory.take(self.vocab_size, width)
        self.where = "turns_per_step = "
        complaints.check_power(k.ROPE_BASE)

    def _build_blocks(self) -> None:
        k, width = self.k, self.width
        if k.DEPTH < 1:
            return
        self.where = "short = WINDOW_PATTERN["
        pattern = [k.WINDOW_PATTERN[layer % len(k.WINDOW_PATTERN)] for layer in range(min(k.DEPTH - 1, 64))]
        self.where = "return max(1, int(seq_len * SHORT"
        if "S" in pattern:
            max(1, int(self.seq_len * k.SHORT_WINDOW_RATIO))
        elif k.DEPTH == 1:
            _ = k.WINDOW_PATTERN[0 % len(k.WINDOW_PATTERN)]
        if "Attention.__init__" in self._intact:
            self.where = "self.scale = "
            _ = k.ATTENTION_SCALE * k.HEAD_DIM**-0.5
            self.where = "self.qkv_3DD = "
            _ = width**-0.5
            self._memory.take(3, width, width, count=k.DEPTH)
            self._memory.take(width, width, count=k.DEPTH)
        if "MLP.__init__" in self._intact:
            self._build_mlp()

    def _build_mlp(self) -> None:
        k, width = self.k, self.width
        if self._structure & GATED:
            self.where = ""  # its arithmetic is the researcher's
            shapes = self._gated_shapes()
        else:
            self.where = "self.in_FD = "
            hidden = k.MLP_RATIO * width
            shapes = [(hidden, width), (width, hidden)]
        self.where = "return nn.Parameter(torch.empty("
        for shape in shapes:
            self._memory.take(*shape, count=k.DEPTH, first_is_sequence=True)

    def _gated_shapes(self) -> list[tuple[Any, ...]]:
        try:
            return mlp_shapes(self._file, self.width, self.k.values)
        except UnreadableError:
            return []  # then its cost is said to be unknown

    def _make_optimizers(self) -> None:
        k = self.k
        self.where = "width_scale = "
        scale = (self.width / 768) ** -0.5
        self.where = "EMBEDDING_LR * width_scale"
        _ = k.EMBEDDING_LR * scale
        self.where = "UNEMBEDDING_LR * width_scale"
        _ = k.UNEMBEDDING_LR * scale
        self.where = "SCALAR_LR * 0.01"
        _ = k.SCALAR_LR * 0.01
        self.where = "adamw = torch.optim.AdamW("
        complaints.check_betas(k.ADAM_BETAS)
        self.where = "muon = Muon("
        _ = k.MATRIX_LR, k.WEIGHT_DECAY, k.MUON_MOMENTUM

    def _warm_up(self) -> None:
        k = self.k
        self.where = "micro_steps = "
        micro_steps = k.TOTAL_BATCH_SIZE // (self.rows * self.seq_len)
        self.where = "trainer.warm_up(["
        complaints.check_rows(self.rows)
        _ = [] * micro_steps
        if micro_steps * 8 > MAX_LIST_BYTES:
            raise MemoryError
        if "set_schedule" in self._intact:
            self._set_schedule()
        if "GPT.forward" in self._intact and "no-softcap" not in self._structure:
            self.where = "loss = self.loss_fn("
            complaints.check_softcap(k.SOFTCAP)
        if "Attention.attend_flash" in self._intact:
            self.where = "return F.cross_entropy("
            complaints.check_head_dim(k.HEAD_DIM)
        self.where = "            optimizer.step()"
        _, _ = k.ADAM_BETAS
        if {"muon_step", "Muon.step", "orthogonalise"} <= self._intact:
            self._step_muon()

    def _set_schedule(self) -> None:
        k = self.k
        self.where = 'group["lr"] = group["full_lr"] * scale'
        _ = k.MATRIX_LR * 0.0
        self.where = "rise = min("
        rise = min(1.0, 0.0 / k.MUON_MOMENTUM_RATIO) if k.MUON_MOMENTUM_RATIO else 1.0
        self.where = 'group["momentum"] = '
        _ = k.MUON_MOMENTUM_START + rise * (k.MUON_MOMENTUM - k.MUON_MOMENTUM_START)
        self.where = 'group["weight_decay"] = '
        _ = k.WEIGHT_DECAY * (1 - 0.0)

    def _step_muon(self) -> None:
        k = self.k
        self.where = "tuple(torch.tensor(knob)"
        if "plain-muon" not in self._structure:
            if isinstance(k.MUON_BETA2, bool):
                self.where = "variance_NR1.lerp_("
            complaints.check_scalar(k.MUON_BETA2)
            self.where = "tuple(torch.tensor(knob)"
        try:
            self.ns_steps = complaints.loop_count(k.NS_STEPS)
        except TypeError:
            self.where = "for step in range(NS_STEPS)"
            raise
        self.where = "a, b, c = POLAR_EXPRESS["
        for step in range(min(self.ns_steps, 64)):
            _a, _b, _c = k.POLAR_EXPRESS[min(step, len(k.POLAR_EXPRESS) - 1)]
        if "MLP.__init__" in self._intact and not self._structure & GATED and k.MLP_RATIO == 0:
            self.where = "stack_NRC = torch.cat("
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape [-1, 0, {self.width}] because the unspecified "
                "dimension size -1 can be any value and is ambiguous"
            )

    def _train(self) -> None:
        """The budget: what the first step meets, then what the schedule meets later."""
        k = self.k
        self.at_frac = 0.0
        warmdown_frac = self._schedule_rate()
        self.where = REPORT
        if self._poisoned():
            raise FloatingPointError("the loss is nan at step 1")
        self.where = "next_log += 1 / LOG_LINES"
        if "train" in self._intact:
            _ = 1 / k.LOG_LINES
        if warmdown_frac <= 1 and "lr_scale" in self._intact:
            self.where = "return FINAL_LR_FRAC"
            self.at_frac = max(0.0, warmdown_frac)
            rate = k.FINAL_LR_FRAC + (1 - k.FINAL_LR_FRAC) * 0.5
            if not math.isfinite(rate):
                self.where = 'raise FloatingPointError(f"the loss is'
                raise FloatingPointError("the loss is nan")

    def _schedule_rate(self) -> float:
        """Ask for the learning rate at the start; return the progress at which the warm-down begins."""
        if "lr_scale" not in self._intact:
            return 2.0
        k, progress = self.k, 0.0
        self.where = "if progress < WARMUP_RATIO"
        warming = progress < k.WARMUP_RATIO
        self.where = "if progress > 1 - WARMDOWN_RATIO"
        if warming and not isinstance(k.WARMDOWN_RATIO, int | float):
            self.at_frac = min(1.0, float(k.WARMUP_RATIO))
        start = float(1 - k.WARMDOWN_RATIO)
        self.at_frac = 0.0
        return start if start < 1 else 2.0

    def _poisoned(self) -> bool:
        """Whether a value makes the first loss no number, seen by running the file with it."""
        k = self.k
        names = ["RESIDUAL_INIT", "SKIP_INIT", "ATTENTION_SCALE", "EMBEDDING_LR", "UNEMBEDDING_LR", "MATRIX_LR"]
        names += ["SCALAR_LR", "WEIGHT_DECAY", "MUON_MOMENTUM", "MUON_MOMENTUM_START"]
        if "plain-muon" not in self._structure:
            names.append("MUON_BETA2")
        if "no-softcap" not in self._structure and "GPT.forward" in self._intact:
            names.append("SOFTCAP")
            if k.values.get("SOFTCAP") == 0:
                return True
        numbers = [k.values.get(name) for name in names]
        if any(isinstance(value, float) and not math.isfinite(value) for value in numbers):
            return True
        rope, scale = k.values.get("ROPE_BASE", 1.0), k.values.get("ATTENTION_SCALE", 1.0)
        return not rope > 0 or not scale > 0
