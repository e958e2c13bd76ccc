"""Makes a manifest say what the API server will make of it, so that a dry run differs only where something does.

Nothing is dropped silently but `status`, which is not Git's to say, and fields that mean nothing in a manifest.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from fleet_rollout.decide.inventory import ref_of
from fleet_rollout.decide.order import CRD

# Where a kind keeps its pod spec.
_POD_SPECS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): ("spec",),
    ("", "ReplicationController"): ("spec", "template", "spec"),
    ("apps", "Deployment"): ("spec", "template", "spec"),
    ("apps", "StatefulSet"): ("spec", "template", "spec"),
    ("apps", "DaemonSet"): ("spec", "template", "spec"),
    ("apps", "ReplicaSet"): ("spec", "template", "spec"),
    ("batch", "Job"): ("spec", "template", "spec"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template", "spec"),
}
_CA_BUNDLE = ("spec", "conversion", "webhook", "clientConfig")


def normalize(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest as it is sent. The original is not touched: one build serves every cluster."""
    ref = ref_of(obj)
    kind = (ref.group, ref.kind)
    metadata = {key: value for key, value in obj["metadata"].items() if key != "creationTimestamp"}
    result = {**obj, "metadata": metadata}
    if kind == CRD:
        return _without_broken_ca(result)
    result.pop("status", None)
    if kind == ("", "Secret"):
        return _with_string_data(result)
    if kind == ("", "Service"):
        return _changed(result, ("spec", "ports"), _with_protocols)
    if path := _POD_SPECS.get(kind):
        return _changed(result, (*path, "containers"), _with_container_protocols)
    return result


def _changed(obj: dict[str, Any], path: tuple[str, ...], change: Any) -> dict[str, Any]:
    """`obj` with `change` applied to what is at `path`; as it was where nothing is there."""
    key, rest = path[0], path[1:]
    value = obj.get(key)
    if rest:
        return {**obj, key: _changed(value, rest, change)} if isinstance(value, dict) else obj
    return {**obj, key: change(value)} if value is not None else obj


def _with_protocols(ports: Any) -> Any:
    # The protocol is part of the merge key of a port, so its default has to be spelt out in an apply.
    if not isinstance(ports, list):
        return ports
    return [{"protocol": "TCP", **port} if isinstance(port, dict) else port for port in ports]


def _with_container_protocols(containers: Any) -> Any:
    if not isinstance(containers, list):
        return containers
    return [_changed(c, ("ports",), _with_protocols) if isinstance(c, dict) else c for c in containers]


def _with_string_data(secret: dict[str, Any]) -> dict[str, Any]:
    """`stringData` merged into `data`, where it wins. A value that is no text is left for the API server to refuse."""
    plain = secret.get("stringData")
    if plain is None:
        return secret
    if not isinstance(plain, dict) or not all(isinstance(value, str) for value in plain.values()):
        return secret
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
    rest = {key: value for key, value in secret.items() if key != "stringData"}
    return {**rest, "data": {**(secret.get("data") or {}), **encoded}} if encoded else rest


def _without_broken_ca(crd: dict[str, Any]) -> dict[str, Any]:
    # Tools ship CRDs with a placeholder that cert-manager replaces; the API server refuses what is no certificate.
    def cleaned(config: Any) -> Any:
        if not isinstance(config, dict) or _is_certificate(config.get("caBundle")):
            return config
        return {key: value for key, value in config.items() if key != "caBundle"}

    return _changed(crd, _CA_BUNDLE, cleaned)


def _is_certificate(bundle: Any) -> bool:
    try:
        return b"-----BEGIN CERTIFICATE-----" in base64.b64decode(bundle or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        return False
