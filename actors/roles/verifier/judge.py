"""A generative judge as a scorer: asks it of many texts at once, waits while it is away."""

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from actors.config.recipe import Recipe
from actors.deadline import persistently, until
from actors.errors import GaveUpError, JudgeError, JudgeRefusalError, LeewayError, NoScoreError, RecipeError
from actors.observability import metrics
from actors.observability.waits import waiting
from actors.process import Seldom
from actors.roles.verifier.endpoint import MORE, Endpoint
from actors.roles.verifier.judgement import conversation, question, read_score
from actors.roles.verifier.observables import asked_format
from actors.roles.verifier.scoring import PART, answer_in
from actors.tasks import Task

log = logging.getLogger(__name__)

#: Before an endpoint that did not answer is looked at again (s), by whichever thread waits for it.
REST_SECONDS = 1.0
#: How often a waiting thread looks whether it is to stop, or another has found the endpoint (s).
LOOK_SECONDS = 0.1
#: Before the second attempt to get one score (s).
PAUSE_SECONDS = 0.5
#: What every criterion is tried on before anything is scored.
_SAMPLE = {"prompt": "What is 2 + 3?", "answer": "5", "response": "2 + 3 is 5."}


class JudgeScorer:
    """Scores by what a judge says. What fails is an error and never a score: see `actors.roles.verifier.endpoint`."""

    def __init__(self, recipe: Recipe) -> None:
        assert recipe.preferences is not None and recipe.preferences.judge is not None
        self._judge, self._patience = recipe.preferences.judge, recipe.preferences.wait_seconds
        self._endpoint = Endpoint(self._judge)
        self._threads = ThreadPoolExecutor(self._judge.concurrency, "judge")
        self._thinks_first = asked_format(recipe) == "r1_zero"
        #: By criterion, the part of a completion that decides: an answer is a part of its response.
        self._reads = {
            name: "response" if "{response}" in template else "answer"
            for name, template in self._judge.criteria.items()
        }
        self._seldom = Seldom(log)
        self._looking = threading.Lock()
        self._untried = list(self._judge.criteria)
        self._doubted, self._rest_until = True, -math.inf

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """Return once the endpoint answers, so that an outage costs no groups but those under way.

        The first time each criterion is tried, too, so that what is wrong with it is said at the start.

        Raises:
            RecipeError: it refuses the key, the model or the questions, or its answers cannot be read.
            GaveUpError: it does not answer for `preferences.wait_seconds`.
        """
        if not self._doubted:
            return
        with waiting("judge", "an answer of any kind"):
            if not until(lambda: stopped() or self._answers(), self._patience, LOOK_SECONDS):
                raise GaveUpError(
                    f"waited {self._patience:g} s for the judge at {self._judge.url}; see the log of this verifier, or "
                    "raise preferences.wait_seconds"
                )

    def __call__(self, task: Task, texts: Sequence[str], seconds: float) -> list[dict[str, float]]:
        """The sum of what the judge gives each text (points), and its score by each criterion.

        What it would see of two texts alike it is asked once. Where there is no answer, a criterion that looks at
        answers alone gives the lowest score.

        Raises:
            JudgeError: there were no scores within `seconds`.
            JudgeRefusalError: the judge cannot read one of the texts.
            RecipeError: it refuses the key, or knows no such model.
        """
        deadline, prompt = time.monotonic() + seconds, conversation(task)
        asked: dict[tuple[str, str], Future[float]] = {}
        rows: list[dict[str, tuple[str, str]]] = []
        for text in texts:
            shown = {"prompt": prompt, "answer": answer_in(text, self._thinks_first), "response": text}
            rows.append({name: (name, shown[part]) for name, part in self._reads.items()})
            for key in rows[-1].values():
                if key not in asked and (key[1] or self._reads[key[0]] == "response"):
                    asked[key] = self._threads.submit(self._score, key[0], shown, deadline)
        try:
            with waiting("judge", f"{len(asked)} scores"):
                _require_all(list(asked.values()), deadline)
        except LeewayError as error:
            self._doubt(error)
            raise
        scores, lowest = {key: future.result() for key, future in asked.items()}, float(self._judge.scale[0])
        found = [{name: scores.get(key, lowest) for name, key in row.items()} for row in rows]
        return [{PART: math.fsum(row.values())} | {f"{PART}/{name}": row[name] for name in row} for row in found]

    def close(self) -> None:
        """Nothing is asked any more; what is under way ends by its deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _score(self, criterion: str, texts: Mapping[str, str], deadline: float) -> float:
        left = deadline - time.monotonic()
        return persistently(
            lambda: self._asked(criterion, texts, deadline),
            JudgeError,
            left,
            PAUSE_SECONDS,
            asked=lambda error: error.pause,
            warn=self._seldom.warning,
        )

    def _asked(self, criterion: str, texts: Mapping[str, str], deadline: float) -> float:
        asked = question(self._judge, criterion, texts, secrets.token_hex(8))
        start, status = time.monotonic(), "scored"
        try:
            return read_score(self._judge, self._endpoint.complete(asked, deadline))
        except NoScoreError:
            status = "no_score"
            raise
        except JudgeError:
            status = "failed"
            raise
        except (JudgeRefusalError, RecipeError):
            status = "refused"
            raise
        finally:
            metrics.JUDGED.labels(status).observe(time.monotonic() - start)

    def _answers(self) -> bool:
        """Whether it does by now; one thread at a time looks."""
        with self._looking:
            if self._doubted and time.monotonic() >= self._rest_until:
                try:
                    self._endpoint.require_model()
                    while self._untried:
                        self._try(self._untried[-1])
                        self._untried.pop()
                    self._doubted = False
                except JudgeError as error:
                    self._seldom.warning("%s; it is looked for until it does", error)
                    self._rest_until = time.monotonic() + max(REST_SECONDS, error.pause)
            return not self._doubted

    def _try(self, criterion: str) -> None:
        try:
            self._asked(criterion, _SAMPLE, time.monotonic() + self._judge.timeout_seconds)
        except (NoScoreError, JudgeRefusalError) as error:
            raise RecipeError(f"preferences.judge.criteria.{criterion}: {error}") from error

    def _doubt(self, error: LeewayError) -> None:
        """Before the next group is leased the endpoint is looked at, once it has had the rest that it asked for."""
        if isinstance(error, JudgeRefusalError):
            return
        if isinstance(error, JudgeError):
            self._rest_until = max(self._rest_until, time.monotonic() + error.pause)
        self._doubted = True


def _require_all(asked: Sequence[Future[float]], deadline: float) -> None:
    """Raises what kept one of them from a score, or JudgeError where it is too late; the others are given up then."""
    ended, pending = wait(asked, max(0.0, deadline - time.monotonic()), FIRST_EXCEPTION)
    for future in pending:
        future.cancel()
    for future in ended:
        if (error := future.exception()) is not None:
            raise error
    if pending:
        raise JudgeError(f"the judge gave {len(ended)} of {len(asked)} scores in time; {MORE}")
