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
MAX_TRUNCATED = 0.30  # share of the responses: from here the token limit, not the model, decides what is learned
ACCURACY_STANDARD_ERRORS = 3.0  # a drop in accuracy smaller than this many is noise of a finite held-out set
MIN_ACCURACY_DROP = 0.05  # held-out accuracy (share): a drop smaller than five points bothers nobody
MIN_REWARD_RATIO = 0.6  # training reward against its best window: batches differ by a fifth, collapses lose all
MAX_LOGPROB_DIFFERENCE = 0.10  # nats/token: bfloat16 on both sides costs 0.04 at most; more is a bug or broken weights
MAX_STALE_SHARE = 0.10  # of the issued groups: generation thrown away, admission should prevent it
MAX_INFRA_SHARE = 0.02  # of the issued groups: verifiers break, not answers
FRUITLESS_BATCHES = 5  # batches' worth of groups dropped without a batch: DAPO's filter wants three for one, not more
STANDSTILL_SECONDS = 15.0  # without work in any pool: while a run is well some pool works every second or two

ALERTS_ONLY: frozenset[str] = frozenset()  # names of this module that only alerts use, not a run's own warnings
