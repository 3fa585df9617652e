"""A real Chromium without a window, and what is to be heard of a page in it.

Playwright waits for each call, so all of that happens in a thread of its own while the reactor goes
on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from typing import Any, Final, Optional, TypeVar
from urllib.parse import urlsplit

import attrs
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, Playwright, sync_playwright
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from testbed.waiting import reactor

T = TypeVar("T")

_LISTEN: Final = """
addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""

PATIENCE: Final = 30_000
"""Ms after which something that a page is to show counts as never shown."""


def chromium() -> str:
    """The path of Debian's.

    :raises RuntimeError: there is none.
    """
    found = shutil.which("chromium")
    if found is None:
        raise RuntimeError("there is no chromium; `make programs` installs it where it may")
    return found


def launch(playwright: Playwright) -> Chromium:
    """Start one."""
    more = ["--no-sandbox"] if os.getuid() == 0 else []
    return playwright.chromium.launch(
        executable_path=chromium(), args=["--disable-dev-shm-usage", *more]
    )


@attrs.define(eq=False)
class Window:
    """A page, with all that was wrong in it so far."""

    page: Page
    home: str
    """The origin that it may ask."""
    complaints: list[str] = attrs.Factory(list)
    """Errors in the console, exceptions, requests elsewhere."""
    allowed: tuple[str, ...] = ()
    """What a complaint may have in it, and be none: a node that is stopped cannot be reached."""

    def __attrs_post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        # Playwright notes something on the object of a method: this one has no place for it.
        self.page.on("console", lambda message: self._said(message))  # noqa: PLW0108
        self.page.on("pageerror", lambda error: self._complain(f"exception: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self._complain(f"{message.type}: {message.text}")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self.home:
            self._complain(f"asked {url}")

    def _complain(self, text: str) -> None:
        if not any(one in text for one in self.allowed):
            self.complaints.append(text)

    def widths(self) -> tuple[int, int]:
        """The width that the page takes, and the one that there is, in pixels."""
        wide: list[int] = self.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        return wide[0], wide[1]

    def violations(self) -> list[str]:
        """What axe-core says of the page, which must have been opened with ``bypass_csp``."""
        script = (files("axe_playwright_python") / "axe.min.js").read_text()
        self.page.evaluate(script)
        found: dict[str, Any] = self.page.evaluate("axe.run()")
        return [
            f"{one['id']}: {one['help']}: {node['html'][:200]} ({node.get('failureSummary', '')})"
            for one in found["violations"]
            for node in one["nodes"]
        ]


class Browser:
    """A Chromium, and its thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "browser")
        self._playwright: Optional[Playwright] = None
        self._chromium: Optional[Chromium] = None
        self.windows: list[Window] = []

    async def do(self, what: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call something in the thread of the browser: what it gives."""
        done: Deferred[T] = Deferred()

        def fire(future: Future[T]) -> None:
            error = future.exception()
            if error is None:
                done.callback(future.result())
            else:
                done.errback(Failure(error))

        self._thread.submit(what, *arguments, **named).add_done_callback(
            lambda future: reactor.callFromThread(fire, future)
        )
        return await done

    async def open(self, url: str, **options: Any) -> Window:
        """A new page in a context of its own; ``options`` are those of the context."""
        return await self.do(self._open, url, options)

    def _open(self, url: str, options: dict[str, Any]) -> Window:
        if self._chromium is None:
            self._playwright = sync_playwright().start()
            self._chromium = launch(self._playwright)
        context = self._chromium.new_context(**options)
        context.add_init_script(_LISTEN)
        parts = urlsplit(url)
        window = Window(context.new_page(), f"{parts.scheme}://{parts.netloc}")
        self.windows.append(window)
        window.page.goto(url)
        return window

    def close(self) -> None:
        """End it, and the thread."""
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _close(self) -> None:
        if self._chromium is not None:
            self._chromium.close()
        if self._playwright is not None:
            self._playwright.stop()
