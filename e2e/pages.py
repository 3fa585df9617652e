"""Nodes that serve the dashboard, and what tests do in its page."""

from __future__ import annotations

from typing import Any, Optional

from playwright.sync_api import Page, expect

from testbed import HAProxy, Mesh, Peerproto, free_port, write_token

TOKEN = "a-token-of-writers"
TABLES = """\
backend rates
    stick-table type ip size 1m expire 10m store gpc0,http_req_cnt,http_req_rate(10s) peers mesh
backend paths
    stick-table type string len 64 size 1k expire 10m store http_req_cnt peers mesh
"""
RULES = """\
    http-request track-sc0 src table rates
    http-request track-sc1 path table paths
    http-request deny if { sc_get_gpc0(0) gt 0 }
    http-request return status 200
"""
LISTED = """\
rates = type ip size 1k expire 1h store gpc0,http_req_cnt,http_req_rate(1h)
paths = type string len 64 size 1k store gpc0
ids = type integer size 1k store gpt0
"""
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}


def with_page(
    mesh: Mesh, more: str = "allow-writes = yes", peer: Optional[Peerproto] = None
) -> tuple[Peerproto, int]:
    """A peerproto that serves the dashboard; ``more`` are further lines of ``[http]``."""
    port = free_port()
    token = write_token(mesh.folder / "token", TOKEN)
    peer = peer or mesh.peerproto("hub")
    peer.more = (
        f"[http]\nbind = tcp:{port}:interface=127.0.0.1\ntoken-file = {token}\n{more}\n{peer.more}"
    )
    return peer, port


def url(port: int) -> str:
    """Where the page is."""
    return f"http://127.0.0.1:{port}/"


async def pair(mesh: Mesh) -> tuple[HAProxy, HAProxy, Peerproto, int]:
    """Two HAProxies and a node with a page, in step."""
    peer, port = with_page(mesh)
    return *await mesh.pair(peer, TABLES, RULES), peer, port


def row(page: Page, key: str) -> Any:
    """The row of an entry."""
    return page.locator("table.entries tbody tr").filter(has_text=key)


def choose(page: Page, table: str) -> None:
    """Have a table shown."""
    page.locator("#tables tbody button", has_text=table).click()
    expect(page.locator("#entries-title")).to_have_text(f"Entries of {table}")


def is_live(page: Page) -> None:
    """Wait until it follows the events."""
    expect(page.locator("#link-state")).to_have_text("✓ Live")


def names(page: Page) -> list[str]:
    """The keys of the rows, in their order."""
    return page.locator("table.entries tbody th").all_inner_texts()


def find(page: Page, text: str) -> None:
    """Search for something."""
    page.locator("#query").fill(text)
    page.locator("#query").press("Enter")


def give_token(page: Page, token: str) -> None:
    """Answer to the question for a token."""
    page.locator("#token-text").fill(token)
    page.locator("#token-use").click()


async def alone(mesh: Mesh, more: str = "allow-writes = yes") -> tuple[Peerproto, int]:
    """A node with a page and some entries, that has no peer."""
    peer, port = with_page(mesh, more)
    peer.declared = LISTED
    peer.start([])
    await peer.up()
    for number in range(1, 41):
        await peer.do(
            f"set table rates key 192.0.2.{number} data.http_req_cnt {number * 7 % 41}"
            f" data.gpc0 {number % 2}"
        )
    await peer.do("set table rates key 198.51.100.1 data.http_req_cnt 1")
    for path in ("/", "/api/a", "/api/b", "/login"):
        await peer.do(f"set table paths key {path} data.gpc0 3")
    return peer, port
