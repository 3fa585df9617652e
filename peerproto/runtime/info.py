"""``show info``: what is running, in HAProxy's ``Name: value`` lines."""

from __future__ import annotations

import os
import platform
import resource

import peerproto
import twisted
from peerproto.runtime.commands import Answer, Command
from peerproto.service.service import StickTableService


def info_commands(service: StickTableService) -> list[Command]:
    """The commands about the process."""

    def show(_: list[str]) -> Answer:
        uptime = (service.now() - service.started) // 1000
        hours, minutes = divmod(uptime // 60, 60)
        values = {
            "Name": "peerproto",
            "Version": peerproto.__version__,
            "Pid": os.getpid(),
            "Uptime": f"{hours // 24}d {hours % 24}h{minutes:02}m{uptime % 60:02}s",
            "Uptime_sec": uptime,
            "Peak_memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "Localpeer": service.localpeer,
            "Up_to_date": int(service.resync.up_to_date),
            "Resync": f"{service.resync.state.value} ({service.resync.reason})",
            "Peers": len(service.peers),
            "Peers_connected": sum(peer.connected for peer in service.peers.values()),
            "Tables": len(service.tables),
            "Entries": sum(map(len, service.tables)),
            "Tasks": service.tasks,
            "Speed": service.speed,
            "Python": platform.python_version(),
            "Twisted": twisted.__version__,
        }
        for name, value in values.items():
            yield f"{name}: {value}\n"

    return [Command(("show", "info"), "", "report information about this process", show)]
