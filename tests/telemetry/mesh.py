"""What meshes and ingress controllers count of requests to `web` in `shop`, in their own names and labels."""

from __future__ import annotations

from collections.abc import Iterator

Labels = dict[str, str]

BUCKETS = {"10": 2, "100": 8, "+Inf": 10}
SIDES = ("canary", "primary")


def page(beats: int) -> str:
    """All series after so many beats: ten requests a beat, one of them an error, of half a second together."""
    return "".join(f"{name}{{{_text(labels)}}} {each * beats}\n" for name, labels, each in series())


def series() -> Iterator[tuple[str, Labels, float]]:
    """Each series, its labels, and how much it grows with a beat."""
    for side in SIDES:
        workload = "web" if side == "canary" else "web-primary"
        pod = {"kubernetes_namespace": "shop", "kubernetes_pod_name": f"{workload}-5d8f7c-x2x4z"}
        of_istio = {"destination_workload_namespace": "shop", "destination_workload": workload}
        yield from _counted("istio_requests_total", "response_code", {"reporter": "destination", **of_istio})
        yield from _histogram("istio_request_duration_milliseconds", {"reporter": "destination", **of_istio})
        of_linkerd = {"namespace": "shop", "deployment": workload, "direction": "inbound"}
        yield "response_total", {**of_linkerd, "classification": "success"}, 9
        yield "response_total", {**of_linkerd, "classification": "failure"}, 1
        yield from _histogram("response_latency_ms", of_linkerd)
        yield from _counted("http_request_duration_seconds_count", "status", pod)
        yield from _histogram("http_request_duration_seconds", pod, count=False)
        of_nginx = {"namespace": "shop", "ingress": "web", "canary": "shop-web-canary-80" if side == "canary" else ""}
        yield from _counted("nginx_ingress_controller_requests", "status", of_nginx)
        yield "nginx_ingress_controller_response_duration_seconds_sum", of_nginx, 0.5
        yield "nginx_ingress_controller_response_duration_seconds_count", of_nginx, 10
        of_traefik = {"service": f"shop-web-{side}-80@kubernetescrd"}
        for code, share in (("200", 0.9), ("500", 0.1)):
            yield from _histogram("traefik_service_request_duration_seconds", {**of_traefik, "code": code}, share)
        for labels in _envoy(side):
            yield from _counted("envoy_cluster_upstream_rq", "envoy_response_code", labels)
            yield from _histogram("envoy_cluster_upstream_rq_time", labels)
    of_apisix = {"route": "shop_web-web-canary_web-canary"}
    yield from _counted("apisix_http_status", "code", of_apisix)
    yield from _histogram("apisix_http_latency", {**of_apisix, "type": "request"})
    of_skipper = {"route": "kube_shop__web_canary__shop_example_com____web_canary_0"}
    for code, share in (("200", 0.9), ("500", 0.1)):
        yield from _histogram("skipper_response_duration_seconds", {**of_skipper, "code": code}, share)
    yield "skipper_serve_route_duration_seconds_sum", of_skipper, 0.5
    yield "skipper_serve_route_duration_seconds_count", of_skipper, 10


def _envoy(side: str) -> Iterator[Labels]:
    """Of Contour, Gloo, Kuma and Knative, whose data plane is Envoy."""
    yield {"envoy_cluster_name": f"shop_web-{side}_80"}
    yield {"envoy_cluster_name": f"shop-web-{side}upstream-80_gloo-system"}
    yield {"service": f"web-{side}_shop_svc_80"}
    yield {"envoy_cluster_name": "shop/web-00002" if side == "canary" else "shop/web-00001"}


def _counted(name: str, code: str, labels: Labels) -> Iterator[tuple[str, Labels, float]]:
    yield name, {**labels, code: "200"}, 9
    yield name, {**labels, code: "503"}, 1


def _histogram(
    name: str, labels: Labels, share: float = 1, *, count: bool = True
) -> Iterator[tuple[str, Labels, float]]:
    for bound, each in BUCKETS.items():
        yield f"{name}_bucket", {**labels, "le": bound}, each * share
    if count:
        yield f"{name}_count", labels, 10 * share


def _text(labels: Labels) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())
