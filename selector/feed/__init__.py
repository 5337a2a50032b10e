"""What a trainer holds: an iterator over the rounds of a run and the way back for losses. Neither ray nor torch."""

from prereq.selector.feed.batch import Batch, HoldoutDocument
from prereq.selector.feed.state import FeedState
from prereq.selector.feed.stream import Feed
from prereq.selector.feed.waiting import WaitConfig

__all__ = ["Batch", "Feed", "FeedState", "HoldoutDocument", "WaitConfig"]
