"""Answers that reach the dashboard after what was asked for is no longer what it shows."""

from __future__ import annotations

from playwright.sync_api import Page, Route, expect
from pytest_twisted import ensureDeferred

from testbed import Browser, Mesh

from .pages import alone, choose, find, is_live, names, row, url

_LOOKS = "**/v1/tables/rates/entries?key=*"
"""What is asked each second of the rows that are shown."""

_NOTE_REMOVALS = """() => {
    window.removed = [];
    new MutationObserver((changes) => {
        for (const change of changes)
            for (const node of change.removedNodes)
                if (node.matches?.("tr") && !node.isConnected)
                    window.removed.push(node.querySelector("th").textContent);
    }).observe(document.querySelector("#entries-list"), { childList: true, subtree: true });
}"""


def _hold(page: Page, held: list[Route]) -> None:
    """Keep the next look at the rows from reaching the node, and wait until there is one."""

    def keep(route: Route) -> None:
        held.append(route)

    with page.expect_request(_LOOKS):
        page.route(_LOOKS, keep, times=1)


def _look(page: Page, key: str) -> None:
    """Wait until the node has answered another look at a row."""
    with page.expect_response(lambda answer: answer.ok and f"?key={key}" in answer.url):
        pass


@ensureDeferred
async def test_late_after_a_search(mesh: Mesh, browser: Browser) -> None:
    """The rows that a search has found stay, though an answer about those before comes only then;
    an error in that answer is not told of them either."""
    _, port = await alone(mesh)
    window = await browser.open(url(port))
    page = window.page
    window.allowed = ("422",)

    def searches(status: int) -> None:
        is_live(page)
        choose(page, "rates")
        find(page, "192.0.2.0/24")
        expect(page.locator("#entries-note")).to_contain_text("The first 25 found")
        held: list[Route] = []
        _hold(page, held)
        find(page, "198.51.")
        row(page, "198.51.100.1").wait_for()
        page.evaluate(_NOTE_REMOVALS)
        (late,) = held
        if status == 200:
            late.continue_()
        else:
            late.fulfill(status=status, json={"detail": "the table is another one"})
        _look(page, "198.51.100.1")
        assert page.evaluate("window.removed") == []
        assert names(page) == ["198.51.100.1"]
        expect(page.locator("#entries-note")).to_contain_text("1 entry found")
        expect(page.locator("#entries-note")).not_to_contain_text("Not up to date")
        choose(page, "paths")

    for status in (200, 422):
        await browser.do(searches, status)


@ensureDeferred
async def test_late_after_an_event(mesh: Mesh, browser: Browser) -> None:
    """An entry that an event has brought stays, though a question from before is answered then."""
    peer, port = await alone(mesh)
    window = await browser.open(url(port))
    page = window.page
    held: list[Route] = []

    def begins() -> None:
        is_live(page)
        choose(page, "rates")
        row(page, "192.0.2.").first.wait_for()
        _hold(page, held)

    await browser.do(begins)
    await peer.do("set table rates key 203.0.113.9 data.http_req_rate 5000")

    def stays() -> None:
        row(page, "203.0.113.9").wait_for()
        page.evaluate(_NOTE_REMOVALS)
        with page.expect_response(_LOOKS):
            held[0].continue_()
        with page.expect_response(lambda answer: "203.0.113.9" in answer.url):
            pass
        assert "203.0.113.9" not in page.evaluate("window.removed")

    await browser.do(stays)
