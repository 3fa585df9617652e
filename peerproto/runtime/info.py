"""``show info``: what is running, in HAProxy's ``Name: value`` lines."""

from __future__ import annotations

import os
import platform
import resource

import peerproto
import twisted
from peerproto.service.command import Answer, Command, CommandError
from peerproto.service.service import StickTableService


def info_commands(service: StickTableService) -> list[Command]:
    """The commands about the process, and what runs in it."""

    def show(_: list[str]) -> Answer:
        node = service.status()
        uptime = node.uptime // 1000
        hours, minutes = divmod(uptime // 60, 60)
        values = {
            "Name": "peerproto",
            "Version": peerproto.__version__,
            "Pid": os.getpid(),
            "Uptime": f"{hours // 24}d {hours % 24}h{minutes:02}m{uptime % 60:02}s",
            "Uptime_sec": uptime,
            "Peak_memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "Localpeer": node.localpeer,
            "Up_to_date": int(node.up_to_date),
            "Resync": f"{node.resync_in_words} ({node.reason})",
            "Peers": len(node.peers),
            "Peers_connected": node.connected,
            "Tables": len(node.tables),
            "Entries": node.entries,
            "Tasks": service.tasks,
            "Speed": service.speed,
            "Python": platform.python_version(),
            "Twisted": twisted.__version__,
        }
        for name, value in values.items():
            yield f"{name}: {value}\n"

    def show_parts(arguments: list[str]) -> Answer:
        parts = service.parts.status()
        for name in arguments or parts:
            if name not in parts:
                raise CommandError(
                    f"No such part: '{name}'. There are: {', '.join(parts) or 'none'}"
                )
            yield f"# part: {name}\n"
            yield from (f"{key}: {value}\n" for key, value in parts[name].items())

    return [
        Command(("show", "info"), "", "report information about this process", show),
        Command(
            ("show", "parts"), "[<part>]...", "report how the parts of this node stand", show_parts
        ),
    ]
