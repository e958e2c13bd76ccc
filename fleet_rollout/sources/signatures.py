"""Did somebody who knows the key send these bytes? Answers from headers and the raw body, before anything is parsed.

Every comparison takes the same time whatever is wrong. SHA-1 signatures are never accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import datetime

# How far a signed time may be from ours, both ways.
WINDOW_SECONDS = 300
STANDARD_KEY_PREFIX = "whsec_"

Check = Callable[[bytes, Mapping[str, str], bytes, datetime], bool]


def is_signed(key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Whether the one signature header that counts is right. `headers` ignores case; `key` is never empty."""
    for header, check in CHECKS:
        if header in headers:
            return bool(key) and check(key, headers, body, now)
    return False


def _github(key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    return _has_prefixed_mac(key, headers["X-Hub-Signature-256"], body)


def _gitea(key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    return _equal(headers["X-Gitea-Signature"], _mac(key, body))


def _gitlab_token(key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """GitLab's older way: the key itself."""
    return hmac.compare_digest(headers["X-Gitlab-Token"].encode("utf-8", "replace"), key)


def _standard(key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """The Standard Webhooks way (GitLab's signing token): id, time and body are signed, maybe with several keys."""
    sent_at = headers.get("webhook-timestamp", "")
    if not _is_recent(sent_at, now) or not (secret := _standard_key(key)):
        return False
    signed = f"{headers.get('webhook-id', '')}.{sent_at}.".encode("utf-8", "replace") + body
    wanted = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    given = headers["webhook-signature"].split()[:8]
    return any(_equal(one.removeprefix("v1,"), wanted) for one in given if one.startswith("v1,"))


def _generic(key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """`X-Signature: sha256=<hex>` over the body; with `X-Signature-Timestamp`, over `<seconds>.<body>`."""
    sent_at = headers.get("X-Signature-Timestamp")
    if sent_at is None:
        return _has_prefixed_mac(key, headers["X-Signature"], body)
    return _is_recent(sent_at, now) and _has_prefixed_mac(key, headers["X-Signature"], sent_at.encode() + b"." + body)


# In the order in which they count: whoever may choose the weakest of several would.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("webhook-signature", _standard),
    ("X-Hub-Signature-256", _github),
    ("X-Gitea-Signature", _gitea),
    ("X-Signature", _generic),
    ("X-Gitlab-Token", _gitlab_token),
)


def _has_prefixed_mac(key: bytes, given: str, signed: bytes) -> bool:
    return _equal(given, f"sha256={_mac(key, signed)}")


def _mac(key: bytes, signed: bytes) -> str:
    return hmac.new(key, signed, hashlib.sha256).hexdigest()


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _is_recent(seconds: str, now: datetime) -> bool:
    is_number = seconds.isascii() and seconds.isdigit() and len(seconds) <= 12
    return is_number and abs(now.timestamp() - int(seconds)) <= WINDOW_SECONDS


def _standard_key(key: bytes) -> bytes:
    text = key.decode("ascii", "replace")
    try:
        return (
            base64.b64decode(text.removeprefix(STANDARD_KEY_PREFIX), validate=True)
            if STANDARD_KEY_PREFIX in text
            else key
        )
    except binascii.Error:
        return key
