import pytest
import torch

from recsys.models.moments import DAY_BITS, SECOND_BITS, DayBias, Mood, SizedByTraining, WeekVectors
from recsys.models.network import Interactions, Pairs
from tests.support.planted import rows_of

DAY = 86_400
FAR = DAY << DAY_BITS
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


def test_each_user_and_day_has_a_bias(days: DayBias) -> None:
    """Rows 1 to 5 are (user 1, day 5), (1, 9), (1, 30), (2, 5) and (2, 40)."""
    assert len(days.bias) == 6
    known = [(1, 5), (1, 9), (1, 30), (2, 5), (2, 40)]
    assert [days(at(user, day * DAY + 7)).item() for user, day in known] == [1, 2, 3, 4, 5]
    assert [days.row(at(user, day * DAY)).item() for user, day in known] == [1, 2, 3, 4, 5]
    assert days.owners().tolist() == [0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("user", "moment"), [(1, 6 * DAY), (2, 9 * DAY), (0, 5 * DAY), (3, 5 * DAY), (1, 10**10), (1, FAR + 5 * DAY)]
)
def test_a_day_without_a_rating_adds_nothing(days: DayBias, user: int, moment: int) -> None:
    """Not even in the year 4840, whose days would run into the bits of the next user."""
    assert days(at(user, moment)).item() == 0  # row 0, which is never trained


def test_a_day_with_few_ratings_has_no_bias() -> None:
    """Only user 1 on day 5 has three ratings."""
    days = DayBias(min_ratings=3)
    days.prepare(TRAIN)
    with torch.no_grad():
        days.bias[:, 0] = torch.arange(len(days.bias))
    assert len(days.bias) == 2
    assert days(at(1, 5 * DAY)).item() == 1
    assert [days(at(user, day * DAY)).item() for user, day in ((1, 9), (2, 5), (2, 40), (1, 6))] == [0, 0, 0, 0]


@pytest.fixture
def mood() -> Mood:
    """A knot every two ratings: user 1 with five ratings has knots at 0, 2, 4, 6, user 2 with two at 0, 2, 4."""
    mood = Mood(n_users=4, ratings_per_knot=2)
    mood.prepare(TRAIN)
    with torch.no_grad():
        mood.knots[:, 0] = torch.tensor([0, 0, 10, 20, 40, 80, 100, 200, 400, 0, 0])
    return mood


def test_knots_of_each_user(mood: Mood) -> None:
    assert mood.first_knot.tolist() == [0, 2, 6, 9]
    assert len(mood.knots) == 2 + 4 + 3 + 2
    assert mood.owners().tolist() == [0] * 2 + [1] * 4 + [2] * 3 + [3] * 2


@pytest.mark.parametrize(
    ("user", "moment", "position"),
    [
        (1, 1, 0),  # before all ratings
        (1, (1 << SECOND_BITS) + 41 * DAY, 5),  # a time after which the bits of the next user begin
        (1, 5 * DAY, 0.5),  # the second of the first rating, which counts half
        (1, 5 * DAY + 1, 1),
        (1, 5 * DAY + 60, 2),  # two ratings in the same second count half
        (1, 6 * DAY, 3),
        (1, 30 * DAY, 4.5),
        (1, 31 * DAY, 5),
        (1, 10**10, 5),  # constant after the last rating
        (2, 5 * DAY, 0.5),
        (2, 41 * DAY, 2),
    ],
)
def test_the_mood_is_interpolated_by_position_in_the_history(
    mood: Mood, user: int, moment: int, position: float
) -> None:
    assert mood._position(at(user, moment)).item() == position
    knots = {1: [10, 20, 40, 80], 2: [100, 200, 400]}[user]
    before, share = int(position // 2), position / 2 % 1
    expected = knots[before] * (1 - share) + knots[before + 1] * share
    assert mood(at(user, moment)).item() == expected
    knot_B, share_B = mood.knot(at(user, moment))
    assert (knot_B - mood.first_knot[user]).item() == before
    assert share_B.item() == share


@pytest.mark.parametrize(("user", "moment"), [(1, 0), (2, 0), (0, 5 * DAY), (3, 5 * DAY), (3, 0)])
def test_unknown_users_and_unknown_times_have_no_mood(mood: Mood, user: int, moment: int) -> None:
    assert mood(at(user, moment)).item() == 0


def test_each_training_rating_has_its_own_place() -> None:
    n = 200
    rows = rows_of(torch.ones(n, dtype=torch.int64), torch.arange(n), torch.zeros(n, dtype=torch.int64))
    rows = Interactions(rows.user_idx, rows.item_idx, 1 + torch.randperm(n), rows.level_idx)
    mood = Mood(2, 40)
    mood.prepare(rows)
    assert sorted(mood._position(rows).tolist()) == [place + 0.5 for place in range(n)]


def test_places_are_exact_after_millions_of_other_ratings() -> None:
    """float32 cannot represent half places from 2**23 on."""
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


def test_weeks_are_counted_from_1970(weeks: WeekVectors) -> None:
    """Days 5 to 40 are in weeks 0, 1, 4 and 5; the vectors of all other weeks are zero."""
    assert weeks.vectors.shape == (5, 4)
    vector = {day: weeks(at(1, day * DAY)).squeeze(0) for day in (5, 6, 9, 15, 30, 40, 41, 42, 500)}
    assert torch.equal(vector[5], vector[6])
    assert torch.equal(vector[40], vector[41])
    assert not torch.equal(vector[5], vector[9])
    assert all((vector[day] == 0).all() for day in (15, 42, 500))
    assert (weeks(at(1, 0)) == 0).all()


def test_one_impossible_time_adds_one_week() -> None:
    """A flipped bit in one rating once made a table of 15 million weeks."""
    moments = torch.cat([RATED_AT, torch.tensor([-68 * 365 * DAY, 130 * 365 * DAY, 2**43])])
    weeks = WeekVectors(embedding_dim=3, init_std=0.5)
    weeks.prepare(Interactions(torch.ones(10, dtype=torch.int64), torch.ones(10, dtype=torch.int64), moments, moments))
    assert len(weeks.vectors) == 8


def test_weeks_saved_by_version_0_1_0_can_be_loaded(weeks: WeekVectors) -> None:
    old = {"first_week": torch.tensor(3), "vectors": torch.arange(12.0).view(3, 4)}
    weeks.load_state_dict(old)
    assert [weeks(at(1, week * 7 * DAY))[0].tolist() for week in (2, 3, 4, 5)] == [
        *([0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 10.0, 11.0], [0.0, 1.0, 2.0, 3.0])
    ]


@pytest.mark.parametrize("part", ["days", "mood", "weeks"])
def test_tables_of_any_length_can_be_loaded(part: str, request: pytest.FixtureRequest) -> None:
    trained: SizedByTraining = request.getfixturevalue(part)
    fresh = {"days": DayBias(1), "mood": Mood(4, 2), "weeks": WeekVectors(3, 0.5)}[part]
    fresh.load_state_dict(trained.state_dict())
    for moment in (0, 5 * DAY, 30 * DAY, 90 * DAY):
        assert torch.equal(fresh(at(1, moment)), trained(at(1, moment)))
