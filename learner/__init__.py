"""The learner: from groups of completions to better weights. It knows tensors, and neither processes nor networks."""

from learner.batch import Completion, Group
from learner.config import LearnerConfig, ObjectiveConfig, OptimizerConfig, SftConfig
from learner.errors import BatchError, CheckpointError, LearnerError, ModelError, NonFiniteError
from learner.reward_model import RewardModel, prefer
from learner.sft import supervise
from learner.statistics import STATISTICS
from learner.trainer import Trainer

__all__ = [
    "STATISTICS",
    "BatchError",
    "CheckpointError",
    "Completion",
    "Group",
    "LearnerConfig",
    "LearnerError",
    "ModelError",
    "NonFiniteError",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RewardModel",
    "SftConfig",
    "Trainer",
    "prefer",
    "supervise",
]
