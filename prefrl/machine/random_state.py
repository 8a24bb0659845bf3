"""torch's random states, as trees: of the CPU and, where something computes there, of the GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from prefrl.storage.files import Tree


def random_state() -> Tree:
    """Of everything that torch draws from: the CPU's state, and that of each GPU if any is in use."""
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = torch.cuda.get_rng_state_all() if in_use else []
    return {"torch_rng": torch.get_rng_state(), "gpu_rng": {str(index): state for index, state in enumerate(gpus)}}


def load_random_state(state: Tree) -> None:
    """Go back to what `random_state` gave, or an older version, which left GPUs out; those not here are passed over."""
    torch.set_rng_state(torch.as_tensor(state["torch_rng"]))
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index, gpu in state.get("gpu_rng", {}).items():
        if int(index) < here:
            torch.cuda.set_rng_state(torch.as_tensor(gpu), int(index))


class TorchRandomState:
    """torch's random states for one part of the program alone, which leaves everybody else's as they are."""

    def __init__(self, seed: int, device: str) -> None:
        """Seed it.

        Args:
            seed: The seed.
            device: Where the part computes.
        """
        place = torch.device(device)
        index = torch.cuda.current_device() if place.type == "cuda" and place.index is None else place.index
        self._gpus = [index] if place.type == "cuda" else []
        with torch.random.fork_rng(devices=self._gpus):
            torch.manual_seed(seed)
            self._keep()

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """What is drawn within is drawn from this."""
        with torch.random.fork_rng(devices=self._gpus):
            torch.set_rng_state(self._cpu)
            for gpu, state in self._states.items():
                torch.cuda.set_rng_state(state, gpu)
            yield
            self._keep()

    def _keep(self) -> None:
        self._cpu = torch.get_rng_state()
        self._states = {gpu: torch.cuda.get_rng_state(gpu) for gpu in self._gpus}

    def state_dict(self) -> Tree:
        """Where it stands, with the same names as `random_state`."""
        return {"torch_rng": self._cpu, "gpu_rng": {str(gpu): state for gpu, state in self._states.items()}}

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state, as far as it is of the same devices."""
        self._cpu = torch.as_tensor(state["torch_rng"])
        saved = {int(gpu): torch.as_tensor(value) for gpu, value in state.get("gpu_rng", {}).items()}
        self._states |= {gpu: value for gpu, value in saved.items() if gpu in self._states}
