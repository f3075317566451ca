-- described_metrics: what each metric measures, its unit, and which values are better.
--
-- grain   one row per metric; * stands for any text
-- reads   nothing
-- params  none
-- ties    none; the order of the file, in which docs/contract.md shows them
select metric, unit, better, measures
from (
    values
        ('mae_median', 'stars', 'down', 'mean absolute error of the median of the predicted distribution'),
        ('mae_rounded', 'stars', 'down', 'mean absolute error of the rounded mean'),
        ('mae_mode', 'stars', 'down', 'mean absolute error of the mode'),
        ('mae_mean', 'stars', 'down', 'mean absolute error of the mean'),
        ('rmse_mean', 'stars', 'down', 'root mean squared error of the mean'),
        ('mse_mean', 'stars²', 'down', 'mean squared error of the mean'),
        ('log_loss', 'nats', 'down', 'negative log-likelihood of the stars that were given'),
        ('ece', 'share', 'down', 'calibration error over all levels of stars'),
        ('ece_top', 'share', 'down', 'calibration error of the most probable level'),
        ('own_error', null, 'down', 'the error of a network that only ranks movies: the share of pairs in the wrong order'),
        ('failed', null, 'down', '1 if a candidate could not be trained and was left out; it has no other figures'),
        ('training_seconds', 'seconds', 'down', 'time of a candidate''s training on validation'),
        ('ndcg_at_10', '0 to 1', 'up', 'quality of the order of the first 10 movies of a list'),
        ('ndcg_at_10_by_score', '0 to 1', 'up', 'quality of the order of all unseen movies when the network alone orders them'),
        ('recall_at_10', 'share', 'up', 'relevant movies that are in the first 10'),
        ('recall_at_50', 'share', 'up', 'relevant movies that are in the first 50'),
        ('mrr_at_50', '0 to 1', 'up', '1 / rank of the first relevant movie'),
        ('hit_rate_at_10', 'share of users', 'up', 'a relevant movie is in the first 10'),
        ('coverage_at_10', 'share of movies', 'up', 'movies that are in at least one user''s first 10'),
        ('gini_at_10', '0 to 1', 'down', 'inequality of how often movies are shown'),
        ('novelty_at_10', 'bits', 'as wanted', 'how rare the first 10 movies are'),
        ('diversity_at_10', '0 to 1', 'as wanted', 'how different the genres of the first 10 movies are'),
        ('users_with_relevant', 'users', null, 'users in a mean: those with a relevant movie'),
        ('users_without_relevant', 'users', null, 'users who are left out of a mean: those without a relevant movie'),
        ('users_with_both', 'users', null, 'users in a comparison: those with a relevant movie for both models'),
        ('n', 'ratings', null, 'number of ratings in a slice'),
        ('predicted', 'share', null, 'mean predicted probability in a bin of the reliability table'),
        ('observed', 'share', null, 'observed frequency in a bin of the reliability table'),
        ('churn_at_*', 'share', 'as wanted', 'movies that left the list since the run before'),
        ('changed_at_*', 'share', 'as wanted', 'users whose list is different from that of the run before'),
        ('rbo_at_*', '0 to 1', 'as wanted', 'rank-biased overlap with the list of the run before'),
        ('closed_movies', 'movies', null, 'movies that a rule closes for all users'),
        ('removed', 'places', null, 'places that a rule removes from lists'),
        ('audit_rows_share', 'ratio', 'near 1', 'rows of tonight''s lists divided by those of the served lists'),
        ('audit_stranger_share', 'share', 'down', 'users without ratings'),
        ('audit_stranger_rise', 'share', 'down', 'increase of the share of users without ratings'),
        ('audit_top_movie_share', 'share', 'down', 'users who are shown the most frequent movie'),
        ('audit_churn', 'share', 'down', 'movies that left the lists'),
        ('audit_flat_share', 'share', 'down', 'lists whose scores are all equal'),
        ('audit_overshoot', 'scale lengths', 'down', 'how far expected stars lie outside the scale'),
        ('rating_count', 'ratings', null, 'ratings in the snapshot'),
        ('rating_count_share', 'ratio', 'near 1', 'ratings in the snapshot divided by those in the last published snapshot'),
        ('rating_mean_shift', 'stars', 'down', 'change of the mean rating'),
        ('rating_psi', null, 'down', 'population stability index of the ratings'),
        ('unknown_movie_share', 'share', 'down', 'ratings of movies without a row'),
        ('new_user_share', 'share', 'down', 'users without earlier ratings'),
        ('newest_rating_age_days', 'days', 'down', 'age of the newest rating'),
        ('quarantined_share_*', 'share', 'down', 'lines of a table that were quarantined')
) as described (metric, unit, better, measures)
