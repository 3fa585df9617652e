"""``peerproto check``: a haproxy.cfg made into a peers.ini, or held against one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Optional

import click

from peerproto.daemon.config import Config, ConfigError, text_of
from peerproto.terminal.asking import FileType
from peerproto.terminal.check.comparing import Comparison
from peerproto.terminal.check.finding import Finding
from peerproto.terminal.check.haproxy import HaproxyConfig, PeersSection
from peerproto.terminal.check.ourselves import who_we_are
from peerproto.terminal.check.writing import of_section, written
from peerproto.wire.printable import printable


@click.command(short_help="Make a peers.ini out of a haproxy.cfg, or compare them.")
@click.argument("haproxy_cfg", nargs=-1, required=True, type=FileType(), metavar="HAPROXY.CFG...")
@click.option(
    "--peers-ini", type=FileType(), metavar="FILE", help="Say what of this file does not fit."
)
@click.option("--section", metavar="NAME", help="The peers section that is meant.")
@click.option("--localpeer", metavar="NAME", help="The name of our node in the section.")
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="A variable of HAProxy's environment; may come again.",
)
def check(
    haproxy_cfg: Sequence[str],
    peers_ini: Optional[str],
    section: Optional[str],
    localpeer: Optional[str],
    variables: Sequence[str],
) -> None:
    """Print the peers.ini that fits a haproxy.cfg, or say what of an existing one does not.

    Of several peers sections each has a peers.ini of its own. What does not fit is written to
    standard error, a line for each: the place, what was read, what was expected, and what to
    change. A note is to be known, and works as it is.

    The status is 0, or 1 if anything was found but notes, or 2 if a file cannot be read.
    """
    if peers_ini is not None and localpeer is not None:
        raise click.UsageError("--localpeer is for a new peers.ini: the existing one has its own")
    for one in variables:
        if "=" not in one:
            raise click.UsageError(f"--env {one!r}: expected NAME=VALUE")
    environment = dict(one.split("=", 1) for one in variables)
    try:
        files = [(path, text_of(path)) for name in haproxy_cfg for path in _files(name)]
        config = HaproxyConfig(files, environment)
    except OSError as problem:
        _cannot_read(str(problem.filename), problem.strerror or str(problem))
    if not config.sections:
        _cannot_read(", ".join(haproxy_cfg), "there is no peers section in it")
    if section is not None and section not in config.sections:
        names = ", ".join(config.sections)
        _cannot_read(", ".join(haproxy_cfg), f"read no section peers {section}, expected {names}")
    findings = list(config.findings)
    if peers_ini is None:
        chosen = [config.sections[section]] if section else list(config.sections.values())
        findings += _write(config, chosen, localpeer)
    else:
        findings += _compare(config, section, peers_ini)
    order = {path: at for at, (path, _) in enumerate(files)}
    findings.sort(key=lambda one: (order.get(one.place.file, len(order)), one.place.line))
    for finding in findings:
        click.echo(str(finding), err=True)
    sys.exit(1 if any(not one.is_note for one in findings) else 0)


def _files(name: str) -> list[str]:
    """The files that ``haproxy -f`` reads for a name."""
    if Path(name).is_dir():
        return sorted(str(one) for one in Path(name).glob("*.cfg"))
    return [name]


def _cannot_read(what: str, why: str) -> NoReturn:
    click.echo(f"{printable(what)}: {printable(why)}", err=True)
    sys.exit(2)


def _write(
    config: HaproxyConfig, chosen: Sequence[PeersSection], localpeer: Optional[str]
) -> list[Finding]:
    findings = []
    for number, section in enumerate(chosen):
        disabled = of_section(section)
        findings += [disabled] if disabled is not None else []
        text, found = written(config, section, who_we_are(config, section, localpeer))
        findings += found
        if number:
            click.echo("\n# ---- another file ----\n")
        click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    return findings


def _compare(config: HaproxyConfig, section: Optional[str], path: str) -> list[Finding]:
    try:
        text = text_of(path)
        ini = Config.parse(path, text)
    except OSError as problem:
        _cannot_read(path, problem.strerror or str(problem))
    except ConfigError as problem:
        click.echo(str(problem), err=True)
        sys.exit(2)
    chosen = config.sections[section] if section else _meant(config, ini)
    disabled = of_section(chosen)
    findings = [disabled] if disabled is not None else []
    return findings + Comparison(config, chosen, path, text, ini).findings


def _meant(config: HaproxyConfig, ini: Config) -> PeersSection:
    """The section that a peers.ini is for: the one with us in it, and with most of its peers."""

    def fits(section: PeersSection) -> tuple[bool, int, int]:
        tables = config.shared_by(section)
        return (
            ini.localpeer in section.peers,
            sum(name in section.peers for name in ini.peers),
            sum(one.name in tables for one in ini.tables),
        )

    return max(config.sections.values(), key=fits)


if __name__ == "__main__":
    check()
