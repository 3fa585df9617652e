"""Lines of stick tables: what a real HAProxy takes is taken here, what all refuse is refused."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from peerproto.tables.declaration import Declaration
from peerproto.wire.datatypes import DATA_TYPES
from peerproto.wire.errors import LocalProtocolError
from testbed.programs import Program, programs

LINES = """\
type ip size 1k
type ipv4 size 1k
type ipv6 size 1k
type integer size 1k
type string size 1k
type binary size 1k
type string len 12abc size 1k
type string len +5 size 1k
type string len 010 size 1k
type string len 0 size 1k
type string len size 1k
type string len
type string len 16384 size 1k
type string len 20000 size 1k
type binary len 100000 size 1k
type binary len 99999999999 size 1k
type ip len 4 size 1k
type string size 1k len 5
type string len 5 len 6 size 1k
type ip type string len 5 size 1k
type string len 5 type binary size 1k
type
type foo size 1k
type IP size 1k
type sint size 1k
type any size 1k
size 1k
type ip
type ip size
type ip size 1K
type ip size 1k5
type ip size 3g
type ip size 4g
type ip size 4294967295
type ip size 4294967296
type ip size 010
type ip size 0
type ip size k
type ip size -1
type ip size 0k size 5
type ip size 5 size 0
type ip size 1k expire
type ip size 1k expire ""
type ip size 1k expire 0
type ip size 1k expire 010s
type ip size 1k expire 5us
type ip size 1k expire 5u
type ip size 1k expire 10x
type ip size 1k expire h
type ip size 1k expire -1
type ip size 1k expire 10S
type ip size 1k expire 1h30m
type ip size 1k expire 1hfoo
type ip size 1k expire 10ms5
type ip size 1k expire 2147483647
type ip size 1k expire 2147483648
type ip size 1k expire 24d
type ip size 1k expire 25d
type ip size 1k expire 99999999999999999999d
type ip size 1k expire 1s expire 2s
type ip size 1k store
type ip size 1k store ""
type ip size 1k store gpc0,
type ip size 1k store ,gpc0
type ip size 1k store gpc0,,gpc1
type ip size 1k store gpc0, gpc1
type ip size 1k store gpc0 gpc1
type ip size 1k store "gpc0, gpc1"
type ip size 1k store gpc0 store gpc1
type ip size 1k store gpc0,gpc0
type ip size 1k store gpc0,gpc0(5)
type ip size 1k store gpc0(5)
type ip size 1k store gpc0()
type ip size 1k store gpc0)
type ip size 1k store (gpc0)
type ip size 1k store gpc0_rate
type ip size 1k store gpc0_rate()
type ip size 1k store gpc0_rate(0)
type ip size 1k store gpc0_rate(10S)
type ip size 1k store gpc0_rate(1h30m)
type ip size 1k store gpc0_rate(25d)
type ip size 1k store gpc0_rate(10s
type ip size 1k store gpc0_rate(10s))
type ip size 1k store gpc0_rate((10s)
type ip size 1k store gpc0_rate(10s),(
type ip size 1k store gpc0_rate(10s)junk
type ip size 1k store gpc0_rate(10s,5s)
type ip size 1k store gpc0_rate(10s,junk)
type ip size 1k store gpc0_rate(10s)(5x)
type ip size 1k store gpc0_rate(junk)(5s)
type ip size 1k store gpc(3)
type ip size 1k store gpc(3x)
type ip size 1k store gpc(+3)
type ip size 1k store gpc(010)
type ip size 1k store gpc(-3)
type ip size 1k store gpc(0)
type ip size 1k store gpc(100)
type ip size 1k store gpc(101)
type ip size 1k store gpc
type ip size 1k store gpc()
type ip size 1k store gpc(3,10s)
type ip size 1k store gpc_rate(3,10s)
type ip size 1k store gpc_rate(3)
type ip size 1k store gpc_rate(3,)
type ip size 1k store gpc_rate(,3)
type ip size 1k store gpc_rate(3,5,10s)
type ip size 1k store gpc_rate(3,junk,10s)
type ip size 1k store gpc_rate(2,10s)(3)
type ip size 1k store gpt(3),gpt0
type ip size 1k store gpt(3) store gpt0
type ip size 1k store gpt0,gpt(3)
type ip size 1k store gpc(3),gpc0
type ip size 1k store gpc(3),gpc1
type ip size 1k store gpc_rate(3,1s),gpc0_rate(1s)
type ip size 1k store gpc_rate(3,1s),gpc1_rate(1s)
type ip size 1k store gpc_rate(3,1s),gpc1,gpt0
type ip size 1k store server_id,server_key,server_name
type ip size 1k store server_id,server_key
type ip size 1k store glitch_cnt,glitch_rate(1s)
type ip size 1k srvkey name
type ip size 1k srvkey addr
type ip size 1k srvkey foo
type ip size 1k srvkey
type ip size 1k peers mesh
type ip size 1k peers
type ip size 1k nopurge nopurge
type ip size 1k recv-only
type ip size 1k write-to other
type ip size 1k write-to
type ip size 1k brates-factor 1
type ip size 1k brates-factor 1k
type ip size 1k brates-factor 0
type ip size 1k brates-factor 1025
type ip size 1k brates-factor
type ip size 1k shards 5
type ip size 1k # comment gpc0
type ip size 1k#comment
type ip "size" '1k' store "gpc0,gpc1"
type ip size 1k st\\ore gpc0
type ip size 1k store gpc0\\,gpc1
type ip size 1k peers me\\ sh
type ip size 1k "" store gpc0
type ip size 1k store gpc0 "" foo
"""

BROKEN_OFF = "type ip size 1k peers 'me sh"
"""HAProxy reads no other line beside this one."""

NOT_IN_OURS = ("len -", "${")
"""A negative length is a number near 2**64 there; a variable is known to that process alone."""

LATER = {
    "ipv4": "type ipv4 size 1k",
    "recv-only": "type ip size 1k recv-only",
    "write-to": "type ip size 1k write-to other",
    "brates-factor": "type ip size 1k brates-factor 1",
    "glitch_cnt": "type ip size 1k store glitch_cnt",
    "glitch_rate": "type ip size 1k store glitch_rate(1s)",
}
"""Words that HAProxy 2.6 does not know, each in a line that is good where it is known."""

names = [data_type.name for data_type in DATA_TYPES]
digits = st.sampled_from(["0", "1", "2", "5", "007", "10", "99", "100", "101", "24", "25"])
signs = st.sampled_from(["", "", "", "", "+"])
junk = st.sampled_from(["", "", "", "", "", "x", "30m", "(", ")", "+", "s", "k"])
times = st.tuples(digits, st.sampled_from(["", "us", "ms", "s", "m", "h", "d", "u", "S"]), junk)
sizes = st.tuples(digits, st.sampled_from(["", "k", "m", "g", "K", "G"]), junk)
counts = st.tuples(signs, digits, junk)


def joined(*parts: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    def flat(part: object) -> str:
        return "".join(map(flat, part)) if isinstance(part, (tuple, list)) else str(part)

    return st.tuples(*parts).map(flat)


arguments = st.lists(joined(times) | joined(counts), max_size=3).map(",".join)
stored = joined(
    st.sampled_from([*names, "gpc", "gpc_rate", "gpt", "gpc9"]),
    st.one_of(st.just(""), joined(st.just("("), arguments, st.sampled_from([")", ")", ")", ""]))),
    junk,
)
parts = st.one_of(
    joined(st.just("type "), st.sampled_from(["ip", "ipv6", "integer", "string", "binary", "x"])),
    # No junk: 2.6 alone takes it, and then no word that is younger than 2.6.
    joined(st.just("type "), st.sampled_from(["string len ", "binary len "]), signs, digits),
    joined(st.just("size "), sizes),
    joined(st.just("expire "), times),
    joined(st.just("store "), st.lists(stored, max_size=3).map(",".join)),
    st.sampled_from(
        ["nopurge", "srvkey name", "srvkey addr", "srvkey id", "peers mesh", "len 3", "fast"]
    ),
    st.sampled_from(["recv-only", "write-to other", "brates-factor 4", "brates-factor 2k"]),
)
lines = st.tuples(
    st.sampled_from(["type ip", "type string len 4", "type binary", "type ipv6"]),
    st.lists(parts, max_size=4).map(" ".join),
    st.sampled_from(["size 1k", "size 1k", "size 1k", ""]),
    st.lists(parts, max_size=1).map(" ".join),
).map(" ".join)


def taken_by(haproxy: Program, tried: list[str], folder: Path) -> set[str]:
    """Those of the lines that one HAProxy reads without an alert."""
    taken: set[str] = set()
    # It reads no further after 50 alerts.
    for start in range(0, len(tried), 40):
        some = tried[start : start + 40]
        path = folder / "lines.cfg"
        text = "".join(f"backend b{at}\n stick-table {one}\n" for at, one in enumerate(some))
        path.write_text(text)
        done = subprocess.run(
            [*haproxy.command, "-c", "-f", str(path)], capture_output=True, text=True, check=False
        )
        alerts = set(re.findall(rf"ALERT.*parsing \[{path}:(\d+)\]", done.stderr))
        assert "ALERT" not in done.stderr or done.returncode == 1, done.stderr
        taken |= {one for at, one in enumerate(some) if str(2 * at + 2) not in alerts}
    return taken


def differences(tried: list[str], folder: Path) -> Iterator[str]:
    """In words, each line that is taken by some HAProxy and not by us, or the other way round."""
    versions = programs().values()
    assert versions, "there is no HAProxy; `make programs` installs it where it may"
    taken = {one for haproxy in versions for one in taken_by(haproxy, tried, folder)}
    # Nobody can be asked about a word that none of them knows.
    unknown = {
        word
        for word, good in LATER.items()
        if not any(taken_by(haproxy, [good], folder) for haproxy in versions)
    }
    for line in tried:
        try:
            Declaration.parse("t", line)
        except LocalProtocolError as problem:
            if line in taken and not any(one in line for one in NOT_IN_OURS):
                yield f"taken there, refused here: {line}: {problem}"
        else:
            if line not in taken and not unknown & set(re.split(r"[ ,()]", line)):
                yield f"refused there, taken here: {line}"


def test_listed_lines(tmp_path: Path) -> None:
    """Each line of the list is taken here if, and only if, one of the HAProxies takes it."""
    assert list(differences(LINES.splitlines(), tmp_path)) == []
    assert list(differences([BROKEN_OFF], tmp_path)) == []


def test_made_lines(tmp_path: Path) -> None:
    """So is what hypothesis makes of HAProxy's grammar."""

    # Nothing to shrink with: the lines are short, and each batch is a process or more.
    @settings(max_examples=8, deadline=None, phases=[Phase.generate])
    @given(st.lists(lines, min_size=40, max_size=40))
    def check(tried: list[str]) -> None:
        assert list(differences(tried, tmp_path)) == []

    check()
