"""A real Prometheus that scrapes nodes, and its promtool."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlencode

import attrs

from testbed.conversation import converse
from testbed.ports import free_port
from testbed.waiting import until


def program(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``.

    :raises RuntimeError: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"no program {name}: `make programs` installs Debian's prometheus")
    return found


def promtool(*arguments: str, folder: Path) -> str:
    """What promtool prints.

    :raises AssertionError: it is not content.
    """
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@attrs.define(eq=False)
class Prometheus:
    """One process, that scrapes targets twice a second."""

    folder: Path
    port: int = attrs.Factory(free_port)
    _process: Optional[subprocess.Popen[bytes]] = None

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / "prometheus.log"

    def start(self, target: int, token_file: Optional[Path] = None, rules: str = "") -> None:
        """Scrape a port of this machine; ``rules`` is the text of a file of alert rules."""
        (self.folder / "rules.yml").write_text(rules or "groups: []\n")
        scraped: dict[str, Any] = {
            "job_name": "peerproto",
            "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
        }
        if token_file is not None:
            scraped["authorization"] = {"credentials_file": str(token_file)}
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [scraped],
        }
        # JSON is YAML.
        file = self.folder / "prometheus.yml"
        file.write_text(json.dumps(config))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={file}",
                    f"--storage.tsdb.path={self.folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector that an expression is now: each element with ``metric`` and ``value``."""
        answer = await self._ask(f"/api/v1/query?{urlencode({'query': expression})}")
        assert answer["resultType"] == "vector", answer
        found: list[dict[str, Any]] = answer["result"]
        return found

    async def has(self, expression: str) -> list[dict[str, Any]]:
        """Wait until an expression gives something: that."""

        async def given() -> list[dict[str, Any]]:
            return await self.query(expression)

        found: list[dict[str, Any]] = await until(given, f"{expression} gives something")
        return found

    async def alerts(self) -> list[dict[str, Any]]:
        """All alerts that are pending or fire."""
        found: list[dict[str, Any]] = (await self._ask("/api/v1/alerts"))["alerts"]
        return found

    async def _ask(self, place: str) -> Any:
        """:raises AssertionError: it does not answer with success."""
        conversation = await converse(self.port)
        conversation.send(f"GET {place} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        await conversation.closed
        head, _, body = conversation.received.partition(b"\r\n\r\n")
        assert head.split()[1:2] == [b"200"], (place, conversation.received)
        return json.loads(body)["data"]

    def kill(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
