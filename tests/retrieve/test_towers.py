from collections.abc import Iterator

import pytest
import torch

from recsys.models import Pairs
from recsys.rank.fit import fit_ranker
from recsys.rank.ranker import Ranker, make_new_user
from recsys.rank.weights import NO_WEIGHTS
from recsys.settings import RankConfig
from recsys.train.learn import configure, fit_seeded
from recsys.train.loop import score
from tests.support.planted import SIZES
from tests.support.rankers import LEARNER, indifferent, short_trainings, tastes

NAMES = ("triplet", "sequence")


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with short_trainings(*NAMES):
        yield


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    network = indifferent(SIZES.n_users, SIZES.n_items)
    return fit_ranker(network, tastes()[0], LEARNER, RankConfig(retrievers=NAMES), NO_WEIGHTS)


@pytest.mark.parametrize("name", NAMES)
def test_the_affinity_equals_the_score_of_the_network(name: str, ranker: Ranker) -> None:
    train = tastes()[0]
    network, _ = fit_seeded(name, configure(name, len(train), LEARNER), train, LEARNER)
    pairs = torch.cartesian_prod(torch.arange(SIZES.n_users), torch.arange(SIZES.n_items))
    moments = torch.full((len(pairs),), int(train.rated_at.max()) + 1)
    expected = score(network, Pairs(pairs[:, 0], pairs[:, 1], moments)).view(SIZES.n_users, SIZES.n_items)
    affinity_UI = ranker.retrievers[name].log_affinity(ranker.users(torch.arange(SIZES.n_users)))
    torch.testing.assert_close(affinity_UI, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_new_users_have_the_vector_of_the_unknown_user(name: str, ranker: Ranker) -> None:
    """Their ratings have no effect, because these networks represent users only by index."""
    unknown = ranker.retrievers[name].log_affinity(ranker.users(torch.tensor([0])))
    new_user = ranker.retrievers[name].log_affinity(make_new_user(ranker, ratings={3: 5.0}))
    assert torch.equal(unknown, new_user)
    known = ranker.retrievers[name].log_affinity(ranker.users(torch.tensor([1])))
    assert not torch.equal(unknown, known)
