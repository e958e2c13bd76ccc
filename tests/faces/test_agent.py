"""The flags of `fleet-rollout agent`: what they make of the engine's options, and which are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fleet_rollout.decide.canary.alerts import Unsendable
from fleet_rollout.decide.canary.subject import EngineOptions
from fleet_rollout.faces import service
from fleet_rollout.faces.cli.agent import agent
from fleet_rollout.settings import Settings

Started = list[dict[str, Any]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """What the command would serve."""
    from fleet_rollout.control import agent as control

    found: Started = []

    def serve(settings: Settings, health: Any, work: Any) -> int:
        found.append({"settings": settings})
        work(asyncio.Event())
        return 0

    def run(settings: Settings, options: Any, **more: Any) -> None:
        found[-1]["options"] = options

    monkeypatch.setattr(service, "serve", serve)
    monkeypatch.setattr(control, "run", run)
    return found


def options(started: Started, *flags: str, **environment: str) -> Any:
    result = CliRunner().invoke(agent, flags, env=environment)
    assert result.exit_code == 0, result.output
    return started[-1]["options"]


def test_without_flags_everything_has_a_default(started: Started) -> None:
    found = options(started)
    assert found.engine == EngineOptions(metrics_server="http://prometheus.istio-system:9090", lends_identity=True)
    assert (found.adopts_plain, found.smi_adapter, found.alerting) == (False, False, None)
    assert started[-1]["settings"].lease_name == "fleet-rollout-agent"


def test_flags_are_flaggers(started: Started) -> None:
    found = options(
        started,
        "--metrics-server=http://prometheus.monitoring:9090",
        "--mesh-provider=smi:istio",
        "--event-webhook=https://events.example.com/",
        "--selector-labels=app, name",
        "--include-label-prefix=app.kubernetes.io,team",
        "--ingress-class=contour",
        "--ingress-annotations-prefix=custom.ingress.kubernetes.io",
        "--cluster-name=west",
        "--no-enable-config-tracking",
        "--no-cross-namespace-refs",
        "--allowed-address=monitoring",
        "--allowed-address=hooks.shared:80",
        "--smi-adapter",
        "--namespace=shop",
    )
    assert found.engine == EngineOptions(
        mesh_provider="smi:istio",
        metrics_server="http://prometheus.monitoring:9090",
        selector_labels=("app", "name"),
        include_label_prefix=("app.kubernetes.io", "team"),
        ingress_annotations_prefix="custom.ingress.kubernetes.io",
        ingress_class="contour",
        cluster_name="west",
        event_webhook="https://events.example.com/",
        config_tracking=False,
        no_cross_namespace_refs=True,
        lends_identity=True,
    )
    settings = started[-1]["settings"]
    assert settings.allowed_addresses == ("monitoring", "hooks.shared:80")
    assert settings.namespace == "shop"
    assert found.smi_adapter


def test_every_flag_is_a_variable(started: Started) -> None:
    found = options(started, FLEET_ROLLOUT_MESH_PROVIDER="linkerd", FLEET_ROLLOUT_ALLOWED_ADDRESS="a b.c")
    assert found.engine.mesh_provider == "linkerd"
    assert started[-1]["settings"].allowed_addresses == ("a", "b.c")


@pytest.mark.parametrize(
    ("flags", "adopts"),
    [
        ((), False),
        (("--kubeconfig=/k",), True),
        (("--kubeconfig=/k", "--plain-canaries=ignore"), False),
        (("--plain-canaries=adopt",), True),
    ],
)
def test_with_a_kubeconfig_every_canary_of_the_cluster_is_driven(
    started: Started, flags: tuple[str, ...], adopts: bool
) -> None:
    """In a Pod the hub has brought them, and says by an annotation whose they are."""
    assert options(started, *flags).adopts_plain is adopts


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--mesh-provider=appmesh"], "meshProvider"),
        (["--metrics-server=prometheus:9090"], "metricsServer"),
        (["--event-webhook=x"], "eventWebhook"),
        (["--allowed-address=a b"], "allowedAddresses"),
        (["--alert-type=slack"], "--alert-type needs --alert-secret, or FLEET_ROLLOUT_ALERT_ADDRESS"),
        (["--alert-secret=/s"], "name the chat system"),
        (["--plain-canaries=maybe"], "maybe"),
    ],
)
def test_what_cannot_be_meant_is_refused(started: Started, flags: list[str], said: str) -> None:
    result = CliRunner().invoke(agent, flags)
    assert result.exit_code == 2
    assert said in result.output
    assert not started


def test_the_address_of_alerts_is_no_flag(started: Started, tmp_path: Path) -> None:
    """It is a credential: it comes from the environment, or from a mounted Secret, which is read at each delivery."""
    flags = ["--alert-type=slack", "--alert-channel=ops", "--alert-severity=error"]
    address = "https://hooks.example.com/T1/secret"
    found = options(started, *flags, FLEET_ROLLOUT_ALERT_ADDRESS=address).alerting
    assert "hooks.example.com" not in repr(found)
    default = found.default()
    to = asyncio.run(default.find())
    assert (to.type, to.address, to.channel, to.username, default.severity) == (
        "slack",
        address,
        "ops",
        "flagger",
        "error",
    )
    folder = tmp_path / "alerts"
    find = options(started, *flags, f"--alert-secret={folder}").alerting.default().find
    with pytest.raises(Unsendable, match="cannot be read"):
        asyncio.run(find())
    folder.mkdir()
    with pytest.raises(Unsendable, match="no key `address`"):
        asyncio.run(find())
    (folder / "address").write_text(f"{address}2\n")
    (folder / "token").write_text("xoxb")
    to = asyncio.run(find())
    assert (to.address, to.token) == (f"{address}2", "xoxb")
