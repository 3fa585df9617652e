"""Completion in a real bash, loaded as doc/terminal.md says, of what a running node has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pytest_twisted import ensureDeferred

from testbed import Mesh, Node, free_port
from testbed.terminal import Terminal

DECLARED = """\
v4 = type ip size 1k store gpc0
v6 = type ipv6 size 1k store gpc0,http_req_cnt,http_req_rate(10s)
mails = type string len 64 size 1k store http_req_cnt
"""
KEYS = {
    "v4": ["192.0.2.1", "192.0.2.20"],
    "v6": ["2001:db8::1", "2001:db8::2:7", "fe80::1", "::7"],
    "mails": ["ada@example.net", "https://example.net:8443/?a=b", "/a,b", "/with blank", "/*"],
}

COMMANDS = [
    ("peerproto sh", "peerproto show "),
    ("peerproto show v", "peerproto show v"),
    ("peerproto show ma", "peerproto show mails "),
    ("peerproto peers l", "peerproto peers lb1 "),
    ("peerproto show nothing", "peerproto show nothing"),
    ("peerproto show v6 --by htt", "peerproto show v6 --by http_req_"),
    ("peerproto show v6 --by=http_req_r", "peerproto show v6 --by=http_req_rate "),
    (
        "peerproto show v6 --columns gpc0,http_req_c",
        "peerproto show v6 --columns gpc0,http_req_cnt ",
    ),
    ("true | peerproto show ma", "true | peerproto show mails "),
    ("A=b:c peerproto show ma", "A=b:c peerproto show mails "),
]

OF_KEYS = [
    ("peerproto show v4 --key 192", "peerproto show v4 --key 192.0.2."),
    ("peerproto set v4 192.0.2.2", "peerproto set v4 192.0.2.20 "),
    ("peerproto set v4 192.0.2.20 g", "peerproto set v4 192.0.2.20 gpc0="),
    ("peerproto set v4 192.0.2.20 gpc0=", "peerproto set v4 192.0.2.20 gpc0="),
    ("peerproto show v6 --key 2", "peerproto show v6 --key 2001:db8::"),
    ("peerproto show v6 --key 2001:", "peerproto show v6 --key 2001:db8::"),
    ("peerproto show v6 --key 2001:d", "peerproto show v6 --key 2001:db8::"),
    ("peerproto show v6 --key 2001:db8::1", "peerproto show v6 --key 2001:db8::1 "),
    ("peerproto show v6 --key 2001:db8::2", "peerproto show v6 --key 2001:db8::2:7 "),
    ("peerproto show v6 --key=2001:db8::2:", "peerproto show v6 --key=2001:db8::2:7 "),
    ("peerproto show v6 --key '2001:db8::2", "peerproto show v6 --key '2001:db8::2:7' "),
    ("peerproto show v6 --key ::", "peerproto show v6 --key ::7 "),
    ("peerproto forget v6 f", "peerproto forget v6 fe80::1 "),
    ("peerproto set v6 fe80::1 gpc", "peerproto set v6 fe80::1 gpc0="),
    ("peerproto set v6 fe80::1 gpc0=3 http_req_c", "peerproto set v6 fe80::1 gpc0=3 http_req_cnt="),
    ("peerproto show mails --key ada@", "peerproto show mails --key ada@example.net "),
    ("peerproto show mails --key ada@ex", "peerproto show mails --key ada@example.net "),
    ("peerproto show mails --key /", "peerproto show mails --key /a,b "),
]
"""What is typed, and what is there behind TAB. A key with a blank, or a ``*``, is not offered."""


@asynccontextmanager
async def bash(mesh: Mesh) -> AsyncIterator[tuple[Terminal, str]]:
    """A bash with completion, a node with the keys, and where that has HTTP."""
    port = free_port()
    node = mesh.peerproto(declared=DECLARED)
    node.more = f"[http]\nbind = tcp:{port}:interface=127.0.0.1\n"
    mesh.nodes.append(Node("lb1", mesh.folder))
    mesh.start(node)
    await node.up()
    for table, keys in KEYS.items():
        column = "gpc0" if table == "v4" else "http_req_cnt"
        for key in keys:
            escaped = key.replace(" ", "\\ ")
            await node.do(f"set table {table} key {escaped} data.{column} 1")
    terminal = Terminal(mesh.folder, 120)
    terminal.start(PEERPROTO_NODE=str(node.runtime))
    try:
        terminal.type('eval "$(peerproto completion bash)"')
        terminal.press("Enter")
        await cleared(terminal)
        yield terminal, f"http://127.0.0.1:{port}"
    finally:
        terminal.end()


async def cleared(terminal: Terminal) -> None:
    """Give the terminal an empty line, and nothing above it."""
    terminal.press("C-e", "C-u")
    terminal.type("clear")
    terminal.press("Enter")
    await terminal.shows("a prompt", lambda text: text.strip() == "$")


async def complete(terminal: Terminal, typed: str, completed: str) -> None:
    """Type something and press TAB: what is on the line then, up to where one types on."""
    terminal.type(typed)
    terminal.press("Tab")
    terminal.type("|")
    await terminal.shows(
        f"{typed!r} is {completed!r} behind TAB",
        lambda text: text.rstrip("\n") == f"$ {completed}|",
    )
    await cleared(terminal)


@ensureDeferred
async def test_names(mesh: Mesh) -> None:
    """Commands, tables and columns."""
    async with bash(mesh) as (terminal, _):
        for typed, completed in COMMANDS:
            await complete(terminal, typed, completed)


@ensureDeferred
async def test_keys(mesh: Mesh) -> None:
    """Keys with what bash splits words at, and values of them."""
    async with bash(mesh) as (terminal, _):
        for typed, completed in OF_KEYS:
            await complete(terminal, typed, completed)
        # Some take the colon out, so that others' completion works.
        terminal.type("COMP_WORDBREAKS=${COMP_WORDBREAKS//[:=]}")
        terminal.press("Enter")
        await cleared(terminal)
        for typed, completed in OF_KEYS:
            await complete(terminal, typed, completed)


@ensureDeferred
async def test_list(mesh: Mesh) -> None:
    """TAB again shows what there is."""
    async with bash(mesh) as (terminal, _):
        terminal.type("peerproto show v6 --key 2001:")
        terminal.press("Tab", "Tab", "Tab")
        await terminal.shows(
            "what goes on behind the colons",
            lambda text: set(text.partition("\n")[2].partition("\n")[0].split()) == {"1", "2:7"},
        )


@ensureDeferred
async def test_nodes(mesh: Mesh) -> None:
    """The node that the line names is asked; where nobody answers, nothing is shown."""
    async with bash(mesh) as (terminal, place):
        for typed, more in (
            (f"peerproto --node {place} show ma", "ils "),
            (f"peerproto show v6 --node {place} --key 2001:db8::2", ":7 "),
            ("peerproto --node http://127.0.0.1:1 show ma", ""),
            ("peerproto --node /nowhere show ma", ""),
        ):
            await complete(terminal, typed, f"{typed}{more}")


@ensureDeferred
async def test_files(mesh: Mesh) -> None:
    """A file is completed as elsewhere, where a file is meant."""
    (mesh.folder / "lb 1.cfg").touch()
    folder = str(mesh.folder)
    async with bash(mesh) as (terminal, _):
        for before in ("check", "decode", "import", "--node", "copy v4 --to-file", "show --node"):
            typed = f"peerproto {before} {folder}/l"
            await complete(terminal, typed, f"{typed}b\\ 1.cfg ")
        typed = f"peerproto export v4 --output={folder}/l"
        await complete(terminal, typed, f"{typed}b\\ 1.cfg ")
