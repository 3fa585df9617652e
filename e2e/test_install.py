"""What people install is complete, and the examples run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from pytest_twisted import ensureDeferred

from testbed import TWIST, free_port, get, until

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "doc" / "examples"


@attrs.frozen
class Examples:
    """The examples, with ports and sockets that nobody else uses."""

    folder: Path
    web: int


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    """A copy in which nothing is changed but these."""
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder)
    ports = {number: str(free_port()) for number in ("10000", "10001", "8080")}
    for file in folder.iterdir():
        if file.is_file():
            text = file.read_text()
            for number, port in ports.items():
                text = re.sub(rf"\b{number}\b", port, text)
            file.write_text(text.replace("/tmp/", f"{tmp_path}/"))
    return Examples(folder, int(ports["8080"]))


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=cwd,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_install_without_a_compiler(tmp_path: Path) -> None:
    """An install that is not editable brings `twist peers` and the type marker; where nothing
    can be compiled, it says so, and is pure Python. (`make compiled` tests the other one.)"""
    source, target = tmp_path / "source", tmp_path / "site"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "_trial_temp*")
    shutil.copytree(ROOT, source, ignore=ignored)
    said = run(
        *(sys.executable, "-m", "pip", "install", "--verbose", "--no-deps"),
        *("--no-build-isolation", "--target", str(target), str(source)),
        CC=str(tmp_path / "no-compiler"),
    )
    assert "failed" in said and "no-compiler" in said
    assert (target / "peerproto" / "py.typed").exists()
    assert (target / "bin" / "peerproto").exists()
    assert not list(target.rglob("*.so"))
    assert not (target / "twisted" / "__init__.py").exists()
    said = subprocess.run(
        [sys.executable, "-m", "twisted", "peers", "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(target)},
        cwd=tmp_path,
        timeout=60,
        check=True,
    ).stdout
    assert re.fullmatch(r"peerproto \S+ \(pure Python\)\n", said)


def test_tests_that_use_memory_peers() -> None:
    """The examples of an application's own tests pass under trial."""
    tests = " ".join(sorted(path.stem for path in EXAMPLES.glob("test_*.py")))
    run("sh", "-c", f"cd {EXAMPLES} && {sys.executable} -m twisted.trial {tests}")


def test_example_file_is_good() -> None:
    """The file of `make run` passes --check."""
    assert "good" in run(TWIST, "peers", "--config", str(EXAMPLES / "peers.ini"), "--check")


@ensureDeferred
async def test_application(tmp_path: Path, examples: Examples) -> None:
    """The example application learns from HAProxy who comes too often, and blocks them there."""
    ready, log = tmp_path / "ready", (tmp_path / "log").open("w")
    haproxy = subprocess.Popen(["haproxy", "-db", "-f", "haproxy.cfg"], cwd=examples.folder)
    application = subprocess.Popen(
        [sys.executable, str(examples.folder / "blocklist.py")], stdout=ready.open("w"), stderr=log
    )
    try:

        async def up_to_date() -> bool:
            return "visitors known" in ready.read_text()

        async def blocked() -> bool:
            return await get(examples.web) == 429

        await until(up_to_date, "the application is up to date")
        await until(blocked, "the visitor is blocked")
        assert "127.0.0.1 came 5 times in 10 s: blocked" in ready.read_text()
        application.terminate()
        application.wait()
        said = run(sys.executable, str(examples.folder / "visitors.py"), "127.0.0.1")
        assert said.startswith("127.0.0.1 ")
    finally:
        for process in (application, haproxy):
            process.terminate()
            process.wait()
        log.close()


def test_demo(examples: Examples) -> None:
    """`make demo`: a request arrives in our table, and a block at HAProxy."""
    said = run(
        str(examples.folder / "demo.sh"),
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )
    assert "a request at HAProxy: 200" in said
    assert "key=127.0.0.1" in said
    assert "the next request at HAProxy: 429" in said
