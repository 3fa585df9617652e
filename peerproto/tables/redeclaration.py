"""What a table stored under earlier declarations, to what it would have stored under the present.

Entries are not rewritten when a table is declared anew, which would take seconds
for a large one: the first byte of each tells its *generation*, which is the layout that
its record has, and whether its life means anything. It is converted when it is read. What
has values that the present declaration does not store is rewritten in passing, too
(`TableStore.convert`); what has fewer stays as it is, since columns that nobody has
written need no room.

To begin a generation costs the same whatever was before it: how to convert an earlier
one is found out when an entry of it is met.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Optional

import attrs

from peerproto.tables.declaration import Declaration
from peerproto.tables.row import GENERATION, record_at, unending
from peerproto.tables.transcoding import Transcoder
from peerproto.wire.layout import Layout

MOST: Final = 256
"""Generations that can be told from each other."""

_MANY: Final = MOST // 2
"""So many generations are worth looking which of them there is something of."""

Conversion = Callable[[bytes], bytes]
"""From what is stored to what is to be stored, the same moment and life in it."""


@attrs.frozen(eq=False)
class Form:
    """How the entries of a generation are stored."""

    layout: Layout
    lives: bool
    """Whether their lives mean anything: without, they live as long as their table says."""

    def within(self, other: Form) -> bool:
        """Whether the other form says all that this one says, and nothing that is wrong."""
        return self.layout.within(other.layout) and self.lives >= other.lives


class _Conversions(dict[int, Conversion]):
    """By generation: how to convert its entries to another one; made when it is asked for."""

    def __init__(self, forms: dict[int, Form], generation: int) -> None:
        super().__init__()
        self._forms = forms
        self._generation = generation

    def __missing__(self, generation: int) -> Conversion:
        forms = self._forms
        made = conversion(forms[generation], forms[self._generation], self._generation)
        self[generation] = made
        return made


class Generations:
    """How what is stored is stored, and how to make it go with the present declaration."""

    def __init__(self, declaration: Declaration) -> None:
        self.version = 0
        """Another one whenever `generation_of` is to be asked again."""
        self.mixed = False
        """Whether anything may be of another generation than the present one."""
        self.wants_lap = False
        """Whether all entries are to be looked at from now on: see `begin_lap`."""
        self._forms: dict[int, Form] = {}
        self._numbers: dict[_Key, int] = {}
        self._given_back: list[int] = []
        self._declaration = declaration
        self._met: set[int] = set()
        """The generations of which something may have been stored since the lap began."""
        self.present = self.origin = 0
        """The number of the generation of what is stored now; what times in that have more
        than the time in ms."""
        self._conversions = _Conversions(self._forms, 0)
        self._narrow: dict[int, Optional[Declaration]] = {}
        self._begin_alone(_form(declaration))

    def begin(self, declaration: Declaration, empty: bool) -> bool:
        """From now on, what is stored goes with ``declaration``: whether that can be.

        It cannot while all generations are taken. Nothing in an ``empty`` table is of an
        earlier one.
        """
        form = _form(declaration)
        earlier = self._forms[self.present]
        if empty:
            self._begin_alone(form)
        else:
            number = self._number(form)
            if number is None:
                return False
            self.version += 1
            if number != self.present:
                self._make_present(number)
                self.wants_lap = self.wants_lap or not earlier.within(form)
        self._declaration = declaration
        self._narrow = {}
        return True

    def generation_of(self, layout: Layout) -> Optional[int]:
        """The number of the generation of entries that have this layout.

        ``None`` if all are taken. It holds until there is another `version`.
        """
        return self._number(Form(layout, self._forms[self.present].lives))

    def convert(self, stored: bytes) -> bytes:
        """What is stored, as the present declaration has it."""
        if stored[0] == self.present:
            return stored
        return self._conversions[stored[0]](stored)

    def form(self, generation: int) -> Form:
        """How the entries of a generation are stored."""
        return self._forms[generation]

    def narrow(self, generation: int) -> Optional[Declaration]:
        """The present declaration, with no columns but those that entries of a generation have.

        ``None`` if they have others.
        """
        if generation in self._narrow:
            return self._narrow[generation]
        narrow: Optional[Declaration] = None
        form = self._forms[generation]
        if form.within(self._forms[self.present]):
            layout = self._declaration.layout.narrowed(form.layout)
            narrow = attrs.evolve(self._declaration, layout=layout)
        self._narrow[generation] = narrow
        return narrow

    # -- looking at all entries ------------------------------------------

    def begin_lap(self) -> None:
        """From now on each entry that is there to the end is shown to `rewritten`."""
        self.version += 1
        self.wants_lap = False
        self._met = {self.present}

    def rewritten(self, stored: bytes) -> Optional[bytes]:
        """What is to be stored instead; ``None`` if it may stay."""
        generation = stored[0]
        if self.narrow(generation) is None:
            return self.convert(stored)
        self._met.add(generation)
        return None

    def end_lap(self) -> None:
        """Give back the numbers of the generations of which there is nothing any more."""
        for key, number in list(self._numbers.items()):
            if number not in self._met:
                del self._numbers[key], self._forms[number]
                self._conversions.pop(number, None)
                self._narrow.pop(number, None)
                self._given_back.append(number)
                # Whoever remembers what the number stood for has to look again.
                self.version += 1
        self.mixed = len(self._forms) > 1

    def _begin_alone(self, form: Form) -> None:
        self.version += 1
        self.mixed = self.wants_lap = False
        self._forms, self._numbers, self._given_back, self._met = {}, {}, [], set()
        number = self._number(form)
        assert number is not None
        self._make_present(number)

    def _make_present(self, number: int) -> None:
        self.present = number
        self.origin = number * GENERATION
        self._conversions = _Conversions(self._forms, number)
        self._narrow = {}

    def _number(self, form: Form) -> Optional[int]:
        key = form.layout.cells_of_bits, form.lives
        number = self._numbers.get(key)
        if number is None:
            count = len(self._forms)
            self.wants_lap = self.wants_lap or count >= _MANY
            if count >= MOST:
                return None
            number = self._given_back.pop() if self._given_back else count
            self._numbers[key] = number
            self._forms[number] = form
            self.mixed = count > 0
        self._met.add(number)
        return number


_Key = tuple[tuple[tuple[int, int], ...], bool]
"""What two forms have in common that are the same."""


def _form(declaration: Declaration) -> Form:
    return Form(declaration.layout, declaration.expire > 0)


def conversion(earlier: Form, present: Form, generation: int) -> Conversion:
    """To ``present``, which is of this ``generation``: entries keep what both store."""
    first = bytes((generation,))
    at = record_at(present.layout)
    same = earlier.layout.stores_like(present.layout)
    transcoder = None if same else Transcoder(earlier.layout, present.layout)
    begins_to_end = present.lives and not earlier.lives

    def convert(stored: bytes) -> bytes:
        if transcoder is None:
            moved = first + stored[1:]
        else:
            moved = first + stored[1:at] + transcoder.transcode(stored, at)
        return unending(moved) if begins_to_end else moved

    return convert
