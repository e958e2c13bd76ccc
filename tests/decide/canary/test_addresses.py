"""What a Canary may reach, and how (trust rows 25, 26, 27)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rollout.decide.canary.addresses import (
    AddressRefused,
    Direct,
    NotReached,
    Proxied,
    Reach,
    check_answers,
    check_backing,
    has_credentials,
    parse_url,
    read_reach,
    route_of,
)

METRICS = "http://prometheus.istio-system:9090"


def route(text, *allowed, namespace="shop", headers=None):
    return route_of(parse_url(text), namespace, read_reach(allowed), headers)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("http://h.example.com", ("http", "h.example.com", 80, "/")),
        ("https://H.Example.com/a?b=c#d", ("https", "h.example.com", 443, "/a?b=c")),
        ("http://h.example.com:8080?x=1", ("http", "h.example.com", 8080, "/?x=1")),
        ("http://[2001:db8::1]:9090/", ("http", "2001:db8::1", 9090, "/")),
        ('http://h.example.com/%2F{a}?q="x"&m[]=1', ("http", "h.example.com", 80, "/%2F%7Ba%7D?q=%22x%22&m[]=1")),
    ],
)
def test_an_address_has_parts(text, parts):
    url = parse_url(text)
    assert (url.scheme, url.host, url.port, url.path) == parts
    assert url.authorization == ""


def test_user_and_password_become_a_header_and_appear_nowhere_else():
    url = parse_url("http://me:p%40ss@h.example.com/x")
    assert url.authorization == "Basic bWU6cEBzcw=="
    assert url.text == "http://h.example.com/x"
    assert "p@ss" not in repr(url)
    assert "bWU6" not in repr(url)
    assert parse_url("http://me@h.example.com").authorization == "Basic bWU6"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://h.example.com.:80/x", "http://h.example.com/x"),
        ("https://h.example.com:444", "https://h.example.com:444/"),
        ("http://[::1]:9090/y", "http://[::1]:9090/y"),
    ],
)
def test_an_address_is_written_back(text, shown):
    assert parse_url(text).text == shown
    assert parse_url(text).origin[1] == parse_url(shown).host


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h.example.com",
        "ftp://h.example.com",
        "file:///etc/passwd",
        "http://",
        "http://h.example.com:0",
        "http://h.example.com:99999",
        "http://h.example.com:x",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://h_.example.com/",
        "http://h..example.com",
        "http://h%2eexample.com",
        "http://h.example.com/a b",
        "http://h.example.com\\@evil.example.com",
        "http://h.exa\tmple.com",
        "http://１２７.0.0.1/",
        "http://bücher.example.com",
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_refused(text):
    with pytest.raises(AddressRefused):
        parse_url(text)


@pytest.mark.parametrize(
    "host", ["hook.shop", "hook.shop.svc", "hook.shop.svc.cluster.local", "HOOK.shop", "hook.shop.svc.cluster.local."]
)
def test_a_service_of_the_own_namespace_is_reached_through_the_member(host):
    assert route(f"http://{host}:8080/x?y=1") == Proxied("hook", "shop", 8080, "http", "/x?y=1")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("http://hook.shop/", "/api/v1/namespaces/shop/services/hook:80/proxy/"),
        ("https://hook.shop:8443/a?b", "/api/v1/namespaces/shop/services/https:hook:8443/proxy/a?b"),
    ],
)
def test_a_service_has_a_path_on_the_api_server(text, path):
    assert route(text).proxy_path == path


@pytest.mark.parametrize("host", ["vault.b:8200", "vault.b.svc:8200", "vault.b.svc.cluster.local:8200", "example.com"])
def test_t27_services_of_other_namespaces_are_refused(host):
    with pytest.raises(AddressRefused, match="which this Canary may not reach"):
        route(f"http://{host}")


@pytest.mark.parametrize("entry", ["b", "vault.b", "vault.b:8200", "http://vault.b:8200", "vault.b.svc", " Vault.B "])
def test_t27_unless_they_are_allowed(entry):
    assert route("http://vault.b:8200", entry) == Proxied("vault", "b", 8200, "http", "/")


@pytest.mark.parametrize("entry", ["c", "vault.c", "vault.b:8201", "http://vault.b", "other.b", "vault.example.com"])
def test_t27_an_entry_allows_only_what_it_names(entry):
    with pytest.raises(AddressRefused):
        route("http://vault.b:8200", entry)


def test_the_engines_metrics_server_is_one_more_entry():
    assert route(METRICS + "/api", METRICS) == Proxied("prometheus", "istio-system", 9090, "http", "/api")


@pytest.mark.parametrize("path", ["/../secrets", "/a/./b", "/%2e%2e/x", "/a%2f..%2fb", "/..%5cx", "/..?x"])
def test_a_path_may_not_climb_out_of_the_proxy(path):
    with pytest.raises(AddressRefused, match="part"):
        route(f"http://hook.shop{path}")


def test_dots_elsewhere_are_no_climbing():
    assert route("http://hook.shop/a..b/.c?d=/../").path == "/a..b/.c?d=/../"


def test_credentials_need_a_port_forward_because_the_api_server_takes_them_off():
    assert not route("http://hook.shop", headers={"X-Key": "k"}).by_port_forward
    assert route("http://hook.shop", headers={"authorization": "Bearer t"}).by_port_forward
    assert route("http://me:pw@hook.shop").by_port_forward
    assert not has_credentials(parse_url("http://h.example.com"), {})


@pytest.mark.parametrize("host", ["h.example.com", "example.com.", "8.8.8.8", "[::1]", "127.0.0.1", "localhost"])
def test_all_else_is_dialled_directly(host):
    url = parse_url(f"http://{host}/")
    assert route_of(url, "shop", Reach()) == Direct(url)


@pytest.mark.parametrize("entry", ["example.com.", "https://example.com.", "example.com.:443"])
def test_a_short_host_is_dialled_where_it_is_allowed_as_a_host(entry):
    assert isinstance(route("https://example.com/x", entry), Direct)


@pytest.mark.parametrize(
    ("host", "fact"),
    [
        ("prometheus", "no namespace"),
        ("db-0.db.shop.svc", "not a Service"),
        ("10-0-0-1.shop.pod.cluster.local", "not a Service"),
        ("x_y.shop.svc", "not a Service"),
        ("127.1", "four decimal parts"),
        ("0x7f.1", "four decimal parts"),
        ("2130706433", "four decimal parts"),
    ],
)
def test_names_that_would_be_looked_up_in_the_wrong_place_are_refused(host, fact):
    with pytest.raises(AddressRefused, match=fact):
        route(f"http://{host}/")


@pytest.mark.parametrize("entry", ["", "127.1", "2130706433", "http://", "a b", "ftp://h.example.com"])
def test_an_entry_that_cannot_be_read_is_named(entry):
    with pytest.raises(ValueError, match="allowed address"):
        read_reach([entry])


# What a direct host resolves to


def check(url, answers, *allowed, own=()):
    check_answers(parse_url(url), answers, read_reach(allowed, own_ranges=own))


LOCAL = [
    "127.0.0.1",
    "::1",
    "169.254.169.254",
    "fe80::1%eth0",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "fd00:ec2::254",
    "168.63.129.16",
]
HIDDEN = ["::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "::7f00:1", "2002:7f00:1::"]


@pytest.mark.parametrize("answer", LOCAL + HIDDEN)
def test_t26_loopback_link_local_and_metadata_answers_are_refused(answer):
    with pytest.raises(AddressRefused, match="leads to"):
        check("http://h.example.com", [answer])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433"])
def test_t26_a_number_is_the_same_with_a_final_dot(host):
    """Clients dial it without asking a resolver."""
    assert parse_url(f"http://{host}.:8080/") == parse_url(f"http://{host}:8080/")


def test_t26_one_bad_answer_among_good_ones_is_enough():
    with pytest.raises(AddressRefused):
        check("http://h.example.com", ["93.184.215.14", "127.0.0.1"])


def test_the_engines_own_cluster_is_refused():
    with pytest.raises(AddressRefused, match="own cluster"):
        check("http://h.example.com", ["10.96.0.10"], own=["10.96.0.0/16"])
    check("http://h.example.com", ["10.97.0.10"], own=["10.96.0.0/16"])


@pytest.mark.parametrize(
    "entry", ["127.0.0.1", "127.0.0.0/8", "127.0.0.1:9090", "http://127.0.0.1:9090", "127.5.5.5/8"]
)
def test_an_allowed_address_may_be_dialled(entry):
    check("http://127.0.0.1:9090", ["127.0.0.1"], entry)
    check("http://h.example.com:9090", ["::ffff:127.0.0.1"], entry)


@pytest.mark.parametrize("entry", ["127.0.0.2", "127.0.0.1:9091", "http://127.0.0.1"])
def test_another_allowed_address_does_not_help(entry):
    with pytest.raises(AddressRefused):
        check("http://127.0.0.1:9090", ["127.0.0.1"], entry)


def test_an_allowed_host_may_lead_anywhere():
    check("http://localhost:9090", ["127.0.0.1", "::1"], "localhost")
    check("http://h.example.com", ["10.96.0.10"], "h.example.com", own=["10.96.0.0/16"])


def test_no_answer_is_no_refusal():
    with pytest.raises(NotReached, match="does not resolve") as caught:
        check("http://h.example.com", [])
    assert not isinstance(caught.value, AddressRefused)


@given(st.ip_addresses())
def test_whatever_is_dialled_is_neither_the_own_machine_nor_the_own_cluster(address):
    ranges = ("10.0.0.0/8",)
    try:
        check("http://h.example.com", [str(address)], own=ranges)
    except AddressRefused:
        return
    assert not address.is_loopback
    assert not address.is_link_local
    assert not address.is_multicast
    assert address not in ipaddress.ip_network("10.0.0.0/8")


# What stands behind a Service


def service(**spec):
    return {"metadata": {"namespace": "shop", "name": "hook"}, "spec": spec}


def slice_by(manager):
    return {"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": manager} if manager else None}}


def test_t27_a_service_with_its_own_pods_is_reached():
    check_backing(service(selector={"app": "hook"}), [slice_by("endpointslice-controller.k8s.io")])
    check_backing(service(selector={"app": "hook"}), [])


@pytest.mark.parametrize(
    ("spec", "manager", "fact"),
    [
        ({"type": "ExternalName", "externalName": "metadata.google.internal"}, None, "ExternalName"),
        ({}, "endpointslice-controller.k8s.io", "no selector"),
        ({"selector": {"app": "hook"}}, None, "by hand"),
        ({"selector": {"app": "hook"}}, "endpointslicemirroring-controller.k8s.io", "by hand"),
    ],
)
def test_t27_endpoints_that_a_tenant_chose_are_not(spec, manager, fact):
    with pytest.raises(AddressRefused, match=fact):
        check_backing(service(**spec), [slice_by(manager)])
