"""The dashboard in a real Chromium, of real nodes with real HAProxies behind them."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from peerproto import Declaration
from peerproto.testing.entries import write
from peerproto.wire.messages import Control
from testbed import (
    Acks,
    Browser,
    EventStream,
    HAProxy,
    Mesh,
    Peerproto,
    RawPeer,
    Window,
    endlessly,
    get,
    pause,
    until,
    write_token,
)

from .pages import (
    LISTED,
    TOKEN,
    VIEWS,
    alone,
    choose,
    find,
    give_token,
    is_live,
    names,
    pair,
    row,
    url,
    with_page,
)


@ensureDeferred
async def test_live(mesh: Mesh, browser: Browser) -> None:
    """A request at a HAProxy is seen within a second; so are its counts, and peers that come and
    go."""
    a, b, _, port = await pair(mesh)
    window = await browser.open(url(port))
    page = window.page

    def begins() -> None:
        expect(page.locator("#link-state")).to_have_text("✓ Live")
        expect(page.locator("#mesh-summary")).to_contain_text("2 of 2 peers in step")
        choose(page, "paths")
        expect(page.locator("#entries-list")).to_contain_text("has no entries")

    await browser.do(begins)
    took = []
    for number in range(5):
        began = time.monotonic()
        assert await get(a.web, f"/live-{number}") == 200
        await browser.do(lambda at: row(page, f"/live-{at}").wait_for(), number)
        took.append(time.monotonic() - began)
    print(f"counted: a request was seen in the dashboard after {max(took) * 1000:.0f} ms at most")
    assert min(took) < 1, took
    await b.stop()

    def is_seen() -> None:
        words = page.locator("#peers li").filter(has_text="lb2")
        expect(words).to_contain_text("not connected")

    await browser.do(is_seen)


FLEET = """\
backend rates
    stick-table type ip size 1m expire 10m store gpc0,http_req_cnt,http_req_rate(10s) peers mesh
backend rates.agg
    stick-table type ip size 1m expire 10m store gpc0,http_req_cnt,http_req_rate(10s) peers mesh
backend paths
    stick-table type string len 64 size 1k expire 10m store http_req_rate(10s) peers mesh
"""
FLEET_RULES = """\
    http-request set-src url_param(c)
    http-request track-sc0 src table rates
    http-request track-sc1 path table paths
    http-request return status 200
"""
PLACES = ("/", "/login", "/api/orders", "/api/orders/7", "/static/app.js", "/favicon.ico")


PICTURES = Path(os.environ.get("PICTURES", Path(__file__).parent.parent / "build" / "dashboard"))
"""Where the pictures go."""

ENTRIES = int(os.environ.get("ENTRIES", "100000"))
"""Entries of the large table: `make long` has a million."""


async def fleet(mesh: Mesh) -> tuple[Peerproto, int, list[HAProxy]]:
    """A node that adds up what three HAProxies count, and waits for a fourth one."""
    names = ("lb1", "lb2", "lb3", "lb4")
    haproxies = [mesh.haproxy(name, tables=FLEET, frontend=FLEET_RULES) for name in names]
    for one in haproxies:
        one.section = ""
    hub = mesh.peerproto("hub")
    hub.more = "[aggregate rates]\nto = rates.agg\nexpect = lb1 lb2 lb3 lb4\n"
    peer, port = with_page(mesh, peer=hub)
    peer.start(haproxies)
    for one in haproxies[:3]:
        one.start([one, peer])
    for one in haproxies[:3]:
        await one.up()
    await peer.in_step("lb1", "lb2", "lb3")
    return peer, port, haproxies[:3]


async def visit(haproxies: list[HAProxy], stop: list[bool]) -> None:
    """Visitors, some of them oftener than others."""
    chance = random.Random(1)

    async def one(number: int) -> None:
        who = min(int(chance.expovariate(0.25)), 60) + 1
        web = chance.choice(haproxies).web
        await get(web, f"{chance.choice(PLACES)}?c=198.51.100.{who}")

    await endlessly(one, stop, 0.02)


async def pictures(
    browser: Browser, port: int, scene: str, ready: Callable[[Page], None], *views: str
) -> None:
    """Take pictures of a page as it stands; none is wider than the window, and axe-core has
    nothing to say of any."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for view in views or tuple(VIEWS):
        options = VIEWS[view]
        window = await browser.open(url(port), reduced_motion="reduce", **options)

        def take(
            window: Window = window, view: str = view, options: dict[str, Any] = options
        ) -> None:
            ready(window.page)
            window.page.wait_for_timeout(500 if scene == "empty" else 8000)
            window.page.screenshot(path=PICTURES / f"{scene}-{view}.png", full_page=True)
            part: Any = {"x": 0, "y": 0, "width": options["viewport"]["width"], "height": 1400}
            window.page.screenshot(
                path=PICTURES / f"{scene}-{view}-top.png", full_page=True, clip=part
            )
            wide, there = window.widths()
            assert wide <= there, f"{scene} in {view} is {wide} pixels wide, of {there}"

        await browser.do(take)
        examined = await browser.open(url(port), bypass_csp=True, **options)

        def examine(window: Window = examined) -> list[str]:
            ready(window.page)
            return window.violations()

        assert await browser.do(examine) == [], f"{scene} in {view}"


@ensureDeferred
async def test_empty_node(mesh: Mesh, browser: Browser) -> None:
    """A node without anything says what to do next, with its own name and port in it."""
    peer, port = with_page(mesh)
    peer.start([])
    await peer.up()

    def ready(page: Page) -> None:
        is_live(page)
        expect(page.locator("#peers")).to_contain_text(f"peer hub 127.0.0.1:{peer.port}")
        expect(page.locator("#tables")).to_contain_text("No table yet")
        expect(page.locator("#aggregates")).to_contain_text("[aggregate rates]")

    await pictures(browser, port, "empty", ready)


@ensureDeferred
async def test_fleet(mesh: Mesh, browser: Browser) -> None:
    """An aggregate says who is in and why somebody is not; an entry has the share of each peer."""
    _, port, haproxies = await fleet(mesh)
    stop: list[bool] = []
    visiting = Deferred.fromCoroutine(visit(haproxies, stop))

    def ready(page: Page) -> None:
        is_live(page)
        expect(page.locator("#mesh-summary")).to_contain_text("3 of 4 peers in step")
        out = page.locator("#aggregates tr", has_text="lb4")
        expect(out).to_contain_text("not connected")
        choose(page, "rates.agg")
        page.locator("table.entries tbody tr").nth(9).wait_for()

    await pictures(browser, port, "small", ready)
    window = await browser.open(url(port), **VIEWS["light"])

    def opened() -> None:
        page = window.page
        ready(page)
        row(page, "198.51.100.1").get_by_role("button", name="198.51.100.1", exact=True).click()
        shares = page.locator("#entry-body")
        for name in ("lb1", "lb2", "lb3", "Sum, in rates.agg"):
            expect(shares).to_contain_text(name)
        page.wait_for_timeout(6000)
        page.screenshot(path=PICTURES / "entry-light.png")

    await browser.do(opened)
    stop.append(True)
    await visiting


async def connected(peer: Peerproto, name: str, **how: Any) -> RawPeer:
    """A session of a peer with a table; ``how`` are attributes of `RawPeer`, set before it hears
    anything."""
    one = await RawPeer.call(peer, name)
    for attribute, value in how.items():
        setattr(one, attribute, value)

    async def accepted() -> bool:
        return one.lines == ["200"]

    await until(accepted, f"{name} is accepted")
    one.define(Declaration.parse("rates", TABLE_LINE.partition("= ")[2]))
    return one


@ensureDeferred
async def test_twenty_peers(mesh: Mesh, browser: Browser) -> None:
    """Twenty peers in a picture, in all states, and each of them in words with its reason."""
    names = [f"edge-fra{number:02}" for number in range(1, 21)]
    peer, port = with_page(mesh)
    peer.declared = TABLE_LINE
    peer.start([Peerproto(name, mesh.folder) for name in names])
    await peer.up()
    finished = Control.RESYNC_FINISHED
    sessions = [await connected(peer, name, replies=finished) for name in names[:14]]
    await connected(peer, names[14], acks=Acks.NONE)
    pupil = await connected(peer, names[15], confirms=False)
    other = await RawPeer.session(peer, names[16])
    gone = await connected(peer, names[17])
    chance = random.Random(2)
    for one in sessions:
        for _ in range(30):
            key = f"203.0.113.{chance.randrange(256)}"
            one.update(key, {"http_req_cnt": chance.randrange(1000)}, chance.randrange(1, 1000))
    other.define(Declaration.parse("rates", "type integer size 1k store gpc0"))
    pupil.say(Control.RESYNC_REQUEST)
    gone.hang_up()
    await peer.do("set table rates key 198.51.100.1 data.http_req_cnt 5000")
    states = dict.fromkeys(names[:14], ("ok", "✓ in step", ""))
    states[names[14]] = ("busy", "… out of step", "it has yet to ack 1 change")
    states[names[15]] = ("busy", "… out of step", "we are teaching it")
    states[names[16]] = ("busy", "… out of step", "table rates differs in key type")
    for name in names[17:]:
        states[name] = ("bad", "✕ not connected", "Connection was refused")
    by_need = sorted(names, key=lambda name: ("bad", "busy", "ok").index(states[name][0]))

    def ready(page: Page) -> None:
        is_live(page)
        expect(page.locator("#mesh-summary")).to_contain_text("14 of 20 peers in step")
        expect(page.locator("#picture svg")).to_have_attribute(
            "aria-label", "The mesh: 14 of 20 peers in step"
        )
        for name, (kind, word, why) in states.items():
            one = page.locator("#peers li", has_text=name)
            expect(one.locator(f".badge.{kind}")).to_have_text(word)
            expect(one.locator(".why")).to_have_text(re.compile(re.escape(why) if why else "^$"))
            dot = page.locator(f"#picture g.dot.{kind}", has_text=f"{name}: {word[2:]}")
            expect(dot.locator("title")).to_contain_text(why)
        assert page.locator("#peers .who strong").all_inner_texts() == by_need
        page.locator("table.entries tbody tr").nth(20).wait_for()

    await pictures(browser, port, "twenty", ready)
    for one in (*sessions, pupil, other):
        one.hang_up()


TABLE_LINE = "rates = type ip size 2m expire 1h store gpc0,http_req_cnt,http_req_rate(1h)"


async def filled(peer: Peerproto, entries: int) -> RawPeer:
    """Give a node so many entries: the peer that did."""
    table = Declaration.parse("rates", TABLE_LINE.partition("= ")[2])
    feeder = await RawPeer.session(peer, "feeder")
    feeder.define(table)
    for start in range(0, entries, 10_000):
        feeder.send(
            b"".join(
                write(
                    table.layout,
                    str(IPv4Address((10 << 24) + at * 7919 % (1 << 24))),
                    {"gpc0": at % 3 == 0, "http_req_cnt": at % 5000},
                    start or 1,
                )
                for at in range(start, min(entries, start + 10_000))
            )
        )
        await pause(0)

    async def has_all() -> bool:
        return f"used:{entries}\n" in await peer.ask("show table")

    await until(has_all, f"the node has {entries} entries", 120)
    return feeder


@ensureDeferred
async def test_large_table(mesh: Mesh, browser: Browser) -> None:
    """A large table is sorted as often as the node can bear, and what gets to the top in between
    is seen at once."""
    peer, port = with_page(mesh)
    peer.declared = TABLE_LINE
    peer.start([Peerproto("feeder", mesh.folder)])
    await peer.up()
    feeder = await filled(peer, ENTRIES)

    def ready(page: Page) -> None:
        is_live(page)
        page.locator("#by").select_option("http_req_cnt")
        expect(page.locator("#entries-note")).to_contain_text("by http_req_cnt", timeout=30_000)
        expect(page.locator("table.entries tbody tr")).to_have_count(25, timeout=30_000)

    await pictures(browser, port, "large", ready)
    window = await browser.open(url(port), **VIEWS["light"])
    await browser.do(ready, window.page)
    await browser.do(is_live, window.page)
    began = time.monotonic()
    feeder.update("10.1.2.3", {"http_req_cnt": 1_000_000}, 77)
    await browser.do(lambda: row(window.page, "10.1.2.3").wait_for())
    took = time.monotonic() - began
    print(f"counted: of {ENTRIES} entries, the new highest was seen after {took * 1000:.0f} ms")
    feeder.hang_up()


@ensureDeferred
async def test_sorting_and_searching(mesh: Mesh, browser: Browser) -> None:
    """Entries come by any column, either way, and are found by key, prefix, network and value."""
    _, port = await alone(mesh)
    window = await browser.open(url(port))

    def sorts(page: Page) -> None:
        is_live(page)
        choose(page, "rates")
        page.locator("button[data-column=http_req_cnt]").click()
        expect(page.locator("#entries-note")).to_contain_text("25 of 41 entries by http_req_cnt")
        counts = page.locator("table.entries td.number.sorted")
        expect(counts.first).to_have_text("40")
        assert [int(one) for one in counts.all_inner_texts()] == list(range(40, 15, -1))
        page.locator("button[data-column=http_req_cnt]").click()
        expect(counts.first).to_have_text("1")
        expect(page.locator("th[aria-sort=ascending]")).to_contain_text("http_req_cnt")

    def searches(page: Page) -> None:
        for text, found in (
            ("192.0.2.7", ["192.0.2.7"]),
            ("198.51.100.0/24", ["198.51.100.1"]),
            ("198.51.", ["198.51.100.1"]),
            ("http_req_cnt >= 40", ["192.0.2.40"]),
        ):
            find(page, text)
            expect(page.locator("#entries-note")).to_contain_text("1 entry found")
            if ">=" not in text:
                assert names(page) == found, text
        find(page, "203.0.113.1")
        expect(page.locator("#entries-list")).to_contain_text("Nothing is found")
        find(page, "nonsense")
        expect(page.locator("#entries-list")).to_contain_text("nonsense")
        choose(page, "paths")
        find(page, "/api")
        expect(page.locator("#entries-note")).to_contain_text("2 entries found")
        assert sorted(names(page)) == ["/api/a", "/api/b"]

    def by_keys(page: Page) -> None:
        page.locator("h1").click()
        page.keyboard.press("?")
        expect(page.locator("#help-text")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#help-text")).not_to_be_visible()
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        expect(page.locator("#entry")).to_be_visible()
        expect(page.locator("#entry-title")).to_contain_text("/api/")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        expect(page.locator("#query")).to_be_focused()

    window.allowed = ("422",)  # a browser says so of each answer that is an error
    for one in (sorts, searches, by_keys):
        await browser.do(one, window.page)


def set_value(page: Page, column: str, value: str) -> None:
    """Set a value of the address that requests of tests come from."""
    row(page, "127.0.0.1").locator("button.key").click()
    page.locator("#set-column").select_option(column)
    page.locator("#set-value").fill(value)
    page.locator("#entry form button[type=submit]").click()


def undo_by_key(page: Page) -> None:
    """Take back the last change."""
    page.locator("h1").click()
    page.keyboard.press("u")
    expect(page.locator("#undo")).to_contain_text("Undone")


@ensureDeferred
async def test_blocking(mesh: Mesh, browser: Browser) -> None:
    """Who is blocked is denied by a real HAProxy, and let in again by an undo; the token is asked
    for once."""
    a, _, _, port = await pair(mesh)
    assert await get(a.web) == 200
    window = await browser.open(url(port))

    def block(page: Page) -> None:
        is_live(page)
        choose(page, "rates")
        row(page, "127.0.0.1").get_by_role("button", name="Block 127.0.0.1").click()
        give_token(page, TOKEN)
        expect(page.locator("#undo")).to_contain_text("127.0.0.1 blocked (gpc0 = 1)")

    def undo(page: Page) -> None:
        page.locator("#undo-do").click()
        expect(page.locator("#undo")).to_contain_text("Undone")

    def block_by_key(page: Page) -> None:
        row(page, "127.0.0.1").locator("button.key").press("b")
        expect(page.locator("#undo")).to_contain_text("127.0.0.1 blocked (gpc0 = 1)")

    async def answers(status: int) -> None:
        async def does() -> bool:
            return await get(a.web) == status

        await until(does, f"{a.name} answers {status}")

    for change, status in ((block, 403), (undo, 200), (block_by_key, 403), (undo_by_key, 200)):
        await browser.do(change, window.page)
        await answers(status)


@ensureDeferred
async def test_writing(mesh: Mesh, browser: Browser) -> None:
    """What is set and forgotten can be undone, and what cannot be set is said to be wrong."""
    a, _, peer, port = await pair(mesh)
    assert await get(a.web) == 200
    window = await browser.open(url(port))
    page = window.page

    def wrong() -> None:
        is_live(page)
        choose(page, "rates")
        set_value(page, "http_req_cnt", "much")
        expect(page.locator("#entry .wrong")).to_contain_text("no whole number")
        page.keyboard.press("Escape")
        set_value(page, "http_req_cnt", "99999999999")
        give_token(page, TOKEN)
        expect(page.locator("#entry .wrong")).to_contain_text("Nothing was changed")
        page.keyboard.press("Escape")

    def right() -> None:
        set_value(page, "http_req_cnt", "777")
        expect(page.locator("#entry-body tr", has_text="http_req_cnt")).to_contain_text("777")
        page.keyboard.press("Escape")

    def forget() -> None:
        row(page, "127.0.0.1").locator("button.key").click()
        page.get_by_role("button", name="Forget").click()
        expect(page.locator("#entry-body")).to_contain_text("There is no such entry now")
        page.keyboard.press("Escape")
        expect(row(page, "127.0.0.1")).to_have_count(0)

    async def counts(value: int) -> None:
        async def does() -> bool:
            return (await peer.table("rates"))["127.0.0.1"]["http_req_cnt"] == value

        await until(does, f"http_req_cnt is {value}")

    await browser.do(wrong)
    await counts(1)
    await browser.do(right)
    await counts(777)
    await browser.do(undo_by_key, page)
    await counts(1)
    await browser.do(forget)
    assert "127.0.0.1" not in await peer.table("rates")
    await browser.do(undo_by_key, page)
    await counts(1)


@ensureDeferred
async def test_read_only(mesh: Mesh, browser: Browser) -> None:
    """A node on which nothing may be written says so, and has no buttons for it."""
    _, port = await alone(mesh, "")
    window = await browser.open(url(port))

    def looks(page: Page) -> None:
        is_live(page)
        choose(page, "rates")
        row(page, "192.0.2.7").first.locator("button.key").click()
        expect(page.locator("#entry-body")).to_contain_text("allow-writes = yes")
        assert not page.get_by_role("button", name="Block").count()
        assert not page.get_by_role("button", name="Forget").count()

    await browser.do(looks, window.page)


@ensureDeferred
async def test_restart(mesh: Mesh, browser: Browser) -> None:
    """The page goes on after the node was killed and started again, without being loaded anew."""
    peer, port = await alone(mesh)
    window = await browser.open(url(port))
    window.allowed = (
        "ERR_CONNECTION_REFUSED",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
    )
    page = window.page

    def begins() -> None:
        is_live(page)
        choose(page, "rates")
        row(page, "192.0.2.7").first.wait_for()
        page.evaluate("window.notLoadedAnew = true")

    await browser.do(begins)
    await peer.stop(signal.SIGKILL)

    def is_told() -> None:
        expect(page.locator("#link-state")).to_contain_text("No answer")

    await browser.do(is_told)
    peer.start([])
    await peer.up()
    await peer.do("set table rates key 203.0.113.9 data.http_req_cnt 5")

    def goes_on() -> None:
        is_live(page)
        row(page, "203.0.113.9").wait_for()
        expect(row(page, "192.0.2.7")).to_have_count(0)
        assert page.evaluate("window.notLoadedAnew")

    await browser.do(goes_on)
    await peer.do("set table rates key 203.0.113.10 data.http_req_cnt 50")
    await browser.do(lambda: row(page, "203.0.113.10").wait_for())


@ensureDeferred
async def test_tokens(mesh: Mesh, browser: Browser) -> None:
    """Where reading takes a token, it is asked for; one that is revoked is asked for anew, and the
    page goes on."""
    reader = write_token(mesh.folder / "reader", "a-token-of-readers")
    peer, port = await alone(mesh, f"read-token-file = {reader}\nallow-writes = yes")
    window = await browser.open(url(port))
    window.allowed = ("401",)
    page = window.page

    def begins() -> None:
        expect(page.locator("#token-why")).to_contain_text("asks for a token")
        give_token(page, "nonsense")
        expect(page.locator("#token-why")).to_contain_text("not accept")
        give_token(page, "a-token-of-readers")
        is_live(page)
        choose(page, "rates")
        row(page, "192.0.2.7").first.wait_for()
        page.reload()
        is_live(page)  # it is asked for once

    await browser.do(begins)
    reader.write_text("another-token")
    peer.send_signal(signal.SIGHUP)

    def goes_on() -> None:
        expect(page.locator("#token-why")).to_contain_text("not accept")
        give_token(page, "another-token")
        is_live(page)

    await browser.do(goes_on)


@ensureDeferred
async def test_tables_that_change(mesh: Mesh, browser: Browser) -> None:
    """A table that is declared anew is shown as it is now; one that goes leaves its place."""
    peer, port = await alone(mesh)
    window = await browser.open(url(port))
    window.allowed = ("404", "422")
    page = window.page

    def begins() -> None:
        is_live(page)
        choose(page, "rates")
        page.locator("button[data-column=http_req_cnt]").wait_for()

    await browser.do(begins)
    peer.declared = LISTED.replace("http_req_cnt,", "bytes_out_cnt,")
    peer.configure([])
    peer.send_signal(signal.SIGHUP)

    def is_other() -> None:
        page.locator("button[data-column=bytes_out_cnt]").wait_for()
        expect(page.locator("button[data-column=http_req_cnt]")).to_have_count(0)
        row(page, "192.0.2.").first.wait_for()

    await browser.do(is_other)
    peer.declared = LISTED.partition("\n")[2]
    peer.configure([])
    peer.send_signal(signal.SIGHUP)

    def is_gone() -> None:
        expect(page.locator("#tables-list")).not_to_contain_text("rates")
        expect(page.locator("#entries-title")).to_have_text("Entries of paths")
        row(page, "/login").wait_for()

    await browser.do(is_gone)


@ensureDeferred
async def test_too_many_clients(mesh: Mesh, browser: Browser) -> None:
    """Where too many follow the events, the page asks each second instead, and says so."""
    peer, port = await alone(mesh, "event-clients = 1")
    stream = await EventStream.open(port)
    window = await browser.open(url(port))
    window.allowed = ("503",)
    page = window.page

    def is_told() -> None:
        expect(page.locator("#link-state")).to_contain_text("too many follow")
        choose(page, "rates")

    await browser.do(is_told)
    await peer.do("set table rates key 203.0.113.9 data.http_req_rate 5")
    await browser.do(lambda: row(page, "203.0.113.9").wait_for())
    stream.hang_up()
    await browser.do(is_live, page)


ODD = (
    b"<script>alert(1)</script>",
    b"<img src=x onerror=alert(1)>",
    b"\"'`&lt;",
    b"a\nb\tc\rd",
    b"\x1b[31mred\x1b[0m",
    b"\xff\xfe\x80",
    b"..",
    b".",
    b"%2e%2f/\\",
    "\u202eright\u200b".encode(),
    b"",
    b"__proto__",
)


@ensureDeferred
async def test_odd_bytes(mesh: Mesh, browser: Browser) -> None:
    """Whatever stands in a key or in the name of a table or peer, it is shown escaped, nothing of
    it runs, and it can be opened, blocked and forgotten."""
    odd = "<b>x</b>"
    peer, port = with_page(mesh)
    peer.start([Peerproto(odd, mesh.folder, alias="odd")])
    await peer.up()
    feeder = await RawPeer.session(peer, odd)
    table = Declaration.parse("<u>t\xe9'\"&</u>", "type string len 64 size 1k store gpc0")
    feeder.define(table)
    for number, key in enumerate(ODD, 1):
        text = key.decode("utf-8", "surrogateescape")
        feeder.send(write(table.layout, text, {"gpc0": number}, number))
    window = await browser.open(url(port))
    page = window.page

    def looks() -> None:
        is_live(page)
        expect(page.locator("#peers")).to_contain_text(odd)
        expect(page.locator("#tables-list")).to_contain_text("<u>t\xe9'\"&</u>")
        expect(page.locator("table.entries tbody tr")).to_have_count(len(ODD))
        shown = names(page)
        for text in (
            "<script>alert(1)</script>",
            "a\\x0Ab\\x09c\\x0Dd",
            "\\x1B[31mred\\x1B[0m",
            "\\xFF\\xFE\\x80",
            "\\u{202E}right\\u{200B}",
            "%2e%2f/\\\\",
            "..",
            "\\",
        ):
            assert text in shown, (text, shown)
        assert not page.locator("main u, main b, main script, main img").count()

    def changes() -> None:
        for number in range(len(ODD)):
            one = page.locator("table.entries tbody tr").nth(number)
            name = one.locator("button.key").inner_text()
            one.locator("button.key").click()
            expect(page.locator("#entry-title")).to_contain_text(name)
            expect(page.locator("#entry-body")).to_contain_text("never expires")
            page.locator("#set-value").fill(str(1000 - number))
            page.locator("#entry form button[type=submit]").click()
            if not number:
                give_token(page, TOKEN)
            expect(page.locator("#entry-body tr", has_text="gpc0")).to_contain_text(
                f"{1000 - number:,}"
            )
            page.keyboard.press("Escape")
            page.locator("h1").click()
            page.mouse.move(0, 0)

    await browser.do(looks)
    await browser.do(changes)
    feeder.hang_up()
