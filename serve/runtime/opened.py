"""An open bundle: its graphs and tables, each loaded and checked at its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import numpy as np

from serve.bundle.bundle import Bundle, open_bundle
from serve.bundle.ids import IdIndex
from serve.bundle.item_rules import YEAR
from serve.bundle.items import Catalogue
from serve.bundle.manifest import Manifest
from serve.bundle.manifest_check import CALLED
from serve.bundle.profiles import check_profiles
from serve.bundle.seen import Seen
from serve.bundle.shards import list_graphs, role
from serve.bundle.users import read_users
from serve.errors import BundleError, SeenLeftOutError
from serve.files.names import TABLES_NAME
from serve.runtime.checked_graph import open_checked
from serve.runtime.cuda import DeviceTables, has_cuda_gpu
from serve.runtime.session import Device, run_named, session_device

if TYPE_CHECKING:
    from serve.runtime.session import GraphSession

T = TypeVar("T")


class OpenedBundle:
    """A bundle's sessions and tables, shared by threads; what answers from them is `Recommender`."""

    def __init__(
        self,
        bundle: Bundle,
        device: Device = "auto",
        *,
        threads: int | None = None,
        share_tables: bool = False,
        exact: bool = False,
        tf32: bool = False,
    ) -> None:
        self.bundle = bundle
        self._exact = exact
        self._threads = threads
        self.tf32 = tf32
        """Whether CUDA multiplies matrices in TensorFloat-32."""
        # Tables inside the graphs' files are never mapped, so they can't be shared.
        share_tables = share_tables and TABLES_NAME in bundle.manifest.files
        self._open = partial(
            open_checked,
            bundle,
            threads=threads,
            share_tables=share_tables,
            tf32=tf32,
            tables=DeviceTables(bundle),
        )
        self._device: Device = "cpu" if device == "auto" and not has_cuda_gpu() else device
        self._lock = threading.RLock()
        self._parts: dict[str, Any] = {}
        if self._device != "cpu":
            # Whether CUDA works shows only here; the other graphs then use the same device.
            self._device = session_device(self._session(list_graphs(self.manifest.graphs)[0]))

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: Device = "auto",
        *,
        threads: int | None = None,
        share_tables: bool = False,
        exact: bool = False,
        tf32: bool = False,
    ) -> Self:
        """Check and load a bundle. Graphs and tables of ids are loaded at their first use.

        Args:
            path: The bundle's folder, or a link to it.
            device: "auto" takes CUDA where it works, else the CPU.
            threads: Threads of one call on the CPU; None: all CPUs that this process may use.
            share_tables: Processes on the CPU share the pages of `tables.bin`; large batches take longer.
            exact: Never use `recommend_fast.onnx`, the graph for single users of large catalogues.
            tf32: On CUDA, multiply matrices in TensorFloat-32: scores within 0.002 of their span. Not for
                `fold_in` and `explain`.

        Raises:
            BundleError: the bundle is incomplete, damaged or not to be trusted.
            DeviceError: device="cuda", and CUDA does not work.
            RequestError: `device` is none of the three.
        """
        bundle = open_bundle(path)
        return cls(bundle, device, threads=threads, share_tables=share_tables, exact=exact, tf32=tf32)

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device in use."""
        assert self._device != "auto"
        return self._device

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def predicts_ratings(self) -> bool:
        """Whether scores are predicted ratings, which `recommend` then gives beside each item."""
        return self.manifest.model.scores == "ratings"

    @property
    def users(self) -> IdIndex:
        """The user ids."""
        return self.part("users", lambda: read_users(self.bundle))

    @property
    def items(self) -> Catalogue:
        """The items: ids, titles, search."""
        return self.part("items", self._read_items)

    def _read_items(self) -> Catalogue:
        items = Catalogue(self.bundle.file("items.parquet"), self.manifest.model.n_items)
        if (rules := self.manifest.item_rules) is not None:
            lacks_years = YEAR in rules.numbers and items.years is None
            if lacks_years or not items.categories.issuperset(rules.categories):
                raise BundleError(
                    f"items.parquet has no {'year' if lacks_years else 'genres'}, which the manifest's "
                    f"item_rules name. Export the bundle again."
                )
        return items

    @property
    def seen(self) -> Seen:
        """The items that each user has rated. Raises SeenLeftOutError: the bundle does not hold them."""
        if self.manifest.without_seen:
            raise SeenLeftOutError
        file, model = self.bundle.file, self.manifest.model
        return self.part("seen", lambda: Seen(file("seen.parquet"), model.n_users, model.n_items))

    def check(self, *graphs: str) -> int:
        """Open graphs, which runs their conformance cases; returns how many there are.

        Any graph is checked at its first use; without names, all that this class calls, ids and profiles are.

        Raises BundleError: a graph has no cases, or does not answer as they say; or a file is damaged.
        """
        there = self.manifest.graphs
        left_out = {"recommend_fast"} if self._exact else set()
        names = graphs or [name for name in there if role(name) in CALLED.keys() - left_out]
        n_cases = sum(self._checked(name)[1] for name in names if name in there)
        if not graphs:
            for ids in (self.users, self.items.ids):
                ids.lookup_one(ids.first_id)  # finds ids that repeat
            if not self.manifest.without_seen:
                self.seen.of_user(1)
            check_profiles(self.bundle)
        return n_cases

    def run_graph(self, graph: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a graph: input name -> array (types and ranks are not checked), to output name -> array."""
        return run_named(self._session(graph), feeds)

    def _session(self, graph: str) -> GraphSession:
        return self._checked(graph)[0]

    def _checked(self, graph: str) -> tuple[GraphSession, int]:
        """The session of a graph, and how many conformance cases it has passed."""
        return self.part(graph, lambda: self._open(graph, self._device))

    def part(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, a part of the bundle that is loaded at its first use, once for all threads."""
        part = self._parts.get(name)
        if part is None:
            with self._lock:
                part = self._parts.get(name)
                if part is None:
                    part = self._parts[name] = make()
        return part
