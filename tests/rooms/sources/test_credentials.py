"""What Secrets may hold (B.3), what is said when they are wrong, and that nothing of them is ever shown."""

from __future__ import annotations

import base64
import datetime
import ssl
import subprocess
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet_rollout.decide.gitrefs import parse_url
from fleet_rollout.errors import Transient
from fleet_rollout.lab.gitserver import application
from fleet_rollout.sources.credentials import NO_CREDENTIALS, credentials_for
from fleet_rollout.sources.git_environment import remote_environment

HOSTS = b"git.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """ssh keys as ssh-keygen makes them: plain, encrypted, and encrypted in the older PEM form."""
    folder = tmp_path_factory.mktemp("keys")
    for name, arguments in {
        "plain": ["-t", "ed25519", "-N", ""],
        "encrypted": ["-t", "ed25519", "-N", "passphrase"],
        "pem": ["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "passphrase"],
    }.items():
        subprocess.run(["ssh-keygen", "-q", *arguments, "-f", folder / name], check=True)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".pub"}


def private_key():
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key):
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def certificate(key, name, issuer_key=None, issuer="ca"):
    """A certificate for `name` and 127.0.0.1; of its own where no issuer is given."""
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer if issuer_key else name)])
    builder = x509.CertificateBuilder(by, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(
        now + datetime.timedelta(hours=1)
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer_key is None, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("git.invalid")]), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_basic_and_bearer():
    basic = credentials_for("https", {"username": b"user", "password": b"secret\n"})
    assert basic.authorization == "Basic " + base64.b64encode(b"user:secret").decode()
    assert credentials_for("https", {"bearerToken": b"token\n"}).authorization == "Bearer token"
    assert credentials_for("http", None) is NO_CREDENTIALS
    assert credentials_for("https", {"ca.crt": b""}) == NO_CREDENTIALS


def test_ca_crt_is_preferred_to_ca_file():
    one, two = (certificate(private_key(), name) for name in ("one", "two"))
    assert credentials_for("https", {"ca.crt": one, "caFile": two}).ca == one
    assert credentials_for("https", {"caFile": two}).ca == two


@pytest.mark.parametrize("form", ["plain", "encrypted", "pem"])
def test_ssh(keys, form):
    secret = {"identity": keys[form], "known_hosts": HOSTS} | ({} if form == "plain" else {"password": b"passphrase"})
    made = credentials_for("ssh", secret)
    assert (made.known_hosts, made.passphrase) == (HOSTS, secret.get("password"))


KEY = pem_of(private_key())
BAD = [
    ("https", {"password": b"secret"}, "password without username"),
    ("https", {"username": b"u", "bearerToken": b"secret"}, "bearerToken and username"),
    ("https", {"bearerToken": b"a\nb"}, "control characters"),
    ("https", {"bearerToken": b"\xff"}, "not text"),
    ("https", {"bearerToken": b"x" * 100_000}, "larger than"),
    ("https", {"ca.crt": b"secret"}, "no certificate"),
    ("https", {"ca.crt": b"\xff"}, "no certificate"),
    ("https", {"tls.crt": b"x"}, "only one of"),
    ("https", {"tls.crt": b"x", "tls.key": b"secret"}, "no private key"),
    ("ssh", None, "identity and known_hosts"),
    ("ssh", {"known_hosts": HOSTS}, "no key 'identity'"),
    ("ssh", {"identity": KEY}, "no key 'known_hosts'"),
    ("ssh", {"identity": KEY, "known_hosts": b" \n"}, "no key 'known_hosts'"),
    ("ssh", {"identity": b"secret", "known_hosts": HOSTS}, "no private key"),
]


@pytest.mark.parametrize(("scheme", "secret", "named"), BAD)
def test_bad_secrets_are_named_and_not_shown(scheme, secret, named):
    with pytest.raises(Transient, match=named) as error:
        credentials_for(scheme, secret)
    assert error.value.reason == "AuthenticationFailed"
    assert "secret" not in error.value.message.replace("secretRef", "")


@pytest.mark.parametrize("form", ["encrypted", "pem"])
def test_an_encrypted_key_without_password_says_so(keys, form):
    with pytest.raises(Transient, match="add its passphrase") as error:
        credentials_for("ssh", {"identity": keys[form], "known_hosts": HOSTS})
    assert error.value.reason == "AuthenticationFailed"


def test_a_wrong_passphrase_of_a_pem_key_says_so(keys):
    with pytest.raises(Transient, match="password is wrong"):
        credentials_for("ssh", {"identity": keys["pem"], "known_hosts": HOSTS, "password": b"wrong"})


def test_t21_t22_nothing_shows_a_credential(keys):
    for made in (
        credentials_for("https", {"username": b"user", "password": b"secret"}),
        credentials_for("ssh", {"identity": keys["plain"], "known_hosts": HOSTS, "password": b"secret"}),
    ):
        for text in (repr(made), str(made), f"{made}", f"{made!r}"):
            assert "secret" not in text
            assert "PRIVATE" not in text
            assert base64.b64encode(b"user:secret").decode() not in text
    assert credentials_for("https", {"bearerToken": b"secret"}).redact("a secret b") == "a *** b"


def test_identities_differ_with_contents_and_with_the_key():
    one = credentials_for("https", {"username": b"a", "password": b"bc"})
    two = credentials_for("https", {"username": b"a", "password": b"bd"})
    assert one.identity(b"k") == credentials_for("https", {"username": b"a", "password": b"bc"}).identity(b"k")
    assert len({one.identity(b"k"), two.identity(b"k"), one.identity(b"l"), NO_CREDENTIALS.identity(b"k")}) == 4


@pytest.mark.parametrize("url", ["ssh://deploy@git.example:2222/x", "ssh://git.example/x"])
def test_t9_ssh_is_told_to_be_strict(keys, tmp_path, url):
    """What ssh itself makes of the configuration it is given (`ssh -G`)."""
    secret = {"identity": keys["encrypted"], "known_hosts": HOSTS, "password": b"passphrase"}
    parsed = parse_url(url)
    with remote_environment(
        parsed, credentials_for("ssh", secret), ["203.0.113.7"], program_dir=tmp_path / "programs"
    ) as environment:
        command = environment.variables["GIT_SSH_COMMAND"].split()
        shown = subprocess.run([*command, "-G", "git.example"], capture_output=True, text=True, check=True).stdout
        options = dict(line.split(" ", 1) for line in shown.splitlines())
        home = Path(environment.variables["HOME"])
        assert options["stricthostkeychecking"] == "true"
        assert options["userknownhostsfile"] == str(home / "known_hosts")
        assert options["globalknownhostsfile"] == "/dev/null"
        assert options["identitiesonly"] == "yes"
        assert options["identityfile"] == str(home / "identity")
        assert options["passwordauthentication"] == options["kbdinteractiveauthentication"] == "no"
        assert options["hostname"] == "203.0.113.7"
        assert options["hostkeyalias"] == ("[git.example]:2222" if parsed.port == 2222 else "git.example")
        assert options["user"] == ("deploy" if parsed.user else "git")
        assert options.get("proxycommand") in (None, "none")
        assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}
        asked = subprocess.run(
            [environment.variables["SSH_ASKPASS"], "Enter passphrase"],
            env=dict(environment.variables),
            capture_output=True,
            check=True,
        )
        assert asked.stdout == b"passphrase\n"
    assert not home.exists()


async def test_bearer_and_basic_reach_a_server_that_asks_for_them(server, sources, spec_of):
    repository = await server.repository()
    await repository.commit({"a.yaml": "a\n"})
    spec = spec_of(repository, branch="main")
    for require, secret in (
        (lambda: repository.require_basic("user", "secret"), {"username": b"user", "password": b"secret"}),
        (lambda: repository.require_bearer("token-1"), {"bearerToken": b"token-1"}),
    ):
        require()
        seen = await sources.reconcile("apps", "web", spec, secret, None)
        assert seen.artifact.revision.startswith("main@sha1:")
        with pytest.raises(Transient, match="check the Secret") as error:
            await sources.reconcile("apps", "web", spec, None, None)
        assert error.value.reason == "AuthenticationFailed"


async def test_contents_fetched_with_credentials_are_not_given_to_others(server, sources, spec_of):
    """A commit pinned by hash needs no listing, so only the mirror could leak it."""
    repository = await server.repository()
    c1 = await repository.commit({"a.yaml": "a\n"})
    repository.require_basic("user", "secret")
    spec = spec_of(repository, commit=c1)
    await sources.reconcile("apps", "web", spec, {"username": b"user", "password": b"secret"}, None)
    with pytest.raises(Transient) as error:
        await sources.reconcile("other", "web", spec, {"username": b"user", "password": b"wrong"}, None)
    assert error.value.reason == "AuthenticationFailed"


@pytest.fixture
async def tls_server(server, tmp_path):
    """The Git server behind TLS with an authority of its own, asking for client certificates of that authority."""
    ca_key, server_key, client_key = private_key(), private_key(), private_key()
    ca = certificate(ca_key, "ca")
    pair = tmp_path / "pair.pem"
    pair.write_bytes(pem_of(server_key) + certificate(server_key, "git.invalid", ca_key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=ca.decode())
    context.load_cert_chain(pair)
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.AppRunner(application(server.root), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    client = {"tls.crt": certificate(client_key, "client", ca_key), "tls.key": pem_of(client_key)}
    yield f"https://git.invalid:{runner.addresses[0][1]}/shop.git", ca, client
    await runner.cleanup()


async def test_own_authority_and_client_certificate(server, tls_server, make_sources, spec_of):
    url, ca, client = tls_server
    repository = await server.repository()
    await repository.commit({"a.yaml": "a\n"})
    sources = make_sources(resolver=lambda host, port: ["127.0.0.1"])
    spec = spec_of(url, branch="main")
    assert (await sources.reconcile("apps", "web", spec, {"ca.crt": ca} | client, None)).changed
    with pytest.raises(Transient, match=r"not trusted; add its authority as ca\.crt"):
        await sources.reconcile("apps", "web", spec, client, None)
    with pytest.raises(Transient) as error:
        await sources.reconcile("apps", "web", spec, {"ca.crt": ca}, None)
    assert error.value.reason in ("AuthenticationFailed", "GitOperationFailed")
