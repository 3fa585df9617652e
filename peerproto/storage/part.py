"""The part of a node that its storage is: status, metrics and ``show storage``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional, Protocol

from peerproto import Command, CommandError, Metric, Part
from peerproto.service.command import Answer
from peerproto.service.part import Plain
from peerproto.storage.config import StorageSettings
from peerproto.storage.figures import Figures


class Shown(Protocol):
    """What is shown: a `peerproto.storage.keeper.StorageKeeper`."""

    settings: StorageSettings

    @property
    def figures(self) -> Figures:
        """How the storage stands."""

    @property
    def writes(self) -> bool:
        """Whether what changes is written."""

    @property
    def waiting(self) -> int:
        """Changed keys that are to be written."""

    def age(self) -> int:
        """Age of the oldest change that is not written, in ms."""


class StoragePart(Part):
    """See the module."""

    def __init__(self, keeper: Shown) -> None:
        self._keeper = keeper

    def status(self) -> Mapping[str, Plain]:
        """See `IPart`."""
        keeper, figures = self._keeper, self._keeper.figures
        return {
            "path": keeper.settings.place,
            "state": figures.state,
            "writes": keeper.writes,
            "trouble": figures.refused or figures.trouble,
            "unwritten_keys": keeper.waiting,
            "unwritten_ms": keeper.age(),
            "bytes": figures.size,
        }

    def not_ready(self) -> Optional[str]:
        """See `IPart`. A disk that fails makes a node none the worse for its peers; a file that is
        not used at all is a mistake that somebody has to mend."""
        return self._keeper.figures.refused

    def metrics(self) -> Iterable[Metric]:
        """See `IPart`."""
        keeper, figures = self._keeper, self._keeper.figures
        yield Metric(
            "peerproto_storage_writes", "Whether what changes is written", float(keeper.writes)
        )
        yield Metric(
            "peerproto_storage_unwritten_ms",
            "Age of the oldest change that is not written, in ms",
            keeper.age(),
        )
        yield Metric(
            "peerproto_storage_unwritten_keys", "Changed keys that are not written", keeper.waiting
        )
        yield Metric("peerproto_storage_bytes", "Bytes of the file", figures.size)
        for name, rows in figures.rows.items():
            yield Metric("peerproto_storage_rows", "Rows of a table", rows, {"table": name})
        for name, help_, value in (
            ("failures", "Attempts to write that have failed", figures.failures),
            ("transactions", "Transactions that were written", figures.transactions),
            ("keys", "Changed keys that were written", figures.keys),
            ("bad_rows", "Rows that were not as they were written", figures.bad),
        ):
            yield Metric(f"peerproto_storage_{name}_total", help_, value, counter=True)

    def commands(self) -> Iterable[Command]:
        """See `IPart`."""
        return [
            Command(
                ("show", "storage"),
                "",
                "where tables are kept, and what is not written yet",
                self._show,
            )
        ]

    def _show(self, arguments: list[str]) -> Answer:
        if arguments:
            raise CommandError(f"read '{' '.join(arguments)}', expected nothing behind it")
        keeper, figures = self._keeper, self._keeper.figures
        settings = keeper.settings
        yield f"path={settings.place}\n"
        yield f"state={figures.state}\n"
        yield f"interval={settings.interval} tables={','.join(settings.tables)}\n"
        yield f"unwritten_keys={keeper.waiting} unwritten_ms={keeper.age()}\n"
        yield (
            f"transactions={figures.transactions} keys={figures.keys}"
            f" failures={figures.failures} bad_rows={figures.bad} bytes={figures.size}\n"
        )
        if figures.refused or figures.trouble:
            yield f"trouble={figures.refused or figures.trouble}\n"
        if figures.aside:
            yield f"set_aside={figures.aside}\n"
        for name, rows in figures.rows.items():
            yield f"table={name} rows={rows}\n"
