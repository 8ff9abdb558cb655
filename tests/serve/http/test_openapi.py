"""The OpenAPI document, and requests made up from it: valid, nearly valid and hostile ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from patience import PATIENCE
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from serve.http.app import create_app
from serve.http.model import CurrentModel
from serve.http.settings import ServiceSettings

from .conftest import Service

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


# The document needs no model; the requests go to a real service.
APP = create_app(ServiceSettings(bundle=Path()), CurrentModel())
schema = schemathesis.openapi.from_dict(APP.openapi())


def check(case: Any, service: Service) -> None:
    case.call_and_validate(checks=CHECKS, base_url=service.url, timeout=PATIENCE)


@schema.parametrize()
@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_every_answer_conforms_to_the_document(case: Any, service: Service) -> None:
    check(case, service)


@pytest.mark.nightly
@schema.parametrize()
@hypothesis.settings(max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_answers_to_thousands_of_requests_conform(case: Any, service: Service) -> None:
    check(case, service)


def test_every_route_has_a_description_examples_and_documented_errors(service: Service) -> None:
    with service.client() as client:
        document = client.get("/openapi.json").json()
        assert document == APP.openapi()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                assert operation["description"], path
                if method == "post":
                    content = operation["requestBody"]["content"]["application/json"]
                    name = content["schema"]["$ref"].rpartition("/")[2]
                    examples = document["components"]["schemas"][name]["examples"]
                    for example in examples:
                        # Ids of the examples are those of MovieLens; the shape is what counts here.
                        assert client.post(path, json=example).status_code in (200, 404), path
                for status, response in operation["responses"].items():
                    if int(status) >= 400 and path != "/health/ready":
                        reference = response["content"]["application/json"]["schema"]["$ref"]
                        assert reference.endswith("/ErrorResponse"), (path, status)
