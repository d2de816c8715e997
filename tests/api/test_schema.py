"""The OpenAPI document tells the truth: requests made up from it, fitting ones and others, meet no surprise."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.fakes.api_library import build_small, open_colours

HEADERS = {"Host": "localhost"}


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_requests_made_up_from_the_document_meet_no_surprise(mode: GenerationMode, tmp_path: Path) -> None:
    with open_colours(tmp_path) as searcher:
        schema = schemathesis.openapi.from_asgi("/api/openapi.json", build_small(searcher), headers=HEADERS)
        for operation in (result.ok() for result in schema.get_all_operations()):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=6,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def check(case: schemathesis.Case) -> None:
                answer = case.call(headers=HEADERS)
                # No document can say which bytes are an image.
                excluded = [positive_data_acceptance] if "unreadable_image" in answer.text else []
                case.validate_response(answer, excluded_checks=excluded, headers=HEADERS)

            with suppress(Unsatisfiable):  # nothing that is sent, nothing that could be wrong
                check()
