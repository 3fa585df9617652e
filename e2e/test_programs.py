"""The HAProxies that the others of these tests run with."""

from __future__ import annotations

import os

from testbed import missing


def test_versions() -> None:
    """In CI there are the branches that can be had wherever a package index can be reached."""
    if os.environ.get("CI") == "true":
        absent = missing()
        assert not absent.keys() & {"2.6", "2.8"}, absent
