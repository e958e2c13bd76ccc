"""Kubeconfigs: what is accepted, what is refused (trust row 28), and that no message quotes a credential."""

from __future__ import annotations

import base64
import os
import ssl
import stat
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from fleet_rollout.errors import Terminal
from fleet_rollout.kube.access import connection_from_file, connection_from_kubeconfig, in_cluster
from fleet_rollout.lab.certificates import Authority

SECRET = "not-to-be-seen"
NAME = "AttachedCluster/prod"
AUTHORITY = Authority.create("test")


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def kubeconfig(user: dict | None = None, cluster: dict | None = None, **top: object) -> bytes:
    base = {"server": "https://10.0.0.1:6443", "certificate-authority-data": encoded(AUTHORITY.pair.certificate)}
    document = {
        "current-context": "c",
        "contexts": [{"name": "other", "context": {}}, {"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": base | (cluster or {})}],
        "users": [{"name": "u", "user": {"token": SECRET} if user is None else user}],
    }
    return yaml.safe_dump(document | top).encode()


def client(lifetime: timedelta = timedelta(days=1)) -> dict[str, str]:
    pair = AUTHORITY.client("someone", (), lifetime)
    return {"client-certificate-data": encoded(pair.certificate), "client-key-data": encoded(pair.key)}


def refusal(text: bytes, **options: object) -> Terminal:
    with pytest.raises(Terminal) as caught:
        connection_from_kubeconfig(NAME, text, **({"allow_insecure": False} | options))
    assert caught.value.message.startswith(f"{NAME}: kubeconfig: ")
    assert SECRET not in caught.value.message
    return caught.value


def test_a_token_becomes_a_header_and_stays_out_of_sight():
    connection = connection_from_kubeconfig(NAME, kubeconfig(), allow_insecure=False)
    assert (connection.name, connection.server) == (NAME, "https://10.0.0.1:6443")
    assert dict(connection.headers) == {"Authorization": f"Bearer {SECRET}"}
    assert connection.ca == AUTHORITY.pair.certificate
    assert connection.ssl.verify_mode.name == "CERT_REQUIRED"
    assert connection.ssl.check_hostname
    assert SECRET not in repr(connection)


def test_members_that_trust_the_same_share_it_but_no_identity_and_no_leniency():
    def context(**sections: dict[str, object]) -> ssl.SSLContext:
        text = kubeconfig(**sections)
        return connection_from_kubeconfig(NAME, text, allow_insecure=True).ssl

    plain, lenient = context(), context(cluster={"insecure-skip-tls-verify": True})
    assert context() is plain
    assert lenient.verify_mode.name == "CERT_NONE"
    assert context().verify_mode.name == "CERT_REQUIRED"
    first, second = context(user=client()), context(user=client())
    assert len({id(each) for each in (plain, lenient, first, second)}) == 4


def test_a_server_may_have_a_path_and_a_name_of_its_own():
    text = kubeconfig(cluster={"server": "https://rancher/k8s/clusters/c-1/", "tls-server-name": "inner"})
    connection = connection_from_kubeconfig(NAME, text, allow_insecure=False)
    assert (connection.server, connection.server_name) == ("https://rancher/k8s/clusters/c-1", "inner")


NEVER = {
    "user": {
        "exec": {"command": "touch", "args": ["/tmp/owned", SECRET]},
        "auth-provider": {"name": "gcp", "config": {"cmd-path": SECRET}},
        "as": SECRET,
        "as-uid": SECRET,
        "as-groups": ["system:masters", SECRET],
        "as-user-extra": {"reason": [SECRET]},
    }
}
OPERATORS = {
    "user": {"tokenFile": f"/var/run/{SECRET}", "client-certificate": f"/{SECRET}", "client-key": f"/{SECRET}"},
    "cluster": {
        "certificate-authority": f"/{SECRET}",
        "insecure-skip-tls-verify": True,
        "proxy-url": f"http://user:{SECRET}@proxy:3128",
    },
}
ROWS = [
    (section, *item) for table in (NEVER, OPERATORS) for section, fields in table.items() for item in fields.items()
]


@pytest.mark.parametrize(("section", "field", "value"), ROWS, ids=[f"{row[0]}.{row[1]}" for row in ROWS])
def test_row_28_each_dangerous_field_is_refused_with_its_name_and_the_fix(section, field, value):
    content = {field: value}
    error = refusal(kubeconfig(user=content) if section == "user" else kubeconfig(cluster=content))
    assert error.reason == "KubeconfigRefused"
    assert error.message.startswith(f"{NAME}: kubeconfig: {section}.{field} is not accepted: ")
    is_for_operators = field in OPERATORS.get(section, {})
    assert ("--allow-insecure-kubeconfig" in error.message) == is_for_operators


@pytest.mark.parametrize("field", NEVER["user"])
def test_row_28_what_runs_programs_or_changes_the_user_is_refused_with_the_flag_too(field):
    assert refusal(kubeconfig(user={field: NEVER["user"][field]}), allow_insecure=True).reason == "KubeconfigRefused"


def test_row_28_a_refused_field_cannot_hide_behind_a_yaml_merge_or_beside_a_token():
    text = f"""
current-context: c
contexts: [{{name: c, context: {{cluster: k, user: u}}}}]
clusters: [{{name: k, cluster: {{server: "https://10.0.0.1"}}}}]
users: [{{name: u, user: {{token: {SECRET}, <<: {{exec: {{command: sh}}}}}}}}]
"""
    assert "user.exec" in refusal(text.encode()).message


def test_row_28_a_token_cannot_smuggle_headers():
    error = refusal(kubeconfig(user={"token": f"{SECRET}\r\nImpersonate-User: admin"}))
    assert (error.reason, "user.token" in error.message) == ("KubeconfigInvalid", True)


def test_plain_http_is_refused_unless_the_operator_allows_it():
    text = kubeconfig(cluster={"server": "http://10.0.0.1:8080"})
    assert "cluster.server is not accepted: it must be an https:// address" in refusal(text).message
    connection = connection_from_kubeconfig(NAME, text, allow_insecure=True)
    assert connection.ssl is None


def test_the_flag_lets_the_operators_fields_pass(tmp_path):
    ca = tmp_path / "ca.crt"
    ca.write_bytes(AUTHORITY.pair.certificate)
    cluster = {
        "certificate-authority-data": "",
        "certificate-authority": str(ca),
        "insecure-skip-tls-verify": True,
        "proxy-url": "http://proxy:3128",
    }
    connection = connection_from_kubeconfig(NAME, kubeconfig(cluster=cluster), allow_insecure=True)
    assert connection.ca == AUTHORITY.pair.certificate
    assert connection.ssl.verify_mode.name == "CERT_NONE"
    assert connection.proxy == "http://proxy:3128"


def merge_bomb():
    """Nine levels of ten merged aliases each: a kilobyte that stands for a billion keys."""
    levels = [f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, 10)]
    return "\n".join(["a0: &a0 {x: 1}", *levels]).encode()


def directives(line_break: str, encoding: str = "utf-8") -> bytes:
    """More %TAG lines than libyaml reads in a minute: it compares each with all before it."""
    lines = (f"%TAG !{number}! a:" for number in range(50_000))
    return line_break.join([*lines, "---", "a: b", ""]).encode(encoding)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (b"", "not an object"),
        (b"- a\n", "not an object"),
        (b"token: " + SECRET.encode() + b"\n  bad: [", "not YAML (line 2)"),
        (b"\xff\xfe\x00" + SECRET.encode(), "kubeconfig: not UTF-8 text; save it as UTF-8"),
        (kubeconfig().decode().encode("utf-16"), "not UTF-8 text"),
        (kubeconfig().decode().encode("utf-16-be"), "not UTF-8 text"),
        (b"[" * 20_000, "not YAML"),
        (b"a: " + b"[" * 500_000 + b"]" * 500_000, "not YAML"),
        (b"\n".join(b"%*sa:" % (depth, b"") for depth in range(2_000)), "not YAML"),
        (merge_bomb(), "kubeconfig: an alias in line 2; write out what it stands for"),
        (b"a: !!bool x", "kubeconfig: a tag in line 1; leave it out, and put text in quotes"),
        (b"a: " + b":".join([b"1"] * 500_000), "not YAML"),
        (b"a: !!int " + b":".join([b"1"] * 500_000), "not YAML"),
        *((directives(line_break), "not YAML") for line_break in ("\n", "\r", "\r\n", "\x85", "\u2028", "\u2029")),
        (directives("\n", "utf-16"), "not UTF-8 text"),
        (b"<<: {}\n" * 100_000, "not YAML"),
        (kubeconfig(**{"current-context": ""}), "current-context is empty"),
        (kubeconfig(**{"current-context": "absent"}), "contexts has no entry"),
        (kubeconfig(users=[]), "users has no entry"),
        (kubeconfig(clusters={"a": "b"}), "clusters has no entry"),
        (kubeconfig(cluster={"server": ""}), "cluster.server is not an address"),
        (kubeconfig(cluster={"server": "10.0.0.1:6443"}), "cluster.server is not an address"),
        (kubeconfig(cluster={"server": "https://["}), "cluster.server is not an address"),
        (kubeconfig(cluster={"server": "https://member:70000"}), "cluster.server is not an address"),
        (kubeconfig(cluster={"server": f"https://me:{SECRET}@host"}), "cluster.server may hold"),
        (kubeconfig(cluster={"server": 7}), "cluster.server is not text"),
        (kubeconfig(cluster={"certificate-authority-data": "%%"}), "certificate-authority-data is not base64"),
        (kubeconfig(cluster={"certificate-authority-data": "aGk="}), "certificate-authority-data is not a certificate"),
        (kubeconfig(user={"token": 12345}), "user.token is not text"),
        (kubeconfig(user={"client-certificate-data": "aGk=", "client-key-data": "aGk="}), "are not a certificate"),
        (kubeconfig(user={"client-key-data": "aGk="}), "belong together; one is missing"),
    ],
)
def test_malformed_content_is_named(text, fact):
    error = refusal(text)
    assert error.reason == "KubeconfigInvalid"
    assert fact in error.message


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf" + kubeconfig(), b"# 100 %\n%YAML 1.1\n---\n" + kubeconfig()])
def test_what_kubectl_reads_as_well_is_accepted(text):
    """A UTF-8 mark at the beginning, as some editors write it, and a directive."""
    assert connection_from_kubeconfig(NAME, text, allow_insecure=False).server == "https://10.0.0.1:6443"


def test_an_expired_client_certificate_is_named():
    error = refusal(kubeconfig(user=client(timedelta(hours=-1))))
    assert error.reason == "KubeconfigInvalid"
    assert "the client certificate expired at 2" in error.message


def test_when_a_client_certificate_ends_is_known():
    connection = connection_from_kubeconfig(NAME, kubeconfig(user=client()), allow_insecure=False)
    assert timedelta(hours=23) < connection.expires - datetime.now(UTC) < timedelta(hours=25)


def test_an_encrypted_key_is_an_error_and_no_question_on_the_terminal():
    from cryptography.hazmat.primitives import serialization

    pair = AUTHORITY.client("someone")
    key = serialization.load_pem_private_key(pair.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    user = {"client-certificate-data": encoded(pair.certificate), "client-key-data": encoded(locked)}
    assert "unencrypted key" in refusal(kubeconfig(user=user)).message


def test_no_key_is_left_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modes = []
    real = os.unlink

    def unlink(path: str) -> None:
        modes.append(stat.S_IMODE(os.stat(path).st_mode))
        real(path)

    monkeypatch.setattr(os, "unlink", unlink)
    connection_from_kubeconfig(NAME, kubeconfig(user=client()), allow_insecure=False)
    refusal(kubeconfig(user={"client-certificate-data": "aGk=", "client-key-data": "aGk="}))
    assert modes == [0o600, 0o600]
    assert list(tmp_path.iterdir()) == []


async def test_a_client_certificate_is_accepted_by_a_real_api_server(hub, open_cluster, settings):
    text = hub.kubeconfig_for("someone", ["system:masters"])
    cluster = open_cluster(connection_from_kubeconfig(NAME, text, allow_insecure=False), settings)
    assert (await cluster.server_version()).startswith("v1.")


async def test_the_operators_own_file_may_name_files_beside_it(hub, tmp_path, open_cluster):
    (tmp_path / "ca.crt").write_bytes(hub.ca)
    (tmp_path / "token").write_text(hub.token + "\n")
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": hub.server, "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(document))
    cluster = open_cluster(connection_from_file(tmp_path / "config"))
    assert cluster.name == "hub"
    assert (await cluster.server_version()).startswith("v1.")


def test_the_operators_own_file_may_not_run_programs_either(tmp_path):
    (tmp_path / "config").write_bytes(kubeconfig(user={"exec": {"command": "sh"}}))
    with pytest.raises(Terminal, match=r"hub: kubeconfig: user\.exec is not accepted"):
        connection_from_file(tmp_path / "config")


def test_an_absent_file_is_named():
    with pytest.raises(Terminal, match="kubeconfig /nowhere/config cannot be read: No such file"):
        connection_from_file(Path("/nowhere/config"))


def test_in_a_pod_a_renewed_token_is_used_at_once(tmp_path):
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.pair.certificate)
    (tmp_path / "token").write_text("first")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    connection = in_cluster(folder=tmp_path, environ=environ)
    assert connection.server == "https://[fd00::1]:443"
    assert {**connection.headers} == {"Authorization": "Bearer first"}
    (tmp_path / "new").write_text("second")
    (tmp_path / "new").replace(tmp_path / "token")
    assert {**connection.headers} == {"Authorization": "Bearer second"}


def test_outside_a_pod_the_fix_is_named(tmp_path):
    with pytest.raises(Terminal, match="name a kubeconfig with --kubeconfig"):
        in_cluster(folder=tmp_path, environ={})
    with pytest.raises(Terminal, match="automountServiceAccountToken"):
        in_cluster(folder=tmp_path, environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"})
