# The service in one image: Python, git and ssh from Debian, kustomize built from its module, no shell needed at run time.
# ssh asks for the name of the user that it runs as. The children of a git that is killed come to process 1, and only an
# init waits for them: tini.
# Give digests for the base images where you build for production.
ARG PYTHON=python:3.13-slim-bookworm
ARG GO=golang:1.26-bookworm

FROM ${GO} AS kustomize
RUN CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" sigs.k8s.io/kustomize/kustomize/v5@v5.8.2

FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements requirements
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/uv.txt
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY api api
COPY fleet_rollout fleet_rollout
RUN uv export --locked --no-dev --no-emit-project --format requirements-txt > requirements.txt \
 && uv venv /opt/venv \
 && VIRTUAL_ENV=/opt/venv uv pip install --no-cache --require-hashes --only-binary :all: -r requirements.txt \
 && uv build --wheel --no-cache --require-hashes --build-constraints requirements/build.txt --out-dir /wheel \
 && VIRTUAL_ENV=/opt/venv uv pip install --no-cache --no-deps --no-index /wheel/*.whl

FROM ${PYTHON}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git openssh-client tini \
 && groupadd --gid 65532 fleet-rollout \
 && useradd --uid 65532 --gid 65532 --home-dir /tmp --shell /usr/sbin/nologin fleet-rollout \
 && rm -rf /var/lib/apt/lists/*
COPY --from=kustomize /go/bin/kustomize /usr/local/bin/kustomize
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp
USER 65532:65532
ENTRYPOINT ["tini", "--", "fleet-rollout"]
CMD ["controller"]
