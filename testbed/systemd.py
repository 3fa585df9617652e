"""A real systemd, as the first process of namespaces of its own: it runs the unit that the project
ships, as that is written, and nothing of the machine's own systemd is touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, Optional

import attrs

from testbed.waiting import until

UNIT: Final = "peerproto.service"

_ROOT: Final = Path(__file__).parent.parent
_SITE: Final = Path(attrs.__file__).parent.parent

_NAMESPACES: Final = (
    *("unshare", "--pid", "--mount", "--cgroup", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-c"),
)
"""What runs a script as the first process of namespaces of its own."""

_PROGRAM: Final = """\
#!/bin/sh
export LD_LIBRARY_PATH=/opt/peerproto/python/lib
export PYTHONPATH=/opt/peerproto/source:/opt/peerproto/site
exec /opt/peerproto/python/bin/python3 -m twisted "$@"
"""
"""What stands at the path of ``twist`` in the unit. An environment in somebody's home is out of the
unit's sight, which has ``ProtectHome``."""

_FIRST: Final = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /opt
mkdir -p /opt/peerproto/python /opt/peerproto/site /opt/peerproto/source /opt/peerproto/bin
mount --bind "$PYTHON_FOLDER" /opt/peerproto/python
mount --bind "$SITE_FOLDER" /opt/peerproto/site
mount --bind "$SOURCE_FOLDER" /opt/peerproto/source
cp "$FOLDER/twist" /opt/peerproto/bin/twist
mkdir /run/peerproto-etc
mount --bind "$FOLDER/etc" /run/peerproto-etc
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
exec "$SYSTEMD" --system --unit=default.target
"""
"""What makes the place for systemd. A service sees its credentials with shared mounts only."""


def why_not() -> Optional[str]:
    """Why no systemd can run here; ``None`` if it can."""
    if os.getuid() != 0:
        return "only root may start a systemd in namespaces of its own"
    if _program() is None:
        return "there is no systemd; `make test` installs Debian's where it may"
    done = subprocess.run(
        [*_NAMESPACES, "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces can be made here: {done.stderr.strip()}" if done.returncode else None


def _program() -> Optional[str]:
    return shutil.which("systemd", path="/usr/lib/systemd:/lib/systemd")


@attrs.define(eq=False)
class Systemd:
    """Runs the service of ``doc/systemd`` with the files of a folder as its ``/etc/peerproto``."""

    folder: Path
    process: Optional[subprocess.Popen[bytes]] = None

    @property
    def etc(self) -> Path:
        """The folder that the service knows as ``/etc/peerproto``."""
        return self.folder / "etc"

    @property
    def log(self) -> Path:
        """What the service prints."""
        return self.folder / "log"

    @property
    def console(self) -> Path:
        """What is printed before systemd runs."""
        return self.folder / "console"

    def prepare(self, unit: str) -> None:
        """Make the files that systemd starts with; ``unit`` is the text of the service's."""
        units = self.folder / "units"
        units.mkdir()
        self.etc.mkdir()
        self.folder.chmod(0o755)
        unit = unit.replace("/etc/peerproto", "/run/peerproto-etc")
        printing = f"[Service]\nStandardOutput=append:{self.log}\nStandardError=inherit\n"
        (units / UNIT).write_text(unit.replace("[Service]\n", printing))
        (units / "default.target").write_text(
            f"[Unit]\nDefaultDependencies=no\nWants={UNIT}\nAfter={UNIT}\n"
        )
        for name in ("sysinit.target", "basic.target", "shutdown.target", "network-online.target"):
            (units / name).write_text("[Unit]\nDefaultDependencies=no\n")
        self.log.touch()
        program = self.folder / "twist"
        program.write_text(_PROGRAM)
        program.chmod(0o755)

    def start(self) -> None:
        """Start systemd, and so the service."""
        program = _program()
        assert program is not None
        self.process = subprocess.Popen(
            [*_NAMESPACES, _FIRST],
            env={
                "PATH": os.defpath + ":/usr/sbin:/sbin",
                "PYTHON_FOLDER": sys.base_prefix,
                "SITE_FOLDER": str(_SITE),
                "SOURCE_FOLDER": str(_ROOT),
                "FOLDER": str(self.folder),
                "SYSTEMD": program,
                "SYSTEMD_UNIT_PATH": str(self.folder / "units"),
                "SYSTEMD_LOG_TARGET": "null",
                "container": "peerproto",
            },
            stdin=subprocess.DEVNULL,
            stdout=self.console.open("ab"),
            stderr=subprocess.STDOUT,
        )

    async def say(self, *words: str) -> str:
        """What ``systemctl`` answers to some words."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        first = children.read_text().partition(" ")[0]
        assert first, self.console.read_text()
        done = subprocess.run(
            ["nsenter", "-t", first, "-m", "-p", "-C", "systemctl", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    async def is_(self, state: str) -> None:
        """Wait until the service is ``active``, ``inactive`` or ``failed``."""

        async def is_so() -> bool:
            answer = await self.say("is-active", UNIT)
            assert answer == state, f"{answer}: {self.log.read_text()[-2000:]}"
            return True

        await until(is_so, f"the service is {state}")

    def kill(self) -> None:
        """End systemd and all that it has started."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
