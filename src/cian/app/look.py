"""Where a touched pixel looks: in its own image, and in others that share a class."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cian.app.network import Latest, Network
from cian.app.project import Project
from cian.data.images import read_image

if TYPE_CHECKING:
    from cian.inference.affinity_maps import Cells
    from cian.network import CIAN

OTHERS = 5  # images beside the touched one
MOST_OTHERS = 12  # that a client may ask for
_SIDE = 512  # images are read at this size


class Looker:
    def __init__(self, project: Project, network: Network):
        self.project, self.network = project, network
        self._cells: Latest[tuple[str, int], Cells] = Latest(64)

    def maps(self, i: int, x: float, y: float, others: Sequence[int] | None, before: bool) -> dict[str, Any]:
        """As JSON: where the cell at (x, y), in parts of the image, looks in its own image and in others.

        Args:
            others: images; None: some that share a tag.
            before: with the network of the last round or, if there is none, as its training began.

        Raises:
            Refusal: there is no network with affinity.
            CianError: an image cannot be read.
        """
        return self.network.worker.do(lambda: self._maps(i, x, y, others, before)).result()

    def _maps(self, i: int, x: float, y: float, others: Sequence[int] | None, before: bool) -> dict[str, Any]:
        from cian.inference.affinity_maps import look, queries_of

        key, network = self._network(before)
        chosen = [i, *(self.shared(i) if others is None else others)]
        cells = [self._cells_of(key, network, row) for row in chosen]
        queries, features = queries_of(network, cells[0]), cells[0].features
        column, row = (
            min(max(round((place - first) / step), 0), features.shape[3 - axis] - 1)
            for axis, (place, first, step) in enumerate(zip((x, y), queries.first, queries.step, strict=True))
        )
        query = features[:, :, row : row + 1, column : column + 1]
        place = [first + step * at for first, step, at in zip(queries.first, queries.step, (column, row), strict=True)]
        maps = []
        for number, each in zip(chosen, cells, strict=True):
            found = look(network, query, each)
            shares = np.nan_to_num(found.affinity[0, 0])  # (kh, kw)
            most = float(shares.max())
            heat = (shares * (255 / max(most, 1e-12))).round().astype(np.uint8)
            maps.append(
                {
                    "i": number,
                    "height": heat.shape[0],
                    "width": heat.shape[1],
                    "origin": found.origin,
                    "size": found.size,
                    "shares": base64.b64encode(heat.tobytes()).decode(),
                    "scale": most,
                }
            )
        return {"cell": place, "maps": maps}

    def shared(self, i: int) -> list[int]:
        """Some images with a class of this one, spread over the table."""
        table = self.project.table
        tags = table.tags(i)
        holders = np.repeat(np.arange(len(table)), np.diff(table.tag_offsets))[np.isin(table.tag_ids, tags)]
        holders = np.unique(holders[holders != i])
        if len(holders) <= OTHERS:
            return holders.tolist()
        start = i * 7919 % len(holders)  # other images beside each image
        return np.sort(np.roll(holders, -start)[:: len(holders) // OTHERS][:OTHERS]).tolist()

    def _network(self, before: bool) -> tuple[str, CIAN]:
        last = self.project.last_round
        if not before:
            return self.network.with_affinity(self.project.run.path)
        if last is not None and self.project.affinity_weights(last) is not None:
            return self.network.with_affinity(last)
        return self.network.untrained()

    def _cells_of(self, key: str, network: CIAN, i: int) -> Cells:
        from cian.inference.affinity_maps import cells_of

        if (found := self._cells.find((key, i))) is None:
            found = cells_of(network, read_image(self.project.image(i), _SIDE))
            self._cells.keep((key, i), found)
        return found
