"""Does a pushed reference concern a source? A push to another branch must not make every cluster look for drift."""

from __future__ import annotations

from fleet_rollout.decide.gitrefs import DEFAULT_BRANCH, RefFields

BRANCHES, TAGS = "refs/heads/", "refs/tags/"


def concerns(wanted: RefFields | None, pushed: str) -> bool:
    """Whether a push of `pushed` (`refs/heads/main`, or only `main`) may change what `wanted` stands for."""
    if wanted is not None and wanted.commit:
        return False
    if wanted is not None and wanted.name:
        return wanted.name.removesuffix("^{}") == pushed or not pushed.startswith("refs/")
    if wanted is not None and (wanted.tag or wanted.semver):
        return not pushed.startswith(BRANCHES)
    branch = (wanted.branch if wanted is not None else None) or DEFAULT_BRANCH
    return pushed in (branch, BRANCHES + branch)
