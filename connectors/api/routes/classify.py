"""`POST /classify`: labels at once, with the same code as the stream's."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from connectors.api.routes.params import Ports
from streams.core.messages import Alternative, Labeled
from streams.ports.classifier import OnDemand

router = APIRouter(tags=["labels"])

MOST_TEXTS = 100
Text = Annotated[str, StringConstraints(max_length=50_000)]


def _either(schema: dict[str, Any]) -> None:
    """One of both fields is required, which pydantic cannot express."""
    fields = schema.pop("properties")
    schema["oneOf"] = [
        {
            "type": "object",
            "properties": {name: fields[name]["anyOf"][0] | {"description": fields[name]["description"]}},
            "required": [name],
            "additionalProperties": False,
        }
        for name in ("text", "texts")
    ]
    schema.pop("additionalProperties", None)


class ClassifyRequest(BaseModel):
    """One text, or several."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_either)

    text: Text | None = Field(default=None, description="One text.")
    texts: Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)] | None = Field(
        default=None, description=f"Up to {MOST_TEXTS} texts, instead of `text`."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give either text or texts")
        return self


class Classification(BaseModel):
    """The result for a text: a label, or the reason why there is none."""

    text: str = Field(description="The text as it was labelled: cleaned as the poller does.")
    label: str | None = Field(description=f"{Labeled.model_fields['label'].description} Null for none.")
    confidence: float | None = Field(description=Labeled.model_fields["confidence"].description)
    alternatives: list[Alternative] = Field(description=Labeled.model_fields["alternatives"].description)
    label_version: str | None = Field(description=Labeled.model_fields["label_version"].description)
    model: str | None = Field(description=Labeled.model_fields["model"].description)
    cached: bool = Field(description=Labeled.model_fields["cached"].description)
    skipped: str | None = Field(
        description="Why it was not labelled at all, by the poller's rules: `too-short` or `empty`."
    )
    error: str | None = Field(description="Why the model gave no label: the reason that a dead letter has.")


class ClassifyAnswer(BaseModel):
    """One result for each text, in their order."""

    results: list[Classification]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            "text": "не проходит оплата картой",
                            "label": "payments",
                            "confidence": 0.93,
                            "alternatives": [{"label": "refunds", "confidence": 0.05}],
                            "label_version": "mistral.1f2e3d4c",
                            "model": "mistral",
                            "cached": False,
                            "skipped": None,
                            "error": None,
                        }
                    ]
                }
            ]
        }
    )


@router.post("/classify", summary="Label a text, or up to 100, at once")
async def classify(
    services: Ports,
    asked: Annotated[
        ClassifyRequest,
        Body(
            openapi_examples={
                "one": {"value": {"text": "не проходит оплата картой"}},
                "some": {"value": {"texts": ["где мой заказ", "не приходит смс с кодом"]}},
            }
        ),
    ],
) -> ClassifyAnswer:
    """Nothing is stored or published. Equal texts share one call to the model. A key that may read is enough.

    503 with `Retry-After` while the model does not answer.
    """
    texts = [asked.text] if asked.text is not None else asked.texts or []
    return ClassifyAnswer(results=[_result(one) for one in await services.classifier.classify(texts)])


def _result(one: OnDemand) -> Classification:
    label = one.labeled
    return Classification(
        text=one.text,
        label=label.label if label else None,
        confidence=label.confidence if label else None,
        alternatives=label.alternatives if label else [],
        label_version=label.label_version if label else None,
        model=label.model if label else None,
        cached=label.cached if label else False,
        skipped=one.skipped,
        error=one.error,
    )
