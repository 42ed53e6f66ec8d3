FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /opt/labelstream
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY streams streams
COPY agents agents
COPY connectors connectors
RUN /opt/labelstream/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --user-group --no-create-home labelstream \
    && install -d -o labelstream -g labelstream /var/lib/labelstream
COPY --from=build /opt/labelstream /opt/labelstream
COPY taxonomy.yaml /app/taxonomy.yaml
ENV PATH=/opt/labelstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LABELSTREAM_DATA=/var/lib/labelstream \
    LOG_FORMAT=json
WORKDIR /app
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# Healthy: Kafka, which every role needs, answers under the settings. `labelstream check` would ask a model, too.
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import asyncio; from connectors.kafka.connection import reach; from streams.settings import load; asyncio.run(reach(load()))"]
ENTRYPOINT ["labelstream"]
CMD ["run", "all"]
