-- read_fields: macros that read one field of a line, and macros that describe the problem of an unreadable field.
--
-- grain   one scalar macro per kind of field; null if the field cannot be read, or if it has no problem
-- reads   nothing: `field` is the text, `value` the value read from it, `name` the column
-- params  none
-- ties    none
--
-- Numbers must be written in digits: try_cast alone reads 4.7 as the id 5 and 1_0 as the rating 10. A time is either
-- in seconds since 1970, up to the year 9999, or an ISO date and time, in UTC unless it has an offset.
create or replace temp macro read_id(field) as
    case when regexp_full_match(field, '\d+') then try_cast(field as integer) end;

create or replace temp macro read_stars(field) as
    case when regexp_full_match(field, '-?\d+(\.\d+)?') then try_cast(field as float) end;

create or replace temp macro read_moment(field) as
    case
        when not regexp_full_match(field, '\d+') then try_cast(field as timestamptz)
        when try_cast(field as bigint) <= 253402300799 then to_timestamp(field::bigint)
    end;

create or replace temp macro wrong_id(name, field, value) as
    case
        when coalesce(value, 0) < 1
            then format('{} ''{}'' is not a whole number from 1 to 2147483647', name, left(field, 50))
    end;

create or replace temp macro wrong_stars(name, field, value) as
    case when not coalesce(isfinite(value), false) then format('{} ''{}'' is not a number', name, left(field, 50)) end;

create or replace temp macro wrong_moment(name, field, value) as
    case
        when not coalesce(year(value) between 1 and 9999, false)
            then format('{} ''{}'' is neither seconds since 1970 nor a date and time', name, left(field, 50))
    end;
