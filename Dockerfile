FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /opt/labelstream
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY streams streams
COPY agents agents
COPY connectors connectors
RUN /opt/labelstream/bin/pip install --no-cache-dir -c constraints.txt '.[privacy,otel]'

FROM python:3.11-slim
RUN useradd --system --uid 10001 --user-group --no-create-home labelstream \
    && install -d -o labelstream -g labelstream /var/lib/labelstream
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
