"""Texts on the screen, and what is said where the program cannot run."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from peerproto.service.spelling import read, written
from peerproto.terminal import main
from peerproto.terminal.http import HttpNode
from peerproto.terminal.node import NodeError, Selection, Unreachable
from peerproto.terminal.places import node_at
from peerproto.terminal.runtime import RuntimeNode
from peerproto.terminal.text import life, typed, visible
from peerproto.terminal.values import TableInfo
from tests.folders import FolderTestCase

NAMES = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


class TextTests(SynchronousTestCase):
    @given(NAMES)
    def test_typed_again(self, name: str) -> None:
        """What is shown of a name can be printed, and is the same name when it is typed."""
        shown = visible(written(name))
        self.assertTrue(shown.isprintable())
        self.assertEqual(read(typed(shown)), name)

    @given(st.text(max_size=20))
    def test_any_text(self, text: str) -> None:
        """No text is obeyed, whatever it is: halves of surrogates and letters that turn the
        direction of writing neither."""
        for one in (text, text + "\ud800\u202e\x9b"):
            self.assertTrue(visible(one).isprintable())

    def test_bytes_of_arguments(self) -> None:
        """A byte of the command line that is no UTF-8 is meant as it is."""
        self.assertEqual(typed(b"a\xff".decode("utf-8", "surrogateescape")), r"a\xFF")

    def test_life(self) -> None:
        """Times have their two largest units."""
        for ms, expected in (
            (None, "-"),
            (0, "0s"),
            (999, "999ms"),
            (1000, "1s"),
            (60_000, "1m"),
            (599_000, "9m59s"),
            (3_600_000, "1h"),
            (3_605_000, "1h"),
            (90_061_000, "1d1h"),
        ):
            self.assertEqual(life(ms), expected)


class MainTests(SynchronousTestCase):
    def test_missing(self) -> None:
        """Without a package it is said in a line what to install."""
        self.patch(main, "NEEDED", ("click", "no_such_package"))
        problem = self.assertRaises(SystemExit, main.main)
        self.assertEqual(
            problem.code, "peerproto needs no_such_package: pip install 'peerproto[terminal]'"
        )


class TokenTests(FolderTestCase):
    def test_token_file(self) -> None:
        """A token that cannot be read, or is none, is said."""
        for content, expected in (
            (None, "No such file"),
            (b"\n", "expected one token"),
            (b"two words\n", "expected one token"),
            (b"\xff\n", "no ASCII"),
        ):
            if content is not None:
                with open("token", "wb") as file:
                    file.write(content)
            problem = self.assertRaises(NodeError, node_at, "http://localhost", "token")
            self.assertIn(expected, str(problem))


class _Says:
    """A connection to somebody who says the same to all."""

    def __init__(self, data: bytes, *_: object) -> None:
        self._data = data

    def sendall(self, data: bytes) -> None:
        pass

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)

    def close(self) -> None:
        pass


class StrangerTests(SynchronousTestCase):
    """Others than a node of this version."""

    def test_runtime(self) -> None:
        """What is no answer is told from one, and what it may be is said."""
        for data, expected in (
            (b"", "the answer breaks off"),
            (b'{"name":"rates"', "the answer breaks off"),
            (b'{"name"\n\n', "Expecting"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "try --node http+unix:/run/x"),
            (b"Unknown command: 'json tables', but maybe one of\n  help\n\n", "HAProxy's own"),
            (b"There are 100 runtime clients already\n\n", "There are 100 runtime clients"),
            (b"\x1b[2J\n\n", r"\x1B[2J"),
        ):
            says: Any = partial(_Says, data)
            node = RuntimeNode("/run/x", connect=says)
            self.assertIn(expected, str(self.assertRaises(NodeError, node.tables)))

    def test_why(self) -> None:
        """It is said why there is no connection, and what to try."""
        for problem, expected in (
            (PermissionError(13, "Permission denied"), "try as root"),
            (TimeoutError(), "Is the node busy"),
            (OSError("path too long"), "path too long"),
        ):

            def connect(path: str, patience: float, problem: Exception = problem) -> None:
                raise problem

            node = RuntimeNode("/run/x", connect=connect)  # type: ignore[arg-type]
            self.assertIn(expected, str(self.assertRaises(Unreachable, node.node)))

    def http(self, answer: httpx.Response | Exception) -> HttpNode:
        def handle(request: httpx.Request) -> httpx.Response:
            if isinstance(answer, Exception):
                raise answer
            return answer

        where = "http://localhost:8404"
        return HttpNode(where, where, transport=httpx.MockTransport(handle))

    def test_http(self) -> None:
        """The same over HTTP."""
        for answer, expected in (
            (httpx.Response(200, text="<html>"), "Is it a peerproto?"),
            (httpx.Response(500, text="oops"), "HTTP 500. Is it a peerproto?"),
            (httpx.Response(421, json={"detail": "not me"}), "`hosts` in peers.ini"),
            (httpx.Response(410, json={"detail": "gone"}), "ask once more"),
            (httpx.ReadTimeout("x"), "no answer in time"),
            (httpx.RemoteProtocolError("x"), "its path alone"),
            (httpx.ConnectError("x"), "an [http] section"),
        ):
            problem = self.assertRaises(NodeError, self.http(answer).tables)
            self.assertIn(expected, str(problem))

    def test_http_entries(self) -> None:
        """What goes wrong with one of many changes ends them."""
        said: Any = {
            "entries": [{"key": "1", "expires_in": None, "values": {}}],
            "next": None,
            "results": [{"status": 409, "problem": {"detail": "the table has gone"}}],
        }
        table = TableInfo({}, "ids", "integer", 1, None, None, (), (), False, None)
        node = self.http(httpx.Response(200, text=json.dumps(said)))
        problem = self.assertRaises(NodeError, node.forget, table, Selection(prefix="x"))
        self.assertEqual(str(problem), "the table has gone")
        for answer in (httpx.ConnectError("x"), httpx.Response(400, json={"detail": "bad"})):
            node = self.http(answer)
            found = node.entries(table, Selection(key="1"))
            self.assertRaises(NodeError, next, found)
