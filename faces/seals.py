"""Seals: a file tells what its bytes must add up to, so that a cut or a turned bit is noticed when it is read.

A seal is a field of a JSON object, or of the header of a safetensors file: 16 hexadecimal digits of the SHA-256 of all
the content, with zeros in their own place. A file from before there were seals has none and is taken as it is.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

UNSEALED = {"seal": "sha256:" + "0" * 16}  # the field as it is written before `sealed` fills it in
SEAL = re.compile(rb'"seal": ?"sha256:([0-9a-f]{16})"')
BROKEN = re.compile(rb'"seal": ?"|"sha256:[0-9a-f]{16}"')  # what is left of one in which a bit was turned


class DamagedError(ValueError):
    """A file is not what was written; says which in a sentence."""


def sealed(content: bytes) -> bytes:
    """The content, which has the field `UNSEALED`, with its seal filled in."""
    found = SEAL.search(content)
    assert found, "There is no place for a seal."
    return content[: found.start(1)] + _seal(content, found) + content[found.end(1) :]


def whole(content: bytes, name: object) -> bytes:
    """The same content. DamagedError when it is not what was sealed."""
    found = SEAL.search(content)
    if _seal(content, found) != found[1] if found else BROKEN.search(content):
        raise damaged(name)
    return content


def damaged(name: object) -> DamagedError:
    """The error that says so of a file, by its name and its folder's, or of what a text names; a sentence stays."""
    parts = getattr(name, "parts", (str(name),))
    said = "/".join(parts[-2:])
    return DamagedError(said if said.endswith(".") else f"{said} is damaged and is not used.")


def to_json(values: Mapping[str, Any]) -> bytes:
    """A JSON object with a seal."""
    return sealed(json.dumps({**UNSEALED, **values}).encode())


def from_json(content: bytes | str, name: object) -> dict[str, Any]:
    """The object in JSON, with a seal or without. DamagedError for what is none."""
    content = content.encode() if isinstance(content, str) else content
    try:
        values = dict(json.loads(whole(content, name)))
    except (TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise damaged(name) from error
    values.pop("seal", None)
    return values


def _seal(content: bytes, found: re.Match[bytes]) -> bytes:
    digest, view = hashlib.sha256(), memoryview(content)
    for part in (view[: found.start(1)], b"0" * 16, view[found.end(1) :]):
        digest.update(part)
    return digest.hexdigest()[:16].encode()
