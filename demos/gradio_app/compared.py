"""One user's lists by two bundles, as data: for the tab and for programs."""

from __future__ import annotations

from functools import cached_property

from demos.gradio_app.options import ListOptions
from demos.gradio_app.showcase import Listing, Showcase
from demos.report.comparison import Agreement, Pair, agreement


class ComparedLists:
    """The lists of a pair of bundles. `showcase` is that of the first one."""

    def __init__(self, pair: Pair, showcase: Showcase) -> None:
        self.pair = pair
        self.both = showcase, Showcase(pair.both[1])
        self.longest_list = min(one.longest_list for one in self.both)

    def of(self, user_id: str, top_k: int) -> list[Listing]:
        """A user's lists by A and by B, without what either knows the user to have rated.

        Raises RequestError: `top_k` is out of range.
        """
        a, b = (one.recommender.users.lookup_text(user_id) for one in self.both)
        return [
            one.recommend(user_id, ListOptions(top_k, exclude_seen=False, hidden=tuple(rated.tolist())))
            for one, rated in zip(self.both, self.pair.rated((a, b)), strict=True)
        ]

    @cached_property
    def agreement(self) -> Agreement:
        """How far the lists of many users agree."""
        return agreement(self.pair)
