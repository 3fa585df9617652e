"""systemd's own tools: its unit files are good, and its sockets and notices work."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

from pytest_twisted import ensureDeferred

from testbed import TWIST, Mesh, Peerproto, pause, until

UNITS = Path(__file__).parent.parent / "doc" / "systemd"


def test_unit_files(tmp_path: Path) -> None:
    """systemd finds nothing wrong in the unit files, once their program is there."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/peerproto/bin/twist", TWIST)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "peerproto" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def activated(peer: Peerproto, **environment: str) -> None:
    """Start it by a socket that systemd opens at its address."""
    program = shutil.which("systemd-socket-activate")
    assert program, "these tests need systemd's tools; `make test` installs them where it may"
    passed = [f"--setenv={name}={value}" for name, value in environment.items()]
    peer.spawn(
        *(program, f"--listen={peer.address}", "--fdname=peers", *passed),
        *(TWIST, "--log-format=text", "peers", "--config", str(peer.file)),
    )


@ensureDeferred
async def test_socket_activation(mesh: Mesh) -> None:
    """The first connection starts it on systemd's socket; systemd is told when it is up to
    date, how it stands, and when it stops."""
    haproxy, peer = mesh.haproxy("lb1"), mesh.peerproto()
    address = str(mesh.folder / "notify")
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(address)
    notices.setblocking(False)
    told: list[str] = []

    async def is_told(text: str) -> None:
        async def listen() -> bool:
            try:
                told.append(notices.recv(4096).decode())
            except BlockingIOError:
                return False
            return text in told[-1]

        await until(listen, f"systemd is told {text}")

    with notices:
        mesh.nodes = [haproxy, peer]
        peer.configure(mesh.nodes)
        text = peer.file.read_text()
        peer.file.write_text(
            text.replace(f"bind = {peer.address}", "bind = systemd:domain=INET:name=peers")
        )
        activated(peer, NOTIFY_SOCKET=address)

        async def listens() -> bool:
            return "Listening on" in peer.log.read_text()

        await until(listens, "systemd's socket is open")
        await pause(0.2)
        assert not peer.runtime.exists(), "nothing runs before somebody calls"
        mesh.start(haproxy)  # it calls
        await haproxy.up()
        await haproxy.do("set table t_never key 1 data.gpc0 1")
        await is_told("READY=1")
        assert "up_to_date" in await peer.ask("show peers")
        await is_told("STATUS=up to date; 1 of 1 peers connected, 8 tables")
        await peer.in_step("lb1")
        assert len(await peer.table("t_never")) == 1
        assert await peer.stop() in (0, -signal.SIGTERM)
        await is_told("STOPPING=1")
    ready = next(number for number, one in enumerate(told) if "READY=1" in one)
    assert told[:ready], "it says how it stands before it is ready"
    assert not any("STATUS=up to date" in one for one in told[:ready]), told


@ensureDeferred
async def test_no_socket(mesh: Mesh) -> None:
    """A file that expects systemd's socket, and a start without it: status 1 and one line."""
    peer = mesh.peerproto()
    peer.place = "systemd:domain=INET:name=peers"
    peer.start([])

    async def ended() -> bool:
        return peer.process is not None and peer.process.poll() == 1

    await until(ended, "it ends")
    log = peer.log.read_text()
    assert "peerproto.ini:3: read 'bind = systemd:" in log
    assert "a socket that systemd has handed to this process" in log
    assert log.count("\n") == 1
