#!/usr/bin/env bash
# A hub and N members on kind, with fleet-rollout on the hub and Istio, its gateway and Prometheus in each member.
#
#   scripts/kind-multicluster.sh up   [--members N] [--engine hub|flagger] [--dry-run]
#   scripts/kind-multicluster.sh down [--members N] [--dry-run]
#
# Needs docker, kind, kubectl and istioctl. --dry-run prints every command instead of running it.
set -euo pipefail

readonly HUB=fleet-hub
readonly MEMBER_PREFIX=kurator-member
readonly IMAGE=ghcr.io/fleet-rollout/fleet-rollout:0.1.0
readonly NAMESPACE=default
readonly FLEET=quickstart
readonly ISTIO_PROMETHEUS=https://raw.githubusercontent.com/istio/istio/release-1.27/samples/addons/prometheus.yaml
readonly FLAGGER='https://github.com/fluxcd/flagger//kustomize/istio?ref=v1.44.0'

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
members=2
engine=hub
dry_run=false
work=

usage() {
  sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

fail() {
  printf 'kind-multicluster: %s\n' "$*" >&2
  exit 1
}

# Print a command the way a shell would read it.
show() {
  local text
  printf -v text '%q ' "$@"
  printf '%s\n' "${text% }"
}

run() {
  show "$@"
  if ! $dry_run; then
    "$@"
  fi
}

# Run a command that reads standard input.
run_with_input() {
  local input=$1
  shift
  show "$@"
  printf '%s\n' "$input" | sed 's/^/  | /'
  if ! $dry_run; then
    printf '%s\n' "$input" | "$@"
  fi
}

require() {
  local program
  for program in "$@"; do
    command -v "$program" > /dev/null || fail "$program is not installed; put it on the PATH"
  done
}

member_names() {
  local number
  for ((number = 1; number <= members; number++)); do
    printf '%s%d\n' "$MEMBER_PREFIX" "$number"
  done
}

create_clusters() {
  local name
  for name in "$HUB" $(member_names); do
    run kind create cluster --name "$name" --wait 120s
  done
}

install_hub() {
  run docker build --tag "$IMAGE" "$ROOT"
  run kind load docker-image "$IMAGE" --name "$HUB"
  run kubectl --context "kind-$HUB" apply --server-side -k "$ROOT/config/crd"
  run kubectl --context "kind-$HUB" wait --for=condition=Established --timeout=60s crd --all
  run kubectl --context "kind-$HUB" apply --server-side -k "$ROOT/config/default"
  run kubectl --context "kind-$HUB" --namespace fleet-rollout-system rollout status deployment/fleet-rollout-controller --timeout=180s
  run kubectl --context "kind-$HUB" --namespace fleet-rollout-system rollout status deployment/fleet-rollout-receiver --timeout=180s
}

# What the guide asks for in a member: Istio, the public gateway, Prometheus; and Flagger where it runs the canaries.
install_member() {
  local context=kind-$1
  run istioctl install --context "$context" --set profile=default --skip-confirmation
  run kubectl --context "$context" apply -f "$ISTIO_PROMETHEUS"
  run_with_input "$(gateway)" kubectl --context "$context" apply -f -
  if [[ $engine == flagger ]]; then
    run kubectl --context "$context" apply --server-side -k "$FLAGGER"
  fi
  run kubectl --context "$context" apply --server-side -k "$ROOT/config/member/cluster-admin"
}

gateway() {
  cat << 'YAML'
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: public-gateway
  namespace: istio-system
spec:
  selector:
    istio: ingressgateway
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*"]
YAML
}

# The hub's Pods reach a member by the address of its container, so the kubeconfig is kind's internal one.
attach() {
  local name=$1 file=$work/$1.kubeconfig
  show kind get kubeconfig --internal --name "$name"
  if ! $dry_run; then
    kind get kubeconfig --internal --name "$name" > "$file"
  fi
  local -a hub=(kubectl --context "kind-$HUB" --namespace "$NAMESPACE")
  run "${hub[@]}" delete secret "$name-kubeconfig" --ignore-not-found
  run "${hub[@]}" create secret generic "$name-kubeconfig" --from-file "value=$file"
  run_with_input "$(attached_cluster "$name")" "${hub[@]}" apply -f -
}

attached_cluster() {
  cat << YAML
apiVersion: cluster.kurator.dev/v1alpha1
kind: AttachedCluster
metadata:
  name: $1
spec:
  kubeconfig: {name: $1-kubeconfig, key: value}
YAML
}

fleet() {
  printf 'apiVersion: fleet.kurator.dev/v1alpha1\nkind: Fleet\nmetadata:\n  name: %s\nspec:\n  clusters:\n' "$FLEET"
  local name
  for name in $(member_names); do
    printf -- '  - {kind: AttachedCluster, name: %s}\n' "$name"
  done
  if [[ $engine == flagger ]]; then
    printf '  rolloutEngine: {mode: Flagger}\n'
  fi
}

up() {
  local name
  if ! $dry_run; then
    require docker kind kubectl istioctl
  fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  create_clusters
  install_hub
  for name in $(member_names); do
    install_member "$name"
    attach "$name"
  done
  run_with_input "$(fleet)" kubectl --context "kind-$HUB" --namespace "$NAMESPACE" apply -f -
  run kubectl --context "kind-$HUB" --namespace "$NAMESPACE" wait --for=condition=Ready --timeout=120s attachedcluster --all
  printf 'Next: kubectl --context kind-%s apply -f %s\n' "$HUB" "$ROOT/examples/rollout/canary/application.yaml"
}

down() {
  local name
  if ! $dry_run; then
    require kind
  fi
  for name in $(member_names) "$HUB"; do
    run kind delete cluster --name "$name"
  done
}

main() {
  local verb=${1:-}
  shift || true
  while (($#)); do
    case $1 in
      --members)
        members=${2:-}
        [[ $members =~ ^[1-9][0-9]?$ ]] || fail "--members takes a number from 1 to 99, not '$members'"
        shift
        ;;
      --engine)
        engine=${2:-}
        [[ $engine == flagger || $engine == hub ]] || fail "--engine takes hub or flagger, not '$engine'"
        shift
        ;;
      --dry-run) dry_run=true ;;
      *) fail "unknown option $1; see --help" ;;
    esac
    shift
  done
  case $verb in
    up) up ;;
    down) down ;;
    -h | --help | help) usage ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
}

main "$@"
