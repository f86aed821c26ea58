"""The OpenAPI document of /predict, from the types that it reads and writes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec

from worker.predict.answers import Answer  # noqa: TC001 # a field's type

MAX_TEXTS: Final = 256
MAX_BODY: Final = 1 << 20
"""Bytes of a request."""

_JSON: Final = "application/json"


class PredictRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Texts to judge."""

    texts: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_TEXTS)]


class PredictResponse(msgspec.Struct, frozen=True):
    """A verdict for each text, in the order given."""

    verdicts: list[Answer]


class PredictFailure(msgspec.Struct, frozen=True):
    """What was wrong; never with what was sent."""

    error: str


REFUSALS: Final = {
    HTTPStatus.BAD_REQUEST: "The body is not what is asked for.",
    HTTPStatus.LENGTH_REQUIRED: "There is no Content-Length, or a Transfer-Encoding.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"The body has more than {MAX_BODY:,} bytes.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: f"The body is not {_JSON}.",
    HTTPStatus.TOO_MANY_REQUESTS: "As many texts wait as may: try again after Retry-After seconds.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The worker stops, or had no time for it: try again.",
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    (request, response, failure), schemas = msgspec.json.schema_components(
        (PredictRequest, PredictResponse, PredictFailure), ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hamgate predict",
            "version": "1",
            "description": "Verdicts on texts at once, on a worker's engine, without Kafka. Nothing is stored.",
        },
        "paths": {
            "/predict": {
                "post": {
                    "operationId": "predict",
                    "summary": "Judge texts with the model in service.",
                    "requestBody": {"required": True, "content": {_JSON: {"schema": request}}},
                    "responses": {
                        "200": {"description": "A verdict for each.", "content": {_JSON: {"schema": response}}}
                    }
                    | {
                        str(int(status)): {"description": said, "content": {_JSON: {"schema": failure}}}
                        for status, said in REFUSALS.items()
                    },
                }
            }
        },
        "components": {"schemas": schemas},
    }
