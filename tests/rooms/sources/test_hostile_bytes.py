"""Whatever bytes arrive: an announcement or an archive, or an error of ours; and nothing outside its folder."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from fleet_rollout.errors import Transient
from fleet_rollout.sources.archive import unpack
from fleet_rollout.sources.checkout import Caps
from fleet_rollout.sources.hook_payloads import InvalidPayload, read_payload
from fleet_rollout.sources.signatures import CHECKS, is_signed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# As the HTTP parser hands them over: bytes outside UTF-8 are lone surrogates.
sent = (
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40) | st.just("\udcff") | st.just("1767225600")
)
headers = st.dictionaries(
    st.sampled_from([name for name, _ in CHECKS] + ["webhook-timestamp", "X-Signature-Timestamp"]), sent
)
WORDS = ("repository", "project", "ref", "url", "urls", "clone_url", "git_http_url", "ssh_url")
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["refs/heads/main", "https://h/a.git", "git@h:a", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=12,
)


@given(headers, st.binary(max_size=30), st.binary(max_size=20) | st.just(b"whsec_!") | st.just(b"whsec_"))
def test_t38_who_does_not_know_the_key_is_never_believed(found: dict[str, str], body: bytes, key: bytes) -> None:
    given_token = found.get("X-Gitlab-Token", "").encode("utf-8", "replace")
    assert not is_signed(key, CIMultiDict(found), body, NOW) or (key and given_token == key)


@given(
    st.sampled_from(["X-Gitea-Event", "X-GitHub-Event", "X-Gitlab-Event", "X-Other"]),
    st.sampled_from(["push", "ping"]),
    odd,
)
def test_t38_a_payload_is_an_announcement_or_invalid(header: str, event: str, payload: Any) -> None:
    try:
        found = read_payload(CIMultiDict({header: event}), payload)
    except InvalidPayload:
        return
    assert found is None or (all(found.urls) and found.ref)


NAMES = ("a", "a/b", "../x", "/x", "a/../../x", "a\0b", "", ".", "x" * 300, "\udcff", "a//b", "d/" * 200 + "a")
KINDS = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.XHDTYPE,
    b"L",
    b"S",
    b"z",
)


def header(name: str, kind: bytes, size: int, spoiled: int) -> bytes:
    """One header with a right checksum, though a byte of it is another."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")[-512:])
    block[124:136] = b"%011o\0" % size if size >= 0 else b"\xff" * 12
    block[spoiled] ^= 0x81
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


blocks = st.builds(
    header, st.sampled_from(NAMES), st.sampled_from(KINDS), st.sampled_from([-1, 0, 5, 512, 10**9]), st.integers(0, 511)
)
archives = st.lists(blocks | st.binary(max_size=512).map(lambda b: b.ljust(512, b"\0")), max_size=5).map(b"".join)


@settings(deadline=None)
@given(archives | st.binary(max_size=600), st.booleans())
@example(b"", False)
def test_t15_t16_an_archive_fills_its_folder_or_is_invalid(content: bytes, is_cut: bool) -> None:
    packed = gzip.compress(content + bytes(1024))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "outer", "tree")
        target.mkdir(parents=True)
        reason = "ArchiveInvalid"
        try:
            unpack(io.BytesIO(packed[:-9] if is_cut else packed), target, Caps(1 << 20, 20))
        except Transient as refused:
            reason = refused.reason
        assert reason in ("ArchiveInvalid", "TooLarge")
        assert [path.name for path in target.parent.iterdir()] == ["tree"]
        assert [path.name for path in Path(folder).iterdir()] == ["outer"]
        assert all(path.is_dir() or path.is_file() for path in target.rglob("*"))
        assert not any(path.is_symlink() for path in target.rglob("*"))
