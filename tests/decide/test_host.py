"""What Git content may not bring onto the hub itself (trust row 32)."""

from __future__ import annotations

import pytest

from fleet_rollout.decide.host import refusal

OURS = {"kind": "ServiceAccount", "name": "fleet-rollout-controller", "namespace": "fleet-rollout-system"}
RBAC = "rbac.authorization.k8s.io/v1"


def obj(api_version, kind, name="x", namespace="apps", **fields):
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def refused(*objects, namespace="apps", as_itself=False):
    return refusal(objects, namespace=namespace, own_namespace="fleet-rollout-system", as_itself=as_itself)


def binding(*subjects, kind="ClusterRoleBinding", **where):
    return obj(RBAC, kind, subjects=list(subjects), **({"namespace": ""} | where))


@pytest.mark.parametrize(
    "content",
    [
        binding(OURS),
        binding({"kind": "User", "name": "jane"}, OURS),
        binding({"kind": "User", "name": "system:serviceaccount:fleet-rollout-system:fleet-rollout-controller"}),
        binding({"kind": "Group", "name": "system:serviceaccounts:fleet-rollout-system"}),
        binding({"kind": "Group", "name": "system:serviceaccounts"}),
        binding({"kind": "Group", "name": "system:authenticated"}),
        binding(OURS, kind="RoleBinding", namespace="apps"),
        obj(RBAC, "ClusterRole", "fleet-rollout-controller", ""),
    ],
)
def test_t32_the_controllers_rights_are_not_the_contents_business(content):
    assert "would change the rights of the controller" in refused(content)


@pytest.mark.parametrize("as_itself", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        obj("apps.kurator.dev/v1alpha1", "ClusterSync", namespace="other"),
        obj("apps.kurator.dev/v1alpha1", "Application", namespace="other"),
        obj("fleet.kurator.dev/v1alpha1", "Fleet"),
        obj("cluster.kurator.dev/v1alpha1", "AttachedCluster"),
        obj(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "clustersyncs.apps.kurator.dev",
            "",
            spec={"group": "apps.kurator.dev"},
        ),
        obj(
            "apiregistration.k8s.io/v1",
            "APIService",
            "v1alpha1.apps.kurator.dev",
            "",
            spec={"group": "apps.kurator.dev"},
        ),
    ],
)
def test_t32_nor_are_its_kinds(content, as_itself):
    assert "is of a kind that fleet-rollout itself acts on" in refused(content, as_itself=as_itself)


@pytest.mark.parametrize(
    "content",
    [
        obj("apps/v1", "Deployment", "fleet-rollout-controller", "fleet-rollout-system"),
        obj("v1", "Namespace", "fleet-rollout-system", ""),
        obj("coordination.k8s.io/v1", "Lease", "fleet-rollout", "fleet-rollout-system"),
    ],
)
def test_t32_nor_is_its_namespace_but_for_who_may_write_applications_there(content):
    assert "is in the namespace that the controller runs in" in refused(content)
    assert refused(content, namespace="fleet-rollout-system") is None


def test_t32_nor_are_its_admission_policies():
    policy = obj(
        "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "fleet-rollout-clustersyncs", ""
    )
    assert "would change the controller's admission policies" in refused(policy)


RULES = [{"apiGroups": ["apps", "apps.kurator.dev"], "resources": ["clustersyncs"], "operations": ["*"]}]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("MutatingWebhookConfiguration", {"webhooks": [{"name": "a", "rules": RULES}]}),
        ("ValidatingWebhookConfiguration", {"webhooks": [{"name": "a"}, {"name": "b", "rules": RULES}]}),
        ("ValidatingAdmissionPolicy", {"spec": {"matchConstraints": {"resourceRules": RULES}}}),
        ("MutatingAdmissionPolicy", {"spec": {"matchConstraints": {"resourceRules": RULES}}}),
    ],
)
def test_t32_nor_is_the_admission_of_its_kinds(kind, fields):
    content = obj("admissionregistration.k8s.io/v1", kind, "mine", "", **fields)
    assert "would judge or change what fleet-rollout itself acts on" in refused(content)


def test_t32_nor_are_the_inventories_beside_an_application():
    """Their entries say what is deleted from a member, and the controller's account may write them."""
    part = obj("v1", "ConfigMap", "shop-0-m1-inventory-0a1b2c3d")
    assert refused(part, as_itself=True) == (
        "ConfigMap/apps/shop-0-m1-inventory-0a1b2c3d has the name of an inventory's part;"
        " give it a name without -inventory-"
    )
    assert refused(part) is None  # an account of the user's own meets the admission policy
    assert refused(obj("v1", "ConfigMap", "stock-inventory-today"), as_itself=True) is None


def test_t32_what_the_controller_may_write_for_itself_is_not_lent_across_namespaces():
    foreign = obj("v1", "ConfigMap", namespace="other")
    assert refused(foreign, as_itself=True) == (
        "ConfigMap/other/x is in another namespace; set serviceAccountName to an account that may write there"
    )
    assert refused(foreign) is None


@pytest.mark.parametrize(
    "content",
    [
        obj("v1", "ConfigMap"),
        obj("v1", "ConfigMap", namespace=""),
        obj("apps/v1", "Deployment", namespace="other"),
        obj("v1", "Namespace", "shop", ""),
        obj(RBAC, "Role", "deployer"),
        obj(RBAC, "RoleBinding", subjects=[{"kind": "ServiceAccount", "name": "deployer"}]),
        obj(RBAC, "RoleBinding", subjects=None),
        obj("apiextensions.k8s.io/v1", "CustomResourceDefinition", "a.b", "", spec={"group": "b"}),
        obj("apiextensions.k8s.io/v1", "CustomResourceDefinition", "a.b", ""),
        obj("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "mine", ""),
        obj(
            "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mine", "", webhooks=[{"rules": "x"}, 1]
        ),
        obj("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "mine", "", spec={"matchConstraints": [1]}),
        obj("apiextensions.k8s.io/v1", "CustomResourceDefinition", "a.b", "", spec="odd"),
        obj("apiextensions.k8s.io/v1", "CustomResourceDefinition", "a.b", "", spec={"group": ["a"]}),
        obj(RBAC, "RoleBinding", subjects=["odd"]),
        obj(RBAC, "RoleBinding", subjects="odd"),
        obj("rbac.authorization.k8s.io/v1", "Unknown"),
    ],
)
def test_everything_else_is_for_rbac_to_decide(content):
    assert refused(content, as_itself=True) is None
