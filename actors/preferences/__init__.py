"""Preference rewards: a reward model trained before the reinforcement learning, and its part in every reward.

`training` runs in the learner's first rank, `reward` in the verifiers; `scorer` is what both know of the model. Only
`reward` can be imported without torch.
"""
