"""Is an admission policy that we rely on in force? It is looked for at each start (docs/security.md)."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
FIX = "apply config/policies"


def complaint(name: str, policy: Object | None, binding: Object | None) -> str | None:
    """What is wrong with the policy or its binding of the same name, and the fix; None where both are in force."""
    if policy is None:
        return f"ValidatingAdmissionPolicy {name} is missing; {FIX}"
    if policy.get("spec", {}).get("failurePolicy", "Fail") != "Fail":
        return f"ValidatingAdmissionPolicy {name} has a failurePolicy that lets pass what it cannot judge; {FIX}"
    if binding is None:
        return f"ValidatingAdmissionPolicyBinding {name} is missing; {FIX}"
    spec = binding.get("spec", {})
    if spec.get("policyName") != name:
        return f"ValidatingAdmissionPolicyBinding {name} binds another policy; {FIX}"
    if "Deny" not in spec.get("validationActions", ()):
        return f"ValidatingAdmissionPolicyBinding {name} does not deny; {FIX}"
    if spec.get("matchResources"):
        return f"ValidatingAdmissionPolicyBinding {name} has matchResources, which leave objects out; {FIX}"
    return None
