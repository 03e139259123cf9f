# syntax=docker/dockerfile:1

# The image of the server. It runs as a user without a name or a home, on a read-only root:
# all that it writes is in /var/lib/keyfence.
#
#   docker build --tag keyfence .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges \
#     --volume keyfence:/var/lib/keyfence --volume "$PWD/tls:/etc/keyfence:ro" \
#     --env KEYFENCE_TLS_CERT_FILE=/etc/keyfence/server.crt \
#     --env KEYFENCE_TLS_KEY_FILE=/etc/keyfence/server.key \
#     --publish 127.0.0.1:50051:50051 keyfence
#
# It listens beyond loopback, where the server insists on TLS: user 10001 has to be able to read
# both files. Where something else encrypts, --env KEYFENCE_INSECURE_PLAINTEXT=true waives it.
#
# The health check goes by a Unix socket, which needs no certificate. If you set another
# KEYFENCE_LISTEN, keep unix:/var/lib/keyfence/probe.sock in it, or give another check.
#
# For a build that can be repeated to the byte, give the base by its digest:
# --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

# What is needed to build stays in this stage.
FROM ${PYTHON_IMAGE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY requirements/build.txt requirements/image.txt requirements/
RUN python -m venv --without-pip /opt/keyfence \
    && python -m pip --python /opt/keyfence/bin/python install --require-hashes -r requirements/image.txt \
    && python -m pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY service service
COPY deploy deploy
COPY examples/keyspaces examples/keyspaces
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /dist ./clients/python . \
    && python -m pip --python /opt/keyfence/bin/python install --no-deps /dist/*.whl \
    && python -m compileall -q /opt/keyfence/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Keyfence" \
      org.opencontainers.image.description="The API-key authorization service" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/keyfence /opt/keyfence
# A volume that is made from this directory belongs to the same user.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/keyfence
ENV PATH=/opt/keyfence/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KEYFENCE_LISTEN=0.0.0.0:50051,unix:/var/lib/keyfence/probe.sock \
    KEYFENCE_DATA_DIR=/var/lib/keyfence
USER 10001:10001
WORKDIR /var/lib/keyfence
VOLUME /var/lib/keyfence
EXPOSE 50051
# The server drains on SIGTERM by itself, and waits for the workers that it starts, so it may be
# PID 1.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["keyfence", "--target", "unix:/var/lib/keyfence/probe.sock", "health"]
ENTRYPOINT ["keyfence"]
CMD ["serve"]
