"""What can be set about traces."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TraceSettings(BaseModel):
    """Where traces go, and how many. The rest is OpenTelemetry's own: OTEL_SERVICE_NAME,
    OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*, OTEL_EXPORTER_OTLP_HEADERS and its like.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str | None = Field(default=None, pattern=r"^https?://[^@\s]+$")
    """A collector that takes OTLP over HTTP, such as http://collector:4318. Needs the extra `otel`.
    None: nothing is traced."""
    ratio: float = Field(default=0.01, ge=0, le=1)
    """The part of the calls without a caller's `traceparent` that is traced; with one, its caller
    has decided."""
