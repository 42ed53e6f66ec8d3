# The base of both stages; in a closed network a copy of it, best by digest.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
# `all`, or `agents`: less, for the agents and the poller.
ARG PACKAGES=all
# Where pip finds packages, in a closed network.
ARG PIP_INDEX_URL
WORKDIR /build
RUN python -m venv /opt/labelstream
COPY deploy/locks locks
RUN /opt/labelstream/bin/pip install --no-cache-dir --require-hashes -r locks/build.lock \
    && /opt/labelstream/bin/pip install --no-cache-dir --no-build-isolation --require-hashes -r "locks/${PACKAGES}.lock"
COPY pyproject.toml README.md LICENSE ./
COPY streams streams
COPY agents agents
COPY connectors connectors
RUN /opt/labelstream/bin/pip install --no-cache-dir --no-build-isolation --no-deps --no-index .

FROM ${PYTHON_IMAGE}
# Any other user is in group 0, and may write there too.
RUN useradd --system --uid 10001 --user-group --no-create-home labelstream \
    && install -d -m 0775 -o labelstream -g root /var/lib/labelstream
COPY --from=build /opt/labelstream /opt/labelstream
COPY taxonomy.yaml /app/taxonomy.yaml
ENV PATH=/opt/labelstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LABELSTREAM_DATA=/var/lib/labelstream \
    HEALTH_HOST=0.0.0.0 \
    HEALTH_PORT=8081 \
    LOG_FORMAT=json
WORKDIR /app
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# Healthy: the role's event loop turns, and its watchdog sees progress. What it waits for is told by /readyz.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['HEALTH_PORT'] + '/healthz', timeout=3)"]
ENTRYPOINT ["labelstream"]
CMD ["run", "all"]
