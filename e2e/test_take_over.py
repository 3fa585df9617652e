"""A take-over that cannot be leaves everybody as they were."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from pytest_twisted import ensureDeferred

from testbed import TWIST, Mesh, Peerproto, ended, until

TABLE = "t = type integer size 1k store gpc0"


async def running(mesh: Mesh) -> Peerproto:
    """A peerproto with an entry, and a pid file."""
    peer = mesh.peerproto(declared=TABLE)
    peer.start([], "--pid-file", "pid")
    await peer.in_step()
    await peer.do("set table t key 1 data.gpc0 7")
    return peer


def starting(peer: Peerproto, *options: str) -> subprocess.Popen[str]:
    """A further process on the same file."""
    return subprocess.Popen(
        [TWIST, "--log-format=text", "peers", "--config", str(peer.file), *options],
        cwd=peer.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


async def untouched(peer: Peerproto) -> None:
    assert (await peer.table("t"))["1"]["gpc0"] == 7
    assert peer.process is not None and peer.process.poll() is None
    assert (peer.folder / "pid").read_text() == f"{peer.pid}\n"
    assert "stops softly" not in peer.log.read_text()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with all this."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@ensureDeferred
async def test_cannot_take_over(mesh: Mesh, sleeper: subprocess.Popen[bytes]) -> None:
    """An id that is none, or another program's, and a pid file that cannot be written, end the
    start with status 1 and a clear word, and nobody is signalled."""
    peer = await running(mesh)
    for options, said in (
        (("--soft-finish", "0"), "read '0', expected the id of another process"),
        (("--soft-finish", "-1"), "read '-1', expected the id of another process"),
        (
            ("--soft-finish", str(sleeper.pid)),
            f"{sleeper.pid} does not listen at 127.0.0.1",
        ),
        (
            ("--soft-finish", str(peer.pid), "--pid-file", "/nowhere/pid"),
            "pid file /nowhere/pid: No such file or directory",
        ),
    ):
        with starting(peer, *options) as process:
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 1, output
        assert said in output
        assert "Traceback" not in output
        assert sleeper.poll() is None
        await untouched(peer)


@ensureDeferred
async def test_two_at_once(mesh: Mesh) -> None:
    """Of several processes that take over from the same one at once, one does, with all that
    there is, and the others end with a clear word."""
    peer = await running(mesh)
    old = peer.process
    assert old is not None
    new = [starting(peer, "--soft-finish", str(old.pid), "--pid-file", "pid") for _ in range(3)]
    try:
        assert await ended(old, "the old process") == 0

        async def one_is_left() -> bool:
            return sum(one.poll() is None for one in new) == 1

        await until(one_is_left, "one of them stays")
        (winner,) = (one for one in new if one.poll() is None)

        async def has_it_all() -> bool:
            return (await peer.table("t"))["1"]["gpc0"] == 7

        await until(has_it_all, "it has the entry")
        assert (peer.folder / "pid").read_text() == f"{winner.pid}\n"
        for one in new:
            if one is not winner:
                assert one.returncode == 1
                assert one.stdout is not None
                output = one.stdout.read()
                assert (
                    "another process is taking over from it already" in output
                    or "No such process" in output
                ), output
                assert "Traceback" not in output
    finally:
        for one in new:
            one.kill()
            one.communicate()
