"""The unit with ``LoadCredential``, run by a real systemd: the tokens of HTTP are not readable by
the service's user, and yet the service has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from testbed import free_port
from testbed.rest import Rest
from testbed.systemd import UNIT, Systemd, why_not
from testbed.waiting import until

SHIPPED = Path(__file__).parent.parent / "doc" / "systemd" / UNIT


@pytest.fixture
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """A systemd that has not started."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    systemd = Systemd(tmp_path_factory.mktemp("systemd"))
    yield systemd
    systemd.kill()


def with_credentials(unit: str) -> str:
    """The unit, with what it says of HTTP switched on."""
    changed, count = re.subn("(?m)^#LoadCredential=", "LoadCredential=", unit)
    assert count == 2, unit
    return changed


def settings(unit: str) -> str:
    """The lines for peers.ini that the unit has in a comment."""
    (block,) = re.findall(r"(?m)^# {5}\[http\]\n(?:# {5}.+\n)+", unit)
    return re.sub(r"(?m)^# {5}", "", block)


@ensureDeferred
async def test_tokens(systemd: Systemd) -> None:
    """The unit as it is shipped gets its tokens from files of root's alone. A new token holds from
    a restart on: systemd reads the files when it starts the service, so that a reload has the old
    one; the documentation says so."""
    unit = SHIPPED.read_text()
    systemd.prepare(with_credentials(unit))
    port = free_port()
    systemd.etc.joinpath("peers.ini").write_text(f"""\
[node]
localpeer = node
bind = 127.0.0.1:{free_port()}
[tables]
rates = type ip size 1m expire 10m store gpc0
{settings(unit)}
bind = tcp:{port}:interface=127.0.0.1
allow-writes = yes
""")
    for name, secret in (("token", "writers-secret"), ("read-token", "readers-secret")):
        file = systemd.etc / name
        file.write_text(f"{secret}\n")
        file.chmod(0o600)
    entry = "/v1/tables/rates/entries/192.0.2.7"

    async def status(token: str | None, method: str, path: str) -> int:
        content = {"values": {"gpc0": 1}} if method == "PUT" else None
        return (await Rest(port, token).ask(method, path, content)).status

    systemd.start()
    await systemd.is_("active")
    user = await systemd.say("show", "-p", "MainPID", "--value", UNIT)
    assert user != "0", "it runs"
    assert await status(None, "GET", "/v1/tables") == 401
    assert await status("readers-secret", "GET", "/v1/tables") == 200
    assert await status("readers-secret", "PUT", entry) == 403
    assert await status("writers-secret", "PUT", entry) == 201

    (systemd.etc / "token").write_text("another-secret\n")
    assert await systemd.say("reload", UNIT) == ""

    async def was_read() -> bool:
        return "peers.ini was read again" in systemd.log.read_text()

    await until(was_read, "the file is read again")
    assert await status("writers-secret", "PUT", entry) == 200
    assert await status("another-secret", "PUT", entry) == 401

    assert await systemd.say("restart", UNIT) == ""
    await systemd.is_("active")
    assert await status("writers-secret", "PUT", entry) == 401
    assert await status("another-secret", "PUT", entry) == 201
    assert "secret" not in systemd.log.read_text()

    assert await systemd.say("stop", UNIT) == ""
    await systemd.is_("inactive")
    assert await systemd.say("show", "-p", "Result", "--value", UNIT) == "success"
