"""Save and restore torch's random states, on the CPU and on GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from prefrl.storage.files import Tree


def random_state() -> Tree:
    """Return torch's global random states: that of the CPU, and those of all GPUs if any is in use."""
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = torch.cuda.get_rng_state_all() if in_use else []
    return {"torch_rng": torch.get_rng_state(), "gpu_rng": {str(index): state for index, state in enumerate(gpus)}}


def load_random_state(state: Tree) -> None:
    """Restore a state from `random_state`.

    States of GPUs that this machine lacks are ignored. Older versions saved no GPU states.
    """
    torch.set_rng_state(torch.as_tensor(state["torch_rng"]))
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index, gpu in state.get("gpu_rng", {}).items():
        if int(index) < here:
            torch.cuda.set_rng_state(torch.as_tensor(gpu), int(index))


class TorchRandomState:
    """A random state of torch that is separate from the global one."""

    def __init__(self, seed: int, device: str) -> None:
        """Initialise the random state.

        Args:
            seed: The seed.
            device: The device that draws from it, e.g. "cpu" or "cuda:0".
        """
        place = torch.device(device)
        index = torch.cuda.current_device() if place.type == "cuda" and place.index is None else place.index
        self._gpus = [index] if place.type == "cuda" else []
        with torch.random.fork_rng(devices=self._gpus):
            torch.manual_seed(seed)
            self._keep()

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Inside this context, torch draws from this random state."""
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
        """Return the state, with the same keys as `random_state`."""
        return {"torch_rng": self._cpu, "gpu_rng": {str(gpu): state for gpu, state in self._states.items()}}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state; states of other devices are ignored."""
        self._cpu = torch.as_tensor(state["torch_rng"])
        saved = {int(gpu): torch.as_tensor(value) for gpu, value in state.get("gpu_rng", {}).items()}
        self._states |= {gpu: value for gpu, value in saved.items() if gpu in self._states}
