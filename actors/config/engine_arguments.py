"""Arguments of vLLM that `engine_args` cannot have: those with a key of their own, and those that training rests on."""

from collections.abc import Iterator

from actors.config.recipe import Recipe

KEY = "generators.vllm.engine_args"
#: The recipe's key for an argument.
KEYS = {
    "model": "model",
    "seed": "seed",
    "dtype": "generators.dtype",
    "max_num_seqs": "generators.vllm.max_num_seqs",
    "enforce_eager": "generators.vllm.enforce_eager",
    "tensor_parallel_size": "generators.vllm.tensor_parallel_size",
    "gpu_memory_utilization": "generators.vllm.gpu_memory_utilization",
    "enable_prefix_caching": "generators.vllm.prefix_cache",
    "enable_return_routed_experts": "learner.router_replay",
}
#: Why an argument is not to be had. Whatever begins with a name that ends in `_` is meant, too.
FIXED = {
    "data_parallel_": "an engine's workers have to answer a weight update together; raise generators.count instead, "
    "whose engines join, leave and die one by one",
    "pipeline_parallel_": "each worker has to hold a part of every layer; raise generators.vllm.tensor_parallel_size",
    "logprobs_mode": "training needs the log-probabilities of the distribution that was sampled",
    "generation_config": "how completions are sampled is what generators.sampling says",
    "skip_tokenizer_init": "engines take and give tokens",
    "spec_": "is another name for a part of speculative_config; give that",
    "weight_transfer_config": "weights come as the keys under weights say",
}


def problems(recipe: Recipe) -> Iterator[str]:
    """What of the recipe's `engine_args` is refused, with its key."""
    if recipe.generators.engine != "vllm":
        return
    for name in recipe.generators.vllm.engine_args:
        if (own := KEYS.get(name)) is not None:
            yield f"{KEY}.{name}: has a key of its own; set {own}"
        for fixed, why in FIXED.items():
            if name == fixed or (fixed.endswith("_") and name.startswith(fixed)):
                yield f"{KEY}.{name}: {why}"
