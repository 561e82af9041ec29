"""Batches of image groups that share a tag (arXiv 1811.10842, section 4 of its method).

Every epoch shuffles the images. A group is the next image and then the next ones that share at least one tag with all
members. Everything follows from (seed, epoch), so that a resumed run and all processes of a distributed run see the
same plan.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cian.compiled import jit
from cian.errors import CianError

_LOOKAHEAD = 256  # candidates for one place in a group; the bound makes the time linear


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
    # In shuffled order, with "no tag" as tag 0: the tags of each place, and the places of each tag.
    counts = np.diff(tag_offsets)
    starts = np.zeros(n + 1, np.int64)
    np.cumsum(np.maximum(counts, 1)[order], out=starts[1:])
    tags = _tags_in_order(tag_ids, tag_offsets, order, starts)
    tag_starts = np.append(0, np.bincount(tags).cumsum())
    places = _places_by_tag(tags, starts, tag_starts)
    groups = _fill_groups(tags, starts, places, tag_starts, group_size, int(counts.max(initial=1)))
    return order[groups]


@jit
def _tags_in_order(tag_ids, tag_offsets, order, starts):
    tags = np.zeros(starts[-1], np.int32)
    for place in range(order.size):
        first = tag_offsets[order[place]]
        for k in range(tag_offsets[order[place] + 1] - first):
            tags[starts[place] + k] = tag_ids[first + k]
    return tags


@jit
def _places_by_tag(tags, starts, tag_starts):
    """A counting sort: the places of tag t are places[tag_starts[t] : tag_starts[t + 1]], ascending."""
    free = tag_starts[:-1].copy()
    places = np.empty(tags.size, np.int32)
    for place in range(starts.size - 1):
        for k in range(starts[place], starts[place + 1]):
            places[free[tags[k]]] = place
            free[tags[k]] += 1
    return places


@jit
def _fill_groups(tags, starts, places, tag_starts, group_size, most_tags):
    """(groups, group_size) places, each group in the order in which its members were found."""
    n = starts.size - 1
    groups = np.empty((n // group_size, group_size), np.int64)
    heads = tag_starts[:-1].copy()  # for each tag, the first of its places that may still be free
    used = np.zeros(n, np.bool_)
    queue = np.empty(max(1, most_tags), np.int64)  # for each tag of the first member, the place to look at next
    made = 0
    for first in range(n):
        if used[first] or made == len(groups):
            continue
        used[first] = True
        members = groups[made]
        members[0] = first
        size = 1
        own = tags[starts[first] : starts[first + 1]]
        for t in range(own.size):
            tag = own[t]
            while heads[tag] < tag_starts[tag + 1] and used[places[heads[tag]]]:
                heads[tag] += 1
            queue[t] = heads[tag]
        last = -1
        for _ in range(_LOOKAHEAD * group_size):
            nearest = -1
            for t in range(own.size):
                if queue[t] < tag_starts[own[t] + 1] and (nearest < 0 or places[queue[t]] < places[queue[nearest]]):
                    nearest = t
            if nearest < 0 or size == group_size:
                break
            place = places[queue[nearest]]
            queue[nearest] += 1
            if not used[place] and place != last and _shares_with_all(tags, starts, place, members[1:size]):
                used[place] = True
                members[size] = place
                size += 1
            last = place
        if size == group_size:
            made += 1
        else:  # too few partners are left for the first one; the others return to the queue
            for k in range(1, size):
                used[members[k]] = False
    return groups[:made]


@jit
def _shares_with_all(tags, starts, place, members):
    for member in members:
        shared = False
        for a in range(starts[place], starts[place + 1]):
            for b in range(starts[member], starts[member + 1]):
                shared |= tags[a] == tags[b]
        if not shared:
            return False
    return True


class GroupSampler:
    """The plan of batches for every epoch, for one of several processes.

    A batch is laid out as `group_size` chunks: image j of each chunk is in group j, as `CrossImageAffinity` expects it.

    Args:
        tag_ids, tag_offsets: tags of N images, see `Table`.
        batch_size: images per process.
        rank, world: this process and the number of processes. Together they see the global batch.
        setting: the setting of the batch size, for the error.

    Raises:
        CianError: the images make no batch.
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
        setting: str = "batch_size",
    ):
        self.tag_ids, self.tag_offsets = tag_ids, tag_offsets
        self.batch_size, self.group_size, self.seed = batch_size, group_size, seed
        self.rank, self.world = rank, world
        self._cache: tuple[int, np.ndarray] | None = None
        if not len(self.epoch(0)):
            images = len(tag_offsets) - 1
            groups = len(form_groups(tag_ids, tag_offsets, group_size, np.random.default_rng([seed, 0])))
            made = (
                f" make {groups} group{'s' * (groups != 1)} of {group_size} that share a tag" if group_size > 1 else ""
            )
            fitting = f", or set {setting}={groups // world * group_size}" if groups >= world else ""
            raise CianError(
                f"{images} training images{made}: too few for a batch of {batch_size * world}. Give more images"
                f"{fitting}."
            )

    def epoch(self, epoch: int) -> np.ndarray:
        """(batches, batch_size) image indices of one epoch for this process. An incomplete last batch is dropped."""
        if self._cache is None or self._cache[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            groups = form_groups(self.tag_ids, self.tag_offsets, self.group_size, rng)
            per_step = self.batch_size // self.group_size * self.world
            steps = len(groups) // per_step
            groups = groups[: steps * per_step].reshape(steps, per_step, self.group_size)[:, self.rank :: self.world]
            self._cache = epoch, groups.transpose(0, 2, 1).reshape(steps, self.batch_size)
        return self._cache[1]

    def batches(self, epochs: int, epoch: int = 0, step: int = 0) -> Iterator[list[tuple[int, int]]]:
        """The (image index, epoch) pairs of each batch, from a place in the plan to its end."""
        for number in range(epoch, epochs):
            for batch in self.epoch(number)[step:]:
                yield [(int(index), number) for index in batch]
            step = 0
