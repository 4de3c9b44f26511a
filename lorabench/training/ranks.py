"""Several processes in one training: one judges, all decide alike."""

from __future__ import annotations

from dataclasses import dataclass

from lorabench.records.course import Decision


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a training. Rank 0 leads; the others wait for its word.

    Attributes:
        n: Number of processes; 1 where torch's process group was not initialised.
        index: Of this process.
    """

    n: int = 1
    index: int = 0

    @classmethod
    def here(cls) -> Ranks:
        """Of torch's process group."""
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_world_size(), dist.get_rank())

    @property
    def leads(self) -> bool:
        """Whether this process judges."""
        return self.index == 0

    def agree(self, word: int) -> int:
        """The leader's small number, on every process. Every process must call it, equally often."""
        if self.n == 1:
            return word
        import torch
        import torch.distributed as dist

        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        told = torch.tensor([word], dtype=torch.int64, device=device)
        dist.broadcast(told, src=0)
        return int(told.item())

    def share(self, decision: Decision) -> Decision:
        """The leader's decision, on every process. Every process must call it, equally often."""
        if self.n == 1:
            return decision
        import torch.distributed as dist

        told = [decision.model_dump_json()]
        dist.broadcast_object_list(told, src=0)
        return Decision.model_validate_json(told[0])
