"""A real PostgreSQL server, of its own: in a folder, on a port of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import attrs
import psycopg

from testbed.ports import free_port

USER = "postgres"
"""Who runs it, where root runs the tests: it does not run as root."""

PASSWORD = "s3cret-w0rd"
"""That of the role ``node``."""


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs, the newest one.

    :raises RuntimeError: it is not installed.
    """
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    for folder in sorted(folders, key=lambda one: int(one.parent.name), reverse=True):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"no program {name}: `make programs` installs Debian's postgresql")
    return found


@attrs.define(eq=False)
class Postgres:
    """One server. Its superuser is ``postgres``; ``node`` is a role with a password that owns a
    database of its name."""

    folder: Path = attrs.Factory(lambda: Path(tempfile.mkdtemp(prefix="pg")))
    port: int = attrs.Factory(free_port)
    settings: dict[str, str] = attrs.Factory(dict)
    """More of its configuration."""
    _process: Optional[subprocess.Popen[bytes]] = None

    @property
    def data(self) -> Path:
        """Where it has its data."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / "postgres.log"

    def url(self, user: str = "node", password: str = PASSWORD, database: str = "node") -> str:
        """Where it is, for a role."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Make its data."""
        if os.getuid() == 0:
            shutil.chown(self.folder, USER)
            self.folder.chmod(0o755)
        secret = self.folder / "superuser"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            program("initdb"),
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth-host=scram-sha-256",
            "--auth-local=trust",
            "--username=postgres",
            f"--pwfile={secret}",
            str(self.data),
        )

    def own(self, *files: Path) -> None:
        """Have files belong to who runs it, and nobody else read them."""
        for file in files:
            file.chmod(0o600)
            if os.getuid() == 0:
                shutil.chown(file, USER)

    def _as_user(self) -> list[str]:
        return ["runuser", "-u", USER, "--"] if os.getuid() == 0 else []

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*self._as_user(), *command],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout}")

    def start(self) -> None:
        """Start it, and wait until it serves; the first time, make its data and the role."""
        new = not self.data.exists()
        if new:
            self.make()
        given = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            **self.settings,
        }
        # So the process is the server's own.
        switch = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        command = switch if os.getuid() == 0 else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *command,
                    program("postgres"),
                    "-D",
                    str(self.data),
                    *(f"--{name}={value}" for name, value in given.items()),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait()
        if new:
            self.ask(f"CREATE ROLE node LOGIN PASSWORD '{PASSWORD}'", superuser=True)
            self.ask("CREATE DATABASE node OWNER node", superuser=True)

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres", database="postgres")).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def ask(
        self, statement: str, values: Sequence[Any] = (), superuser: bool = False
    ) -> list[tuple[Any, ...]]:
        """What it answers in the database ``node``, or as the superuser in ``postgres``."""
        url = self.url("postgres", database="postgres") if superuser else self.url()
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def processes(self) -> list[int]:
        """Its process, and those for its connections."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to all its processes: SIGSTOP makes a server that hangs."""
        for pid in self.processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once; SIGINT ends it with what it has done in order."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait()

    def remove(self) -> None:
        """End it, and remove its folder."""
        if self._process is not None:
            self.signal_all(signal.SIGCONT)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
