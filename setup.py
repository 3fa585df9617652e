"""Compiles the hot modules with mypyc where that can be done; they run as they are where not.

Everything else about the package is in setup.cfg. ``PEERPROTO_PURE=1`` compiles nothing.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from setuptools import setup

HOT = [
    "peerproto/wire/dictionary.py",
    "peerproto/wire/frames.py",
    "peerproto/updates/runs.py",
    "peerproto/wire/varint.py",
    "peerproto/tables/partitions.py",
    "peerproto/tables/clearing.py",
    "peerproto/tables/tombstones.py",
    "peerproto/tables/expiry.py",
    "peerproto/updates/writer.py",
    "peerproto/updates/order.py",
    "peerproto/updates/adding.py",
    "peerproto/updates/stamping.py",
    "peerproto/storage/splitting.py",
]


def extensions() -> list[Any]:
    if os.environ.get("PEERPROTO_PURE"):
        return []
    try:
        from mypyc.build import mypycify

        made = mypycify(
            ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports", *HOT],
            opt_level="3",
        )
    except (ImportError, SystemExit) as problem:
        print(f"peerproto: nothing is compiled, pure Python it is: {problem}", file=sys.stderr)
        return []
    for extension in made:
        # Without a compiler, setuptools says so and goes on.
        extension.optional = True
    return list(made)


setup(ext_modules=extensions())
