"""Traces by OpenTelemetry, which nothing else here knows. Needs the extra `otel`."""
