"""Safeguards, what drops each from the source, and the tests that must then fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Safeguard:
    """`kept` is in `file` exactly once; with `dropped` in its place at least one of `tests` has to fail."""

    name: str
    file: str
    kept: str
    dropped: str
    tests: tuple[str, ...]

    def is_in_place(self, root: Path = ROOT) -> bool:
        return (root / self.file).read_text("utf-8").count(self.kept) == 1

    def drop(self, root: Path) -> None:
        """Change the copy of the source at `root`."""
        path = root / self.file
        path.write_text(path.read_text("utf-8").replace(self.kept, self.dropped), "utf-8")


RECORD = """        if writes:
            await self._record()
"""
WRITE = """        with refusals.reached(cluster):
            live |= await self._all_written(writes)
"""
PRECONDITION = """                    uid=seen["uid"],
                    resource_version=seen["resourceVersion"],
"""
AS_ACCOUNT = """                    impersonate=impersonate,
                )
            except ApiError"""
AS_ITSELF = """                )
            except ApiError"""
FENCE = """            if self.method not in READS:
                checked()
"""

LEAVING = """        if self._is_leaving:
            return True
"""

SAFEGUARDS = (
    Safeguard(
        "a delete is bound to the object that was looked at",
        "fleet_rollout/kube/prune.py",
        PRECONDITION,
        "",
        (
            "tests/rooms/kube_apply/test_prune.py::test_what_is_taken_over_while_we_look_is_not_deleted",
            "tests/rooms/kube_apply/test_prune.py::"
            "test_many_of_a_kind_cost_one_list_and_one_delete_each_bound_to_what_was_seen",
        ),
    ),
    Safeguard(
        "only what this sync has written is pruned",
        "fleet_rollout/kube/prune.py",
        "if is_kept(live) or not is_owned(live, self.owner):",
        "if is_kept(live):",
        ("tests/rooms/kube_apply/test_prune.py::test_g20_what_another_sync_has_taken_over_is_not_deleted",),
    ),
    Safeguard(
        "what is pruned is deleted as the policy's account",
        "fleet_rollout/kube/prune.py",
        AS_ACCOUNT,
        AS_ITSELF,
        ("tests/rooms/kube_apply/test_impersonation.py",),
    ),
    Safeguard(
        "the inventory is written before objects are",
        "fleet_rollout/kube/apply.py",
        RECORD + WRITE,
        WRITE + RECORD,
        (
            "tests/rooms/kube_apply/test_apply.py::"
            "test_the_inventory_is_recorded_once_before_the_first_write_and_not_without_one",
        ),
    ),
    Safeguard(
        "a plan is no intent for an object that is not recorded yet",
        "fleet_rollout/control/draft.py",
        "and _recorded(before) == _recorded(self.status)",
        "",
        ("tests/control/test_intent.py",),
    ),
    Safeguard(
        "a new leader says so before it writes to a member",
        "fleet_rollout/control/draft.py",
        "return status.attempt is not None and status.attempt.epoch == self._world.epoch()",
        "return status.attempt is not None",
        ("tests/control/test_intent.py",),
    ),
    Safeguard(
        "an engine that sees an old Canary takes nothing back",
        "fleet_rollout/control/engine/tick.py",
        'if progress(found.get("status")) not in self._progress:',
        "if not self._progress:",
        ("tests/control/engine/test_bad_input.py::test_who_sees_an_old_canary_takes_nothing_back",),
    ),
    Safeguard(
        "a Canary is looked at after its objects",
        "fleet_rollout/control/engine/hands.py",
        "if writes and look is not None and not self._has_looked:",
        "if writes and look is not None and self._has_looked:",
        ("tests/control/engine/test_bad_input.py::test_who_sees_an_old_canary_takes_nothing_back",),
    ),
    Safeguard(
        "in lockdown a rollout stays in its Application's namespace",
        "fleet_rollout/decide/translate.py",
        'if wanted.only_namespace not in ("", wanted.namespace):',
        'if wanted.only_namespace not in ("", wanted.only_namespace):',
        ("tests/decide/test_translate.py",),
    ),
    Safeguard(
        "what is given back is looked at first",
        "fleet_rollout/control/engine/tick.py",
        LEAVING,
        "",
        ("tests/control/engine/test_bad_input.py::test_what_is_given_back_is_looked_at_first",),
    ),
    Safeguard(
        "an object of another owner is not written",
        "fleet_rollout/kube/writer.py",
        "if live is not None and (conflict := ownership_conflict(live, self.owner)):",
        "if live is None and (conflict := ownership_conflict(desired, self.owner)):",
        ("tests/rooms/kube_apply/test_ownership.py::test_two_applications_that_claim_one_object",),
    ),
    Safeguard(
        "what one member has accepted is not believed where somebody else owns a field",
        "fleet_rollout/kube/rehearsals.py",
        "return (step.ref.group, step.ref.kind) in KINDS and is_ours",
        "return (step.ref.group, step.ref.kind) in KINDS",
        ("tests/rooms/kube_apply/test_rehearsals.py",),
    ),
    Safeguard(
        "a part of an inventory is compared with its name",
        "fleet_rollout/control/inventories.py",
        "if _part_name(sync, text) == name:",
        "if text:",
        ("tests/stories/test_inventory_parts.py",),
    ),
    Safeguard(
        "the leader's deadline is checked before a request leaves",
        "fleet_rollout/kube/transport.py",
        FENCE,
        "",
        ("tests/rooms/kube/test_lease.py::test_a_leader_that_was_suspended_may_not_send_before_it_has_won_a_new_term",),
    ),
    Safeguard(
        "answers of a name are checked before one is dialled",
        "fleet_rollout/decide/canary/addresses.py",
        "if is_own_machine(address) or is_metadata_or_multicast(address):",
        "if is_own_machine(address) and is_metadata_or_multicast(address):",
        ("tests/decide/canary/test_addresses.py",),
    ),
    Safeguard(
        "a path does not climb out of the artifact",
        "fleet_rollout/render/tree.py",
        'if joined == ".." or joined.startswith("../"):',
        'if joined == "..":',
        ("tests/rooms/render/test_confinement.py::test_t11_no_field_reads_outside_the_artifact",),
    ),
    Safeguard(
        "a kubeconfig starts no program",
        "fleet_rollout/kube/access.py",
        '        "exec": "it would run a program on the hub; put a token or a client certificate there",\n',
        "",
        ("tests/rooms/kube/test_access.py",),
    ),
    Safeguard(
        "credentials do not follow a redirect",
        "fleet_rollout/sources/git_environment.py",
        '"followRedirects = false"',
        '"followRedirects = true"',
        ("tests/rooms/sources/test_attacks.py::test_t8_credentials_do_not_follow_a_redirect",),
    ),
    Safeguard(
        "announcements are authenticated",
        "fleet_rollout/sources/signatures.py",
        "return bool(key) and check(key, headers, body, now)",
        "return bool(key)",
        ("tests/rooms/sources/test_receiver.py",),
    ),
    Safeguard(
        "in lockdown a dependency stays in its namespace",
        "fleet_rollout/decide/dependencies.py",
        "return cross_namespace_refs or (dependency.namespace or namespace) == namespace",
        "return True",
        ("tests/decide/test_dependencies.py", "tests/decide/test_plan.py"),
    ),
    Safeguard(
        "content for the hub holds none of the service's kinds",
        "fleet_rollout/decide/host.py",
        "if ref.group in OWN_GROUPS or _defines_ours(obj, ref):",
        "if _defines_ours(obj, ref):",
        ("tests/decide/test_host.py",),
    ),
    Safeguard(
        "content for the hub writes no inventory",
        "fleet_rollout/decide/host.py",
        'if ref.kind == "ConfigMap" and PART.fullmatch(ref.name):',
        'if ref.kind == "ConfigMap" and not ref.name:',
        ("tests/decide/test_host.py",),
    ),
    Safeguard(
        "the values of a document are counted before it is built",
        "fleet_rollout/render/documents.py",
        "if size > DOCUMENT_VALUES:",
        "if size < 0:",
        ("tests/rooms/render/test_width.py::test_t18_a_document_of_many_short_values_is_refused_before_it_is_built",),
    ),
    Safeguard(
        "the hub's cloud identity is not lent to members",
        "fleet_rollout/metrics/query.py",
        "if not self.lends_identity:",
        "if not self.bulkheads:",
        ("tests/rooms/metrics/test_cloudwatch.py", "tests/rooms/metrics/test_stackdriver.py"),
    ),
    Safeguard(
        "a build is confined",
        "fleet_rollout/render/program.py",
        "return None if is_free else Confinement((root, program.path))",
        "return None",
        ("tests/test_confinement.py::test_a_build_is_confined",),
    ),
    Safeguard(
        "an answer of millions of values is not parsed",
        "fleet_rollout/kube/answers.py",
        'return len(content) > MOST_VALUES and sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES',
        "return False",
        ("tests/rooms/kube/test_misbehaving.py::test_a_list_of_more_values_than_are_kept_is_not_parsed",),
    ),
    Safeguard(
        "what a lost member still had is pruned as the policy's account",
        "fleet_rollout/control/orphans.py",
        '"account": self._targets.impersonate(sync),',
        '"account": None,',
        (
            "tests/stories/test_apply_impersonation.py::test_t29_what_a_lost_member_still_had_is_pruned_as_the_account_too",
        ),
    ),
    Safeguard(
        "what another policy holds is not pruned, however long its inventory is",
        "fleet_rollout/control/targets.py",
        "{entry.id for entry in await self._inventory(other)}",
        "{entry.id for entry in (other.status.inventory.entries if other.status.inventory else [])}",
        ("tests/stories/test_planner_changes.py::test_a_renamed_policy_keeps_what_it_only_creates",),
    ),
    Safeguard(
        "a member's objects have names",
        "fleet_rollout/kube/answers.py",
        'return _is_object(value) and bool(value["metadata"].get("name"))',
        "return _is_object(value)",
        ("tests/rooms/kube/test_answers_properties.py",),
    ),
    Safeguard(
        "of a write that is lost the outcome is read, and what is sent then is prepared like the first",
        "fleet_rollout/kube/writer.py",
        "        now = await self._prepared(ref, desired, found.live)\n",
        "        now = found.live\n",
        (
            "tests/rooms/kube_apply/test_lost.py::test_a_write_that_is_lost_is_carried_out_once_in_the_same_pass",
            "tests/rooms/kube_apply/test_lost.py::test_a_workload_under_a_rollout_begins_with_its_replicas",
        ),
    ),
    Safeguard(
        "after a restart the status says whose content an artifact is",
        "fleet_rollout/control/artifacts.py",
        "spec = _spec_of(obj) if _is_of_this_generation(status, obj) else None",
        "spec = None",
        (
            "tests/control/test_artifacts.py::"
            "test_an_edit_beside_a_source_that_is_away_is_carried_out_after_a_restart_too",
        ),
    ),
    Safeguard(
        "nothing is removed for an Application before all were read",
        "fleet_rollout/control/artifacts.py",
        "if not self._world.store.is_synced(APPLICATIONS.plural):",
        "if False:",
        ("tests/control/test_artifacts.py::test_what_this_replica_cannot_know_of_is_left_alone",),
    ),
)
