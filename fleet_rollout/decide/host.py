"""What an Application without destination may not bring onto the hub: the service's own parts (trust row 32).

Whoever may write to Git would otherwise act with the controller's rights: on other Fleets through its kinds, on
other namespaces through its account, on itself through its rights, policies and Deployment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fleet_rollout.decide.inventory import RBAC_GROUP, Ref, ref_of
from fleet_rollout.decide.names import GROUP

Object = Mapping[str, Any]

OWN_GROUPS = frozenset({GROUP, "fleet.kurator.dev", "cluster.kurator.dev"})
ADMISSION_GROUP = "admissionregistration.k8s.io"
# Kinds whose `spec.group` says whose kinds they serve.
DEFINITIONS = frozenset(
    {("apiextensions.k8s.io", "CustomResourceDefinition"), ("apiregistration.k8s.io", "APIService")}
)
PREFIX = "fleet-rollout"
BINDINGS = frozenset({"RoleBinding", "ClusterRoleBinding"})
ROLES = frozenset({"Role", "ClusterRole"})
# What the controller's account writes for itself in any namespace (config/rbac), whoever owns that namespace.
LENT = frozenset({("", "ConfigMap"), ("", "Event")})
# Parts of a ClusterSync's inventory (control/inventories.py): what they name is what may be deleted from a member.
PART = re.compile(r".+-inventory-[0-9a-f]{8}")
FIX = "take it out of the Application's content"


def refusal(objects: Iterable[Object], *, namespace: str, own_namespace: str, as_itself: bool) -> str | None:
    """Why this content may not be brought onto the hub; None where it may.

    `namespace` is the Application's. In `own_namespace` the controller runs; who may write Applications there may do
    what it does. `as_itself`: no service account is impersonated.
    """
    for obj in objects:
        ref = ref_of(obj)
        if (fact := _fact(obj, ref, namespace, own_namespace, as_itself)) is not None:
            return f"{ref.subject} {fact}"
    return None


def _fact(obj: Object, ref: Ref, namespace: str, own: str, as_itself: bool) -> str | None:
    if ref.group in OWN_GROUPS or _defines_ours(obj, ref):
        return f"is of a kind that fleet-rollout itself acts on; {FIX}"
    if own != namespace and (ref.namespace == own or (ref.group, ref.kind, ref.name) == ("", "Namespace", own)):
        return f"is in the namespace that the controller runs in; {FIX}"
    if _is_our_right(obj, ref, own):
        return f"would change the rights of the controller; {FIX}"
    if ref.group == ADMISSION_GROUP and ref.name.startswith(PREFIX):
        return f"would change the controller's admission policies; {FIX}"
    if ref.group == ADMISSION_GROUP and OWN_GROUPS & {*_judged(obj)}:
        return f"would judge or change what fleet-rollout itself acts on; {FIX}"
    return _beyond_own(ref, namespace) if as_itself else None


def _beyond_own(ref: Ref, namespace: str) -> str | None:
    """What the controller may write for itself, and whoever may write to Git may not."""
    if (ref.group, ref.kind) not in LENT:
        return None
    if ref.namespace not in ("", namespace):
        return "is in another namespace; set serviceAccountName to an account that may write there"
    if ref.kind == "ConfigMap" and PART.fullmatch(ref.name):
        return "has the name of an inventory's part; give it a name without -inventory-"
    return None


def _defines_ours(obj: Object, ref: Ref) -> bool:
    return (ref.group, ref.kind) in DEFINITIONS and str(_mapping(obj.get("spec")).get("group")) in OWN_GROUPS


def _judged(obj: Object) -> Iterator[str]:
    """The API groups that the rules of a webhook or an admission policy name."""
    constraints = _mapping(_mapping(obj.get("spec")).get("matchConstraints"))
    places = [constraints.get("resourceRules"), *(_mapping(each).get("rules") for each in _list(obj.get("webhooks")))]
    for rule in (rule for place in places for rule in _list(place)):
        yield from map(str, _list(_mapping(rule).get("apiGroups")))


def _is_our_right(obj: Object, ref: Ref, own: str) -> bool:
    """A role by our name, or a binding that has an account of the controller's namespace among its subjects."""
    if ref.group != RBAC_GROUP:
        return False
    if ref.kind in ROLES:
        return ref.name.startswith(PREFIX)
    subjects = map(_mapping, _list(obj.get("subjects")))
    return ref.kind in BINDINGS and any(_is_ours(subject, ref, own) for subject in subjects)


def _is_ours(subject: Object, ref: Ref, own: str) -> bool:
    name = str(subject.get("name") or "")
    if subject.get("kind") == "ServiceAccount":
        return (subject.get("namespace") or ref.namespace) == own and name.startswith(PREFIX)
    ours = ("system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{own}")
    return name in ours or name.startswith(f"system:serviceaccount:{own}:{PREFIX}")


def _mapping(value: Any) -> Object:
    """What Git has may be of any shape; the API server refuses what is not of the kind's."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
