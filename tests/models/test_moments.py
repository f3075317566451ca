import pytest
import torch

from recsys.models.moments import DayBias, Mood, SizedByTraining, WeekVectors
from recsys.models.network import Interactions, Pairs
from tests.support.planted import rows_of

DAY = 86_400
USERS = torch.tensor([1, 1, 1, 1, 1, 2, 2])
RATED_AT = torch.tensor([5 * DAY, 5 * DAY + 60, 5 * DAY + 60, 9 * DAY, 30 * DAY, 5 * DAY, 40 * DAY])
TRAIN = Interactions(USERS, torch.arange(7) % 3, RATED_AT, torch.zeros(7, dtype=torch.int64))


def at(user: int, moment: int) -> Pairs:
    return Pairs(torch.tensor([user]), torch.tensor([1]), torch.tensor([moment]))


@pytest.fixture
def days() -> DayBias:
    days = DayBias(min_ratings=1)
    days.prepare(TRAIN)
    with torch.no_grad():
        days.bias[:, 0] = torch.arange(len(days.bias))
    return days


def test_each_user_has_a_number_per_day(days: DayBias) -> None:
    """(1, day 5), (1, 9), (1, 30), (2, 5), (2, 40): rows 1 to 5."""
    assert len(days.bias) == 6
    known = [(1, 5), (1, 9), (1, 30), (2, 5), (2, 40)]
    assert [days(at(user, day * DAY + 7))[0].item() for user, day in known] == [1, 2, 3, 4, 5]
    assert days(at(1, 9 * DAY))[1].item() == 4


@pytest.mark.parametrize(("user", "moment"), [(1, 6 * DAY), (2, 9 * DAY), (0, 5 * DAY), (3, 5 * DAY), (1, 10**10)])
def test_a_day_without_a_rating_says_nothing(days: DayBias, user: int, moment: int) -> None:
    assert days(at(user, moment))[0].item() == 0  # row 0, which nothing trains


def test_a_day_of_few_ratings_has_no_number() -> None:
    """User 1 rated three times on day 5, nobody as often on any other."""
    days = DayBias(min_ratings=3)
    days.prepare(TRAIN)
    with torch.no_grad():
        days.bias[:, 0] = torch.arange(len(days.bias))
    assert len(days.bias) == 2
    assert days(at(1, 5 * DAY))[0].item() == 1
    assert [days(at(user, day * DAY))[0].item() for user, day in ((1, 9), (2, 5), (2, 40), (1, 6))] == [0, 0, 0, 0]


@pytest.fixture
def mood() -> Mood:
    """Two ratings from knot to knot: user 1 of five ratings has knots at 0, 2, 4 and 6, user 2 of two at 0, 2 and 4."""
    mood = Mood(n_users=4, ratings_per_knot=2)
    mood.prepare(TRAIN)
    with torch.no_grad():
        mood.knots[:, 0] = torch.tensor([0, 0, 10, 20, 40, 80, 100, 200, 400, 0, 0])
    return mood


def test_knots_of_each_user(mood: Mood) -> None:
    assert mood.first_knot.tolist() == [0, 2, 6, 9]
    assert len(mood.knots) == 2 + 4 + 3 + 2


@pytest.mark.parametrize(
    ("user", "moment", "position"),
    [
        (1, 1, 0),  # before everything
        (1, 5 * DAY, 0.5),  # of the first rating's own second: half of it
        (1, 5 * DAY + 1, 1),
        (1, 5 * DAY + 60, 2),  # two ratings of one second, halved
        (1, 6 * DAY, 3),
        (1, 30 * DAY, 4.5),
        (1, 31 * DAY, 5),
        (1, 10**10, 5),  # and so it stays
        (2, 5 * DAY, 0.5),
        (2, 41 * DAY, 2),
    ],
)
def test_a_moment_is_a_place_in_its_users_history(mood: Mood, user: int, moment: int, position: float) -> None:
    assert mood._position(at(user, moment)).item() == position
    knots = {1: [10, 20, 40, 80], 2: [100, 200, 400]}[user]
    before, share = int(position // 2), position / 2 % 1
    expected = knots[before] * (1 - share) + knots[before + 1] * share
    value, squares = mood(at(user, moment))
    assert value.item() == expected
    assert squares.item() == knots[before] ** 2 + knots[before + 1] ** 2


@pytest.mark.parametrize(("user", "moment"), [(1, 0), (2, 0), (0, 5 * DAY), (3, 5 * DAY), (3, 0)])
def test_the_mood_of_a_stranger_or_at_no_moment_is_none(mood: Mood, user: int, moment: int) -> None:
    assert mood(at(user, moment))[0].item() == 0


def test_training_rows_of_one_user_pass_each_place_once() -> None:
    n = 200
    rows = rows_of(torch.ones(n, dtype=torch.int64), torch.arange(n), torch.zeros(n, dtype=torch.int64))
    rows = Interactions(rows.user_idx, rows.item_idx, 1 + torch.randperm(n), rows.level_idx)
    mood = Mood(2, 40)
    mood.prepare(rows)
    assert sorted(mood._position(rows).tolist()) == [place + 0.5 for place in range(n)]


def test_places_are_exact_behind_millions_of_others() -> None:
    """Half a place more is beyond float32 from 2**23 on."""
    n_others, own = 3 * 2**23, torch.tensor([5 * DAY, 6 * DAY, 7 * DAY])
    mood = Mood(3, 2)
    mood.moments = torch.cat([torch.arange(n_others) + (1 << 34), own + (2 << 34)])
    mood.first = torch.tensor([0, 0, n_others, n_others + 3])
    assert [mood._position(at(2, int(moment))).item() for moment in own] == [0.5, 1.5, 2.5]
    assert mood._position(at(2, 10**9)).item() == 3


@pytest.fixture
def weeks() -> WeekVectors:
    torch.manual_seed(0)
    weeks = WeekVectors(embedding_dim=3, init_std=0.5)
    weeks.prepare(TRAIN)
    return weeks


def test_weeks_are_those_of_1970(weeks: WeekVectors) -> None:
    """Days 5 to 40 are weeks 0 to 5; those without a rating and those before and after are the unknown's zeros."""
    assert weeks.vectors.shape == (7, 4)
    said = {day: weeks(at(1, day * DAY))[0].squeeze(0) for day in (5, 6, 9, 15, 30, 40, 41, 42, 500)}
    assert torch.equal(said[5], said[6])
    assert torch.equal(said[40], said[41])
    assert not torch.equal(said[5], said[9])
    assert all((said[day] == 0).all() for day in (15, 42, 500))
    assert (weeks(at(1, 0))[0] == 0).all()
    assert weeks(at(1, 30 * DAY))[1].item() == pytest.approx(said[30].square().sum().item())


@pytest.mark.parametrize("part", ["days", "weeks"])
def test_training_leaves_the_moment_that_is_none_at_zero(part: str) -> None:
    """Ratings of days with too few of them, and of moments that nobody knows, have that row and must not move it."""
    moments: DayBias | WeekVectors = DayBias(min_ratings=3) if part == "days" else WeekVectors(3, 0.5)
    moments.prepare(TRAIN)
    rows = Interactions(USERS, torch.arange(7) % 3, torch.where(USERS == 2, 0, RATED_AT), TRAIN.level_idx)
    values, squares = moments(rows)
    (values.sum() + squares.sum()).backward()
    for weight in moments.parameters():
        assert weight.grad is not None
        assert (weight.grad[0] == 0).all()
        assert (weight.grad[1:] != 0).any()


@pytest.mark.parametrize("part", ["days", "mood", "weeks"])
def test_what_was_saved_is_loaded_whatever_its_length(part: str, request: pytest.FixtureRequest) -> None:
    trained: SizedByTraining = request.getfixturevalue(part)
    fresh = {"days": DayBias(1), "mood": Mood(4, 2), "weeks": WeekVectors(3, 0.5)}[part]
    fresh.load_state_dict(trained.state_dict())
    for moment in (0, 5 * DAY, 30 * DAY, 90 * DAY):
        assert torch.equal(fresh(at(1, moment))[0], trained(at(1, moment))[0])
