"""What a judge behind a real HTTP server, which is a stub of one, may do instead of giving a score."""

import logging
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from actors.config.recipe import Recipe
from actors.errors import GaveUpError, JudgeError, JudgeRefusalError, LeewayError, RecipeError
from actors.observability.exposition import VERIFIER
from actors.roles.verifier.endpoint import Endpoint
from actors.roles.verifier.judge import JudgeScorer
from actors.roles.verifier.preference import PreferenceReward
from sandbox import Status, Verdict
from tests.unit.actors.roles.verifier.judge_stub import (
    GROUP,
    KEY,
    TASK,
    StubJudge,
    by_length,
    failing_once,
    never_ends,
    ready,
    recipe_of,
    scores,
)


def endpoint_of(recipe: Recipe) -> Endpoint:
    assert recipe.preferences is not None and recipe.preferences.judge is not None
    endpoint = Endpoint(recipe.preferences.judge)
    endpoint.require_model()
    return endpoint


# ---------------------------------------------------------------- what fails for a while, and what for good


@pytest.mark.parametrize(
    "answer",
    [
        JSONResponse({"error": {"message": "slow down"}}, 429, {"Retry-After": "0"}),
        JSONResponse({"error": {"message": "loading"}}, 503),
        PlainTextResponse("<html>bad gateway</html>", 502),
        PlainTextResponse("OK", 200),
        JSONResponse({"choices": []}, 200),
        "I would rather not say.",
        "Score: 11",
    ],
)
def test_what_may_go_well_later_is_asked_again(stub: StubJudge, answer: Response | str) -> None:
    scorer = ready(recipe_of(stub.url, criteria={"any": "{answer}"}))
    stub.script = failing_once(answer)
    (found,) = scorer(TASK, ["four"], 20)
    assert found["preference"] == 4.0


def test_an_endpoint_that_says_when_is_asked_no_sooner(stub: StubJudge) -> None:
    in_a_while = format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True)
    for header in ("3600", in_a_while):
        scorer = ready(recipe_of(stub.url, "preferences.wait_seconds=0.2", criteria={"any": "{answer}"}))
        stub.script = failing_once(JSONResponse({}, 429, {"Retry-After": header}))
        asked = len(stub.prompts)
        with pytest.raises(JudgeError, match="answered 429"):
            scorer(TASK, ["four"], 20)
        assert len(stub.prompts) == asked + 1
        looked = stub.looked
        with pytest.raises(GaveUpError, match=r"waited 0\.2 s for the judge"):
            scorer.wait_ready(lambda: False)
        assert stub.looked == looked


def test_requests_are_counted_by_what_came_of_them(stub: StubJudge) -> None:
    def counted() -> dict[str, float]:
        name, value = "leeway_judge_seconds_count", VERIFIER.get_sample_value
        return {each: value(name, {"status": each}) or 0.0 for each in ("scored", "no_score", "failed", "refused")}

    scorer = ready(recipe_of(stub.url, criteria={"any": "{answer}"}))
    before = counted()
    for said in ("4", JSONResponse({}, 503), JSONResponse({}, 400)):
        stub.script = failing_once(said)
        with suppress(JudgeRefusalError):
            scorer(TASK, ["four"], 20)
    after = counted()
    assert [after[each] - before[each] for each in after] == [2, 1, 1, 1]


def test_an_answer_that_never_ends_is_given_up(stub: StubJudge) -> None:
    endpoint = endpoint_of(recipe_of(stub.url, timeout_seconds=0.3))
    stub.script = lambda _: never_ends()
    begun = time.monotonic()
    with pytest.raises(JudgeError, match=r"did not (finish its )?answer in 0\.3 s"):
        endpoint.complete("?", begun + 600)
    assert time.monotonic() - begun < 60


def test_a_judge_that_is_too_slow_for_a_group_is_no_reward_either(stub: StubJudge) -> None:
    scorer = ready(recipe_of(stub.url, criteria={"any": "{answer}"}, concurrency=1, timeout_seconds=19.0))
    stub.script = lambda _: never_ends()
    with pytest.raises(JudgeError, match=r"in time; raise preferences\.judge\.conc|did not (finish its )?answer"):
        scorer(TASK, ["x", "y", "z"], 0.5)


def test_a_text_that_the_judge_cannot_read_is_not_sent_again(stub: StubJudge) -> None:
    scorer = ready(recipe_of(stub.url, criteria={"any": "{answer}"}))
    stub.prompts.clear()
    stub.script = lambda _: JSONResponse({"error": {"message": "maximum context length is 4096 tokens"}}, 400)
    with pytest.raises(JudgeRefusalError, match=r"answered 400 \(maximum context length is 4096 tokens\)"):
        scorer(TASK, ["x"], 20)
    assert len(stub.prompts) == 1
    recipe = recipe_of(stub.url)
    assert recipe.preferences is not None
    verdict = Verdict(Status.OK, 1.0, {"accuracy": 1.0}, 0.1)
    (found,) = PreferenceReward(recipe.preferences, scorer).added_to([verdict], GROUP, time.monotonic() + 20)
    assert (found.status, found.reward, found.retryable) == (Status.INFRA_ERROR, None, False)


def test_what_the_recipe_has_wrong_is_said_at_the_start(stub: StubJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(**judge: Any) -> str:
        with pytest.raises(RecipeError) as caught:
            ready(recipe_of(judge.pop("url", stub.url), **judge))
        return str(caught.value)

    assert said(model="judge-2").endswith("serves judge-1, and no judge-2")
    assert "correct preferences.judge.url, which ends where /models begins" in said(url=stub.url.removesuffix("/v1"))
    stub.script = lambda _: "No."
    assert "preferences.judge.criteria.any: the judge wrote 'No.'" in said(criteria={"any": "{answer}"})
    stub.script = lambda _: JSONResponse({"error": {"message": "top_logprobs is at most 5"}}, 400)
    assert "top_logprobs is at most 5" in said(criteria={"any": "{answer}"}, score="logprobs")
    stub.key = KEY
    assert "it does not take requests without a key; correct preferences.judge.api_key_env" in said()
    monkeypatch.setenv("JUDGE_KEY", "another")
    assert "it does not take the key that it was shown" in said(api_key_env="JUDGE_KEY")
    monkeypatch.delenv("JUDGE_KEY")
    assert "there is no JUDGE_KEY in the environment" in said(api_key_env="JUDGE_KEY")


def test_an_endpoint_that_is_down_is_waited_for_until_it_is_back_or_it_is_too_late() -> None:
    stub = StubJudge(by_length)
    stub.close()
    with pytest.raises(GaveUpError, match=r"waited 0\.2 s for the judge at http"):
        ready(recipe_of(stub.url, "preferences.wait_seconds=0.2"))
    scorer = JudgeScorer(recipe_of(stub.url))
    scorer.wait_ready(lambda: True)  # a verifier that ends waits for nothing
    with pytest.raises(JudgeError):
        scorer(TASK, ["x"], 0.1)
    with closing(StubJudge(by_length, port=stub.port)):
        scorer.wait_ready(lambda: False)
        assert scorer(TASK, ["four"], 20)[0]["preference/helpfulness"] == 4.0


# ---------------------------------------------------------------- the key


def out_of_credit(status: int, _: str) -> Response:
    return JSONResponse({"error": {"message": f"your key {KEY} is out of credit"}}, status)


def test_the_key_is_shown_to_the_endpoint_and_to_nobody_else(
    stub: StubJudge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    stub.key = KEY
    recipe = recipe_of(stub.url, api_key_file=str(file))
    assert scores(recipe, "four")[0]["preference/helpfulness"] == 4.0
    said = []
    endpoint = endpoint_of(recipe)
    for status in (400, 429):
        stub.script = partial(out_of_credit, status)
        with pytest.raises(LeewayError) as caught:
            endpoint.complete("?", time.monotonic() + 60)
        said.append(str(caught.value))
    assert all("*** is out of credit" in text for text in said)
    stub.script = lambda _: PlainTextResponse("x" * 190 + KEY, 400)
    with pytest.raises(JudgeRefusalError) as refused:
        endpoint.complete("?", time.monotonic() + 60)
    assert KEY[:5] not in str(refused.value), "nor the beginning of it, where words are cut short"
    stub.script = by_length
    scorer = ready(recipe)
    stub.key = "renewed"
    with pytest.raises(LeewayError) as caught:
        scorer(TASK, ["x"], 20)
    with suppress(RecipeError):
        scorer.wait_ready(lambda: False)
    assert KEY not in "".join([caplog.text, recipe.model_dump_json(), str(caught.value), *said])


def test_a_key_that_is_renewed_in_its_file_is_taken_up(stub: StubJudge, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text("first")
    stub.key = "first"
    scorer = ready(recipe_of(stub.url, api_key_file=str(file)))
    stub.key = "second"
    with pytest.raises(RecipeError, match="does not take the key"):
        scorer(TASK, ["four"], 20)
    file.write_text("second")
    scorer.wait_ready(lambda: False)
    assert scorer(TASK, ["four"], 20)[0]["preference/helpfulness"] == 4.0
