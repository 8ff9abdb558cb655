"""The settings of the service. Each default is written here only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from serve.runtime.session import Device


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """The settings of one worker, which reads them as JSON."""

    bundle: Path
    """A bundle, or a pointer to one (a link, or a text file that names one)."""
    url: str = ""
    """Where the service listens, for the message that it has started."""
    device: Device = "auto"
    tf32: bool = False
    """On CUDA, multiply matrices in TensorFloat-32."""
    threads: int | None = None
    """CPU threads of one answer; None: all the CPUs that the process may use."""
    share_tables: bool = False
    """Map the tables of `tables.bin`, so that several workers share their pages."""
    exact: bool = False
    """Never answer with `recommend_fast.onnx`."""
    public_key: Path | None = None
    """The key that must have signed whatever bundle answers; None: none need be signed."""
    token: str | None = field(default=None, repr=False)
    """Bearer token that every route but health requires; None: no route does."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that `Host` and `Origin` may have, beside IP addresses and localhost."""
    max_concurrency: int = 64
    """Requests in progress in a worker; a further one gets 503. Two full batches: one is computed while the
    other one waits."""
    max_body_bytes: int = 1 << 20
    body_seconds: float = 10.0
    """How long a body may take to arrive."""
    drain_seconds: float = 1.0
    """After SIGTERM, how long new requests are still answered while /health/ready says 503, so that load
    balancers notice. Ctrl-C leaves it out."""
    grace_seconds: int = 10
    """How long requests in progress may then take to finish."""

    def to_json(self) -> str:
        """The settings for `from_json`."""
        return TypeAdapter(ServiceSettings).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> ServiceSettings:
        """The settings that `to_json` wrote."""
        return TypeAdapter(ServiceSettings).validate_json(text)
