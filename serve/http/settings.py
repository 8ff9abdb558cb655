"""How the service runs, in one frozen place. The defaults are written here and nowhere else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serve.runtime.session import Device


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one worker needs to know. Travels to worker processes as JSON, so plain values only."""

    bundle: Path
    """A bundle, or a pointer to one (a link, or a text file that names one)."""
    device: Device = "auto"
    threads: int | None = None
    """CPU threads of one answer; None: all the CPUs that the process may use."""
    share_tables: bool = False
    """Leave the tables of `tables.bin` in pages that workers share; for more than one of them."""
    token: str | None = field(default=None, repr=False)
    """Bearer token that every route but health asks for; None: no route asks."""
    max_concurrency: int = 64
    """Requests waiting or at work at once in a worker; a further one is shed. Two full batches: one that is
    computed, and one that is ready when it is done."""
    max_body_bytes: int = 1 << 20
    body_seconds: float = 10.0
    """How long a client may take to send a body."""
    retry_after_seconds: int = 1
    drain_seconds: float = 1.0
    """After SIGTERM, how long new requests are still answered while /health/ready says 503, so that load
    balancers notice. Not after Ctrl-C."""
    grace_seconds: int = 10
    """After that, how long requests at work may take to finish."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `from_dict` takes them."""
        return asdict(self) | {"bundle": str(self.bundle)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """What `to_dict` gave."""
        return cls(**values | {"bundle": Path(values["bundle"])})
