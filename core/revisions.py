"""The text of every revision, rebuilt from the journal's patches."""

from __future__ import annotations

from collections import OrderedDict

from core.events import RevisionAdded
from core.patching import apply_patch
from core.state import SessionState

_CACHED_TEXTS = 64


class Revisions:
    """Rebuilds train.py texts on demand: a revision is its parent's text and a patch (the first: of nothing)."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._texts: OrderedDict[str, str] = OrderedDict()

    def text(self, revision: str) -> str:
        """The whole file. Raises KeyError for a revision that the session does not know."""
        chain: list[str] = []
        cursor: str | None = revision
        while cursor is not None and cursor not in self._texts:
            chain.append(cursor)
            cursor = self._event(cursor).parent
        text = self._texts[cursor] if cursor is not None else ""
        for name in reversed(chain):
            text = apply_patch(text, self._event(name).patch)
            self._keep(name, text)
        self._texts.move_to_end(revision)
        return text

    def resolve(self, ref: str) -> str:
        """The revision that an experiment id or a revision (or its unique prefix) names. Raises KeyError."""
        proposal = self._state.experiment(ref)
        if proposal is not None:
            return proposal.revision
        fitting = [name for name in self._state.ledger.revision_index if name.startswith(ref)]
        if len(fitting) != 1 or not ref:
            raise KeyError(f"no experiment or revision is called {ref!r}")
        return fitting[0]

    def _event(self, revision: str) -> RevisionAdded:
        return self._state.ledger.revisions[self._state.ledger.revision_index[revision]]

    def _keep(self, name: str, text: str) -> None:
        self._texts[name] = text
        while len(self._texts) > _CACHED_TEXTS:
            self._texts.popitem(last=False)
