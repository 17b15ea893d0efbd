"""The learner: from groups of completions to better weights. It knows tensors, and neither processes nor networks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from learner.batch import Completion, Group
from learner.config import LearnerConfig, OptimizerConfig, SftConfig
from learner.errors import BatchError, CheckpointError, DamagedCheckpointError, LearnerError, ModelError, NonFiniteError
from learner.objective import ObjectiveConfig

if TYPE_CHECKING:
    from learner.reward_model import RewardModel, evaluate_preferences, train_reward_model
    from learner.sft import train_sft
    from learner.statistics import STATISTICS
    from learner.teacher import Teacher
    from learner.trainer import Trainer

# What needs torch is imported when it is first asked for: reading a recipe takes the configuration alone.
_LAZY = {
    "STATISTICS": "learner.statistics",
    "RewardModel": "learner.reward_model",
    "Teacher": "learner.teacher",
    "Trainer": "learner.trainer",
    "evaluate_preferences": "learner.reward_model",
    "train_reward_model": "learner.reward_model",
    "train_sft": "learner.sft",
}

__all__ = [
    "STATISTICS",
    "BatchError",
    "CheckpointError",
    "Completion",
    "DamagedCheckpointError",
    "Group",
    "LearnerConfig",
    "LearnerError",
    "ModelError",
    "NonFiniteError",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RewardModel",
    "SftConfig",
    "Teacher",
    "Trainer",
    "evaluate_preferences",
    "train_reward_model",
    "train_sft",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
