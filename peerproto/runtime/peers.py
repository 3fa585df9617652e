"""``show peers``: HAProxy's report, and in words why a peer is not in step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from peerproto.runtime.commands import Answer, Command
from peerproto.runtime.words import CommandError
from peerproto.service.peer import Peer, SharedTableStatus
from peerproto.service.service import StickTableService
from peerproto.service.sticktable import StickTable

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
    for peer in service.peers.values():
        if not names or peer.name in names:
            yield from _peer(service, peer)


def _peer(service: StickTableService, peer: Peer) -> Iterator[str]:
    session, counters = peer.session, peer.counters
    active = "inactive" if session is None else "active"
    learning = session is not None and session.learning
    handshake = "<NEVER>" if session is None else _age(service.now() - session.since)
    yield (
        f"  {_address(peer.counters)}: id={peer.name}(remote,{active}) addr={peer.address}"
        f" app_state={'STOPPED' if session is None else 'RUNNING'}"
        f" learn_state={'PROCESSING' if learning else 'NOTASSIGNED'}"
        f" last_status={_STATUS_WORDS.get(peer.status, str(peer.status))}"
        f" last_hdshk={handshake}\n"
    )
    yield (
        f"        confirm={counters.confirm} tx_hbt={counters.tx_hbt} rx_hbt={counters.rx_hbt}"
        f" no_hbt={counters.no_hbt} new_conn={counters.new_conn}"
        f" proto_err={counters.proto_err} coll={counters.coll}"
        f" tx_updates={counters.tx_updates} rx_updates={counters.rx_updates}\n"
    )
    if session is not None:
        yield f"        version=2.{session.minor} state={session.state.value}\n"
    reasons = peer.out_of_step()
    yield f"        in_step={'no: ' + '; '.join(reasons) if reasons else 'yes'}\n"
    notes = peer.notes()
    if notes:
        yield f"        notes={'; '.join(notes)}\n"
    # At once: tables may go while the answer is read.
    tables = [(shared, service.table(shared.name)) for shared in peer.tables]
    if tables:
        yield "        shared tables:\n"
        for shared, table in tables:
            yield from _table(shared, table)


def _table(shared: SharedTableStatus, table: StickTable) -> Iterator[str]:
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
        f" localupdate={table.update_id} used={len(table)}"
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
