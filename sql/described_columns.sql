-- described_columns: the tables and views of every attached database, and their columns.
--
-- grain   one row per (database_name, table_name, column_name); column_name is empty for the table itself
-- reads   the catalogue only
-- params  none
-- ties    none, rows are not sorted
select database_name, table_name, '' as column_name, 'table' as data_type, false as is_nullable, comment
from duckdb_tables()
where not internal
union all
select database_name, view_name as table_name, '' as column_name, 'view' as data_type, false as is_nullable, comment
from duckdb_views()
where not internal
union all
select database_name, table_name, column_name, data_type, is_nullable, comment
from duckdb_columns()
where not internal
