"""The OpenAPI document as a contract: whether an answer is as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Optional

from openapi_schema_validator import OAS31Validator


class Contract:
    """Holds answers against a document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.seen: set[tuple[str, str, str]] = set()
        """Method, path and status of each answer so far."""

    def documented(self) -> set[tuple[str, str, str]]:
        """Method, path and status of each answer that the document has."""
        return {
            (method.upper(), path, status)
            for path, operations in self._document["paths"].items()
            for method, operation in operations.items()
            for status in operation["responses"]
        }

    def check(
        self, method: str, place: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Raise ``AssertionError`` if an answer is not as the document says."""
        path = self._path(place.partition("?")[0])
        operation = self._document["paths"].get(path, {}).get(method.lower())
        kind = headers.get("content-type")
        if operation is None:
            assert status in (400, 403, 404, 405, 421), (method, place, status)
            self._fits({"$ref": "#/components/schemas/Problem"}, body)
            return
        assert str(status) in operation["responses"], (method, path, status, body)
        self.seen.add((method, path, str(status)))
        response = operation["responses"][str(status)]
        if "content" not in response:
            assert not body, (method, path, body)
            return
        assert kind in response["content"], (method, path, status, kind)
        self._fits(response["content"][kind]["schema"], body, kind)

    def _path(self, place: str) -> str:
        """The path of the document that fits."""
        for path in self._document["paths"]:
            pattern = "".join(
                "[^/]+" if part.startswith("{") else re.escape(part)
                for part in re.split(r"(\{\w+\})", path)
            )
            if re.fullmatch(pattern, place):
                return str(path)
        return ""

    def _fits(self, schema: Mapping[str, Any], body: bytes, kind: Optional[str] = None) -> None:
        whole = {**schema, "components": self._document["components"]}
        is_text = kind is not None and kind.startswith("text/")
        OAS31Validator(whole).validate(body.decode() if is_text else json.loads(body))
