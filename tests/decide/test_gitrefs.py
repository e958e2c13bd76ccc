"""Which URLs and references may reach git, and what revisions are called."""

from __future__ import annotations

import time

import pytest

from fleet_rollout.decide import gitrefs
from fleet_rollout.decide.gitrefs import parse_url, wanted_ref
from fleet_rollout.errors import Terminal, Transient
from fleet_rollout_api.application import GitRef

C1 = "1" * 40
C2 = "2" * 40

URLS = [
    ("https://github.com/acme/shop", "https://github.com/acme/shop"),
    ("https://GitHub.com:443/acme/shop.git", "https://github.com/acme/shop.git"),
    ("http://git.example:8080/a/b", "http://git.example:8080/a/b"),
    ("ssh://git@host:2222/a/b", "ssh://git@host:2222/a/b"),
    ("ssh://host/~user/b", "ssh://host/~user/b"),
    ("https://[2001:db8::1]/a", "https://[2001:db8::1]/a"),
    ("https://host./a%20b", "https://host/a%20b"),
]


@pytest.mark.parametrize(("text", "given_to_git"), URLS)
def test_sound_urls_pass(text, given_to_git):
    assert parse_url(text).text == given_to_git


BAD_URLS = [
    pytest.param("https://h/$CANARY.git", id="T1 variable"),
    pytest.param("https://h/${CANARY}", id="T1 variable in braces"),
    pytest.param("https://$CANARY/x", id="T1 variable in the host"),
    pytest.param("https://a%0ahost=b/", id="T6 encoded newline in the host"),
    pytest.param("https://h/a%0ahost=b", id="T6 encoded newline in the path"),
    pytest.param("https://h/a%0D", id="T6 encoded carriage return"),
    pytest.param("https://h/a\nhost=b", id="T6 newline"),
    pytest.param("https://h/a b", id="T6 blank"),
    pytest.param("https://h/\x7f", id="T6 delete"),
    pytest.param("ssh://-oX=y/z", id="T7 host as an option"),
    pytest.param("ssh://-x@h/z", id="T7 user as an option"),
    pytest.param("ext::sh -c x", id="T7 ext"),
    pytest.param("ext::x", id="T7 ext without blanks"),
    pytest.param("file:///etc", id="T7 file"),
    pytest.param("git://h/x", id="T7 git"),
    pytest.param("git@host:acme/shop", id="scp form"),
    pytest.param("/etc/repo", id="path"),
    pytest.param("https://user:secret@h/x", id="password"),
    pytest.param("https://token@h/x", id="token as user"),
    pytest.param("ssh://u:secret@h/x", id="ssh password"),
    pytest.param("https://h", id="no path"),
    pytest.param("https://h/", id="empty path"),
    pytest.param("https:///x", id="no host"),
    pytest.param("https://h:0/x", id="port 0"),
    pytest.param("https://h:99999/x", id="port too large"),
    pytest.param("https://h:x/x", id="port no number"),
    pytest.param("https://h/x?token=secret", id="query"),
    pytest.param("https://h/x#secret", id="fragment"),
    pytest.param("https://h/a/../b", id="climbs"),
    pytest.param("https://h/a/%2e%2e/b", id="climbs encoded"),
    pytest.param("https://[zz]/b", id="no IPv6"),
    pytest.param("https://hö/b", id="not ASCII"),
    pytest.param("https://h/" + "a" * 3000, id="too long"),
]


@pytest.mark.parametrize("text", BAD_URLS)
def test_t1_t6_t7_urls_that_must_not_reach_git_are_refused(text):
    with pytest.raises(Terminal) as error:
        parse_url(text)
    assert error.value.reason == "InvalidURL"
    assert "secret" not in error.value.message.replace("secretRef", "").replace("Secret", "")


def test_plain_http_can_be_turned_off():
    with pytest.raises(Terminal, match="does not allow"):
        parse_url("http://h/x", allow_http=False)


BAD_REFS = [
    {"branch": "--upload-p=x"},
    {"branch": "-u"},
    {"tag": "-u"},
    {"commit": "--output=f"},
    {"commit": "abc"},
    {"commit": "A" * 40},
    {"name": "--output=f"},
    {"name": "main"},
    {"name": "refs/heads/../../x"},
    {"branch": "a..b"},
    {"branch": "a b"},
    {"branch": "a\nb"},
    {"branch": "a:b"},
    {"branch": "a^"},
    {"branch": "a*"},
    {"branch": "a@{1}"},
    {"branch": "a.lock"},
    {"branch": ".a"},
    {"branch": "a/"},
    {"branch": "a//b"},
    {"branch": "a."},
    {"branch": "a/-b"},
    {"branch": "a" * 300},
    {"commit": C1, "branch": "-u"},
]


@pytest.mark.parametrize("fields", BAD_REFS, ids=str)
def test_t2_references_that_could_be_options_or_climb_are_refused(fields):
    with pytest.raises(Terminal) as error:
        wanted_ref(
            GitRef.model_construct(
                **{"branch": None, "tag": None, "semver": None, "name": None, "commit": None, **fields}
            )
        )
    assert error.value.reason == "InvalidReference"
    assert "ref." in error.value.message


def test_g5_commit_beats_name_beats_tag_beats_semver_beats_branch():
    fields = {"branch": "main", "semver": "1.x", "tag": "1.0.0", "name": "refs/pull/1/head", "commit": C1}
    kinds = []
    for dropped in ("commit", "name", "tag", "semver", "branch"):
        kinds.append(wanted_ref(GitRef(**fields)).kind)
        del fields[dropped]
    assert kinds == ["commit", "name", "tag", "semver", "branch"]
    assert wanted_ref(GitRef()) == wanted_ref(None) == gitrefs.Wanted("branch", "master", "master")


LABELS = [
    ({"branch": "feat/a"}, f"feat/a@sha1:{C1}"),
    ({"tag": "v1.2.0"}, f"v1.2.0@sha1:{C1}"),
    ({"commit": C1}, f"sha1:{C1}"),
    ({"commit": C1, "branch": "main"}, f"main@sha1:{C1}"),
    ({"name": "refs/pull/1/head"}, f"refs/pull/1/head@sha1:{C1}"),
    ({"name": "refs/tags/v1^{}"}, f"refs/tags/v1^{{}}@sha1:{C1}"),
]


@pytest.mark.parametrize(("fields", "text"), LABELS)
def test_revisions_are_written_as_flux_writes_them(fields, text):
    wanted = wanted_ref(GitRef(**fields))
    assert gitrefs.revision(wanted.label, C1) == text
    assert gitrefs.commit_of(text) == C1


def test_a_sha256_repository_says_so():
    assert gitrefs.revision("main", "a" * 64) == f"main@sha256:{'a' * 64}"
    assert gitrefs.commit_of(f"main@sha256:{'a' * 64}") == "a" * 64


def test_old_revision_formats_are_read():
    assert gitrefs.current_format(f"main/{C1}") == f"main@sha1:{C1}"
    assert gitrefs.current_format(C1) == f"sha1:{C1}"
    assert gitrefs.current_format(f"main@sha1:{C1}") == f"main@sha1:{C1}"
    assert gitrefs.commit_of(f"main/{C1}") == C1
    assert gitrefs.commit_of("main") is None


PATTERNS = [
    ({"branch": "a"}, ("refs/heads/a",)),
    ({"tag": "a"}, ("refs/tags/a", "refs/tags/a^{}")),
    ({"name": "refs/x/a"}, ("refs/x/a", "refs/x/a^{}")),
    ({"semver": "1.x"}, ("refs/tags/*",)),
    ({"commit": C1}, ()),
]


@pytest.mark.parametrize(("fields", "patterns"), PATTERNS)
def test_only_what_is_wanted_is_listed(fields, patterns):
    assert wanted_ref(GitRef(**fields)).patterns == patterns


def test_a_listing_is_read_and_annotated_tags_are_peeled():
    refs = gitrefs.parse_listing(f"{C1}\trefs/tags/v1\n{C2}\trefs/tags/v1^{{}}\n{C1}\tHEAD\n".encode())
    assert gitrefs.peeled(refs, "refs/tags/v1") == C2
    assert gitrefs.peeled(refs, "HEAD") == C1
    assert gitrefs.peeled(refs, "refs/tags/v2") is None


@pytest.mark.parametrize(
    "line",
    [
        f"{C1}\trefs/heads/../../x",
        f"{C1}\trefs/heads/a\x1b[0m",
        f"{C1}\trefs/heads/.git",
        f"{C1}\trefs/heads/",
        f"{C1}\trefs//heads",
        f"{C1}\t",
        "no hash\trefs/heads/a",
        "warning: something",
    ],
)
def test_t5_a_listing_with_names_that_climb_is_refused(line):
    with pytest.raises(Transient) as error:
        gitrefs.parse_listing(f"{line}\n".encode())
    assert error.value.reason == "SourceInvalid"


SAME = [
    "https://git.example/acme/shop",
    "http://git.example/acme/shop/",
    "https://git.example/acme/shop.git",
    "https://GIT.example:443/acme/shop.git/",
    "ssh://git@git.example/acme/shop.git",
    "git@git.example:acme/shop.git",
]
OTHER = ["https://git.example/acme/shop2", "https://git.example:8443/acme/shop", "https://other.example/acme/shop"]


def test_spellings_of_one_repository_are_equal_and_others_are_not():
    canonical = {gitrefs.canonical_repository(url) for url in SAME}
    assert canonical == {"git.example/acme/shop"}
    assert canonical.isdisjoint({gitrefs.canonical_repository(url) for url in OTHER})


@pytest.mark.parametrize(
    "text", ["", ".*", "https://.*/.*", "(a+)+$", "https://", "https://h/", "ext::x", "file:///x", "a" * 2000 + "@"]
)
def test_t39_texts_that_are_no_url_match_nothing_quickly(text):
    took = []
    for _ in range(5):
        started = time.perf_counter()
        assert gitrefs.canonical_repository(text) == ""
        took.append(time.perf_counter() - started)
    assert min(took) < 0.01  # of several: the machine has other things to do


def test_the_bare_host_of_ipv6_has_no_brackets():
    assert parse_url("ssh://[2001:db8::1]:2222/x").bare_host == "2001:db8::1"
