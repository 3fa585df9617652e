"""What is stored to updates, by Python that is generated for the columns.

In pure Python a loop over the columns would take longer than the work itself.
So it is unrolled, as attrs unrolls ``__init__``: one run of statements copies
what is stored from one age or text to the next. Where these are depends on the
classes of a record's bytes alone (below 128, below 240, others), of which few
combinations occur: `Places` remember them. A text is as long as it says, so
the *run* of integers behind it is looked up apart.

Invariant: what is stored can be decoded (`peerproto.updates.runs`, `peerproto.wire.codec`),
so ends are not checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final

from peerproto.tables.row import KEY_AT, record_at, unpack
from peerproto.wire.codec import MAX_AGE
from peerproto.wire.frames import STICK_TABLE, TIMED_UPDATE, UPDATE
from peerproto.wire.layout import Layout
from peerproto.wire.shape import Run, ShapeCache
from peerproto.wire.varint import BEGINNINGS, CLASSES, ONE, TWO, decode, encode, ends

HEADS: Final = [
    [bytes((STICK_TABLE, kind)) + length for length in ONE[:240]] for kind in (UPDATE, TIMED_UPDATE)
]
"""By whether updates carry their expiry, then by length: how they begin."""

Write = Callable[
    [
        list[tuple[bytes, bytes]],
        int,
        bytes,
        int,
        Mapping[bytes, bytes],
        Callable[[bytes], bytes],
    ],
    list[bytes],
]
"""``write(entries, now, update_id, expire, references, refer)``: updates for keys and what is
stored for them.

``now`` and the table's ``expire`` are in ms; ``references`` or, for those that are not
known, ``refer`` tell what refers to a text. Each update is two pieces: its head up to
the length, and the rest.
"""


Places = ShapeCache[tuple[int, ...]]
"""By the shape of the bytes from a run on: where each age begins and ends, and the run."""


def _places(run: Run, start: int, shape: bytes) -> tuple[int, ...]:
    """What `Places` are to remember, for a run that begins at ``start``."""
    at = [start, *(start + end for end in ends(shape, run.count))]
    return (*(edge for age in run.ages for edge in at[age : age + 2]), at[-1])


@lru_cache(maxsize=512)
def writer(layout: Layout, timed: bool, expires: bool) -> Write:
    """What writes updates of a table.

    ``timed`` is whether they carry their expiry, ``expires`` whether entries have one.
    """
    source = _Source(layout, timed, expires)
    namespace: dict[str, Any] = {
        "head": HEADS[timed][0][:2],
        "heads": HEADS[timed],
        "CLASSES": CLASSES,
        "MAX_AGE": MAX_AGE,
        "one": ONE,
        "two": TWO,
        "beginnings": BEGINNINGS,
        "decode": decode,
        "long_age": _long_age,
        "encode": encode,
        "unpack": unpack,
        **source.places,
    }
    exec(compile(source.text(), "<peerproto update writer>", "exec"), namespace)
    write: Write = namespace["write"]
    return write


_BEGIN = """\
def write(entries, now, update_id, expire, references, refer):
    pieces = []
    for key, stored in entries:
        came, left = unpack(stored)
        elapsed = now - came if now > came else 0
"""

_SKIP_EXPIRED = """\
        left = (left if left < expire else expire) - elapsed
        if left <= 0:
            continue
"""

_PLACES = """\
        {names}, = {places}[stored[{base}:].translate(CLASSES)]
"""

_AGE = """\
        at = {start}
        age = stored[at]
        if age >= 240:
            width = {width}
            if width == 3:
                age += (stored[at + 1] << 4) + (stored[at + 2] << 11)
            elif width == 2:
                age += stored[at + 1] << 4
            elif width == 4:
                age += (stored[at + 1] << 4) + (stored[at + 2] << 11) + (stored[at + 3] << 18)
            else:
                age = long_age(stored, at)
        age += elapsed
        if 2288 <= age < 264432:
            {new} = beginnings[(age - 240) & 0x7FF] + one[(age - 2288) >> 11]
        elif age < 240:
            {new} = one[age]
        elif age < 2288:
            {new} = two[age - 240]
        else:
            rest = (age - 264432) >> 11
            if rest < 16384:
                {new} = beginnings[(age - 240) & 0x7FF] + one[rest & 0x7F | 0x80] + one[rest >> 7]
            else:
                {new} = encode(age if age < MAX_AGE else MAX_AGE)
"""

_TEXT = """\
        at = {start} + 1
        size = stored[at - 1]
        if size >= 240:
            size, at = decode(stored, at - 1)
        {end} = at + size
        text = stored[at:{end}]
        {new} = references.get(text) or refer(text)
"""

_END = """\
        made = {made}
        size = len(made)
        pieces += (heads[size] if size < 240 else head + encode(size), made)
    return pieces
"""


class _Source:
    """Puts the statements together."""

    def __init__(self, layout: Layout, timed: bool, expires: bool) -> None:
        self.places: dict[str, Places] = {}
        """By name, what the statements look up."""
        self._lines = [_BEGIN]
        self._made = ["update_id"]
        if expires:
            self._lines.append(_SKIP_EXPIRED)
        if timed:
            self._made.append('left.to_bytes(4, "big")' if expires else f"{bytes(4)!r}")
        if not layout.fixed_key_length:
            self._made += ["one[len(key)]" if layout.key_length <= 240 else "encode(len(key))"]
            self._made.append("key")
        self._where = f"{KEY_AT}"
        base = f"{record_at(layout)}"
        runs = layout.codec.segments.runs
        for number, run in enumerate(runs):
            last = number == len(runs) - 1
            end = self._integers(number, base, run, last)
            if not last:
                base = f"base{number + 1}"
                self._lines.append(_TEXT.format(start=end, end=base, new=f"text{number}"))
                self._put(f"text{number}", end, base)
        self._made.append(f"stored[{self._where}:]")

    def text(self) -> str:
        made = f'b"".join(({", ".join(self._made)}))'
        return "".join(self._lines) + _END.format(made=made)

    def _integers(self, number: int, base: str, run: Run, last: bool) -> str:
        """Let the ages of a run grow: where the run ends, unless it is the last one."""
        ages = run.ages
        if not ages and (last or not run.count):
            return base
        names = [f"{edge}{number}_{age}" for age in ages for edge in ("start", "end")]
        names.append(f"end{number}")
        name = f"places{number}"
        # The first run is always at the same place: it is added once, not each time.
        first = base.isdigit()
        self.places[name] = ShapeCache(partial(_places, run, int(base) if first else 0))
        self._lines.append(_PLACES.format(names=", ".join(names), places=name, base=base))
        from_base = "" if first else f"{base} + "
        for age in ages:
            start, end, new = (f"{what}{number}_{age}" for what in ("start", "end", "new"))
            width = f"{end} - {start}"
            start, end = from_base + start, from_base + end
            self._lines.append(_AGE.format(start=start, width=width, new=new))
            self._put(new, base if age == 0 else start, end)
        return f"{from_base}end{number}"

    def _put(self, new: str, start: str, end: str) -> None:
        """Copy up to ``start``, if there is anything, and put ``new`` in place of what follows."""
        if start != self._where:
            self._made.append(f"stored[{self._where}:{start}]")
        self._made.append(new)
        self._where = end


def _long_age(stored: bytes, at: int) -> int:
    """An age that may be too long: another thread of HAProxy's has just begun that period."""
    age = decode(stored, at)[0] & 0xFFFFFFFF
    return 0 if age > MAX_AGE else age
