"""The program ``peerproto``, and a terminal for what people do there: tmux."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.threads import deferToThread

from testbed.waiting import until

ROOT = Path(__file__).parent.parent

PROGRAM = (sys.executable, "-m", "peerproto.terminal")
"""The program, whether it is installed or not."""


def environment(**more: str) -> dict[str, str]:
    """The environment of the program: that of the test, without a node of the user's."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("PEERPROTO_")}
    path = os.pathsep.join([str(ROOT), *filter(None, [here.get("PYTHONPATH")])])
    return {**here, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **more}


async def peerproto(*words: str, status: int = 0) -> str:
    """What the program prints, which ends so."""

    def run() -> Any:
        return subprocess.run(
            [*PROGRAM, *words],
            capture_output=True,
            text=True,
            env=environment(),
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )

    done = await deferToThread(run)
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    output: str = done.stdout if status == 0 else done.stderr
    return output


@attrs.define(eq=False)
class Terminal:
    """A terminal of so many columns and lines, with a shell in it."""

    folder: Path
    """For its socket, and for a command ``peerproto``."""
    columns: int = 80
    lines: int = 24

    @property
    def _tmux(self) -> tuple[str, ...]:
        return ("tmux", "-S", str(self.folder / "tmux"), "-f", os.devnull)

    def start(self, **more: str) -> None:
        """Begin with an empty screen; ``more`` are variables of the environment."""
        script = self.folder / "peerproto"
        script.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
        script.chmod(0o755)
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        size = ("-x", str(self.columns), "-y", str(self.lines))
        variables = {"PATH": path, "LC_ALL": "C.UTF-8", **more}
        prompt = self.folder / "bashrc"
        prompt.write_text("PS1='$ '\n")
        shell = f"bash --noprofile --rcfile {prompt}"
        self._run("new-session", "-d", *size, shell, **variables)
        self._run("set-option", "-g", "status", "off")
        self._run("resize-window", *size)

    def _run(self, *words: str, **more: str) -> str:
        given = environment(**more)
        given.pop("TMUX", None)
        given["TERM"] = "xterm-256color"
        done = subprocess.run(
            [*self._tmux, *words], capture_output=True, text=True, env=given, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def type(self, text: str) -> None:
        """Type letters."""
        self._run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys as tmux names them: ``Enter``, ``Tab``, ``C-c``."""
        self._run("send-keys", *keys)

    def screen(self) -> str:
        """What is on the screen."""
        return self._run("capture-pane", "-p")

    def coloured(self) -> str:
        """The same, with colours as a terminal is told them."""
        return self._run("capture-pane", "-e", "-N", "-p")

    async def shows(self, what: str, holds: Callable[[str], Any]) -> str:
        """Wait until something holds for the screen: what is on it then."""

        async def look() -> str:
            text = self.screen()
            assert holds(text), f"\n{text}"
            return text

        screen: str = await until(look, what)
        return screen

    def end(self) -> None:
        """End it, and what runs in it."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)
