"""The options that say which cluster is meant, shared by `run`, `doctor` and `prepare`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from executors.kubernetes.settings import KubeSettings

_NAMES: Final = ("kubeconfig", "context", "namespace", "image", "data", "queue", "cluster", "overlay", "kube_endpoint")


def kube_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    path = click.Path(dir_okay=False)
    for option in reversed(
        (
            click.option("--kubeconfig", type=path, help="With kubernetes: the kubeconfig (default: as kubectl)."),
            click.option("--context", help="With kubernetes: the context of the kubeconfig."),
            click.option("--namespace", help="With kubernetes: where the Jobs go (default: the context's)."),
            click.option("--image", help="With kubernetes: an image with Python and torch."),
            click.option("--data", help="With kubernetes: where the corpus is: pvc:NAME or image:REFERENCE."),
            click.option("--queue", help="With kubernetes: the Kueue queue to wait in."),
            click.option("--cluster", type=path, help="With kubernetes: a YAML file of settings (docs/kubernetes.md)."),
            click.option("--overlay", type=path, help="With kubernetes: a YAML patch over every Job."),
            click.option(
                "--kube-endpoint", type=click.Choice(["sim"]), help="With kubernetes: a simulated cluster; needs none."
            ),
        )
    ):
        command = option(command)
    return command


def settings_of(asked: dict[str, Any], *, wanted: bool) -> KubeSettings | None:
    """Take the options out of what was asked, as settings; None where no cluster is meant.

    Raises:
        UserError: a cluster's options without a cluster.
        ExecutorError: they cannot be used; the text is one sentence.
    """
    said = {name: asked.pop(name, None) for name in _NAMES}
    if not wanted:
        from tui.cli import UserError

        if given := [name for name, value in said.items() if value is not None]:
            raise UserError(f"--{given[0].replace('_', '-')} belongs to a cluster: add --executor kubernetes", 2)
        return None
    from executors.kubernetes.settings import load, read_yaml

    file, overlay, endpoint = said.pop("cluster"), said.pop("overlay"), said.pop("kube_endpoint")
    if said["kubeconfig"] is not None:
        said["kubeconfig"] = str(Path(said["kubeconfig"]).expanduser().absolute())
    patch = read_yaml(Path(overlay)) if overlay is not None else None
    return load(Path(file) if file is not None else None, said | {"overlay": patch, "endpoint": endpoint})
