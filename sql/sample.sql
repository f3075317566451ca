-- sample: the first rows of the first user's list, as an example of the tables.
--
-- grain   one row per rank
-- reads   recommendations (user_id), recommendations_named (user_id, rank, title, year, rating_hat, because_titles)
-- params  none
-- ties    none, rank is unique
select user_id, rank, title, year, round(rating_hat, 2) as rating_hat, because_titles
from recommendations_named
where user_id = (select min(user_id) from recommendations) and rank <= 5
order by rank
