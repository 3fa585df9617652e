"""The code cites the page about the protocol by its headings: each of them is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PAGE = "doc/protocol" + ".md"
"""What is cited, written so that this line cites nothing."""

_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CITATION = re.compile(re.escape(PAGE) + r'((?:(?:,| and|, and) "[^"]*")*)')


def headings(page: str) -> set[str]:
    """The headings of a page in Markdown."""
    return set(_HEADING.findall(page))


def wrong_citations(text: str, known: set[str]) -> Iterator[str]:
    """What is wrong with the citations in a source text: one line for each.

    A citation may go on in the next line, also of a comment.
    """
    for citation in _CITATION.finditer(re.sub(r"\s*\n\s*(?:#:? )?", " ", text)):
        cited = re.findall(r'"([^"]*)"', citation[1])
        if not cited:
            yield f"no heading is named: {citation.string[citation.start() :][:60]}"
        for heading in cited:
            if heading not in known:
                yield f"there is no heading {heading!r}"


class ReadmeTests(SynchronousTestCase):
    """What the README has of other pages."""

    def test_one_number_for_a_fleet(self) -> None:
        """The lines of its example stand in doc/aggregation.md, whose files are tried."""
        readme = (ROOT / "README.md").read_text("utf-8")
        section = readme.split("## One number for a fleet")[1].split("\n## ")[0]
        lines = re.findall(r"^    .+$", section, re.MULTILINE)
        self.assertEqual(len(lines), 10)
        tried = (ROOT / "doc/aggregation.md").read_text("utf-8").splitlines()
        self.assertEqual([line for line in lines if line not in tried], [])


class CitationTests(SynchronousTestCase):
    """What the sources say about the page."""

    def setUp(self) -> None:
        self.known = headings((ROOT / PAGE).read_text("utf-8"))

    def test_sources(self) -> None:
        """Every citation in the package and its tests names headings of the page."""
        wrong = []
        citing = set()
        for folder in ("peerproto", "tests", "e2e", "bench", "testbed"):
            for path in sorted((ROOT / folder).rglob("*.py")):
                text = path.read_text("utf-8")
                wrong += [f"{path.name}: {line}" for line in wrong_citations(text, self.known)]
                if PAGE in text:
                    citing.add(path.name)
        self.assertEqual(wrong, [])
        self.assertLessEqual({"varint.py", "dictionary.py", "resync.py", "dialing.py"}, citing)

    def test_headings_differ(self) -> None:
        """No heading of the page stands for two places."""
        found = _HEADING.findall((ROOT / PAGE).read_text("utf-8"))
        self.assertEqual(sorted(found), sorted(self.known))

    def test_unknown(self) -> None:
        """A heading that does not exist is reported, wherever in the list it stands."""
        text = f'"""See {PAGE}, "Frames", "Frame" and\n    # "Acks" and "Heading"."""'
        self.assertEqual(
            list(wrong_citations(text, self.known)),
            ["there is no heading 'Frame'", "there is no heading 'Heading'"],
        )

    def test_unnamed(self) -> None:
        """A citation without a heading is reported, too."""
        text = f"See {PAGE} for more."
        self.assertEqual(
            list(wrong_citations(text, self.known)), [f"no heading is named: {PAGE} for more."]
        )
