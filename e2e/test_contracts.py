"""The contracts of the house: what breaks one fails `make lint`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BROKEN = {
    "The ladder: each floor imports only from those below it": (
        "wire/varint.py",
        "from peerproto.tables import row",
    ),
    "No circles on a floor": ("peering/memory.py", "from peerproto.peering import session"),
    "The four lower floors know neither Twisted nor zope": (
        "tables/row.py",
        "from twisted.internet import defer",
    ),
    "Features know the face alone": (
        "runtime/words.py",
        "from peerproto.peering import node",
    ),
}
"""By contract: the file that breaks it, and the line that does."""


@pytest.mark.parametrize("contract", BROKEN)
def test_broken(contract: str, tmp_path: Path) -> None:
    """One import where it may not be breaks its contract, also if only types need it."""
    shutil.copytree(ROOT / "peerproto", tmp_path / "peerproto")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    name, line = BROKEN[contract]
    path = tmp_path / "peerproto" / name
    path.write_text(
        f"{path.read_text()}\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {line}\n"
    )
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 1, linted.stdout + linted.stderr
    assert f"{contract} BROKEN" in linted.stdout
