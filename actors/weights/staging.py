"""Host memory that updates are received into, kept from one update to the next."""

import threading
from collections.abc import Sequence

import torch


class Staging:
    """Buffers of the update before, for the next one: the first touch of fresh pages costs more than receiving does.

    An update that was given up keeps what it has taken, since nothing can stop its thread from writing into it.
    """

    def __init__(self) -> None:
        self._free: list[torch.Tensor] = []
        self._lock = threading.Lock()

    def take_with(self, content: torch.Tensor) -> torch.Tensor:
        """A uint8 tensor with the bytes of `content`: that memory itself where it was given back, or else a copy."""
        with self._lock:
            for number, buffer in enumerate(self._free):
                if buffer.data_ptr() == content.data_ptr() and buffer.numel() == content.numel():
                    return self._free.pop(number)
        return self.take(content.numel()).copy_(content)

    def take(self, size: int) -> torch.Tensor:
        """A uint8 tensor [size] with any content."""
        with self._lock:
            for number, buffer in enumerate(self._free):
                if buffer.numel() == size:
                    return self._free.pop(number)
        # Pinned where this process uses a GPU anyway: copies to it are then as fast as its link.
        pin = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return torch.empty(size, dtype=torch.uint8, pin_memory=pin)

    def give_back(self, tensors: Sequence[tuple[str, torch.Tensor]]) -> None:
        """Take the memory of tensors that were received, and that nobody reads any more; what was free before goes."""
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for _, tensor in tensors}
        free = [torch.empty(0, dtype=torch.uint8).set_(storage) for storage in storages.values()]
        with self._lock:
            self._free = free
