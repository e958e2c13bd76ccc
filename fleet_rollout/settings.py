"""Every limit and default of the service in one place, with its unit and the reason for the number.

Each field is also a flag of `fleet-rollout controller` (`--retry-max`) and an environment variable
(`FLEET_ROLLOUT_RETRY_MAX`); the flag wins. Whole numbers are counts and sizes: they are 1 at least.
Durations are finite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _setting(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    """`choices` are the only values there are."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """Immutable; made once at start. Durations in seconds, sizes in bytes."""

    # Where it runs
    kubeconfig: Path | None = _setting(None, "kubeconfig of the hub; without it the Pod's service account")
    namespace: str | None = _setting(None, "only this namespace (Roles instead of ClusterRoles)")
    own_namespace: str = _setting("fleet-rollout-system", "namespace of the Lease and of orphan records")
    data_dir: Path = _setting(Path("/var/lib/fleet-rollout"), "artifacts and mirrors; may be empty at start")

    # Retries and intervals
    retry_min: float = _setting(5.0, "first back-off after a failure")
    retry_max: float = _setting(300.0, "longest back-off after repeated failures")
    interval_jitter: float = _setting(0.05, "share by which intervals are spread, both ways")
    dependency_retry: float = _setting(5.0, "how often an unmet dependsOn is looked at")
    health_poll: float = _setting(1.0, "how often unfinished health checks are looked at")

    # Members
    member_connect_timeout: float = _setting(5.0, "TCP and TLS to a member")
    member_request_timeout: float = _setting(30.0, "one request to a member")
    member_in_flight: int = _setting(16, "requests in flight per member")
    member_check_interval: float = _setting(60.0, "how often AttachedCluster status is checked")
    member_breaker_failures: int = _setting(3, "failures in a row that open a member's breaker")
    member_breaker_min: float = _setting(5.0, "first pause of an open breaker")
    member_breaker_max: float = _setting(60.0, "longest pause of an open breaker")
    member_give_up: float = _setting(900.0, "then what a lost member still holds is recorded as orphaned")
    watch_timeout: float = _setting(290.0, "server-side end of a watch; it then resumes")
    watch_silence: float = _setting(120.0, "a watch without event or bookmark for this long is opened anew")
    workers: int = _setting(64, "ClusterSyncs reconciled at the same time")
    allow_insecure_kubeconfig: bool = _setting(False, "accept files, proxies and insecure TLS in kubeconfigs")

    # Sources
    source_workers: int = _setting(8, "Git operations at the same time")
    source_max_bytes: int = _setting(512 * 1024 * 1024, "largest repository fetch on disk")
    artifact_max_bytes: int = _setting(100 * 1024 * 1024, "largest artifact, uncompressed")
    artifact_max_files: int = _setting(20_000, "most files in an artifact")
    artifact_retention: float = _setting(60.0, "age after which superseded artifacts are collected")
    artifact_records: int = _setting(2, "artifacts kept per source")
    allow_http_sources: bool = _setting(True, "accept http:// Git URLs beside https:// and ssh://")
    allow_loopback_sources: bool = _setting(False, "dial loopback and link-local sources (the lab does)")

    # Render
    render_timeout: float = _setting(60.0, "one kustomize build")
    render_memory: int = _setting(2 * 1024**3, "address space of one kustomize build")
    render_output: int = _setting(64 * 1024 * 1024, "output of one kustomize build")
    render_workers: int = _setting(2, "kustomize builds at the same time")
    allow_unconfined_builds: bool = _setting(
        False, "let builds read and reach what the service can (for a kustomize that is a script around another)"
    )
    allow_remote_bases: bool = _setting(False, "let kustomize fetch remote bases itself")

    # Apply
    default_service_account: str | None = _setting(None, "impersonated where a policy names none")
    cross_namespace_refs: bool = _setting(True, "let dependsOn, rollouts and Canaries name objects of other namespaces")
    stage_wait: float = _setting(60.0, "how long CRDs, namespaces and classes may take to be established")
    canary_delete_wait: float = _setting(60.0, "how long a deleted Canary's finalizer is awaited")
    loadtester_image: str = _setting("ghcr.io/fluxcd/flagger-loadtester:0.29.0", "image of private load testers")
    loadtester_cpu_request: str = _setting("10m", "CPU that a private load tester asks for; empty: none")
    loadtester_memory_request: str = _setting("32Mi", "memory that a private load tester asks for; empty: none")
    loadtester_cpu_limit: str = _setting("1", "most CPU of a private load tester; empty: no limit")
    loadtester_memory_limit: str = _setting("512Mi", "most memory of a private load tester; empty: no limit")

    # Canary engine
    shortest_interval: float = _setting(10.0, "shortest interval of an analysis; a lab may lower it")
    allowed_addresses: tuple[str, ...] = _setting((), "what webhooks and metrics of every fleet may reach, too")
    own_ranges: tuple[str, ...] = _setting((), "ranges of the hub's Services and Pods, which they may not reach")

    lend_cloud_identity: bool = _setting(False, "let CloudWatch and Stackdriver of members ask as the hub's identity")

    # Status
    status_interval: float = _setting(1.0, "least time between two status writes of one Application")
    status_max_bytes: int = _setting(300 * 1024, "an Application's status above this is compacted")
    status_bytes_per_second: int = _setting(30_000, "status bytes per Application and second")

    # Listeners
    artifact_address: str = _setting("127.0.0.1:9790", "where artifacts are served")
    artifact_url: str | None = _setting(None, "base URL of artifacts in status; default: from the address")
    pod_ip: str | None = _setting(None, "where other replicas find this one's artifacts; default: the artifact address")
    receiver_address: str = _setting("127.0.0.1:9292", "where Git hosts announce pushes")
    telemetry_address: str = _setting("127.0.0.1:8080", "/healthz, /readyz and /metrics")

    # Leadership
    lease_name: str = _setting("fleet-rollout", "name of the Lease")
    lease_duration: float = _setting(15.0, "a Lease not renewed for this long is free")
    lease_renew_deadline: float = _setting(10.0, "a leader that could not renew for this long stops")
    lease_retry: float = _setting(2.0, "how often the Lease is renewed or tried")
    shutdown_timeout: float = _setting(25.0, "how long work in flight may take to finish at SIGTERM")
    log_format: str = _setting("json", "how logs are written", ("json", "text"))
    log_level: str = _setting("info", "least that is logged", ("debug", "info", "warning", "error"))

    @property
    def lease_seconds(self) -> int:
        """The duration of the Lease as others read it there: in whole seconds."""
        return max(1, round(self.lease_duration))
