"""`prepare` and `doctor`: getting a machine ready, and finding out what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from tui.cli.kube_options import kube_options, settings_of
from tui.cli.options import absolute, json_option, print_json

if TYPE_CHECKING:
    from executors.kubernetes.settings import KubeSettings


@click.command()
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=click.Path(),
    help="A file or folder of text; may be repeated (default: this Python's standard library).",
)
@click.option("--vocab-size", default=256, show_default=True, help="256: bytes; else a BPE vocabulary of this size.")
@click.option("--out", type=click.Path(file_okay=False), help="Where to write (default: the data directory).")
@click.option("--kubernetes", is_flag=True, help="Fill a cluster's data volume; sources are then paths in its pod.")
@click.option("--again", is_flag=True, help="With --kubernetes: make the corpus anew where there is one.")
@kube_options
def prepare(
    sources: tuple[str, ...], vocab_size: int, out: str | None, kubernetes: bool, again: bool, **asked: Any
) -> None:
    """Prepare a corpus to train on. Without options: the sources of Python's standard library, nothing to download."""
    settings = settings_of(asked, wanted=kubernetes)
    if settings is not None:
        _prepare_there(settings, sources, vocab_size, again=again)
        return
    from tui.corpus import DEFAULT, corpus_path
    from tui.corpus import prepare as prepare_corpus
    from tui.progress import progress

    default = not sources and vocab_size == 256
    folder = absolute(out) if out else corpus_path(DEFAULT if default else _name(sources, vocab_size))
    with progress("preparing the corpus") as tell:
        meta = prepare_corpus(folder, [str(absolute(s)) for s in sources] or None, vocab_size, tell)
    click.echo(
        f"{folder}: {meta['documents']} documents, {meta['train_tokens']:,} training and {meta['val_tokens']:,} "
        f"validation tokens, vocabulary {meta['vocab_size']}, sha256 {meta['sha256'][:12]}"
    )


@click.command()
@click.option("--train-python", type=click.Path(dir_okay=False), help="The Python to look for torch in.")
@click.option("--kubernetes", is_flag=True, help="Check a Kubernetes cluster instead of this machine.")
@click.option("--canary/--no-canary", default=True, help="With --kubernetes: really start a pod for each product.")
@kube_options
@json_option
def doctor(train_python: str | None, kubernetes: bool, canary: bool, as_json: bool, **asked: Any) -> int:
    """Check what this machine or a cluster has. Failing rows name their fix; exit code 1 if a session could not run."""
    from tui.doctor import examine, examine_cluster

    settings = settings_of(asked, wanted=kubernetes)
    rows = []
    width = 12 if settings is None else 18
    for row in examine(train_python) if settings is None else examine_cluster(settings, canary=canary):
        rows.append(row)
        if as_json:
            continue
        click.echo(f"{row.verdict:<5} {row.what:<{width}} {row.found}")
        if row.fix:
            click.echo(f"{'':<{width + 6}} → {row.fix}")
    if as_json:
        print_json([msgspec.to_builtins(row) for row in rows])
    return 1 if any(row.verdict == "fail" for row in rows) else 0


def _prepare_there(settings: KubeSettings, sources: tuple[str, ...], vocab_size: int, *, again: bool) -> None:
    """Have the cluster make the corpus on its own volume. Raises ExecutorError."""
    import asyncio

    from core.target import locate_target
    from executors.kubernetes.access import Access
    from executors.kubernetes.client import Cluster
    from executors.kubernetes.prepare_job import fill
    from tui.cli import UserError

    if settings.endpoint:
        raise UserError("a simulated cluster trains on nothing: there is nothing to prepare", 2)

    async def work() -> dict[str, Any]:
        cluster = await Cluster.connect(Access.resolve(settings.kubeconfig, settings.context, settings.namespace))
        try:
            words = ["--vocab-size", str(vocab_size), *(["--source", *sources] if sources else [])]
            text = (locate_target() / "prepare.py").read_text(encoding="utf-8")
            return await fill(cluster, settings, text, [*words, *(["--again"] if again else [])], click.echo)
        finally:
            await cluster.close()

    meta = asyncio.run(work())
    if meta.get("was_there"):
        click.echo("there is a corpus already, which is left as it is (--again makes it anew)")
    click.echo(
        f"{settings.data}: {meta['train_tokens']:,} training and {meta['val_tokens']:,} validation tokens, vocabulary "
        f"{meta['vocab_size']}, sha256 {str(meta['sha256'])[:12]}"
    )


def _name(sources: tuple[str, ...], vocab_size: int) -> str:
    first = Path(sources[0]).resolve().name if sources else "stdlib"
    return f"{first}-{vocab_size}"
