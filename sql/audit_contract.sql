-- audit_contract: tables, views and columns that are missing, unexpected, of another type, or without a comment.
--
-- grain   one row per (table_name, column_name); column_name is empty for the table itself
-- reads   columns_promised, columns_found (table_name, column_name, data_type, is_nullable, comment)
-- params  none
-- ties    none, (table_name, column_name) is unique
select
    table_name,
    column_name,
    columns_promised.data_type || if(columns_promised.is_nullable, '', ' not null') as promised,
    columns_found.data_type || if(columns_found.is_nullable, '', ' not null') as found,
    columns_found.comment is not null as has_comment,
from columns_promised
full join columns_found using (table_name, column_name)
where
    columns_promised.data_type is distinct from columns_found.data_type
    or columns_promised.is_nullable is distinct from columns_found.is_nullable
    or columns_found.comment is null
order by table_name, column_name
