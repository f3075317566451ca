"""Which movies are entries of the same film, so that lists treat them as one.

Shapes: I items, B rows of scores, C columns of items.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recsys.encode.vocabulary import Vocabulary
from recsys.models.sparse import entries_of, group_rows


@dataclass(frozen=True)
class Films:
    """film_I: int64, the lowest item_idx of the same film, by item_idx. Most items are films of their own."""

    film_I: Tensor

    @cached_property
    def has_twin(self) -> Tensor:
        """(I,) bool: whether the film has other entries."""
        return torch.bincount(self.film_I, minlength=len(self.film_I))[self.film_I] > 1

    @cached_property
    def most_entries(self) -> int:
        """The number of entries of the film with the most."""
        return int(torch.bincount(self.film_I).max())

    def spread(self, row: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Adds the pairs of each row with all entries of the same films. Pairs may repeat. row, item: int64."""
        twins = self.has_twin[item].nonzero().squeeze(1)
        place, twin = entries_of(*self._entries, self.film_I[item[twins]])
        return torch.cat([row, row[twins][place]]), torch.cat([item, twin])

    def keep_best_(self, score_BC: Tensor, item_BC: Tensor) -> None:
        """Sets the scores of all entries of a film except the best of the row to -inf, in place.

        Ties go to the first column, which is the lower item if columns ascend. item_BC: int64, -1 if there is none.
        """
        is_asked_BC = self.has_twin[item_BC] & (item_BC >= 0) & (score_BC > -torch.inf)
        row, column = is_asked_BC.nonzero(as_tuple=True)
        film = row * len(self.film_I) + self.film_I[item_BC[row, column]]
        order = score_BC[row, column].argsort(descending=True, stable=True)
        order = order[film[order].argsort(stable=True)]
        is_lower = film[order].diff() == 0
        lower = order[1:][is_lower]
        score_BC[row[lower], column[lower]] = -torch.inf

    @cached_property
    def _entries(self) -> tuple[Tensor, Tensor]:
        """The entries of each film, grouped by its lowest item."""
        items = torch.arange(len(self.film_I))
        return group_rows(self.film_I, items, len(items))


def films_of(vocabulary: Vocabulary) -> Films:
    return Films(torch.from_numpy(vocabulary.film_idx()))


def no_twins(n_items: int) -> Films:
    """Every item is a film of its own."""
    return Films(torch.arange(n_items))
