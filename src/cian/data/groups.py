"""Batches of image groups that share a tag (arXiv 1811.10842, section 4 of its method).

Every epoch shuffles the images; a group is the next image and then the next ones that share at least one tag with all
its members. Everything follows from (seed, epoch), so that a resumed run and every process of a distributed one see the
same plan.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from cian.errors import CianError

LOOKAHEAD = 256  # candidates that are looked at for one place in a group: bounds the time to O(N)


def form_groups(tag_ids: np.ndarray, tag_offsets: np.ndarray, group_size: int, rng: np.random.Generator) -> np.ndarray:
    """One epoch of groups, in linear time and memory.

    Images without a tag share "no tag" with one another. Images that find no partner are left out of this epoch.

    Args:
        tag_ids, tag_offsets: tags of N images as compressed sparse rows, see `Table`.

    Returns:
        (groups, group_size) int64 image indices.
    """
    n = len(tag_offsets) - 1
    order = rng.permutation(n)
    if group_size == 1:
        return order[:, None]
    counts = np.diff(tag_offsets)
    # In shuffled order, with "no tag" as tag 0: the tags of each place, and the places of each tag.
    lengths = np.maximum(counts, 1)[order]
    starts = np.zeros(n + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    place_of = np.repeat(np.arange(n), lengths)
    within = np.arange(starts[-1]) - starts[place_of]
    empty = counts[order[place_of]] == 0
    source = np.where(empty, 0, tag_offsets[order[place_of]] + within)
    padded = tag_ids if len(tag_ids) else np.zeros(1, np.int32)
    tags = np.where(empty, 0, padded[source])
    by_tag = np.argsort(tags, kind="stable")
    places = place_of[by_tag]
    ends = np.searchsorted(tags[by_tag], np.arange(tags.max() + 1 if n else 0), side="right").tolist()
    heads = [0, *ends[:-1]]  # of each tag, the first place that may still be free

    used = bytearray(n)
    groups = []
    tag_list, start_list, place_list = tags.tolist(), starts.tolist(), places.tolist()
    for first in range(n):
        if used[first]:
            continue
        used[first] = 1
        members = [first]
        own = [tag_list[start_list[first] : start_list[first + 1]]]
        candidates: list[tuple[int, int, int]] = []  # (place, tag, index in places): the queues of the first one's tags
        for tag in own[0]:
            while heads[tag] < ends[tag] and used[place_list[heads[tag]]]:
                heads[tag] += 1
            if heads[tag] < ends[tag]:
                candidates.append((place_list[heads[tag]], tag, heads[tag]))
        heapq.heapify(candidates)
        last = -1
        for _ in range(LOOKAHEAD * group_size):
            if not candidates or len(members) == group_size:
                break
            place, tag, index = candidates[0]
            if not used[place] and place != last:
                theirs = tag_list[start_list[place] : start_list[place + 1]]
                if all(not set(theirs).isdisjoint(tags_of) for tags_of in own[1:]):
                    used[place] = 1
                    members.append(place)
                    own.append(theirs)
            last = place
            if index + 1 < ends[tag]:
                heapq.heapreplace(candidates, (place_list[index + 1], tag, index + 1))
            else:
                heapq.heappop(candidates)
        if len(members) == group_size:
            groups.append(members)
        else:  # no partner is left for the first; the others go back to the queue
            for place in members[1:]:
                used[place] = 0
    return order[np.array(groups, np.int64).reshape(-1, group_size)]


class GroupSampler:
    """The plan of batches for every epoch, for one of several processes.

    A batch is laid out as `group_size` chunks: image j of each chunk is in group j, as `CrossImageAffinity` wants it.

    Args:
        tag_ids, tag_offsets: tags of N images, see `Table`.
        batch_size: images per process.
        rank, world: this process and the number of processes; together they see the global batch.

    Raises:
        CianError: not even one batch can be made.
    """

    def __init__(
        self,
        tag_ids: np.ndarray,
        tag_offsets: np.ndarray,
        batch_size: int,
        group_size: int = 1,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        self.tag_ids, self.tag_offsets = tag_ids, tag_offsets
        self.batch_size, self.group_size, self.seed = batch_size, group_size, seed
        self.rank, self.world = rank, world
        self._cache: tuple[int, np.ndarray] | None = None
        if not len(self.epoch(0)):
            images = len(tag_offsets) - 1
            raise CianError(
                f"{images} training images make no batch of {batch_size * world} in groups of {group_size} that share "
                f"a tag. Lower batch_size (e.g. --set train.batch_size={max(1, images // 4) * group_size}) or "
                "give more images."
            )

    def epoch(self, epoch: int) -> np.ndarray:
        """(batches, batch_size) image indices of one epoch for this process; the incomplete last batch is dropped."""
        if self._cache is None or self._cache[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            groups = form_groups(self.tag_ids, self.tag_offsets, self.group_size, rng)
            per_step = self.batch_size // self.group_size * self.world
            steps = len(groups) // per_step
            groups = groups[: steps * per_step].reshape(steps, per_step, self.group_size)[:, self.rank :: self.world]
            self._cache = epoch, groups.transpose(0, 2, 1).reshape(steps, self.batch_size)
        return self._cache[1]

    def batches(self, epochs: int, epoch: int = 0, step: int = 0) -> Iterator[list[tuple[int, int]]]:
        """(image index, epoch) pairs of every batch from a place in the plan to its end."""
        for number in range(epoch, epochs):
            for batch in self.epoch(number)[step:]:
                yield [(int(index), number) for index in batch]
            step = 0
