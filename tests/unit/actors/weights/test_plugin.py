"""The kernel that is mended in vLLM's workers on CPUs."""

import pytest
import torch

from actors.weights.plugin import expand_kernel


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_every_guessed_token_gets_its_requests_value(dtype: torch.dtype) -> None:
    values = torch.tensor([0.7, 0, 3, 4]).to(dtype)
    output = torch.full((6,), -1, dtype=dtype)
    expand_kernel(output, values, torch.tensor([2, 3, 3, 6], dtype=torch.int32), 0, 1)
    first = 0.7 if dtype is torch.float32 else 1
    assert output.tolist() == pytest.approx([first, first, 1, 4, 4, 4])
