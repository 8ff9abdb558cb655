"""How the service runs, in one frozen place. The defaults are written here and nowhere else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from serve.runtime.session import Device


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What one worker needs to know. Travels to worker processes as JSON, so plain values only."""

    bundle: Path
    """A bundle, or a pointer to one (a link, or a text file that names one)."""
    url: str = ""
    """Where the service listens, for the line that says so."""
    device: Device = "auto"
    threads: int | None = None
    """CPU threads of one answer; None: all the CPUs that the process may use."""
    share_tables: bool = False
    """Map the tables of `tables.bin`, so that workers share their pages; for more than one of them."""
    token: str | None = field(default=None, repr=False)
    """Bearer token that every route but health asks for; None: no route asks."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that a request's `Host` and `Origin` may have, beside IP addresses and localhost."""
    max_concurrency: int = 64
    """Requests that wait or are computed at once in a worker; a further one gets 503. Two full batches: one
    that is computed, and one that is ready when it is done."""
    max_body_bytes: int = 1 << 20
    body_seconds: float = 10.0
    """How long a client may take to send a body."""
    drain_seconds: float = 1.0
    """After SIGTERM, how long new requests are still answered while /health/ready says 503, so that load
    balancers notice. Not after Ctrl-C."""
    grace_seconds: int = 10
    """After that, how long requests at work may take to finish."""

    def to_json(self) -> str:
        """As `from_json` takes it."""
        return json.dumps(asdict(self) | {"bundle": str(self.bundle)})

    @classmethod
    def from_json(cls, text: str) -> ServiceSettings:
        """What `to_json` gave."""
        values = json.loads(text)
        return cls(
            **values | {"bundle": Path(values["bundle"]), "allowed_hosts": tuple(values["allowed_hosts"])}
        )
