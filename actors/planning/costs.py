"""What things cost in time, from sizes and data sheets: a step of the learner, a step of an engine, a weight update."""

from actors.config.recipe import Recipe
from actors.planning.architectures import ModelShape
from actors.planning.memory import BYTES, FLOAT32, adapters
from actors.planning.public import Hardware
from learner.model.flops import attention_flops, model_flops

#: What a pass that only scores costs beside one that trains: forward alone, of forward and twice that backward.
SCORING = 1 / 3
#: The same where weights are frozen: their gradients, a third of the products, are not computed.
FROZEN = 2 / 3


def training_flops(recipe: Recipe, a: ModelShape, tokens: float, context: float) -> float:
    """Model FLOP of one optimizer step: of what the learner is fed, and of what it scores beside.

    Args:
        recipe: says what is scored, and what is frozen.
        a: the model.
        tokens: fed, prompts among them.
        context: mean length of prompt and completion (tokens).
    """
    learner = recipe.learner
    once = model_flops(a.active_parameters, tokens) + attention_flops(a.attention_width, tokens, context)
    passes = FROZEN if learner.lora is not None else 1.0
    if learner.objective.kl != "none":
        passes += SCORING
    if learner.needs_proximal_pass:
        passes += SCORING * learner.ranks  # every rank scores the whole batch
    return once * (passes + (learner.epochs - 1))


def decode_seconds(
    a: ModelShape, hardware: Hardware, devices: int, dtype: str, sequences: int, context: float, use: float
) -> float:
    """One step of an engine, which gives each of its sequences one token: the roofline (Williams et al. 2009).

    It reads the weights that its tokens touch and the cache of every sequence, and computes 2 FLOP a parameter and
    token (Pope et al. 2022, section 3); the slower of the two decides. Prefill is not counted.

    Args:
        a: the model.
        hardware, devices: what it runs on, and how many work on one model.
        dtype: of weights and cache.
        sequences: in the step.
        context: mean length of what they attend to (tokens).
        use: share of the data sheet's figures that is reached.
    """
    width = BYTES[dtype]
    read = width * (a.touched_parameters(sequences) + sequences * context * a.cache_width)
    flops = sequences * (2.0 * a.active_parameters + attention_flops(a.attention_width, 1, 2 * context) / 3)
    reached = devices * use
    return max(read / (reached * hardware.bandwidth), flops / (reached * hardware.flops)) + hardware.step_seconds


def update_bytes(recipe: Recipe, a: ModelShape) -> float:
    """Bytes of one weight update, counted once for all receivers."""
    learner = recipe.learner
    if learner.lora is not None and learner.sends_adapters:
        return float(FLOAT32 * adapters(a, learner.lora.rank))
    return float(BYTES[learner.dtype] * a.parameters)


def update_seconds(count: float, senders: int, path: float, receiver: float) -> float:
    """The broadcast of one update.

    Each sender has its share of the bytes, a link and a broadcast group of its own, and all send at once: n of them
    send n times as fast as one. But whoever receives takes in every byte of every share, over one link: more senders do
    not make up for that, and where its link is as fast as a sender's they save nothing but memory. How often a byte is
    passed on between receivers is not counted: in a pipeline it takes no longer for many than for one.

    Args:
        count: bytes of the update, counted once for all receivers.
        senders: ranks of the learner that send.
        path: what one of them sends alone (bytes/s).
        receiver: what a receiver takes in (bytes/s).
    """
    return count / min(senders * path, receiver)
