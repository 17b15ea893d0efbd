"""The scorer: holds a reward model, or a teacher, and scores the groups that verifiers ask about, many at a time.

    verifiers ──score──▶ socket ──▶ ScoringWork: ScoringQueue ──batch──▶ ServedModel ──answers──▶ socket ──▶ verifiers

What comes in while a batch is scored is the next one. A scorer holds nothing that another could not do as well: whoever
asked one that died asks another.
"""

import logging
import math
import threading
import time
from contextlib import closing
from pathlib import Path

from actors import process
from actors.deadline import until
from actors.errors import ProtocolError, RunError
from actors.membership import Report
from actors.observability.reporting import report
from actors.observability.waits import waiting
from actors.process import Seldom
from actors.roles.role import LEAVE_SECONDS, Description, RoleContext, enter
from actors.roles.scorer.files import model_folder
from actors.roles.scorer.messages import REQUESTS
from actors.roles.scorer.model import ServedModel
from actors.roles.scorer.teacher import ServedTeacher
from actors.roles.scorer.work import ScoringModel, ScoringWork
from actors.storage.inputs import local
from actors.transport.client import Heartbeat
from actors.transport.codec import Frame, Message, decode, encode, parse
from actors.transport.sockets import open_router

log = logging.getLogger(__name__)

#: How often it is looked whether to end, while nobody asks (s).
WATCH_SECONDS = 0.2
#: How often it is looked whether the reward model is there (s).
LOOK_SECONDS = 0.25
#: How often it is looked for answers, while somebody waits for one (s).
ANSWER_SECONDS = 0.005
#: Requests that are taken before answers are sent, at most.
MOST_TAKEN = 256
#: Longest wait for a batch that is being scored, at the end (s).
CLOSE_SECONDS = 5.0


class Scorer:
    """A role, see `actors.roles.role`. `run` serves until it is told to end."""

    def __init__(self, context: RoleContext) -> None:
        self._recipe, self._name, self._replay = context.recipe, context.name, context.lifeline
        self._folder, self._student = context.storage.folder, context.storage.model
        self._max_bytes = context.recipe.replay.max_message_bytes  # a group that the replay took passes here, too
        self._up, self._leave_at = False, math.inf
        self._stopping = threading.Event()
        self._rejections, self._unread = Seldom(log), Seldom(log)
        self._heartbeat: Heartbeat | None = None
        self._presence = enter(context.recipe, self._folder, context.name, "scorer", context.replay)
        self._socket = open_router(self._presence.node, 0, self._max_bytes)

    def describe(self) -> Description:
        return Description(self._presence.metrics, self._socket.endpoint)

    def stop(self) -> None:
        self._stopping.set()

    def drain(self) -> None:
        """Be asked no more, and end once nobody waits for an answer."""
        seconds = LEAVE_SECONDS + 2 * self._recipe.membership.heartbeat_seconds  # until all verifiers know
        self._leave_at = min(self._leave_at, time.monotonic() + seconds)
        if self._heartbeat is not None:
            self._heartbeat.beat_now()

    @process.logged
    def run(self) -> None:
        """Serve until `stop` or `drain` is called.

        Raises:
            RunError: the reward model is not there in time, or cannot score any more.
            RecipeError, ModelError: it cannot be used.
        """
        interval = self._recipe.membership.heartbeat_seconds
        try:
            with closing(Heartbeat(self._replay, self._name, "scorer", interval, self._report)) as heartbeat:
                self._heartbeat = heartbeat
                if (model := self._model()) is not None:
                    self._up = True
                    heartbeat.beat_now()
                    self._serve(model)
                self._up = False
        finally:
            self._socket.close()

    def _report(self) -> Report:
        service = self._socket.endpoint if self._up and not self._ending() else ""
        return report("scorer", self._presence.metrics, ready=self._up, service=service)

    def _ending(self) -> bool:
        return self._stopping.is_set() or self._leave_at < math.inf

    def _model(self) -> ScoringModel | None:
        """What scores, once it can; None on a stop."""
        if self._recipe.distillation is not None:
            teacher = local(self._recipe.distillation.teacher)
            served = ServedTeacher(self._recipe, teacher, self._student)
            log.info("the teacher is loaded from %s", teacher)
            return served
        if (place := self._place()) is None:
            return None
        model = ServedModel(self._recipe, place)
        log.info("the reward model is loaded from %s", place)
        return model

    def _place(self) -> Path | None:
        """Where the reward model is, once it is there; a folder of that name is always complete. None on a stop."""
        config = self._recipe.preferences
        assert config is not None
        if config.reward_model is None:
            place = model_folder(config, self._folder)
            with waiting("learner", "the reward model"):
                there = until(lambda: self._ending() or place.is_dir(), config.wait_seconds, LOOK_SECONDS)
            if not there:
                raise RunError(
                    f"waited {config.wait_seconds:g} s for the reward model in {place}; see logs/learner.log, or raise "
                    "preferences.wait_seconds"
                )
        return None if self._ending() else model_folder(config, self._folder)

    # ---------------------------------------------------------------- the loop

    def _serve(self, model: ScoringModel) -> None:
        work = ScoringWork(model, self._recipe.scorers.batch_tokens)
        try:
            while not self._stopping.is_set():
                if self._socket.poll(ANSWER_SECONDS if work.open else WATCH_SECONDS):
                    self._take_all(work)
                for identity, reply in work.take_answers():
                    self._send(identity, reply)
                if not work.open and time.monotonic() > self._leave_at:
                    return
        finally:
            work.close(CLOSE_SECONDS)

    def _take_all(self, work: ScoringWork) -> None:
        for _ in range(MOST_TAKEN):
            if (received := self._socket.receive()) is None:
                return
            self._take(work, *received)

    def _take(self, work: ScoringWork, identity: bytes, frames: list[Frame]) -> None:
        number, now = 0, time.monotonic()
        try:
            message = decode(frames, self._max_bytes)
            number = message.id
            request = parse(message, REQUESTS)
        except ProtocolError as error:
            self._rejections.warning("rejected a message: %s", error)
            self._send(identity, Message("error", number, {"message": str(error)}))
            return
        work.ask(identity, number, now + request.wait_seconds, request, message.arrays)

    def _send(self, identity: bytes, message: Message) -> None:
        """Who is gone, or does not read, loses the answer, and asks another scorer."""
        if not self._socket.send(identity, encode(message)):
            self._unread.warning("a verifier does not read its answers; one was dropped")
