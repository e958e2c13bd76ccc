"""What git's own words become: a reason, a message with a fix, and nothing that must not be shown."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.gitrefs import parse_url
from fleet_rollout.sources.credentials import NO_CREDENTIALS, credentials_for
from fleet_rollout.sources.git import GitFailed
from fleet_rollout.sources.git_errors import LONGEST_EXCERPT, failure

URL = parse_url("https://git.example/acme/shop")
BEARER = credentials_for("https", {"bearerToken": b"token-value"})

WORDS = [
    ("Host key verification failed.\nfatal: Could not read from remote repository.", "HostKeyMismatch"),
    ("@@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@@", "HostKeyMismatch"),
    ("fatal: Authentication failed for 'https://git.example/acme/shop/'", "AuthenticationFailed"),
    ("fatal: could not read Username for 'https://git.example': terminal prompts disabled", "AuthenticationFailed"),
    ("git@git.example: Permission denied (publickey).", "AuthenticationFailed"),
    ("fatal: unable to access 'https://x/': The requested URL returned error: 403", "AuthenticationFailed"),
    ("fatal: unable to access 'https://x/': The requested URL returned error: 302", "CredentialRedirect"),
    ("fatal: repository 'https://git.example/acme/shop/' not found", "GitOperationFailed"),
    ("fatal: unable to access 'https://x/': SSL certificate problem: self-signed certificate", "GitOperationFailed"),
    ("fatal: unable to access 'https://x/': Failed to connect to x port 443: Connection refused", "GitOperationFailed"),
    ("", "GitOperationFailed"),
]


@pytest.mark.parametrize(("words", "reason"), WORDS)
def test_each_failure_has_its_reason(words, reason):
    error = failure(GitFailed(128, words), "list remote", URL, BEARER)
    assert error.reason == reason
    assert error.message.startswith("failed to checkout and determine revision: unable to list remote 'https://git.exa")


def test_a_redirect_without_credentials_is_only_a_wrong_address():
    words = "The requested URL returned error: 301"
    assert failure(GitFailed(128, words), "clone", URL, NO_CREDENTIALS).reason == "GitOperationFailed"


def test_t21_excerpts_hold_no_secret_no_path_of_ours_and_no_control_characters():
    words = "remote: \x1b[31mtoken-value\u202e\nfatal: bad config in /dev/shm/fleet-rollout-abc/gitconfig\n"
    words += "x" * 1000
    message = failure(GitFailed(1, words), "clone", URL, BEARER).message
    assert "token-value" not in message
    assert "gitconfig" not in message
    assert message.isprintable()
    assert len(message) < LONGEST_EXCERPT + 150


def test_an_exit_without_words_says_so():
    assert failure(GitFailed(-9, ""), "clone", URL, BEARER).message.endswith("git ended with -9")
