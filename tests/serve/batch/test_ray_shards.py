"""Shards in actors of a real Ray: the lists of the whole catalogue, also after an actor has died."""

from __future__ import annotations

import numpy as np
import pytest
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES

from serve.batch.ray_shards import shards_on_ray
from serve.errors import ClusterError, UnsupportedError
from serve.runtime.recommender import Recommender

# A cluster takes half a minute to start. Warnings are Ray's own, of its sockets and of releases to come.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_an_actor_for_each_shard() -> None:
    users = np.arange(31)
    whole = Recommender.load(RAW_ID_FIXTURES / "parts-int8", "cpu").rank(users, 50)
    apart = Recommender.load(RAW_ID_FIXTURES / "parts-int8-shards", "cpu")
    in_one_piece = shards_on_ray(Recommender.load(FIXTURES / "dot", "cpu"))
    with pytest.raises(UnsupportedError, match="not in shards"), in_one_piece:
        pass
    with shards_on_ray(apart, cpus_per_shard=0.25) as served:
        import ray

        for _ in range(2):
            found = served.rank(users, 50)
            assert found.graph == "merge"
            np.testing.assert_array_equal(found.indices, whole.indices)
            np.testing.assert_allclose(found.scores, whole.scores, rtol=0, atol=1e-5)
            assert found.ratings is not None
            assert whole.ratings is not None
            np.testing.assert_allclose(found.ratings, whole.ratings, rtol=0, atol=1e-5)
            shard = served.part("shards", dict).shards[1]  # type: ignore[attr-defined]
            ray.kill(shard.actor, no_restart=False)
        too_large = shards_on_ray(apart, cpus_per_shard=1000)
        with pytest.raises(ClusterError, match="3 shards with 1000 CPUs each do not fit"), too_large:
            pass
    assert not ray.is_initialized()
