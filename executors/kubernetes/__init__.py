"""The Kubernetes executor (entry point `kubernetes`); docs/kubernetes.md is the guide."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.executor import ExecutorConfig
    from executors.kubernetes.executor import KubernetesExecutor


def create(config: ExecutorConfig) -> KubernetesExecutor:
    """Make the executor; cheap, no side effect."""
    from executors.kubernetes.executor import KubernetesExecutor

    return KubernetesExecutor(config)
