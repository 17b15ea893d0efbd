"""Why a step's loss or gradient was not finite, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from learner.statistics import TokenRecord

# exp overflows float32 at 88; a policy that learned from its own tokens is within a few nats of them.
SUSPICIOUS_NATS = 20.0


def diagnose_non_finite(records: Sequence[TokenRecord], loss: float, norm: float) -> str:
    """The likeliest cause of a loss or gradient that is not finite.

    Args:
        records: the tokens that this rank trained on; where they are innocent the answer says so.
        loss: of the step.
        norm: of its gradient.
    """
    what = f"loss {loss:g}, gradient norm {norm:g}: "
    if not records:
        return what + "another rank's tokens caused it; see its log"
    x = TokenRecord.concatenate(records)
    broken = int((~np.isfinite(x.logp)).sum())
    if broken:
        return what + (
            f"{broken} of {len(x.logp)} tokens have no finite logprob under the policy, so its weights or activations "
            "overflowed"
        )
    difference = np.abs(x.logp - x.behaviour)
    worst = int(difference.argmax())
    if difference[worst] > SUSPICIOUS_NATS:
        return what + (
            f"engine and learner disagree by {difference[worst]:.3g} nats about a token of age {x.age[worst]:g} "
            f"(engine {x.behaviour[worst]:.3g}, learner {x.logp[worst]:.3g}), so the logprobs are of another policy or "
            "temperature"
        )
    if math.isfinite(loss):
        return what + "the loss is finite and its gradient is not, so the backward pass overflowed"
    return what + f"logprobs are finite and within {difference[worst]:.3g} nats of the engine's; look at the advantages"
