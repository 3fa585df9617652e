"""The modes of UNIX sockets, as another process sees them while nodes start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_twisted import ensureDeferred

from testbed import Mesh, ended, until

from .test_systemd import activated

WATCH = """
import os, stat, sys, threading
folder, over = sys.argv[1], threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
seen = set()
print("watching", flush=True)
while not over.is_set():
    for name in os.listdir(folder):
        try:
            found = os.stat(os.path.join(folder, name))
        except FileNotFoundError:
            continue
        if stat.S_ISSOCK(found.st_mode):
            seen.add((name, stat.S_IMODE(found.st_mode)))
for name, mode in sorted(seen):
    print(name, f"{mode:o}")
"""


@contextmanager
def watched(folder: Path, seen: dict[str, set[str]]) -> Iterator[None]:
    """Another process looks at the sockets in a folder all the time: the modes by name."""
    with subprocess.Popen(
        [sys.executable, "-c", WATCH, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stdin is not None and watcher.stdout is not None
        assert watcher.stdout.readline() == "watching\n"
        try:
            yield
        finally:
            watcher.stdin.close()
            for line in watcher.stdout:
                name, mode = line.split()
                seen.setdefault(name, set()).add(mode)


@ensureDeferred
async def test_modes(mesh: Mesh) -> None:
    """Runtime socket and bind have their modes from the moment that their paths exist, started
    alone and beside an old process; under another name before, nobody has more rights."""
    peer = mesh.peerproto()
    peer.place = f"unix:{mesh.folder}/bind:mode=660"
    seen: dict[str, set[str]] = {}
    with watched(mesh.folder, seen):
        peer.start([])
        await peer.in_step()
        for _ in range(3):
            old = peer.process
            assert old is not None
            peer.start([], "--soft-finish", str(old.pid))
            assert await ended(old, "the old process") == 0
            await peer.in_step()
    assert seen.pop("bind") == {"660"}
    assert seen.pop("peerproto.sock") == {"600"}
    for name, modes in seen.items():
        assert modes <= {"0", "660" if name.startswith("bind") else "600"}, (name, modes)


@ensureDeferred
async def test_systemds_mode(mesh: Mesh) -> None:
    """A socket of systemd's keeps the mode that systemd gave it, and stays when we end; the
    runtime socket beside it has its own."""
    peer = mesh.peerproto()
    bind = mesh.folder / "bind"
    peer.place = str(bind)
    peer.configure([])
    text = peer.file.read_text()
    peer.file.write_text(text.replace(f"bind = {bind}", "bind = systemd:domain=UNIX:name=peers"))
    activated(peer)

    async def listens() -> bool:
        return bind.exists()

    await until(listens, "systemd's socket is open")
    os.chmod(bind, 0o620)
    seen: dict[str, set[str]] = {}
    with watched(mesh.folder, seen):
        call = subprocess.Popen(["nc.openbsd", "-U", str(bind)], stdin=subprocess.PIPE)
        try:
            await peer.in_step()
        finally:
            call.kill()
            call.wait()
        await peer.stop()
    assert seen["bind"] == {"620"}
    assert seen["peerproto.sock"] == {"600"}
    assert bind.exists()
