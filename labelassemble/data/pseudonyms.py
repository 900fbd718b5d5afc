"""Pseudonyms: identifiers hashed with a secret key, so that nobody without the key can find or test them."""

import hashlib
import hmac
from pathlib import Path
from typing import Final

from labelassemble.data.identifiers import IdRule, plain_ids
from labelassemble.data.text import TextArray, text_array, text_codes
from labelassemble.errors import LabelAssembleError

LEAST_BYTES: Final = 16
_DIGITS: Final = 32


def read_key(path: Path) -> bytes:
    """Return the secret key in a file, white space around it removed.

    Raises:
        LabelAssembleError: The file cannot be read, or holds fewer than 16 bytes.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(key) < LEAST_BYTES:
        raise LabelAssembleError(
            f"{path}: a key for pseudonyms must have {LEAST_BYTES} bytes or more, got {len(key)} "
            "(openssl rand -hex 32 > KEYFILE makes one)"
        )
    return key


def pseudonyms(values: TextArray, kind: str, key: bytes, rule: IdRule = "numbers") -> TextArray:
    """Return for each identifier "p" and 32 hexadecimal digits of HMAC-SHA256 (RFC 2104), text [N]; blank stays blank.

    Args:
        values: Identifiers.
        kind: What they identify; a patient and a study with one number have two pseudonyms.
        key: The secret.
        rule: Which spellings give one pseudonym; by default those of one number do.
    """
    distinct, code = text_codes(plain_ids(values, rule).values)
    hashed = [
        "p" + hmac.new(key, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()[:_DIGITS] if value else ""
        for value in distinct.tolist()
    ]
    return text_array(hashed)[code] if len(values) else values
