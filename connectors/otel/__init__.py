"""Traces to an OpenTelemetry collector: OTLP over HTTP."""
