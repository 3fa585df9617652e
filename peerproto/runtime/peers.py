"""``show peers``: HAProxy's report, and in words why a peer is not in step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from peerproto.service.command import Answer, Command, CommandError
from peerproto.service.peer import Peer
from peerproto.service.service import StickTableService
from peerproto.service.status import SharedTableStatus, TableStatus

_STATUS_WORDS: Final = {
    None: "NONE",
    200: "ESTA",
    300: "RETR",
    501: "PROT",
    502: "VERS",
    503: "NAME",
    504: "UNKN",
}


def peer_commands(service: StickTableService) -> list[Command]:
    """The commands about peers."""

    def show(arguments: list[str]) -> Answer:
        unknown = [name for name in arguments if name not in service.peers]
        if unknown:
            raise CommandError(
                f"No such peer: '{unknown[0]}'. There are: {', '.join(service.peers)}"
            )
        yield from _report(service, arguments)

    return [Command(("show", "peers"), "[<peer>]...", "report peers, and who is in step", show)]


def _report(service: StickTableService, names: list[str]) -> Iterator[str]:
    resync = service.resync
    yield (
        f"{_address(service)}: id={service.localpeer} disabled=0"
        f" resync={resync.state.name.lower()} ({resync.reason})\n"
    )
    for handle in service.peers.values():
        if not names or handle.name in names:
            yield from _peer(service, handle)


def _peer(service: StickTableService, handle: Peer) -> Iterator[str]:
    # At once: tables may go while the answer is read.
    peer = handle.status()
    tables = [(shared, service.table(shared.name).status()) for shared in peer.tables]
    counters, lag = peer.counters, peer.lag
    status = peer.handshake_status
    handshake = "<NEVER>" if peer.handshake_ago is None else _age(peer.handshake_ago)
    yield (
        f"  {_address(handle)}: id={peer.name}"
        f"(remote,{'active' if peer.connected else 'inactive'}) addr={peer.address}"
        f" app_state={'RUNNING' if peer.connected else 'STOPPED'}"
        f" learn_state={'PROCESSING' if peer.learning else 'NOTASSIGNED'}"
        f" last_status={_STATUS_WORDS.get(status, str(status))} last_hdshk={handshake}\n"
    )
    yield (
        f"        confirm={counters.confirm} tx_hbt={counters.tx_hbt} rx_hbt={counters.rx_hbt}"
        f" no_hbt={counters.no_hbt} new_conn={counters.new_conn}"
        f" proto_err={counters.proto_err} coll={counters.coll}"
        f" tx_updates={counters.tx_updates} rx_updates={counters.rx_updates}\n"
    )
    yield (
        f"        tx_messages={counters.tx_messages} rx_messages={counters.rx_messages}"
        f" tx_bytes={counters.tx_bytes} rx_bytes={counters.rx_bytes}"
        f" refused_definitions={counters.refused_definitions}"
        f" lag={lag.changes} lag_ms={lag.ms}\n"
    )
    if peer.connected:
        yield f"        version={peer.version} state={peer.state}\n"
    reasons = "; ".join(peer.out_of_step)
    yield f"        in_step={f'no: {reasons}' if reasons else 'yes'}\n"
    if peer.notes:
        yield f"        notes={'; '.join(peer.notes)}\n"
    if tables:
        yield "        shared tables:\n"
        for shared, table in tables:
            yield from _table(shared, table)


def _table(shared: SharedTableStatus, table: TableStatus) -> Iterator[str]:
    yield (
        f"          {_address(shared)} local_id={shared.local_id}"
        f" remote_id={shared.remote_id} flags=0x0 remote_data={shared.remote_data:#x}\n"
    )
    yield (
        f"              last_acked={shared.acked} last_pushed={shared.pushed}"
        f" last_get={shared.got} teaching_origin={shared.pushed} update={shared.taken}\n"
    )
    yield (
        f"              table:{_address(table)} id={table.name} update={table.update_id}"
        f" localupdate={table.update_id} used={table.used}"
        f" trashed={table.trashed} refused={table.refused}\n"
    )
    theirs, ours = shared.expire, table.declaration.expire
    if theirs is not None and theirs != ours:
        yield f"              expire differs: {_life(theirs)} there, {_life(ours)} here\n"


def _address(thing: object) -> str:
    return f"{id(thing):#x}"


def _life(ms: int) -> str:
    """What a table's ``expire`` is."""
    return f"{ms} ms" if ms else "none"


def _age(ms: int) -> str:
    """A time as HAProxy writes it: its two largest units."""
    parts: list[str] = []
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    seconds = ms // 1000
    for unit, size in units:
        if seconds >= size or (unit == "s" and not parts):
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return "".join(parts[:2])
