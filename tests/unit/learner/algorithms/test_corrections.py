"""What the masks keep and reject, beside numbers worked out by hand."""

from __future__ import annotations

import math

import torch

from learner.algorithms.corrections import icepop, kpop, trust_region


def test_kpop_is_wide_for_unlikely_tokens_and_narrow_for_likely_ones() -> None:
    """Both ratios are outside of IcePop's band or inside of it; the probabilities tell them apart."""
    behaviour = torch.tensor([1e-4, 0.95]).log()
    proximal = torch.tensor([6e-4, 0.6]).log()
    assert kpop(proximal, behaviour, 0.1).tolist() == [torch.exp(proximal - behaviour)[0].item(), 0.0]
    assert icepop(proximal, behaviour, 0.5, 5.0)[0] == 0.0 and icepop(proximal, behaviour, 0.5, 5.0)[1] > 0.0


def test_kpop_keeps_what_an_engine_rounds_to_certainty() -> None:
    behaviour = torch.tensor([0.0, 0.0, 5e-5])
    proximal = torch.tensor([math.log(0.9985), 0.0, -1e-6])
    assert (kpop(proximal, behaviour, 0.1) > 0).all()


def test_one_token_outside_of_the_trust_region_rejects_its_completion() -> None:
    log_rho = torch.tensor([0.1, -0.1, 0.0, -0.6, 0.0, 0.4])
    weights = trust_region(
        log_rho, torch.zeros(6), torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([2, 3, 1]), divergence=0.1
    )
    assert weights.tolist() == [1, 1, 0, 0, 0, 1]
