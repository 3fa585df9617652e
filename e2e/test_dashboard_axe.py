"""What axe-core says of the dashboard while something is done in it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from pytest_twisted import ensureDeferred

from testbed import Browser, Mesh, Window

from .pages import TOKEN, VIEWS, alone, choose, find, give_token, is_live, row, url


def _states(window: Window) -> Iterator[str]:
    """Bring the page into one state after the other: what each is."""
    page = window.page
    is_live(page)
    choose(page, "rates")
    find(page, "192.0.2.0/24")
    expect(page.locator("#entries-note")).to_contain_text("The first 25 found")
    yield "a search that finds much"
    row(page, "192.0.2.").first.locator("button.key").focus()
    expect(page.locator("#entries-note")).to_contain_text("The order is kept")
    yield "an entry with the focus"
    find(page, "203.0.113.1")
    expect(page.locator("#entries-list")).to_contain_text("Nothing is found")
    yield "a search that finds nothing"
    find(page, "nonsense")
    expect(page.locator("#entries-list")).to_contain_text("nonsense")
    yield "a search that cannot be"
    find(page, "192.0.2.7")
    for source in page.locator("main details.source summary").all():
        source.click()
    yield "all calls of the page"
    yield from _changing(page)
    page.locator("#help").click()
    yield "the help"
    page.keyboard.press("Escape")
    page.locator("#pause").click()
    expect(page.locator("#link-state")).to_contain_text("Paused")
    yield "a pause"
    page.locator("#pause").click()
    is_live(page)


def _changing(page: Page) -> Iterator[str]:
    """The same, of what it takes to change an entry."""
    row(page, "192.0.2.7").first.locator("button.key").click()
    expect(page.locator("#entry-body tr", has_text="http_req_cnt")).to_contain_text("8")
    page.locator("#entry details.source summary").click()
    yield "an entry opened"
    page.locator("#set-value").fill("much")
    page.locator("#entry form button[type=submit]").click()
    expect(page.locator("#entry .wrong")).to_contain_text("no whole number")
    yield "a value that cannot be set"
    page.locator("#set-value").fill("1")
    page.locator("#entry form button[type=submit]").click()
    page.locator("#token-text").wait_for()
    yield "the question for a token"
    give_token(page, "nonsense")
    expect(page.locator("#entry .wrong")).to_contain_text("not accept that token")
    yield "a token that is not accepted"
    page.locator("#entry form button[type=submit]").click()
    give_token(page, TOKEN)
    expect(page.locator("#undo")).to_contain_text("192.0.2.7")
    yield "a change under an open entry"
    page.keyboard.press("Escape")
    yield "a change that can be undone"
    page.locator("#undo-do").click()
    expect(page.locator("#undo")).to_contain_text("Undone")
    yield "a change undone"


@pytest.mark.parametrize("view", VIEWS)
@ensureDeferred
async def test_states(mesh: Mesh, browser: Browser, view: str) -> None:
    """axe-core has nothing to say in any state, nor is the page wider than the window."""
    peer, port = await alone(mesh)
    window = await browser.open(url(port), bypass_csp=True, **VIEWS[view])
    window.allowed = ("401", "422", "ERR_")
    found: dict[str, list[str]] = {}

    def examine(state: str) -> None:
        found[state] = window.violations()
        wide, there = window.widths()
        if wide > there:
            found[state].append(f"it is {wide} pixels wide, of {there}")

    def examine_all() -> None:
        for state in _states(window):
            examine(state)

    await browser.do(examine_all)
    await peer.stop(signal.SIGKILL)

    def is_told() -> None:
        expect(window.page.locator("#link-state")).to_contain_text("No answer")
        examine("no answer")

    await browser.do(is_told)
    assert {state: wrong for state, wrong in found.items() if wrong} == {}
