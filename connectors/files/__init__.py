"""Files of rows: CSV, JSON, Parquet and workbooks, understood, read and written."""
