-- rule_rating_on_scale: ratings off the edition's scale; NaN is never on a scale.
--
-- grain   one row per offending rating
-- reads   ratings (user_id, movie_id, rating, …), rating_scale (rating)
-- params  none
-- ties    none
select ratings.*
from ratings
anti join rating_scale using (rating)
