"""JSON Schemas of what goes in and out, as OpenAPI 3.1 has them."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, Final, Union

import attrs

from peerproto.service.filters import OPERATORS

Schema = Mapping[str, Any]


def ref(name: str) -> Schema:
    """One of the schemas that the OpenAPI document has by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: Mapping[str, Schema], *optional: str, description: str = "") -> Schema:
    """An object with these properties and no others; ``optional`` names those it may lack."""
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }
    if description:
        schema["description"] = description
    return schema


def many(items: Schema, **more: Any) -> Schema:
    """An array."""
    return {"type": "array", "items": items, **more}


def told(schema: Schema, description: str) -> Schema:
    """A schema, with words for people."""
    return {**schema, "description": description}


TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "integer"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
FLAG: Final[Schema] = {"type": "boolean"}
MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}
MAYBE_COUNT: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}

KEY: Final = told(
    TEXT,
    "An address, a decimal number, hexadecimal digits (binary keys), or a text in which a backslash"
    " is written twice, and each byte that is no UTF-8 as \\xHH; one backslash is the empty key.",
)
VALUES: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": ["integer", "string", "null"]},
    "description": "By their names as `show table` prints them: numbers, or a text or null. A rate"
    " is the number of events over its period.",
}
LIFE: Final = told({"type": "integer", "minimum": 1}, "How long the entry lives from now, in ms.")


def schema_of(kind: type) -> Schema:
    """The schema of an attrs class, as `peerproto.http.showing.plain` shows its values."""
    hints = typing.get_type_hints(kind)
    return closed({one.name: _of_type(hints[one.name]) for one in attrs.fields(kind)})


def _of_type(hint: Any) -> Schema:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, str):
        return TEXT
    if origin is Union:
        (known,) = [one for one in inner if one is not type(None)]
        return {"type": [_PLAIN[known]["type"], "null"]}
    if origin is tuple:
        return many(_of_type(inner[0]))
    return schema_of(hint)


_PLAIN: Final[dict[Any, Schema]] = {int: NUMBER, str: TEXT, bool: FLAG}

PROBLEM: Final = closed(
    {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": TEXT,
        "errors": many(
            closed(
                {
                    "field": told(TEXT, "Where it stands: body.values.gpc0, query.limit, …"),
                    "read": TEXT,
                    "expected": TEXT,
                }
            )
        ),
    },
    "errors",
    description="A problem document, see RFC 9457.",
)

ENTRY: Final = closed(
    {
        "key": KEY,
        "expires_in": told(MAYBE_COUNT, "Life left in ms; null where entries do not expire."),
        "values": VALUES,
        "peer": told(TEXT, "Whose share it is in, where the table is shared per peer."),
    },
    "peer",
)

RAW_VALUES: Final[Schema] = {
    "type": "object",
    "additionalProperties": {
        "type": ["integer", "string", "null", "array"],
        "items": COUNT,
        "minItems": 3,
        "maxItems": 3,
    },
    "description": "As in an entry, but a rate is three numbers: when its current period began (ms"
    " since the epoch; 0: longer ago than is known), events in it, and in the period before.",
}
EXPIRES: Final = told(MAYBE_COUNT, "When the entry ends, in ms since the epoch; null for never.")

RAW_ENTRY: Final = closed(
    {
        "key": KEY,
        "expires": EXPIRES,
        "values": RAW_VALUES,
        "peer": told(TEXT, "Whose share it is in, where the table is shared per peer."),
    },
    "peer",
    description="An entry without a loss.",
)

ENTRIES: Final = closed(
    {
        "entries": {
            "anyOf": [many(ref("Entry")), many(ref("RawEntry"))],
            "description": "With raw=yes, those without a loss.",
        },
        "next": told(MAYBE_TEXT, "The cursor of the next page; null after the last one."),
    },
    description="A page may have fewer entries than its limit, or none, and not be the last one.",
)

COLUMN: Final = closed(
    {
        "name": told(TEXT, "As `show table` prints it."),
        "data_type": told(TEXT, "HAProxy's word for the data type."),
        "period": told(MAYBE_COUNT, "Of a rate, in ms; null for others."),
        "kind": {"enum": ["number", "rate", "text"]},
    }
)

TABLE: Final = closed(
    {
        "name": TEXT,
        "type": {"enum": ["ip", "ipv6", "integer", "string", "binary"]},
        "key_length": told(COUNT, "Bytes of a key at most."),
        "size": told(MAYBE_COUNT, "Entries that it holds; null for any number."),
        "used": COUNT,
        "expire": told(MAYBE_COUNT, "How long an entry lives, in ms; null for ever."),
        "nopurge": told(FLAG, "Whether it refuses new entries when it is full."),
        "brates_factor": told(COUNT, "Bytes of a block that byte rates count."),
        "columns": many(COLUMN),
        "adopted_from": told(MAYBE_TEXT, "The peer that has defined it, if none did here."),
        "written_by": told(MAYBE_TEXT, "The part that alone writes it, if there is one."),
        "shares": told(
            {"type": ["object", "null"], "additionalProperties": COUNT},
            "By peers, the entries of their shares; null if it is not shared per peer.",
        ),
        "update_id": told(COUNT, "Update id of the latest change made here."),
        "stored": told(
            COUNT, "How often an entry was stored so far, new or changed, of peers or made here."
        ),
        "trashed": told(COUNT, "Entries removed to make room for others."),
        "refused": told(COUNT, "Entries that a full nopurge table did not take."),
        "tombstones": told(COUNT, "Entries that were forgotten and of which peers are told."),
    }
)

NODE: Final = closed(
    {
        "localpeer": TEXT,
        "version": TEXT,
        "speed": TEXT,
        "running": FLAG,
        "uptime": told(COUNT, "In ms."),
        "up_to_date": FLAG,
        "resync": TEXT,
        "resync_in_words": TEXT,
        "reason": TEXT,
        "peers": COUNT,
        "connected": COUNT,
        "tables": COUNT,
        "entries": COUNT,
        "not_ready": told(many(TEXT), "Why it is not to be relied on, in words."),
        "listens": told(MAYBE_TEXT, "Where peers call it; null where none can."),
        "allow_writes": told(FLAG, "Whether writers may write here."),
        "may_write": told(FLAG, "Whether who asks may write, with the token that was sent."),
    }
)

_PLAIN_VALUES: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "integer", "number", "boolean", "null"]},
}

DETAIL: Final = closed(
    {
        "name": TEXT,
        "reads": told(MAYBE_TEXT, "The table that it is made of."),
        "writes": told(MAYBE_TEXT, "The table that it writes."),
        "not_ready": told(MAYBE_TEXT, "Why it is not to be relied on, in words; null if it is."),
        "values": _PLAIN_VALUES,
        "members": many(
            closed(
                {
                    "name": told(TEXT, "Of a peer."),
                    "is_in": told(FLAG, "Whether it is there, and to be relied on."),
                    "state": told(TEXT, "Why it does or does not, in words."),
                    "notes": many(TEXT),
                    "values": _PLAIN_VALUES,
                }
            )
        ),
    },
    description="One of the things that a part does, such as one aggregate, and who takes part.",
)

PARTS: Final = closed(
    {
        "parts": {
            "type": "object",
            "additionalProperties": _PLAIN_VALUES,
        },
        "not_ready": many(TEXT),
        "details": {"type": "object", "additionalProperties": many(ref("Detail"))},
    },
    description="By their names, the parts of the node, with what they say of themselves.",
)

FORGOTTEN: Final = closed(
    {
        "key": KEY,
        "peer": TEXT,
        "was_here": told(FLAG, "Whether there was an entry here."),
        "seen_by_haproxy": closed(
            {
                "values": told({"const": 0}, "All values are zero at once."),
                "in_table_for": told(
                    MAYBE_COUNT, "in_table stays true for so many ms at most; null: see until."
                ),
                "in_table_until": told(
                    {"type": ["string", "null"], "format": "date-time"},
                    "The same as a time; null: until HAProxy makes room or is restarted.",
                ),
            }
        ),
    },
    "peer",
)

SET: Final = closed(
    {
        "values": VALUES,
        "expires_in": LIFE,
    },
    "values",
    "expires_in",
)

EVENTS: Final[Schema] = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFF},
    "description": "How many events happened now, by the names of counters and rates.",
}

COUNTED: Final = closed({"events": EVENTS})

CHANGE: Final = closed(
    {
        "do": {
            "enum": ["replace", "set", "count", "forget", "import"],
            "description": "What PUT, PATCH, POST …/count and DELETE of one entry do; import takes"
            " an entry as raw=yes gives it: values that are not named stay as they are.",
        },
        "key": KEY,
        "peer": TEXT,
        "values": RAW_VALUES,
        "expires_in": LIFE,
        "expires": EXPIRES,
        "events": EVENTS,
    },
    "peer",
    "values",
    "expires_in",
    "expires",
    "events",
)

RESULT: Final = closed(
    {
        "key": told(KEY, "That of the change, if it has one."),
        "status": told(NUMBER, "As the answer to the single request would have."),
        "entry": ref("Entry"),
        "forgotten": ref("Forgotten"),
        "problem": ref("Problem"),
    },
    "key",
    "entry",
    "forgotten",
    "problem",
)

FILTER: Final[Schema] = {
    "type": "string",
    "pattern": rf"^data\.\S+ +({'|'.join(OPERATORS)}) +-?[0-9]{{1,20}}$",
}
