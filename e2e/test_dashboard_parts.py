"""What the dashboard shows over time, where its numbers come from, its keys, and what it keeps."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

from playwright.sync_api import Page, Route, expect
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from peerproto import Declaration
from peerproto.wire.messages import Control
from testbed import Browser, Mesh, Peerproto, RawPeer
from testbed.browser import PATIENCE

from .pages import TOKEN, alone, choose, find, give_token, is_live, names, row, url, with_page

_LINE = "paths = type string len 512 size 1m expire 1h store gpc0"

_LONG = 50_000
"""Entries of a lesson of 25 MB, more than the kernel buffers."""


@ensureDeferred
async def test_lessons(mesh: Mesh, browser: Browser) -> None:
    """A lesson that is given has a bar of what is done and words for what is left, one that is
    learnt a bar without an end; both go when it is over."""
    peer, port = with_page(mesh)
    peer.declared = _LINE
    peer.start([Peerproto(name, mesh.folder) for name in ("teacher", "pupil")])
    await peer.up()
    teacher = await RawPeer.call(peer, "teacher")
    teacher.replies = None
    await teacher.hears(Control.RESYNC_REQUEST)
    teacher.define(Declaration.parse("paths", _LINE.partition("= ")[2]))
    for number in range(1, _LONG + 1):
        teacher.update(f"/{number:0500}", {"gpc0": 1}, number)
    window = await browser.open(url(port))
    page = window.page

    def lesson(name: str) -> Any:
        return page.locator("#peers li", has_text=name).locator(".lesson")

    def is_learnt() -> None:
        is_live(page)
        expect(lesson("teacher")).to_contain_text("teaches this node: 50K updates so far")
        assert lesson("teacher").locator("progress").get_attribute("value") is None

    await browser.do(is_learnt)
    teacher.say(Control.RESYNC_FINISHED)
    await browser.do(lambda: expect(lesson("teacher")).to_be_empty())
    pupil = await RawPeer.call(peer, "pupil")
    pupil.confirms = False
    await pupil.hears(lambda one: one in (Control.HEARTBEAT, Control.RESYNC_REQUEST))
    pupil.stop_reading()
    pupil.say(Control.RESYNC_REQUEST)

    def is_taught() -> None:
        expect(lesson("pupil")).to_contain_text("is being taught")
        value, most, words = lesson("pupil").evaluate(
            "(one) => [one.firstChild.value, one.firstChild.max, one.textContent]"
        )
        assert 0 < value < most, (value, most)
        assert f"{value:,} entries given, about {most - value:,} left" in words

    def is_unconfirmed() -> None:
        expect(lesson("pupil")).to_contain_text(
            f"was given {_LONG:,} entries, and has yet", timeout=PATIENCE
        )
        assert lesson("pupil").evaluate("(one) => one.firstChild.position") == 1

    await browser.do(is_taught)
    pupil.read_on()
    await browser.do(is_unconfirmed)
    pupil.say(Control.RESYNC_CONFIRM)
    await browser.do(lambda: expect(lesson("pupil")).to_be_empty())
    for one in (teacher, pupil):
        one.hang_up()


@ensureDeferred
async def test_where_from(mesh: Mesh, browser: Browser) -> None:
    """“Where from?” has calls that can be pasted into a shell, and give what the page shows."""
    _, port = await alone(mesh)
    window = await browser.open(url(port))
    page = window.page

    def calls(place: str) -> list[str]:
        page.locator(f"{place} details.source summary").click()
        return page.locator(f"{place} details.source code").all_inner_texts()

    def all_calls() -> tuple[dict[str, list[str]], list[str]]:
        is_live(page)
        choose(page, "rates")
        page.locator("#by").select_option("http_req_cnt")
        find(page, "192.0.2.0/24")
        expect(page.locator("#entries-note")).to_contain_text("The first 25 found")
        expect(row(page, "192.0.2.")).to_have_count(25)
        page.mouse.move(0, 0)
        shown = names(page)
        found = {place: calls(place) for place in ("#mesh", "#tables", "#entries", "#aggregates")}
        row(page, "192.0.2.").first.locator("button.key").click()
        return {**found, "#entry": calls("#entry")}, shown

    async def answer(call: str) -> Any:
        words = shlex.split(call)
        assert words[0] == "curl", call
        done = await deferToThread(
            subprocess.run, [words[0], "-sS", "--fail", *words[1:]], capture_output=True, timeout=60
        )
        assert done.returncode == 0, (call, done.stderr)
        return json.loads(done.stdout)

    found, shown = await browser.do(all_calls)
    peers, node = found["#mesh"]
    assert (await answer(peers))["peers"] == []
    assert (await answer(node))["localpeer"] == "hub"
    (tables,) = found["#tables"]
    assert {one["name"] for one in (await answer(tables))["tables"]} == {"rates", "paths", "ids"}
    rows, *_ = found["#entries"]
    assert [one["key"] for one in (await answer(rows))["entries"]] == shown
    (entry,) = found["#entry"]
    assert [one["key"] for one in (await answer(entry))["entries"]] == shown[:1]
    for call in found["#aggregates"]:
        assert await answer(call)


_POINTS = """document.querySelector("table.entries tbody polyline")
    .getAttribute("points").split(" ").length"""
"""How many samples the line of the first row has."""


def _heights(page: Page, place: str) -> list[float]:
    """The y of each sample of a sparkline: 0 is at the top."""
    points = page.locator(f"{place} polyline").first.get_attribute("points") or ""
    return [float(one.split(",")[1]) for one in points.split()]


@ensureDeferred
async def test_history(mesh: Mesh, browser: Browser) -> None:
    """A row has a line of how its value went, an opened entry one for each value, and the least
    and the most of each since the page saw it first."""
    peer, port = await alone(mesh)
    window = await browser.open(url(port))
    page = window.page

    def begins() -> None:
        is_live(page)
        choose(page, "rates")
        page.locator("#by").select_option("http_req_cnt")
        find(page, "192.0.2.7")
        expect(row(page, "192.0.2.7").locator("td.sorted")).to_have_text("8")

    def shows(value: int) -> None:
        expect(row(page, "192.0.2.7").locator("td.sorted")).to_have_text(str(value))
        # The latest sample gives way to the next one, unless it was there for a while.
        page.wait_for_function(f"(before) => ({_POINTS}) > before + 1", arg=page.evaluate(_POINTS))

    await browser.do(begins)
    for value in (500, 20):
        await peer.do(f"set table rates key 192.0.2.7 data.http_req_cnt {value}")
        await browser.do(shows, value)

    def has_line() -> None:
        heights = _heights(page, "table.entries tbody tr")
        assert min(heights) < heights[-1] < heights[0], heights
        row(page, "192.0.2.7").locator("button.key").click()
        line = page.locator("#entry-body tr", has_text="http_req_cnt")
        expect(line.locator(".note")).to_have_text("8 to 500")
        expect(page.locator("#entry-body")).to_contain_text("First seen here at")
        heights = _heights(page, "#entry-body tr:has-text('http_req_cnt')")
        assert min(heights) < heights[-1] < heights[0], heights

    await browser.do(has_line)
    await peer.do("set table rates key 192.0.2.7 data.http_req_cnt 700")

    def goes_on() -> None:
        line = page.locator("#entry-body tr", has_text="http_req_cnt")
        expect(line.locator(".note")).to_have_text("8 to 700")
        heights = _heights(page, "#entry-body tr:has-text('http_req_cnt')")
        assert heights[-1] == min(heights), heights

    await browser.do(goes_on)


@ensureDeferred
async def test_where_the_token_is(mesh: Mesh, browser: Browser) -> None:
    """The token is in ``sessionStorage`` of its tab and nowhere else: it outlives a reload, and
    another tab has none."""
    _, port = await alone(mesh)
    window = await browser.open(url(port))
    page = window.page

    def is_kept() -> None:
        is_live(page)
        page.locator("#token").click()
        give_token(page, TOKEN)
        expect(page.locator("#token")).to_have_text("Token: given")
        expect(page.locator("#about")).to_contain_text("may change entries")
        assert TOKEN in page.evaluate("Object.values(sessionStorage)")
        assert TOKEN not in page.evaluate("JSON.stringify(localStorage)")
        assert page.context.cookies() == []
        assert TOKEN not in page.url
        assert TOKEN not in page.content()
        page.reload()
        expect(page.locator("#token")).to_have_text("Token: given")
        other = page.context.new_page()
        other.goto(url(port))
        expect(other.locator("#token")).to_have_text("Token")
        expect(other.locator("#about")).to_contain_text("give a token")
        page.locator("#token").click()
        page.locator("#token-drop").click()
        expect(page.locator("#token")).to_have_text("Token")
        assert page.evaluate("sessionStorage.length") == 0

    await browser.do(is_kept)


@ensureDeferred
async def test_keys(mesh: Mesh, browser: Browser) -> None:
    """The key p holds the page and lets it go on, t goes to the tables; neither does anything with
    single keys turned off, also after a reload."""
    peer, port = await alone(mesh)
    window = await browser.open(url(port))
    page = window.page
    asked: list[str] = []

    def holds() -> None:
        is_live(page)
        choose(page, "rates")
        page.locator("#by").select_option("http_req_cnt")
        row(page, "192.0.2.").first.wait_for()
        page.locator("h1").click()
        page.keyboard.press("p")
        expect(page.locator("#link-state")).to_have_text("‖ Paused")
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
        page.on("request", lambda request: asked.append(request.url))

    await browser.do(holds)
    await peer.do("set table rates key 203.0.113.9 data.http_req_cnt 5000")

    def goes_on() -> None:
        expect(row(page, "203.0.113.9")).to_have_count(0)
        assert asked == []
        page.keyboard.press("p")
        is_live(page)
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "false")
        row(page, "203.0.113.9").wait_for()
        page.keyboard.press("t")
        expect(page.locator("#tables tbody button").first).to_be_focused()

    def are_off() -> None:
        page.locator("#help").click()
        page.locator("#keys-on").uncheck()
        page.keyboard.press("Escape")
        page.reload()
        is_live(page)
        page.locator("#tables tbody button").first.wait_for()
        page.locator("h1").click()
        page.keyboard.press("t")
        page.keyboard.press("p")
        page.evaluate("new Promise(requestAnimationFrame)")
        expect(page.locator("#link-state")).to_have_text("✓ Live")
        expect(page.locator("#tables tbody button").first).not_to_be_focused()

    await browser.do(goes_on)
    await browser.do(are_off)


@ensureDeferred
async def test_reduced_motion(mesh: Mesh, browser: Browser) -> None:
    """What waits for an answer breathes, but not for people who want less motion: nothing moves
    for them."""
    _, port = await alone(mesh)
    for wish, moving in (("no-preference", ["breathe"]), ("reduce", [])):
        window = await browser.open(url(port), reduced_motion=wish)

        def moves(page: Page = window.page) -> list[str]:
            is_live(page)
            held: list[Route] = []

            def keep(route: Route) -> None:
                held.append(route)

            page.route("**/v1/tables/paths/entries?*", keep, times=1)
            choose(page, "paths")
            page.locator("#entries-list .waiting").wait_for()
            found: list[str] = page.evaluate(
                "document.getAnimations().map((one) => one.animationName)"
            )
            held[0].continue_()
            row(page, "/login").wait_for()
            return found

        assert await browser.do(moves) == moving, wish
