"""Sums of every data type that a HAProxy knows, each by its rule."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Final

from pytest_twisted import ensureDeferred

from peerproto.wire.datatypes import DATA_TYPES, DataType, Kind
from testbed import (
    Conversation,
    Entry,
    HAProxy,
    Mesh,
    Node,
    Peerproto,
    Program,
    converse,
    get,
    until,
)

from .conftest import every_haproxy
from .summing import begin

pytestmark = every_haproxy

RULES_OF_TAGS: Final = ("last", "max", "or")
"""How tags become one: each has tables of its own."""

TAGS: Final = (12, 33, 18)
"""What the HAProxies say in turn: the largest is not the last, and has not all bits."""

SERVERS: Final = tuple(enumerate(TAGS, 1))
"""The number of each server, and the tag of clients that are sent to it."""

MOST: Final = {Kind.UNSIGNED32: 0xFFFFFFFF, Kind.UNSIGNED64: 0xFFFFFFFFFFFFFFFF}
"""Where counters stop."""

ARRAYS: Final = "gpt(3),gpc(3),gpc_rate(3,1h),server_id,server_key"
"""What one table may not have beside the scalars of the same name."""

FRONTEND = "".join(
    f"    http-request track-sc{number} url_param(u) table arrays.{rule}\n"
    f"    http-request sc-set-gpt(0,{number}) url_param(tag),add(0)\n"
    f"    http-request sc-inc-gpc(0,{number})\n"
    f"    http-request sc-set-gpt(2,{number}) url_param(tag),mul(3)\n"
    f"    http-request sc-inc-gpc(2,{number})\n"
    f"    http-request sc-inc-gpc(2,{number})\n"
    for number, rule in enumerate(RULES_OF_TAGS)
)
FRONTEND = (
    "    tcp-request session track-sc0 src table counted if { src 127.1.0.1 }\n"
    "    http-request return status 200 if { src 127.1.0.1 }\n"
    f"{FRONTEND}"
    "    use_backend servers\n"
)
COUNTED: Final = "type string len 32 size 1k expire 10m store conn_cur,conn_cnt"

CLIENT: Final = "127.1.0.1"
"""Whose current connections are counted."""


def since(program: Program, *version: int) -> bool:
    """Whether a HAProxy is of this version, or a later one."""
    return tuple(int(part) for part in program.branch.split(".")) >= version


def scalars(program: Program) -> list[DataType]:
    """The data types of a table without arrays that a HAProxy knows, and a socket can set."""
    return [
        one
        for one in DATA_TYPES
        if not one.array
        and not one.local
        and one.kind is not Kind.DICTIONARY
        and (since(program, 3, 0) or not one.name.startswith("glitch"))
    ]


def line(types: Iterable[DataType]) -> str:
    stored = (f"{one.name}(1h)" if one.kind is Kind.FREQUENCY else one.name for one in types)
    return f"type string len 32 size 1k expire 10m store {','.join(stored)}"


async def agree(nodes: Sequence[Node], table: str, key: str, expected: Entry) -> None:
    """Wait until each node has this of a key."""

    async def they_do() -> bool:
        for one in nodes:
            entry = (await one.table(table))[key]
            seen = {name: entry[name] for name in expected}
            assert seen == expected, (one.name, table, key, seen, expected)
        return True

    await until(they_do, f"all have {expected} of {key} in {table}")


def chosen(rule: str, tags: Sequence[int]) -> int:
    """What becomes of tags, of which the last one came last."""
    return {"last": tags[-1], "max": max(tags), "or": reduce(or_, tags)}[rule]


def total(rule: str, data_type: DataType, values: Sequence[int]) -> int:
    """What becomes of the values of HAProxies."""
    if data_type.name in ("gpt0", "server_id"):
        return chosen(rule, values)
    return min(sum(values), MOST.get(data_type.kind, MOST[Kind.UNSIGNED32]))


async def set_scalars(haproxies: Sequence[HAProxy], types: Sequence[DataType], rule: str) -> None:
    """Values come by the socket of one HAProxy after the other."""
    table = f"scalars.{rule}"
    said: dict[str, list[list[int]]] = {"few": [], "most": []}
    for place, one in enumerate(haproxies):
        for key, before in said.items():
            values = []
            for number, data_type in enumerate(types, 1):
                if data_type.name in ("gpt0", "server_id"):
                    values.append(TAGS[place])
                elif key == "most" and data_type.kind in MOST:
                    values.append(MOST[data_type.kind] // 5 * 2)
                else:
                    values.append((place + 1) * number * 1001)
            before.append(values)
            words = (f"data.{a.name} {value}" for a, value in zip(types, values))
            await one.do(f"set table {table} key {key} {' '.join(words)}")
            expected: Entry = {
                data_type.name: total(rule, data_type, column)
                for data_type, column in zip(types, zip(*before))
            }
            await agree(haproxies, f"{table}.agg", key, expected)


async def count_arrays(haproxies: Sequence[HAProxy]) -> None:
    """A client comes to one HAProxy after the other, and is sent to another server by each."""
    for times, one in enumerate(haproxies, 1):
        # When what it says of the one who comes later has come, all has that it says of the other.
        for client in ("ann", "bob"):
            assert await get(one.web, f"/?u={client}&tag={TAGS[times - 1]}") == 200
        tags, servers = TAGS[:times], range(1, times + 1)
        for rule in RULES_OF_TAGS:
            table = f"arrays.{rule}"
            await agree(haproxies, f"{table}.agg", "bob", {"gpc0": times})
            expected: Entry = {
                "gpt0": chosen(rule, tags),
                "gpt1": 0,
                "gpt2": chosen(rule, [3 * tag for tag in tags]),
                "gpc0": times,
                "gpc1": 0,
                "gpc2": 2 * times,
                "gpc0_rate": times,
                "gpc1_rate": 0,
                "gpc2_rate": 2 * times,
                "server_id": chosen(rule, servers),
                "server_key": f"s{times}",
            }
            await agree(haproxies, f"{table}.agg", "ann", expected)


@ensureDeferred
async def test_types(mesh: Mesh) -> None:
    """Each data type is summed by its rule on each HAProxy: arrays, too, what stops at the largest
    number, tags by each of their rules, and current connections."""
    types = scalars(mesh.program)
    lines = {}
    for rule in RULES_OF_TAGS:
        lines[f"scalars.{rule}"] = line(types)
        lines[f"arrays.{rule}"] = f"type string len 32 size 1k expire 10m store {ARRAYS}"
    mesh.tables = "".join(
        f"backend {name}{end}\n    stick-table {stored} peers mesh\n"
        for name, stored in lines.items()
        for end in ("", ".agg")
    )
    takes_current = since(mesh.program, 3, 2)
    mesh.tables += (
        f"backend counted\n    stick-table {COUNTED} peers mesh\n"
        f"backend counted.agg\n    stick-table {COUNTED} {'recv-only' * takes_current} peers mesh\n"
    )
    mesh.tables += "".join(
        [
            "backend servers\n",
            *(f"    stick store-request url_param(u) table arrays.{r}\n" for r in RULES_OF_TAGS),
            *(f"    use-server s{n} if {{{{ url_param(tag) {tag} }}}}\n" for n, tag in SERVERS),
            *(f"    server s{n} 127.0.0.1:{{origin}}\n" for n, _ in SERVERS),
        ]
    )
    mesh.rules = FRONTEND
    more = "".join(
        f"[aggregate {name}]\nto = {name}.agg\nexpect = lb1 lb2 lb3\n"
        f"gpt = {name.partition('.')[2]}\n"
        for name in lines
    )
    more += "[aggregate counted]\nto = counted.agg\nexpect = lb1 lb2 lb3\ngrace = 3s\n"
    lines["counted"] = f"{COUNTED} recv-only"
    declared = "\n".join(f"{name} = {stored}" for name, stored in lines.items())
    hub, haproxies = await begin(mesh, declared, more)
    for rule in RULES_OF_TAGS:
        await set_scalars(haproxies, types, rule)
    await count_arrays(haproxies)
    await current_connections(hub, haproxies, takes_current)


async def current_connections(
    hub: Peerproto, haproxies: Sequence[HAProxy], takes_current: bool
) -> None:
    """Requests that are slow to come are counted at two HAProxies: a third one has the sum, which
    is that of both for the grace after one was killed, and then of the other. Before 3.2 HAProxy
    takes no current connections from peers: only the node has the sum, as it warns."""
    assert "takes conn_cur of table counted.agg from peers only where" in hub.log.read_text()
    victim, other, third = haproxies
    knowing: list[Node] = [hub, third] if takes_current else [hub]
    slow = [await is_slow_at(one) for one in (victim, other)]
    await agree(knowing, "counted.agg", CLIENT, {"conn_cur": 2, "conn_cnt": 2})
    if not takes_current:
        await agree([third], "counted.agg", CLIENT, {"conn_cur": 0, "conn_cnt": 2})

    await victim.stop(signal.SIGKILL)

    async def is_missed() -> bool:
        return "lb1 missing" in await hub.ask("show aggregate counted")

    await until(is_missed, "the node misses it")
    seen = 0
    while True:
        current = [(await one.table("counted.agg"))[CLIENT]["conn_cur"] for one in knowing]
        if not await is_missed():
            break
        # For the grace the sum has no authority, and the connections count.
        assert current == [2] * len(knowing), current
        seen += 1
    assert seen > 0
    await agree(knowing, "counted.agg", CLIENT, {"conn_cur": 1, "conn_cnt": 2})
    slow[1].hang_up()
    await agree(knowing, "counted.agg", CLIENT, {"conn_cur": 0, "conn_cnt": 2})
    slow[0].hang_up()


async def is_slow_at(one: HAProxy) -> Conversation:
    """A request of the client of which not all has come yet."""
    conversation = await converse(one.web, CLIENT)
    conversation.send(b"GET / HTTP/1.1\r\nHost: test\r\n")
    await agree([one], "counted", CLIENT, {"conn_cur": 1})
    return conversation
