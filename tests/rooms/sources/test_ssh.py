"""Fetches over ssh from a real server: whom git logs in as, which servers it trusts, and what refusals say (B.3)."""

from __future__ import annotations

import asyncssh
import pytest

from fleet_rollout.errors import Transient


async def look(sources, spec, secret, known=None):
    return await sources.reconcile("apps", "web", spec, secret, known)


@pytest.fixture
async def repository(ssh_server):
    repository = await ssh_server.repository()
    await repository.commit({"a.yaml": "a: 1\n"})
    return repository


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
async def test_content_comes_with_a_key_that_may_log_in(ssh_server, repository, sources, spec_of, passphrase):
    secret = ssh_server.secret(passphrase)
    first = await look(sources, spec_of(repository, branch="main"), secret)
    assert first.artifact.revision == f"main@sha1:{await repository.commit_of()}"
    assert (sources.open_tree(first.artifact.digest) / "a.yaml").read_text() == "a: 1\n"
    second = await repository.commit({"a.yaml": "a: 2\n"})
    seen = await look(sources, spec_of(repository, branch="main"), secret, first.artifact)
    assert (seen.changed, seen.commit) == (True, second)
    assert (sources.open_tree(seen.artifact.digest) / "a.yaml").read_text() == "a: 2\n"
    assert set(ssh_server.users) == {"git"}


@pytest.mark.parametrize(("user", "logged_in"), [("deploy@", "deploy"), ("", "git")])
async def test_the_user_is_the_one_of_the_url(ssh_server, repository, sources, spec_of, user, logged_in):
    url = repository.url.replace("git@", user)
    await look(sources, spec_of(url, branch="main"), ssh_server.secret())
    assert set(ssh_server.users) == {logged_in}


async def test_pinned_content_is_fetched_by_its_commit(ssh_server, repository, sources, spec_of):
    first = await repository.commit_of()
    await repository.commit({"a.yaml": "a: 2\n"})
    seen = await look(sources, spec_of(repository, commit=first), ssh_server.secret())
    assert seen.artifact.revision == f"sha1:{first}"


async def fails(sources, spec, secret, reason, *words):
    with pytest.raises(Transient) as error:
        await look(sources, spec, secret)
    assert error.value.reason == reason
    for word in words:
        assert word in error.value.message
    return error.value.message


@pytest.mark.parametrize("form", ["another key", "another port", "no line about it"])
async def test_t9_a_server_that_is_not_known_is_refused_before_authentication(
    ssh_server, repository, sources, spec_of, form
):
    secret = ssh_server.secret()
    line = secret["known_hosts"]
    secret["known_hosts"] = {
        "another key": ssh_server.known_hosts_of(asyncssh.generate_private_key("ssh-ed25519")),
        "another port": line.replace(f":{ssh_server.port}".encode(), b":1"),
        "no line about it": line.replace(b"[127.0.0.1]", b"[git.example]"),
    }[form]
    await fails(sources, spec_of(repository, branch="main"), secret, "HostKeyMismatch", "update known_hosts")
    assert (ssh_server.users, ssh_server.offers) == ([], 0)


async def test_t9_a_server_that_has_become_another_one_changes_nothing(ssh_server, repository, sources, spec_of):
    """Known until then, and fetched from: the content stays, the fetch fails, the key is offered to nobody."""
    secret = ssh_server.secret()
    first = await look(sources, spec_of(repository, branch="main"), secret)
    await repository.commit({"a.yaml": "a: 2\n"})
    await ssh_server.end()
    ssh_server.host_key = asyncssh.generate_private_key("ssh-ed25519")
    await ssh_server.start()
    ssh_server.users.clear()
    await fails(sources, spec_of(repository, branch="main"), secret, "HostKeyMismatch")
    assert ssh_server.users == []
    assert (sources.open_tree(first.artifact.digest) / "a.yaml").read_text() == "a: 1\n"
    trusted = secret | {"known_hosts": ssh_server.known_hosts}
    assert (await look(sources, spec_of(repository, branch="main"), trusted, first.artifact)).changed


async def test_a_key_that_may_not_log_in_says_so(ssh_server, repository, sources, spec_of):
    secret = ssh_server.secret()
    ssh_server.authorized.clear()
    await fails(sources, spec_of(repository, branch="main"), secret, "AuthenticationFailed", "secretRef")
    assert ssh_server.offers == 1, "one key is offered, and no other way to log in is tried"


async def test_t21_a_wrong_passphrase_says_so_and_shows_nothing(ssh_server, repository, sources, spec_of):
    secret = ssh_server.secret("correct horse") | {"password": b"battery staple"}
    said = await fails(sources, spec_of(repository, branch="main"), secret, "AuthenticationFailed")
    assert "battery" not in said


async def test_a_repository_that_is_not_there_says_so(ssh_server, sources, spec_of):
    url = f"{ssh_server.url}/nowhere.git"
    await fails(sources, spec_of(url, branch="main"), ssh_server.secret(), "GitOperationFailed", "nowhere.git")


async def test_t26_a_loopback_address_is_not_dialled_over_ssh_either(ssh_server, repository, make_sources, spec_of):
    sources = make_sources(allow_loopback_sources=False)
    await fails(sources, spec_of(repository, branch="main"), ssh_server.secret(), "AddressRefused")
    assert ssh_server.users == []
