"""`fleet-rollout agent`: the canary engine of one cluster, in a Pod of it or anywhere with `--kubeconfig FILE`.

What a Fleet's `rolloutEngine` says to the hub's engine, flags say here, by Flagger's names where it has them; every
flag is an environment variable, too (FLEET_ROLLOUT_MESH_PROVIDER).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from fleet_rollout.faces.cli.controller import ENVIRONMENT_PREFIX, check_lease, settings_options
from fleet_rollout_api.fleet import RolloutEngine

if TYPE_CHECKING:
    from fleet_rollout.control.agent import AgentOptions, Alerting

LEASE = "fleet-rollout-agent"
ADDRESS_VARIABLE = f"{ENVIRONMENT_PREFIX}_ALERT_ADDRESS"
SHARED = (
    "kubeconfig",
    "namespace",
    "own_namespace",
    "member_connect_timeout",
    "member_request_timeout",
    "member_in_flight",
    "watch_timeout",
    "watch_silence",
    "shortest_interval",
    "own_ranges",
    "telemetry_address",
    "lease_name",
    "lease_duration",
    "lease_renew_deadline",
    "lease_retry",
    "shutdown_timeout",
    "log_format",
    "log_level",
)
HELPS = {
    "kubeconfig": "kubeconfig of the cluster; without it the Pod's service account",
    "namespace": "only Canaries of this namespace; all when left out",
    "own_namespace": "namespace of the Lease",
    "member_connect_timeout": "TCP and TLS to the API server",
    "member_request_timeout": "one request to the API server",
    "member_in_flight": "requests in flight to the API server",
    "own_ranges": "ranges of the agent's own cluster, which hooks and metrics may not reach directly",
}


def option(flag: str, *names: str, **more: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A flag with its environment variable."""
    variable = f"{ENVIRONMENT_PREFIX}_{flag.partition('/')[0].removeprefix('--').replace('-', '_').upper()}"
    return click.option(flag, *names, envvar=variable, show_envvar=True, show_default=True, **more)


@click.command()
@option("--metrics-server", help="Prometheus for the built-in queries  [default: http://prometheus.istio-system:9090]")
@option("--mesh-provider", help="what routes the traffic of Canaries that name no provider  [default: istio]")
@option("--event-webhook", help="gets every event of a canary as a POST")
@option("--selector-labels", help="labels by which a workload selects its Pods, separated by commas, in this order")
@option("--include-label-prefix", help="prefixes of labels that generated objects take over; * is all of them")
@option("--ingress-class", help="class of generated routing objects (contour)")
@option("--ingress-annotations-prefix", help="prefix of nginx's annotations  [default: nginx.ingress.kubernetes.io]")
@option("--cluster-name", help="name of the cluster in alerts and metrics")
@option(
    "--allowed-address",
    "allowed_addresses",
    multiple=True,
    help="where hooks and metrics may lead beside a Canary's own namespace; may be repeated",
)
@option(
    "--plain-canaries",
    type=click.Choice(["adopt", "ignore"]),
    help="Canaries that name no engine  [default: adopt with --kubeconfig, else ignore]",
)
@option("--enable-config-tracking/--no-enable-config-tracking", "config_tracking", default=True)
@option("--no-cross-namespace-refs", is_flag=True, help="refuse MetricTemplates and AlertProviders of other namespaces")
@option("--smi-adapter", is_flag=True, help="turn TrafficSplits into Istio's VirtualServices")
@option("--alert-type", type=click.Choice(["slack", "msteams", "discord", "rocket", "gchat"]), help="who is told")
@option(
    "--alert-secret",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"folder of a mounted Secret with `address` (and `token`); or set {ADDRESS_VARIABLE}",
)
@option("--alert-channel", default="", help="where to write")
@option("--alert-username", default="", help="name to write under")
@option("--alert-proxy", default="", help="HTTP proxy to the chat system")
@option("--alert-severity", type=click.Choice(["info", "warn", "error"]), default="info", help="lowest that is sent")
@settings_options(SHARED, HELPS, lease_name=LEASE)
def agent(**values: Any) -> None:
    """Drive the Canaries of one cluster until SIGTERM.

    Canaries with the annotation apps.kurator.dev/engine: agent are driven; those of another engine never are.
    """
    from fleet_rollout.control.agent import AgentHealth, run
    from fleet_rollout.faces.service import serve
    from fleet_rollout.settings import Settings

    settings = Settings(**{name: values[name] for name in SHARED}, allowed_addresses=tuple(values["allowed_addresses"]))
    check_lease(settings)
    options, health = options_of(values, settings.shortest_interval), AgentHealth()
    raise SystemExit(serve(settings, health, lambda stop: run(settings, options, health=health, stop=stop)))


def options_of(values: dict[str, Any], shortest_interval: float) -> AgentOptions:
    """What the flags say; checked as a Fleet is."""
    from fleet_rollout.control.agent import AgentOptions
    from fleet_rollout.decide.engines import options_from

    said = _said(values)
    engine = options_from(said, said.cluster_name or "", shortest_interval=shortest_interval)
    engine = replace(
        engine,
        ingress_annotations_prefix=values["ingress_annotations_prefix"] or engine.ingress_annotations_prefix,
        config_tracking=values["config_tracking"],
        no_cross_namespace_refs=values["no_cross_namespace_refs"],
        lends_identity=True,  # the cluster's own, as Flagger does
    )
    adopts = values["plain_canaries"] or ("adopt" if values["kubeconfig"] else "ignore")
    return AgentOptions(engine, adopts == "adopt", values["smi_adapter"], _alerting(values))


def _said(values: dict[str, Any]) -> RolloutEngine:
    plain = ("metrics_server", "mesh_provider", "event_webhook", "ingress_class", "cluster_name")
    given = {name: values[name] for name in plain}
    given |= {name: _listed(values[name]) for name in ("selector_labels", "include_label_prefix")}
    given["allowed_addresses"] = list(values["allowed_addresses"]) or None
    try:
        return RolloutEngine.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        flag = RolloutEngine.model_fields[name].alias if name in RolloutEngine.model_fields else name
        raise click.BadParameter(f"{flag}: {first['msg']}") from None


def _listed(text: str | None) -> list[str] | None:
    parts = [part.strip() for part in (text or "").split(",")]
    return [part for part in parts if part] or None


def _alerting(values: dict[str, Any]) -> Alerting | None:
    from fleet_rollout.control.agent import Alerting

    address = os.environ.get(ADDRESS_VARIABLE, "")
    if not values["alert_type"]:
        if address or values["alert_secret"]:
            raise click.UsageError("alerts have an address and no --alert-type; name the chat system")
        return None
    if not address and not values["alert_secret"]:
        raise click.UsageError(f"--alert-type needs --alert-secret, or {ADDRESS_VARIABLE} in the environment")
    return Alerting(
        type=values["alert_type"],
        secret=values["alert_secret"],
        address=address,
        channel=values["alert_channel"],
        username=values["alert_username"],
        proxy=values["alert_proxy"],
        severity=values["alert_severity"],
    )
