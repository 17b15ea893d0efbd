"""The numbers beyond which a run counts as unhealthy: one table for its own warnings and for alerts.

`actors.report.health` judges a run by them. An alert on the exported metrics that asks the same question takes its
number from here, so that terminal, report and pager agree. Each says why it has this value.
"""

WINDOW_STEPS = 5  # steps averaged, so that one odd batch raises no alarm
EARLY_STEPS = 10  # steps that stand for how the run began
MIN_ISSUED_GROUPS = 50  # groups, before a share of them means anything

MIN_ENTROPY = 0.005  # nats/token: collapsed runs fell from 0.05 to 0.001, healthy ones stay above 0.01
SOLVED_ACCURACY = 0.95  # held-out accuracy (share) from which low entropy and equal rewards are what one hopes for
MIN_MIXED_GROUPS = 0.10  # share of the groups: below it nine of ten are generated and verified for nothing
MIN_LENGTH_RATIO = 0.5  # of the early length: collapsed runs went to a few tokens, healthy ones moved by a tenth
MAX_LENGTH_GROWTH = 2.0  # of the early length without more reward: R1-Zero's thoughts grew so, and earned by it
MIN_FORMAT_RATIO = 0.8  # of the format rate's best window: it saturates within a few points, so a fifth is a turn
MAX_LANGUAGE_MIXING = 0.20  # share of the responses: names and terms make some, one in five cannot be read by most
MAX_TRUNCATED = 0.30  # share of the responses: from here the token limit, not the model, decides what is learned
ACCURACY_STANDARD_ERRORS = 3.0  # a drop in accuracy smaller than this many is noise of a finite held-out set
MIN_ACCURACY_DROP = 0.05  # held-out accuracy (share): a drop smaller than five points bothers nobody
MIN_REWARD_RATIO = 0.6  # training reward against its best window: batches differ by a fifth, collapses lose all
MAX_LOGPROB_DIFFERENCE = 0.10  # nats/token: bfloat16 on both sides costs 0.04 at most; more is a bug or broken weights
MAX_STALE_SHARE = 0.10  # of the issued groups: generation thrown away, admission should prevent it
MAX_INFRA_SHARE = 0.02  # of the issued groups: verifiers break, not answers
FRUITLESS_BATCHES = 5  # batches' worth of groups dropped without a batch: DAPO's filter wants three for one, not more
STANDSTILL_SECONDS = 15.0  # without work in any pool: while a run is well some pool works every second or two

MAX_WAIT_SHARE = 0.5  # of the learner's time: from here generation takes longer than learning
MAX_QUEUE_SHARE = 0.9  # of the groups that the bound on staleness lets be under way: all ready, nothing is generated
NEAR_BOUND_SHARE = 0.8  # of the bound: one in ten groups that old means that the next delay drops some
MAX_LENGTH_RATIO = 1.5  # dropped against submitted: zero is no bias, and lengths of one task differ by a third
MAX_JOURNAL_SECONDS = 1.0  # a transaction: every answer waits for it, and a poll for work takes a second
MIN_DISK_FREE_BYTES = 2 * 2**30  # one checkpoint of the smallest models, and the journal's own 256 MiB twice over
MAX_SYNC_FAILURES = 3  # generators evicted in a quarter of an hour: one that dies in an update is one
MIN_BANDWIDTH_SHARE = 0.2  # of what the preflight measured: Gloo and NCCL reach more than half of it
MAX_TIMEOUT_SHARE = 0.10  # of the verdicts: models write some endless loops, machines that are too small make more
MAX_JUDGE_FAILURES = 0.10  # of the requests to a judge: each is made again, and groups wait or are lost meanwhile
MAX_RESTARTS = 3  # of one role in a quarter of an hour: the supervisor gives up at controller.restarts
MAX_HEAD_MEMORY = 0.9  # share: Ray kills workers from 0.95 on, and the kernel kills the head soon after

#: Names of this module that only alerts use, not a run's own warnings.
ALERTS_ONLY = frozenset(
    (
        *("MAX_WAIT_SHARE", "MAX_QUEUE_SHARE", "NEAR_BOUND_SHARE", "MAX_LENGTH_RATIO", "MAX_JOURNAL_SECONDS"),
        *("MIN_DISK_FREE_BYTES", "MAX_SYNC_FAILURES", "MIN_BANDWIDTH_SHARE", "MAX_TIMEOUT_SHARE", "MAX_RESTARTS"),
        *("MAX_HEAD_MEMORY", "MAX_JUDGE_FAILURES"),
    )
)
