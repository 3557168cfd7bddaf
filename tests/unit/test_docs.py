"""What the documents say of the simulator agrees with the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.faults import KINDS
from sim.gpus import GPU_CLASSES

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_fault_stands_in_the_table_with_its_rates(kind):
    assert f"| {kind.name} | {kind.unit} | {kind.default:g} | {kind.harsh:g} | {kind.standing}" in PAGE


@pytest.mark.parametrize("gpu", GPU_CLASSES.values(), ids=lambda gpu: gpu.name)
def test_every_device_class_stands_in_the_table_with_its_standing(gpu):
    assert f"| {gpu.name} | {gpu.speed:.3g} | {gpu.memory_mb:,} MB | {gpu.standing}" in PAGE
