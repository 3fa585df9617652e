"""`make pictures`: the screen of `peerproto top` that the README has, of a real node and HAProxies,
and a recording of it.

Not collected by the usual run.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image
from pytest_twisted import ensureDeferred
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text
from twisted.internet.defer import Deferred

from testbed import Mesh, Peerproto, endlessly, get, pause, until
from testbed.browser import Browser
from testbed.terminal import Terminal

DOC = Path(__file__).parent.parent / "doc"

SIZE = (132, 30)
AFTER = 16
"""Seconds after which the picture is taken: the bars have gone on by then."""

TABLES = """\
backend rates
    stick-table type ip size 1m expire 10m store gpc0,http_req_cnt,http_req_rate(10s) peers mesh
backend blocked
    stick-table type ip size 100k expire 1h store gpc0 peers mesh
"""
RULES = """\
    http-request set-src url_param(from)
    http-request track-sc0 src table rates
    http-request return status 200
"""
BACKGROUND = "#121212"
"""That of the program."""

_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


@asynccontextmanager
async def visited(mesh: Mesh) -> AsyncIterator[Peerproto]:
    """A node that adds up. Visitors come to both of its HAProxies, some more often than others; a
    third HAProxy is away."""
    node = mesh.peerproto("hub")
    node.more = "[aggregate rates]\nto = rates.agg\nexpect = lb1 lb2\n"
    haproxies = [mesh.haproxy(name, tables=TABLES, frontend=RULES) for name in ("lb1", "lb2")]
    mesh.haproxy("lb3", tables=TABLES, frontend=RULES)
    mesh.start(node, *haproxies)
    await node.in_step("lb1", "lb2")
    chance = random.Random(7)
    stop: list[bool] = []

    async def visit(_: int) -> None:
        visitor = min(38, int(chance.expovariate(1 / 6)))
        web = chance.choice(haproxies).web
        await get(web, f"/?from=198.51.100.{7 + 5 * visitor}")

    coming = Deferred.fromCoroutine(endlessly(visit, stop, every=0.01))
    try:
        yield node
    finally:
        stop.append(True)
        await coming


@ensureDeferred
async def test_top(mesh: Mesh) -> None:
    """The screen, as the program draws it itself."""
    picture = mesh.folder / "top.svg"

    async def taken() -> bool:
        return picture.exists() and picture.read_text("utf-8").rstrip().endswith("</svg>")

    terminal = Terminal(mesh.folder, *SIZE)
    async with visited(mesh) as node:
        terminal.start(
            PEERPROTO_NODE=str(node.runtime),
            TEXTUAL_SCREENSHOT=str(AFTER),
            TEXTUAL_SCREENSHOT_LOCATION=str(mesh.folder),
            TEXTUAL_SCREENSHOT_FILENAME="top.svg",
        )
        try:
            terminal.type("peerproto top rates.agg")
            terminal.press("Enter")
            await until(taken, "the picture is taken")
        finally:
            terminal.end()
    svg = picture.read_text("utf-8")
    assert "rates.agg" in svg and "lb3" in svg
    # The fonts are somewhere else, where a page should not have to ask.
    (DOC / "top.svg").write_text(_FONTS.sub("", svg), "utf-8")


@ensureDeferred
async def test_recording(mesh: Mesh) -> None:
    """The screen, while somebody looks for who comes often, and is about to block one."""
    terminal = Terminal(mesh.folder, *SIZE)
    screens: list[str] = []

    async def record(seconds: int) -> None:
        for _ in range(seconds):
            await pause(1)
            screens.append(terminal.coloured())

    async with visited(mesh) as node:
        terminal.start(PEERPROTO_NODE=str(node.runtime), COLORTERM="truecolor")
        try:
            terminal.type("peerproto top rates.agg")
            terminal.press("Enter")
            await terminal.shows("the entries", lambda text: "198.51.100.7" in text)
            await record(6)
            terminal.press(">")
            await record(2)
            terminal.press("<")
            await record(2)
            terminal.type("/")
            terminal.type("http_req_rate > 60")
            await record(4)
            terminal.press("Enter")
            terminal.type("b")
            await record(3)
            terminal.press("Escape")
            await record(1)
            terminal.type("?")
            await record(4)
        finally:
            terminal.end()
    browser = Browser()
    try:
        window = await browser.open("about:blank", viewport={"width": 1180, "height": 700})

        def drawn(screen: str) -> Image.Image:
            window.page.set_content(f"<style>body {{ margin: 0 }}</style>{as_svg(screen)}")
            shot = window.page.locator("svg").screenshot()
            return Image.open(io.BytesIO(shot)).convert("RGB")

        pictures = [await browser.do(drawn, screen) for screen in screens]
    finally:
        browser.close()
    # One palette for all: with several, what stays would flicker.
    width, height = pictures[0].size
    together = Image.new("RGB", (width, height * len(pictures)))
    for number, one in enumerate(pictures):
        together.paste(one, (0, height * number))
    palette = together.quantize(64)
    first, *others = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in pictures]
    first.save(
        DOC / "top.gif", save_all=True, append_images=others, duration=1000, loop=0, optimize=True
    )


def as_svg(screen: str) -> str:
    """A screen with its colours, as a picture."""
    console = Console(
        record=True,
        width=SIZE[0],
        height=SIZE[1],
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    for line in screen.splitlines():
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop", crop=True)
    svg = _FONTS.sub("", console.export_svg(title="peerproto top", theme=SVG_EXPORT_THEME))
    return svg.replace(SVG_EXPORT_THEME.background_color.hex, BACKGROUND)
